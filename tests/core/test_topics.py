# SPDX-License-Identifier: Apache-2.0
"""Events: numbered per topic, a snapshot that agrees with them, subscriptions that are granted and bounded."""

from __future__ import annotations

from kernel_rig import HELLO, Rig

from qcosd.core.effects import Publish, Subscription
from qcosd.core.events import Address, Limits, Subscribe
from qcosd.protocol import Type

SUB = Address("uid:1000", b"")


def test_events_are_numbered_without_gap_and_the_snapshot_is_the_last_one() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    last: dict[str, tuple[int, object]] = {topic: (row["seq"], row["state"]) for topic, row in rig.first.items()}
    job = rig.submit(client, "greeting", target="greeted")
    rig.work("hello")
    rig.kill("hello")
    rig.advance(10.0)
    for effect in rig.of(Publish):
        body = effect.message.body
        assert effect.topic == body["topic"]
        assert effect.message.boot == 7
        assert body["seq"] == last.get(effect.topic, (0, None))[0] + 1
        last[effect.topic] = (body["seq"], body["state"])
    topics = rig.ask(client, Type.SNAPSHOT, {"prefix": ""}).body["topics"]
    assert topics == {topic: {"seq": seq, "state": state} for topic, (seq, state) in last.items()}
    assert set(topics) == {"kernel", "plugin.hello", f"job.{job}"}
    assert set(rig.ask(client, Type.SNAPSHOT, {"prefix": "job."}).body["topics"]) == {f"job.{job}"}


def test_what_does_not_change_is_no_event() -> None:
    rig = Rig(HELLO)
    before = len(rig.of(Publish))
    rig.advance(60.0)
    rig.ask(rig.client(), Type.STATUS)
    assert len(rig.of(Publish)) == before


def test_a_subscription_is_granted_in_the_same_breath_and_confirmed() -> None:
    rig = Rig()
    rig.effects.clear()
    rig.feed(Subscribe(SUB, "job.3", True))
    grant, confirmation = rig.effects
    assert grant == Subscription(SUB, "job.3", True, granted=True)
    assert isinstance(confirmation, Publish)
    assert (confirmation.topic, confirmation.message.body) == ("job.3", {"topic": "job.3", "seq": 0, "state": {}})


def test_subscriptions_of_an_identity_are_bounded_and_given_back() -> None:
    rig = Rig(limits=Limits(subscriptions=2))
    for prefix in ("a", "b", "c"):
        rig.feed(Subscribe(SUB, prefix, True))
    rig.feed(Subscribe(SUB, "a", False))
    rig.feed(Subscribe(SUB, "d", True))
    granted = [(effect.topic, effect.on) for effect in rig.of(Subscription) if effect.granted]
    assert granted == [("a", True), ("b", True), ("a", False), ("d", True)]
    assert rig.kernel.counters["refused"] == 1


def test_ended_jobs_are_forgotten_beyond_the_limit() -> None:
    rig = Rig(HELLO, limits=Limits(jobs_kept=2))
    client = rig.client()
    jobs = []
    for _ in range(4):
        jobs.append(rig.submit(client, "greeting", target="greeted"))
        rig.work("hello")
    listed = [row["job"] for row in rig.ask(client, Type.JOB_LIST).body["jobs"]]
    assert listed == jobs[:1:-1]
    assert rig.refusal(client, Type.JOB_SHOW, {"job": jobs[0]}) == "no_such_job"
    assert [row["job"] for row in rig.ask(client, Type.JOB_LIST, {"limit": 1}).body["jobs"]] == jobs[-1:]
