# SPDX-License-Identifier: Apache-2.0
"""Plugins that deliver something wrong: who is to blame, what is dropped with it, and how the job goes on or ends."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from kernel_rig import ADAPTER, COMPILE, HELLO, OPTIMISE, QEC, QECC, TRACKER, Rig, manifest

from qcosd.core.events import Limits
from qcosd.core.manifest import Manifest, Operation
from qcosd.protocol import Type


def liar(of: Manifest, name: str = "liar", rank: int = 1) -> Manifest:
    """A component that is preferred to another one."""
    return dataclasses.replace(of, name=name, rank=rank)


def counts(shots: int, value: str = "0") -> dict[str, Any]:
    return {"sum": {"counts": {value: shots}, "shots_accepted": shots, "shots_discarded": 0}}


def to_the_batches(rig: Rig, *order: str) -> None:
    for component in order:
        rig.work(component)


def test_a_wrong_artifact_is_the_fault_of_its_maker_and_another_one_takes_over() -> None:
    rig = Rig(*QEC, liar(OPTIMISE))
    job = rig.submit(client := rig.client(), shots=5)
    to_the_batches(rig, "pytket_compile", "liar", "stim_adapter")
    lease = rig.lease("surface_code")
    assert rig.fail("surface_code", lease, "wrong_input", "gate 3 is unknown", kind="optimised").type is Type.ACK
    assert rig.state("liar") == "killing"
    assert rig.state("surface_code") == "ready"
    document = rig.document(client, job)
    assert "optimised" not in document["artifacts"] and "logical" in document["artifacts"]
    assert "optimise.optimise" not in document["facts"]
    rig.bury("liar")
    assert len(rig.kernel.supervisor.components["liar"].deaths) == 1
    assert not rig.has_lease("liar")  # it is back, but not for this job
    to_the_batches(rig, "pytket_optimise", "surface_code", "stim_adapter", "grid_mapper", "stim_adapter")
    rig.work("matching_tracker", counts(5))
    document = rig.document(client, job)
    assert document["state"] == "done"
    assert document["plan"]["providers"]["optimise.optimise"] == "pytket_optimise"
    assert document["degraded"] == [
        "optimise.optimise: pytket_optimise took over from liar: "
        "qecc.prepare by surface_code refused `optimised` made by liar: gate 3 is unknown"
    ]


def test_with_nobody_left_the_job_names_the_liar() -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=5)
    to_the_batches(rig, "pytket_compile", "pytket_optimise", "stim_adapter")
    rig.fail("surface_code", rig.lease("surface_code"), "wrong_input", "gate 3 is unknown", kind="optimised")
    document = rig.document(client, job)
    error = document["error"]
    assert (document["state"], error["name"], error["code"]) == ("failed", "wrong_output", 203)
    for word in ("pytket_optimise", "surface_code", "gate 3 is unknown"):
        assert word in error["message"]
    assert set(error["details"]["fenced"]) == {"pytket_optimise"}
    assert error["chain"] == ["qecc.prepare by surface_code"]
    rig.give_up("stim_adapter")  # it was calibrating
    assert len(rig.kernel.scheduler.leases) == 0


def test_a_component_that_is_stopped_is_waited_for_rather_than_given_up() -> None:
    rig = Rig(*QEC, liar(OPTIMISE))
    client = rig.client()
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "pytket_optimise"})
    rig.kill("pytket_optimise", status=0)
    job = rig.submit(client, shots=5)
    to_the_batches(rig, "pytket_compile", "liar", "stim_adapter")
    rig.fail("surface_code", rig.lease("surface_code"), "wrong_input", "no", kind="optimised")
    document = rig.document(client, job)
    assert document["state"] == "held" and "pytket_optimise" in document["cause"]
    rig.ask(client, Type.PLUGIN_START, {"plugin": "pytket_optimise"})
    rig.work("pytket_optimise")
    assert rig.document(client, job)["state"] == "booting"


def test_a_liar_that_is_found_late_takes_everything_made_from_it_along() -> None:
    rig = Rig(*QEC, liar(QECC))
    job = rig.submit(client := rig.client(), shots=30, batch=10)
    to_the_batches(rig, "pytket_compile", "pytket_optimise", "stim_adapter", "liar", "stim_adapter", "grid_mapper")
    for _ in range(2):
        rig.work("stim_adapter", rounds=9)
        rig.work("matching_tracker", counts(10, "1"))
    old = rig.document(client, job)
    assert old["summary"]["sum"]["counts"] == {"1": 20} and old["facts"]["hardware.run"] == {"rounds": 9}
    out, inn = rig.lease("stim_adapter"), rig.lease("matching_tracker")
    rig.fail("matching_tracker", inn, "wrong_input", "record 7 twice", kind="fragments")
    assert rig.read(rig.address("stim_adapter"), Type.REVOKE).body["lease"] == out["lease"]
    rig.tell(rig.address("stim_adapter"), Type.REVOKED, {"lease": out["lease"], "epoch": out["epoch"]})
    document = rig.document(client, job)
    assert set(document["artifacts"]) == {"source", "logical", "optimised", "device", "calibration"}
    assert (document["summary"], document["outputs"]) == (None, [None] * 3)
    assert document["batches"] == {"done": 0, "total": 3}
    assert document["shots_restarted"] == 30  # two that were finished and one in hand
    assert "hardware.run" not in document["facts"]
    rig.bury("liar")
    to_the_batches(rig, "surface_code", "grid_mapper")
    seen = []
    for _ in range(3):
        rig.work("stim_adapter")
        seen.append(rig.work("matching_tracker", counts(10))["batch"])
    document = rig.document(client, job)
    assert (document["state"], seen) == ("done", [0, 1, 2])
    assert document["summary"]["sum"]["counts"] == {"0": 30}
    assert document["seconds"]["boot"] >= 0


def test_what_is_said_late_about_what_is_gone_does_not_count() -> None:
    """Two consumers find the same liar; the second report must not hit whoever took over."""
    rig = Rig(*QEC, liar(QECC))
    job = rig.submit(client := rig.client(), shots=10)
    to_the_batches(rig, "pytket_compile", "pytket_optimise", "stim_adapter", "liar", "stim_adapter", "grid_mapper")
    out, inn = rig.lease("stim_adapter"), rig.lease("matching_tracker")
    rig.fail("matching_tracker", inn, "wrong_input", "no", kind="fragments")
    second = rig.fail("stim_adapter", out, "wrong_input", "no", kind="fragments")
    assert second.body["error"]["name"] == "late"
    assert rig.state("surface_code") == "ready"
    assert [*rig.document(client, job)["fenced"]] == ["liar"]
    assert rig.document(client, job)["state"] == "booting"


def test_a_wrong_stream_is_the_fault_of_its_other_side() -> None:
    rig = Rig(*QEC, liar(ADAPTER))
    job = rig.submit(client := rig.client(), shots=10)
    to_the_batches(rig, "pytket_compile", "pytket_optimise", "liar", "surface_code", "liar", "grid_mapper")
    rig.lease("liar")
    rig.fail("matching_tracker", rig.lease("matching_tracker"), "wrong_input", "round 7 after round 5", stream="rounds")
    rig.bury("liar")
    assert set(rig.document(client, job)["artifacts"]) == {"source", "logical", "optimised"}
    to_the_batches(rig, "stim_adapter", "surface_code", "stim_adapter", "grid_mapper", "stim_adapter")
    rig.work("matching_tracker", counts(10))
    document = rig.document(client, job)
    assert document["state"] == "done"
    reason = "track.run of batch 0 by matching_tracker refused what came from liar on the stream `rounds`: round 7 after round 5"
    operations = ("hardware.describe", "hardware.calibrate", "hardware.run")
    assert document["degraded"] == [f"{name}: stim_adapter took over from liar: {reason}" for name in operations]
    assert document["shots_restarted"] == 10


def test_whoever_is_done_before_its_stream_is_told_lies() -> None:
    rig = Rig(*QEC, liar(ADAPTER))
    job = rig.submit(client := rig.client(), shots=10)
    to_the_batches(rig, "pytket_compile", "pytket_optimise", "liar", "surface_code", "liar", "grid_mapper")
    rig.work("liar")
    rig.fail("matching_tracker", rig.lease("matching_tracker"), "retry_later", "closed", stream="rounds")
    assert "matching_tracker refused what came from liar" in rig.document(client, job)["fenced"]["liar"]
    rig.bury("liar")
    to_the_batches(rig, "stim_adapter", "surface_code", "stim_adapter", "grid_mapper", "stim_adapter")
    rig.work("matching_tracker", counts(10))
    assert rig.document(client, job)["state"] == "done"


def test_a_stream_that_ends_while_its_producer_is_at_work_is_nobodys_fault_yet() -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=10)
    rig.boot()
    rig.lease("stim_adapter")
    rig.fail("matching_tracker", rig.lease("matching_tracker"), "retry_later", "closed", stream="rounds")
    assert (rig.document(client, job)["state"], rig.document(client, job)["fenced"]) == ("running", {})


def test_the_only_hardware_fails_the_job_with_the_words_of_the_tracker() -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=10)
    rig.boot()
    rig.lease("stim_adapter")
    rig.fail("matching_tracker", rig.lease("matching_tracker"), "wrong_input", "round 7 after round 5", stream="rounds")
    error = rig.document(client, job)["error"]
    assert error["name"] == "wrong_output"
    assert "stim_adapter" in error["message"] and "round 7 after round 5" in error["message"]
    assert error["chain"] == ["track.run of batch 0 by matching_tracker"]
    assert rig.state("stim_adapter") == "killing"


@pytest.mark.parametrize("name", ["wrong_input", "internal", "retry_later"])
def test_a_failure_is_heard_although_the_other_side_has_given_up_first(name: str) -> None:
    """A tracker closes the stream as it fails, and the message of hardware that the stream is closed may overtake its own."""
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=10)
    rig.boot()
    out, inn = rig.lease("stim_adapter"), rig.lease("matching_tracker")
    rig.fail("stim_adapter", out, "retry_later", "the other end has closed")
    answer = rig.fail("matching_tracker", inn, name, "round 7 after round 5", stream="rounds")
    document = rig.document(client, job)
    if name == "retry_later":  # nothing new
        assert answer.body["error"]["name"] == "late"
        assert (document["state"], document["shots_restarted"]) == ("running", 10)
        return
    assert answer.type is Type.ACK
    assert document["error"]["name"] == ("wrong_output" if name == "wrong_input" else "internal")
    assert "round 7 after round 5" in document["error"]["message"]
    rig.advance(1.0)
    assert len(rig.kernel.scheduler.leases) == 0 and not rig.has_lease("matching_tracker")


def test_a_failure_is_late_once_the_work_has_been_given_out_again() -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=10)
    rig.boot()
    out, inn = rig.lease("stim_adapter"), rig.lease("matching_tracker")
    tracker = rig.address("matching_tracker")
    rig.fail("stim_adapter", out, "retry_later")
    rig.give_up("matching_tracker")
    assert rig.fail("matching_tracker", inn, "internal").body["error"]["name"] == "late"
    rig.advance(0.2)
    assert rig.lease("matching_tracker")["epoch"] == 2
    assert rig.fail("matching_tracker", inn, "internal").body["error"]["name"] == "late"
    assert rig.document(client, job)["state"] == "running" and tracker == rig.address("matching_tracker")


def test_the_producer_may_accuse_the_consumer() -> None:
    rig = Rig(*QEC, liar(TRACKER))
    job = rig.submit(client := rig.client(), shots=10)
    rig.boot()
    rig.lease("liar")
    rig.fail("stim_adapter", rig.lease("stim_adapter"), "wrong_input", "decided twice", stream="rounds")
    rig.bury("liar")
    rig.work("stim_adapter")
    rig.work("matching_tracker", counts(10))
    assert rig.document(client, job)["state"] == "done"


def test_an_input_of_the_client_is_the_fault_of_nobody_here() -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), "optimised", shots=10)
    rig.work("stim_adapter")
    rig.fail("surface_code", rig.lease("surface_code"), "wrong_input", "not msgpack", kind="optimised")
    document = rig.document(client, job)
    assert (document["state"], document["error"]["name"]) == ("failed", "bad_input")
    assert document["error"]["message"] == "`optimised`: not msgpack"
    assert {rig.state(name) for name in rig.manifests} == {"ready"}


@pytest.mark.parametrize(
    "details", [{}, {"kind": "calibration"}, {"kind": 5}, {"kind": ["logical"]}, {"stream": "rounds"}, {"stream": None}]
)
def test_an_accusation_without_an_accused_falls_back(details: dict[str, Any]) -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=10)
    rig.work("pytket_compile")
    rig.fail("pytket_optimise", rig.lease("pytket_optimise"), "wrong_input", "hm", **details)
    error = rig.document(client, job)["error"]
    assert error["name"] == "wrong_output"
    assert "pytket_optimise" in error["message"] and "it was given kind `logical`" in error["message"]
    assert rig.state("pytket_optimise") == "killing" and rig.state("pytket_compile") == "ready"


@pytest.mark.parametrize("how", ["it says so", "its outputs are not those of its manifest"])
def test_a_wrong_output_is_a_fault_like_a_crash(how: str) -> None:
    rig = Rig(COMPILE, liar(COMPILE))
    job = rig.submit(client := rig.client(), target="logical")
    lease = rig.lease("liar")
    if how == "it says so":
        rig.fail("liar", lease, "wrong_output", "I cannot get this right")
    else:
        body = {"lease": lease["lease"], "epoch": lease["epoch"], "outputs": {}}
        assert rig.refusal(rig.address("liar"), Type.DONE, body) == "wrong_output"
    assert rig.state("liar") == "killing"
    rig.work("pytket_compile")
    document = rig.document(client, job)
    assert document["state"] == "done" and "pytket_compile took over from liar" in document["degraded"][0]


def test_batches_that_contradict_each_other_are_done_again_by_another_tracker() -> None:
    rig = Rig(*QEC, liar(TRACKER))
    job = rig.submit(client := rig.client(), shots=20, batch=10)
    rig.boot()
    rig.work("stim_adapter")
    rig.work("liar", {**counts(10, "1"), "same": {"window": 3}})
    out = rig.lease("stim_adapter")
    assert rig.done("liar", rig.lease("liar"), {**counts(10, "1"), "same": {"window": 5}}).type is Type.ERROR
    rig.tell(rig.address("stim_adapter"), Type.REVOKED, {"lease": out["lease"], "epoch": out["epoch"]})
    rig.bury("liar")
    for _ in range(2):
        rig.work("stim_adapter")
        rig.work("matching_tracker", counts(10))
    assert rig.document(client, job)["summary"]["sum"]["counts"] == {"0": 20}


def test_a_fence_is_around_one_job_only_and_harms_no_other() -> None:
    """Work of another job in the hand of the liar is given out again and is no attempt; the liar pays for its death itself."""
    rig = Rig(COMPILE, OPTIMISE, liar(COMPILE), limits=Limits(attempts=1))
    client = rig.client()
    first = rig.submit(client, target="optimised")
    rig.work("liar")
    second = rig.submit(client, target="logical")
    held = rig.lease("liar")
    rig.fail("pytket_optimise", rig.lease("pytket_optimise"), "wrong_input", "no", kind="logical")
    rig.bury("liar")
    again = rig.work("liar")
    assert (again["job"], again["lease"], again["epoch"]) == (second, held["lease"], held["epoch"] + 1)
    assert rig.document(client, second)["state"] == "done"
    assert rig.document(client, second)["restarts"] == 1
    rig.work("pytket_compile")
    rig.work("pytket_optimise")
    assert rig.document(client, first)["state"] == "done"
    assert len(rig.kernel.supervisor.components["liar"].deaths) == 1


def test_a_process_that_has_ended_since_is_not_killed_again() -> None:
    rig = Rig(*QEC, liar(OPTIMISE))
    rig.submit(rig.client(), shots=5)
    to_the_batches(rig, "pytket_compile", "liar", "stim_adapter")
    rig.kill("liar")
    rig.advance(1.0)
    rig.fail("surface_code", rig.lease("surface_code"), "wrong_input", "no", kind="optimised")
    assert rig.state("liar") == "ready"
    rig.work("pytket_optimise")


def test_several_batches_in_flight_go_with_the_liar() -> None:
    rig = Rig(*QEC, liar(ADAPTER), hello=False)
    for name, component in rig.kernel.supervisor.components.items():
        wide = name in ("liar", "matching_tracker", "stim_adapter")
        rig.feed(rig.greeting(name, component.incarnation, slots=3 if wide else 1))
    job = rig.submit(client := rig.client(), shots=50, batch=10)
    to_the_batches(rig, "pytket_compile", "pytket_optimise", "liar", "surface_code", "liar", "grid_mapper")
    rig.work("liar")
    rig.work("matching_tracker", counts(10, "1"))
    leases = [rig.lease("matching_tracker") for _ in range(3)]
    assert sorted(lease["batch"] for lease in leases) == [1, 2, 3]
    rig.fail("matching_tracker", leases[1], "wrong_input", "gap", stream="rounds")
    revoked = {m.body["lease"] for m in rig.inbox[rig.address("matching_tracker")] if m.type is Type.REVOKE}
    assert revoked == {leases[0]["lease"], leases[2]["lease"]}
    rig.give_up("matching_tracker")
    assert rig.done("matching_tracker", leases[0], counts(10, "1")).body["error"]["name"] == "late"
    assert rig.document(client, job)["shots_restarted"] == 40
    to_the_batches(rig, "stim_adapter", "surface_code", "stim_adapter", "grid_mapper")
    for _ in range(5):
        rig.work("stim_adapter")
        rig.work("matching_tracker", counts(10))
    document = rig.document(client, job)
    assert (document["state"], document["summary"]["sum"]["counts"]) == ("done", {"0": 50})
    rig.kill("liar")
    assert len(rig.kernel.scheduler.leases) == 0


def test_three_liars_in_a_row_are_all_named() -> None:
    spares = [liar(HELLO, f"liar{number}", number) for number in range(3)]
    rig = Rig(*spares, manifest("reader", Operation("read", "read", ("greeted",), ("counts",))))
    job = rig.submit(client := rig.client(), "greeting")
    for number in (2, 1, 0):
        rig.work(f"liar{number}")
        rig.fail("reader", rig.lease("reader"), "wrong_input", f"lie {number}", kind="greeted")
    error = rig.document(client, job)["error"]
    assert [*error["details"]["fenced"]] == ["liar2", "liar1", "liar0"]
    assert all(f"lie {number}" in error["message"] for number in range(3))


def test_a_component_that_refuses_what_it_made_itself_is_to_blame() -> None:
    both = manifest("both", Operation("a", "make", (), ("x",)), Operation("a", "use", ("x",), ("counts",)))
    rig = Rig(both, liar(both, "other", -1))
    job = rig.submit(client := rig.client())
    rig.work("both")
    rig.fail("both", rig.lease("both"), "wrong_input", "who made this?", kind="x")
    rig.work("other")
    rig.work("other")
    assert rig.document(client, job)["plan"]["providers"] == {"a.make": "other", "a.use": "other"}


def test_what_is_here_already_is_not_replaced_by_the_way() -> None:
    """An artifact that others may have used stays, also when another operation makes its kind once more."""
    first = manifest("first", Operation("a", "a", (), ("x",)))
    second = manifest("second", Operation("b", "b", ("x",), ("x", "counts")))
    rig = Rig(first, second)
    job = rig.submit(client := rig.client(), "x")
    before = rig.document(client, job)["artifacts"]["x"]
    rig.work("second")
    assert rig.document(client, job)["artifacts"]["x"] == before
