# SPDX-License-Identifier: Apache-2.0
"""A job from submission to its document, through the demand graph of the shipped manifests."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from kernel_rig import HELLO, QEC, Rig, manifest

from qcosd.core.batches import seed_of
from qcosd.core.events import Exited, Limits, LogLine
from qcosd.core.manifest import Operation, Restart
from qcosd.protocol import Type


def summary(**counts: int) -> dict[str, Any]:
    return {"same": {"decoder": "m"}, "sum": {"counts": counts}, "min": {"rounds": 3}, "max": {"rounds": 3}}


def test_one_operation_leads_to_the_target() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    job = rig.submit(client, "greeting", target="greeted", seed=5)
    lease = rig.work("hello", language="en")
    document = rig.document(client, job)
    assert (lease["service"], lease["op"], lease["batch"], lease["seed"], lease["stream"]) == (
        "hello",
        "greet",
        None,
        5,
        None,
    )
    assert lease["inputs"]["greeting"]["size"] == len(b"program")
    assert document["state"] == "done"
    assert document["facts"] == {"hello.greet": {"language": "en"}}
    assert set(document["artifacts"]) == {"greeting", "greeted"}
    assert [event["state"] for event in rig.events(f"job.{job}")] == ["queued", "booting", "done"]


def test_order_of_stages_follows_from_the_manifests() -> None:
    rig = Rig(*QEC)
    client = rig.client()
    job = rig.submit(client, shots=600, batch=256, seed=1)
    assert rig.has_lease("pytket_compile") and rig.has_lease("stim_adapter")  # describe needs nothing
    assert not rig.has_lease("pytket_optimise") and not rig.has_lease("surface_code")
    rig.boot()
    for index, shots in enumerate((256, 256, 88)):
        out, inn = rig.lease("stim_adapter"), rig.lease("matching_tracker")
        assert (out["batch"], inn["batch"], inn["shots"]) == (index, index, shots)
        assert inn["seed"] == out["seed"] == seed_of(1, index)
        assert (inn["stream"]["role"], out["stream"]["role"]) == ("bind", "connect")
        assert {k: v for k, v in inn["stream"].items() if k != "role"} == {
            k: v for k, v in out["stream"].items() if k != "role"
        }
        assert rig.done("stim_adapter", out).type is Type.ACK
        assert rig.done("matching_tracker", inn, summary(**{"00": shots})).type is Type.ACK
    document = rig.document(client, job)
    assert document["state"] == "done"
    assert document["batches"] == {"done": 3, "total": 3}
    assert document["summary"]["sum"] == {"counts": {"00": 600}}
    assert document["restarts"] == 0
    assert len(document["outputs"]) == 3
    states = list(dict.fromkeys(event["state"] for event in rig.events(f"job.{job}")))
    assert states == ["queued", "booting", "running", "done"]
    assert len(rig.kernel.scheduler.leases) == 0


def test_the_result_may_come_before_the_producer_ends() -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=10)
    rig.boot()
    out = rig.lease("stim_adapter")
    rig.work("matching_tracker", summary(**{"0": 10}))
    assert rig.document(client, job)["state"] == "done"
    assert rig.done("stim_adapter", out).type is Type.ACK
    assert len(rig.kernel.scheduler.leases) == 0


def test_a_failure_names_the_side_of_the_stream_that_failed() -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=10, batch=4)
    rig.boot()
    lease = rig.lease("stim_adapter")
    error = {"code": 101, "name": "bad_input", "message": "too many shots"}
    body = {"lease": lease["lease"], "epoch": lease["epoch"], "error": error}
    rig.ask(rig.address("stim_adapter"), Type.FAILED, body)
    document = rig.document(client, job)
    assert document["error"]["message"] == "too many shots"
    assert document["error"]["chain"] == ["hardware.run of batch 0 by stim_adapter"]


def test_a_dead_producer_starts_both_sides_anew() -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=10, seed=3)
    rig.boot()
    out, inn = rig.lease("stim_adapter"), rig.lease("matching_tracker")
    tracker = rig.address("matching_tracker")
    rig.kill("stim_adapter")
    revoke = rig.read(tracker, Type.REVOKE).body
    assert (revoke["lease"], revoke["epoch"]) == (inn["lease"], inn["epoch"])
    assert rig.done("matching_tracker", inn, summary(**{"1": 10})).body["error"]["name"] == "late"
    rig.advance(1.0)
    assert not rig.has_lease("matching_tracker")  # it has not given the old lease up
    rig.tell(tracker, Type.REVOKED, {"lease": inn["lease"], "epoch": inn["epoch"]})
    out2, inn2 = rig.lease("stim_adapter"), rig.lease("matching_tracker")
    assert (out2["lease"], out2["epoch"]) == (out["lease"], out["epoch"] + 1)
    assert (inn2["lease"], inn2["epoch"], inn2["seed"]) == (inn["lease"], inn["epoch"] + 1, inn["seed"])
    assert inn2["stream"]["epoch"] == inn["stream"]["epoch"] + 1
    assert inn2["stream"]["secret"] != inn["stream"]["secret"]
    assert inn2["stream"]["endpoint"] != inn["stream"]["endpoint"]
    rig.done("stim_adapter", out2)
    rig.done("matching_tracker", inn2, summary(**{"0": 10}))
    document = rig.document(client, job)
    assert (document["state"], document["restarts"], document["summary"]["sum"]) == ("done", 1, {"counts": {"0": 10}})


def test_a_producer_that_was_done_works_again_when_its_consumer_dies() -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=10)
    rig.boot()
    rig.work("stim_adapter")
    rig.lease("matching_tracker")
    rig.kill("matching_tracker")
    rig.advance(1.0)
    rig.work("stim_adapter")
    rig.work("matching_tracker", summary(**{"0": 10}))
    assert rig.document(client, job)["state"] == "done"


def test_a_plugin_that_keeps_a_revoked_lease_is_killed() -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=10)
    rig.lease("pytket_compile")
    rig.ask(client, Type.JOB_CANCEL, {"job": job})
    rig.advance(rig.kernel.limits.revoke_grace + 0.1)
    assert rig.state("pytket_compile") == "killing"
    rig.feed(Exited(rig.kernel.supervisor.components["pytket_compile"].incarnation, -9))
    rig.advance(1.0)
    assert rig.state("pytket_compile") == "ready"
    assert len(rig.kernel.supervisor.components["pytket_compile"].deaths) == 0  # the lease paid


def test_poison() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    job = rig.submit(client, "greeting", target="greeted")
    for death in range(4):
        rig.lease("hello")
        rig.kill("hello", noticed=False)
        rig.advance(8.0)
        if death == 2:  # somebody else gets on, on the same plugin
            other = rig.submit(client, "greeting", target="greeted", priority=9, seed=5)
            rig.lease("hello")
            rig.kill("hello", noticed=False)
            rig.advance(8.0)
            lease = rig.lease("hello")
            assert lease["job"] == other
            rig.done("hello", lease)
    document = rig.document(client, job)
    assert (document["state"], document["error"]["name"], document["restarts"]) == ("failed", "poison", 5)
    assert "killed by signal 11" in document["error"]["message"]
    assert rig.state("hello") == "ready"  # its leases paid for its deaths


def test_a_plugin_that_gets_nothing_done_is_given_twice_the_attempts() -> None:
    """It may be the plugin that is broken: but nobody waits for ever."""
    rig = Rig(HELLO)
    job = rig.submit(client := rig.client(), "greeting", target="greeted")
    for _ in range(9):
        rig.lease("hello")
        rig.kill("hello", noticed=False)
        rig.advance(8.0)
    assert rig.document(client, job)["state"] == "booting"
    rig.kill("hello", noticed=False)
    document = rig.document(client, job)
    assert (document["state"], document["error"]["name"], document["restarts"]) == ("failed", "poison", 10)


def test_retry_later_comes_again_with_the_next_epoch() -> None:
    rig = Rig(HELLO)
    job = rig.submit(client := rig.client(), "greeting", target="greeted")
    lease = rig.lease("hello")
    error = {"code": 204, "name": "retry_later", "message": "busy"}
    rig.ask(rig.address("hello"), Type.FAILED, {"lease": lease["lease"], "epoch": lease["epoch"], "error": error})
    assert not rig.has_lease("hello")
    rig.advance(0.2)
    again = rig.work("hello")
    assert (again["lease"], again["epoch"]) == (lease["lease"], lease["epoch"] + 1)
    assert rig.document(client, job)["state"] == "done"


def test_a_store_without_space_costs_no_job_however_long_it_is_full() -> None:
    rig = Rig(HELLO)
    job = rig.submit(client := rig.client(), "greeting", target="greeted")
    first = rig.lease("hello")
    rig.fail("hello", first, "no_space")
    for _ in range(50):
        assert not rig.has_lease("hello"), "no disk gets room by being asked all the time"
        rig.advance(1.0)
        rig.fail("hello", rig.lease("hello"), "no_space")
        assert rig.document(client, job)["state"] == "booting"
    rig.advance(1.0)
    assert rig.work("hello")["epoch"] == first["epoch"] + 51
    assert rig.document(client, job)["state"] == "done"


def test_a_stream_whose_sides_find_no_space_is_run_again() -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=10)
    rig.boot()
    rig.fail("matching_tracker", rig.lease("matching_tracker"), "no_space")
    rig.fail("stim_adapter", rig.lease("stim_adapter"), "no_space")
    rig.give_up("stim_adapter")
    rig.advance(1.0)
    assert rig.lease("matching_tracker")["epoch"] == rig.lease("stim_adapter")["epoch"] == 2
    assert rig.document(client, job)["state"] == "running"


def test_an_interrupt_fails_the_job_with_its_counter_offer() -> None:
    rig = Rig(HELLO)
    job = rig.submit(client := rig.client(), "greeting", target="greeted")
    lease = rig.lease("hello")
    error = {"code": 300, "name": "does_not_fit", "message": "too big", "details": {"largest_distance": 3}}
    rig.ask(rig.address("hello"), Type.FAILED, {"lease": lease["lease"], "epoch": lease["epoch"], "error": error})
    document = rig.ask(client, Type.JOB_RESULT, {"job": job}).body["document"]
    assert document["state"] == "failed"
    assert document["error"]["details"] == {"largest_distance": 3}
    assert document["error"]["chain"] == ["hello.greet by hello"]


def test_budget_ends_the_job_and_the_lease() -> None:
    slow = dataclasses.replace(HELLO, operations=(dataclasses.replace(HELLO.operations[0], budget=5.0),))
    rig = Rig(slow)
    job = rig.submit(client := rig.client(), "greeting", target="greeted")
    rig.lease("hello")
    rig.advance(5.1)
    assert rig.document(client, job)["error"]["name"] == "budget"
    assert rig.read(rig.address("hello"), Type.REVOKE)


def test_held_names_the_missing_provider_and_goes_on_when_it_is_back() -> None:
    rig = Rig(*QEC)
    client = rig.client()
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "pytket_optimise"})
    rig.feed(Exited(rig.kernel.supervisor.components["pytket_optimise"].incarnation, 0))
    job = rig.submit(client, shots=10)
    document = rig.document(client, job)
    assert document["state"] == "held"
    assert "pytket_optimise" in document["cause"]
    assert not rig.has_lease("pytket_compile")
    rig.ask(client, Type.PLUGIN_START, {"plugin": "pytket_optimise"})
    assert rig.document(client, job)["state"] == "booting"


def test_held_for_ever_is_over_at_the_deadline() -> None:
    rig = Rig(HELLO)
    rig.request(client := rig.client(), Type.PLUGIN_STOP, {"plugin": "hello"})
    job = rig.submit(client, "greeting", target="greeted", deadline=30)
    assert "hello.greet needs hello" in rig.document(client, job)["cause"]
    rig.advance(31)
    error = rig.document(client, job)["error"]
    assert error["name"] == "deadline"
    assert "hello.greet needs hello" in error["message"]


@pytest.mark.parametrize(
    ("kind", "target", "told"),
    [
        ("greeting", "greted", "target: nobody makes 'greted', did you mean 'greeted'? known: device, greeted"),
        ("greting", "greeted", "as: nobody takes 'greting', did you mean 'greeting'? known: greeting"),
        ("xyz", "greeted", "as: nobody takes 'xyz'; known: greeting"),
        ("source", "counts", "target: nobody makes 'counts'; known: device, greeted"),
    ],
)
def test_what_no_plugin_could_ever_make_is_refused(kind: str, target: str, told: str) -> None:
    describe = manifest("machine", Operation("hardware", "describe", (), ("device",)))
    rig = Rig(HELLO, describe)
    inputs = {kind: rig.put(client := rig.client(), b"program")}
    answer = rig.ask(client, Type.JOB_SUBMIT, {"inputs": inputs, "options": {"target": target}})
    assert (answer.body["error"]["name"], answer.body["error"]["message"]) == ("bad_input", told)


def test_what_cannot_be_made_of_what_is_given_is_refused() -> None:
    rig = Rig(*QEC)
    inputs = {"optimised": rig.put(client := rig.client(), b"program")}
    answer = rig.ask(client, Type.JOB_SUBMIT, {"inputs": inputs, "options": {"target": "logical"}})
    assert answer.body["error"]["message"] == "target: 'logical' cannot be made of optimised: nothing produces `source`"
    rig.submit(client, "optimised", target="fragments")


def test_a_job_whose_plugins_are_gone_after_a_restart_is_held() -> None:
    rig = Rig(HELLO, hello=False)
    job = rig.submit(rig.client(), "greeting", target="greeted")
    rig.reboot(manifests=())
    assert rig.document(rig.client(), job)["cause"] == "nothing produces `greeted`"


def test_wrong_output_fails_the_job() -> None:
    rig = Rig(HELLO)
    for outputs in ({}, {"greeted": "0" * 64}, {"other": "0" * 64}):
        job = rig.submit(client := rig.client(), "greeting", target="greeted")
        lease = rig.lease("hello")
        body = {"lease": lease["lease"], "epoch": lease["epoch"], "outputs": outputs}
        assert rig.refusal(rig.address("hello"), Type.DONE, body) == "wrong_output"
        error = rig.document(client, job)["error"]
        assert error["name"] == "wrong_output" and "hello.greet by hello" in error["message"]
        assert rig.state("hello") == "killing"  # its other work is as doubtful
        rig.kill("hello")
        rig.advance(1.0)
    assert len(rig.kernel.supervisor.components["hello"].deaths) == 3


def test_batches_that_contradict_each_other_fail_the_job() -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=20, batch=10)
    rig.boot()
    rig.work("stim_adapter")
    rig.work("matching_tracker", summary(**{"0": 10}))
    rig.lease("stim_adapter")
    lease = rig.lease("matching_tracker")
    other = {**summary(**{"0": 10}), "same": {"decoder": "other"}}
    assert rig.done("matching_tracker", lease, other).body["error"]["name"] == "wrong_output"
    error = rig.document(client, job)["error"]
    assert "differ in decoder" in error["message"]
    assert rig.read(rig.address("stim_adapter"), Type.REVOKE)


def test_done_may_be_repeated() -> None:
    rig = Rig(HELLO)
    rig.submit(rig.client(), "greeting", target="greeted")
    lease = rig.lease("hello")
    assert rig.done("hello", lease).type is Type.ACK
    assert rig.done("hello", lease).type is Type.ACK
    body = {"lease": lease["lease"], "epoch": lease["epoch"] + 1, "outputs": {}}
    assert rig.refusal(rig.address("hello"), Type.DONE, body) == "late"
    assert rig.kernel.counters["late"] == 1


def test_progress_is_published() -> None:
    rig = Rig(*QEC)
    job = rig.submit(rig.client(), shots=20, batch=10)
    rig.boot()
    rig.work("stim_adapter")
    rig.work("matching_tracker", summary(**{"0": 10}))
    lease = rig.lease("matching_tracker")
    rig.tell(rig.address("matching_tracker"), Type.PROGRESS, {"lease": lease["lease"], "epoch": lease["epoch"], "fraction": 0.5, "text": "window 3"})  # fmt: skip
    last = rig.events(f"job.{job}")[-1]
    assert (last["fraction"], last["stage"], last["batches"]) == (0.75, "track.run: window 3", {"done": 1, "total": 2})


def test_a_producer_that_lags_behind_the_result_is_stopped_and_harms_nothing() -> None:
    brief = dataclasses.replace(QEC[4], operations=tuple(dataclasses.replace(o, budget=5.0) for o in QEC[4].operations))
    rig = Rig(*QEC[:4], brief, QEC[5])
    job = rig.submit(client := rig.client(), shots=20, batch=10)
    rig.boot()
    out = rig.lease("stim_adapter")
    rig.work("matching_tracker", summary(**{"0": 10}))
    rig.advance(5.1)
    assert rig.read(rig.address("stim_adapter"), Type.REVOKE).body["lease"] == out["lease"]
    rig.tell(rig.address("stim_adapter"), Type.REVOKED, {"lease": out["lease"], "epoch": out["epoch"]})
    rig.work("stim_adapter")
    rig.work("matching_tracker", summary(**{"0": 10}))
    assert rig.document(client, job)["state"] == "done"


def test_what_the_producer_reports_after_the_result_harms_nothing() -> None:
    for event in ("progress", "failure", "death"):
        rig = Rig(*QEC)
        job = rig.submit(client := rig.client(), shots=20, batch=10)
        rig.boot()
        out = rig.lease("stim_adapter")
        address, names = rig.address("stim_adapter"), {"lease": out["lease"], "epoch": out["epoch"]}
        rig.work("matching_tracker", summary(**{"0": 10}))
        if event == "progress":
            rig.tell(address, Type.PROGRESS, {**names, "fraction": 1.0, "text": ""})
            rig.done("stim_adapter", out)
        elif event == "failure":
            error = {"code": 11, "name": "internal", "message": "bug"}
            for _ in range(2):  # a repeat is acknowledged
                assert rig.ask(address, Type.FAILED, {**names, "error": error}).type is Type.ACK
        else:
            rig.kill("stim_adapter")
            rig.advance(1.0)
        rig.work("stim_adapter")
        rig.work("matching_tracker", summary(**{"0": 10}))
        document = rig.document(client, job)
        assert (document["state"], document["restarts"]) == ("done", 0), event


def test_retry_later_has_an_end() -> None:
    rig = Rig(HELLO)
    job = rig.submit(client := rig.client(), "greeting", target="greeted")
    error = {"code": 204, "name": "retry_later", "message": "busy"}
    for _ in range(21):
        lease = rig.lease("hello")
        rig.ask(rig.address("hello"), Type.FAILED, {"lease": lease["lease"], "epoch": lease["epoch"], "error": error})
        rig.advance(8.0)
    assert rig.document(client, job)["error"]["name"] == "retry_later"


def test_poison_tells_the_last_words_of_the_plugin() -> None:
    rig = Rig(HELLO, limits=Limits(attempts=1))
    job = rig.submit(client := rig.client(), "greeting", target="greeted")
    rig.kill("hello")
    rig.advance(8.0)
    for number in range(30):
        rig.feed(LogLine("hello", f"line {number}"))
    rig.feed(LogLine("nobody", "ignored"))
    rig.kill("hello", status=1)
    error = rig.document(client, job)["error"]
    assert error["details"]["log"] == [f"line {number}" for number in range(10, 30)]
    assert "status 1" in error["message"]  # that the connection ended first says less


def test_stopping_a_plugin_is_no_attempt_on_the_work_in_its_hand() -> None:
    rig = Rig(HELLO, limits=Limits(attempts=1))
    job = rig.submit(client := rig.client(), "greeting", target="greeted")
    rig.lease("hello")
    rig.request(client, Type.PLUGIN_RESTART, {"plugin": "hello"})
    rig.kill("hello", status=0)
    rig.work("hello")
    assert rig.document(client, job)["state"] == "done"


def test_a_provider_without_a_stream_takes_over_from_a_pair() -> None:
    whole = manifest("whole", Operation("track", "run", ("fragments",), ("counts",), each="batch"), rank=-1)
    rig = Rig(*QEC, whole)
    job = rig.submit(client := rig.client(), shots=10)
    rig.boot()
    rig.lease("matching_tracker")
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "matching_tracker"})
    rig.kill("matching_tracker", status=0)
    rig.work("whole", summary(**{"0": 10}))
    assert rig.document(client, job)["state"] == "done"


def test_a_job_is_held_when_its_provider_waits_for_what_has_failed() -> None:
    needy = dataclasses.replace(HELLO, needs=("base",))
    base = manifest("base", Operation("base", "run"), restart=Restart(policy="never"))
    rig = Rig(needy, base)
    client = rig.client()
    rig.kill("base")
    rig.kill("hello")
    rig.advance(1.0)
    assert (rig.state("base"), rig.state("hello")) == ("failed", "waiting")
    job = rig.submit(client, "greeting", target="greeted")
    assert rig.document(client, job)["state"] == "held"
    rig.ask(client, Type.PLUGIN_RESET, {"plugin": "base"})
    rig.work("hello")
    assert rig.document(client, job)["state"] == "done"
