# SPDX-License-Identifier: Apache-2.0
"""What the journal keeps: keys, replies, deadlines, artifacts; and what becomes of jobs when it cannot be written."""

from __future__ import annotations

from kernel_rig import HELLO, Rig
from recovery_rig import submit

from qcosd.core.effects import BlobDelete, Send
from qcosd.core.events import JournalHealth, Limits
from qcosd.core.records import RecordType
from qcosd.protocol import Type


def test_a_key_is_kept_across_reboots_as_long_as_its_job() -> None:
    rig = Rig(HELLO, limits=Limits(jobs_kept=1))
    client = rig.client()
    sha = rig.put(client, b"program")
    body = {"inputs": {"greeting": sha}, "options": {"target": "greeted"}}
    job = rig.ask(client, Type.JOB_SUBMIT, body, key="k").body["job"]
    rig.work("hello")
    for _ in range(2):
        rig.now += 100_000.0
        rig.reboot()
        client = rig.client()
        assert rig.ask(client, Type.JOB_SUBMIT, body, key="k").body["job"] == job
        assert rig.refusal(client, Type.JOB_SUBMIT, {**body, "options": {}}, key="k") == "key_conflict"
    submit(rig, client)
    rig.work("hello")  # the first one is not remembered any more
    assert rig.ask(client, Type.JOB_SUBMIT, body, key="k").body["job"] != job


def test_a_repeat_waits_for_the_record_of_the_reply() -> None:
    rig = Rig(HELLO)
    client, other = rig.client(), rig.client("c2")
    sha = rig.put(client, b"program")
    body = {"inputs": {"greeting": sha}, "options": {"target": "greeted"}}
    first = rig.ask(client, Type.JOB_SUBMIT, body, key="k")
    again = rig.ask(other, Type.JOB_SUBMIT, body, key="k")
    rows = rig.ask(other, Type.JOB_LIST)
    assert first.body == again.body
    sends = {effect.message.type: effect.after for effect in rig.of(Send) if effect.address == other}
    keyed = [place for place, record in enumerate(rig.records, 1) if record.type is RecordType.REQUEST_KEY]
    assert [sends[Type.JOB_ACCEPTED]] == keyed
    assert sends[Type.JOB_LISTING] == rig.position
    assert [row["job"] for row in rows.body["jobs"]] == [first.body["job"]]


def test_the_deadline_of_a_job_runs_on_across_reboots() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    job = submit(rig, client, deadline=100.0)
    for _ in range(3):
        rig.now += 30.0  # nobody is there
        rig.reboot()
    client = rig.client()
    rig.advance(9.0)
    assert rig.document(client, job)["state"] == "booting"
    rig.advance(1.5)
    document = rig.document(client, job)
    assert (document["state"], document["error"]["name"]) == ("failed", "deadline")
    rig.reboot()
    assert rig.document(rig.client(), job) == document


def test_unused_artifacts_go_after_their_grace_and_used_ones_stay() -> None:
    rig = Rig(HELLO, limits=Limits(artifact_grace=1000.0, collect_every=100.0, jobs_kept=1))
    client = rig.client()
    ended, active = submit(rig, client), submit(rig, client, seed=1)
    rig.work("hello")
    rig.advance(500.0)
    unused = rig.put(client, b"nobody wants it")
    kept = set(rig.store) - {unused}
    rig.advance(900.0)
    assert set(rig.store) == {unused, *kept}
    rig.advance(300.0)
    assert set(rig.store) == kept
    rig.reboot()
    rig.advance(2000.0)
    client = rig.client()
    assert set(rig.store) == kept, (ended, active)
    rig.work("hello")  # now the first one is forgotten, with what it alone had
    rig.advance(2000.0)
    assert not kept <= set(rig.store)
    assert all(effect.after for effect in rig.of(BlobDelete)), "what forgot them must be durable before"
    assert rig.document(client, active)["state"] == "done"


def test_a_file_that_the_store_has_lost_fails_its_job_and_nothing_else() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    job = submit(rig, client)
    other_sha = rig.put(client, b"another")
    body = {"inputs": {"greeting": other_sha}, "options": {"target": "greeted"}}
    other = rig.ask(client, Type.JOB_SUBMIT, body).body["job"]
    del rig.store[rig.document(client, job)["inputs"]["greeting"]]
    rig.reboot()
    client = rig.client()
    assert rig.document(client, job)["error"]["name"] == "no_such_artifact"
    assert "`greeting`" in rig.document(client, job)["error"]["message"]
    rig.work("hello")
    assert rig.document(client, other)["state"] == "done"


def test_a_journal_that_cannot_be_written_refuses_new_jobs_and_keeps_accepted_ones() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    job = submit(rig, client)
    body = {"inputs": {"greeting": rig.put(client, b"program")}, "options": {"target": "greeted"}}
    rig.feed(JournalHealth("no space left on device"))
    assert rig.refusal(client, Type.JOB_SUBMIT, body) == "no_space"
    assert rig.ask(client, Type.STATUS).body["state"] == "degraded"
    rig.work("hello")
    assert rig.document(client, job)["state"] == "done"
    rig.feed(JournalHealth(""))
    assert rig.ask(client, Type.JOB_SUBMIT, body).type is Type.JOB_ACCEPTED
