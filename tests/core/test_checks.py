# SPDX-License-Identifier: Apache-2.0
"""Operations that check what others have made: what waits for them, and what becomes of a job that cannot have them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from kernel_rig import ADAPTER, COMPILE, HELLO, OPTIMISE, QEC, TRACKER, Rig, manifest

from qcosd.core.events import Limits
from qcosd.core.manifest import Manifest, ManifestError, Operation, Restart
from qcosd.protocol import Type

PROGRAM = Operation("verify", "program", ("logical", "optimised"), checks=("optimised",))
COUNTS = Operation("verify", "counts", ("counts",), checks=("counts",), each="batch")
VERIFIER = manifest("verifier", PROGRAM)
SAMPLER = manifest("sampler", COUNTS)


def liar(of: Manifest, name: str = "liar", rank: int = 1) -> Manifest:
    return dataclasses.replace(of, name=name, rank=rank)


def counts(shots: int, value: str = "0") -> dict[str, Any]:
    return {"sum": {"counts": {value: shots}}}


def boot(rig: Rig) -> None:
    for component in ("stim_adapter", "surface_code", "stim_adapter", "grid_mapper"):
        rig.work(component)


def batch(rig: Rig, shots: int, tracker: str = "matching_tracker", value: str = "0") -> int:
    rig.work("stim_adapter")
    return int(rig.work(tracker, counts(shots, value))["batch"])


def test_nobody_gets_what_is_being_checked() -> None:
    rig = Rig(*QEC, VERIFIER)
    job = rig.submit(client := rig.client(), shots=10)
    rig.work("pytket_compile")
    rig.work("pytket_optimise")
    rig.work("stim_adapter")
    assert not rig.has_lease("surface_code")
    assert rig.document(client, job)["verified"] == []
    lease = rig.work("verifier", {"sum": {"counts": {"1": 99}}}, method="tableau")
    assert (lease["op"], set(lease["inputs"]), lease["batch"]) == ("program", {"logical", "optimised"}, None)
    for component in ("surface_code", "stim_adapter", "grid_mapper"):
        rig.work(component)
    batch(rig, 10)
    document = rig.document(client, job)
    assert (document["state"], document["verified"], document["degraded"]) == ("done", ["optimised"], [])
    assert document["summary"]["sum"] == {"counts": {"0": 10}}  # a check has no part in the result
    assert "verify.program" not in document["plan"]["providers"]  # nor in the plan: it changes no bits
    assert document["facts"]["verify.program"] == {"method": "tableau"}


def test_the_target_is_checked_too() -> None:
    rig = Rig(COMPILE, OPTIMISE, VERIFIER)
    job = rig.submit(client := rig.client(), target="optimised")
    rig.work("pytket_compile")
    rig.work("pytket_optimise")
    assert rig.document(client, job)["state"] == "booting"
    rig.work("verifier")
    assert rig.document(client, job)["state"] == "done"


def test_a_job_can_do_without() -> None:
    rig = Rig(COMPILE, OPTIMISE, VERIFIER)
    job = rig.submit(client := rig.client(), target="optimised", verify=False)
    rig.work("pytket_compile")
    rig.work("pytket_optimise")
    document = rig.document(client, job)
    assert (document["state"], document["verified"], document["degraded"]) == ("done", [], [])


def test_a_liar_is_refused_and_its_successor_is_checked_as_well() -> None:
    rig = Rig(COMPILE, OPTIMISE, liar(OPTIMISE), VERIFIER)
    job = rig.submit(client := rig.client(), target="optimised")
    rig.work("pytket_compile")
    rig.work("liar")
    rig.fail("verifier", rig.lease("verifier"), "wrong_input", "unitaries differ at |01>", kind="optimised")
    assert rig.state("liar") == "killing" and rig.state("verifier") == "ready"
    rig.work("pytket_optimise")
    rig.work("verifier")
    document = rig.document(client, job)
    assert (document["state"], document["verified"]) == ("done", ["optimised"])
    assert document["degraded"][0].startswith(
        "optimise.optimise: pytket_optimise took over from liar: verify.program by"
    )


def test_a_check_may_find_that_another_input_is_wrong() -> None:
    rig = Rig(COMPILE, liar(COMPILE), OPTIMISE, VERIFIER)
    job = rig.submit(client := rig.client(), target="optimised")
    rig.work("liar")
    rig.work("pytket_optimise")
    rig.fail("verifier", rig.lease("verifier"), "wrong_input", "no program", kind="logical")
    assert set(rig.document(client, job)["artifacts"]) == {"source"}
    for component in ("pytket_compile", "pytket_optimise", "verifier"):
        rig.work(component)
    assert rig.document(client, job)["state"] == "done"


def test_a_verifier_that_refuses_everything_is_named_beside_those_whom_it_refused() -> None:
    rig = Rig(COMPILE, OPTIMISE, liar(OPTIMISE, "other"), VERIFIER)
    job = rig.submit(client := rig.client(), target="optimised")
    rig.work("pytket_compile")
    for name in ("other", "pytket_optimise"):
        rig.work(name)
        rig.fail("verifier", rig.lease("verifier"), "wrong_input", f"I do not like {name}", kind="optimised")
    error = rig.document(client, job)["error"]
    assert error["name"] == "wrong_output"
    for name in ("other", "pytket_optimise"):
        assert (
            f"verify.program by verifier refused `optimised` made by {name}: I do not like {name}" in error["message"]
        )
    assert error["chain"] == ["verify.program by verifier"] * 2
    assert [*error["details"]["fenced"]] == ["other", "pytket_optimise"]


def test_a_verifier_that_dies_in_the_middle_does_it_again() -> None:
    rig = Rig(COMPILE, OPTIMISE, VERIFIER)
    job = rig.submit(client := rig.client(), target="optimised")
    rig.work("pytket_compile")
    rig.work("pytket_optimise")
    first = rig.lease("verifier")
    rig.kill("verifier")
    assert rig.document(client, job)["state"] == "booting"
    rig.advance(1.0)
    again = rig.work("verifier")
    assert (again["lease"], again["epoch"]) == (first["lease"], first["epoch"] + 1)
    document = rig.document(client, job)
    assert (document["state"], document["verified"], document["restarts"]) == ("done", ["optimised"], 1)


@pytest.mark.parametrize("when", ["before", "in the middle", "poison"])
def test_a_job_goes_on_without_a_verifier_that_is_gone_and_says_so(when: str) -> None:
    verifier = dataclasses.replace(VERIFIER, restart=Restart(policy="always" if when == "poison" else "never"))
    rig = Rig(COMPILE, OPTIMISE, verifier, limits=Limits(attempts=1))
    if when == "before":
        rig.kill("verifier")
    job = rig.submit(client := rig.client(), target="optimised")
    rig.work("pytket_compile")
    rig.work("pytket_optimise")
    if when != "before":
        rig.lease("verifier")
        rig.kill("verifier")
    if when == "poison":
        rig.advance(8.0)
        rig.lease("verifier")
        rig.kill("verifier")
    document = rig.document(client, job)
    assert (document["state"], document["verified"]) == ("done", [])
    assert len(document["degraded"]) == 1 and document["degraded"][0].startswith("optimised: not verified")
    if when == "before":
        assert document["degraded"] == ["optimised: not verified"]


def test_another_verifier_takes_over() -> None:
    rig = Rig(COMPILE, OPTIMISE, VERIFIER, liar(VERIFIER, "first"))
    client = rig.client()
    job = rig.submit(client, target="optimised")
    rig.work("pytket_compile")
    rig.work("pytket_optimise")
    rig.lease("first")
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "first"})
    rig.kill("first", status=0)
    rig.work("verifier")
    assert rig.document(client, job)["verified"] == ["optimised"]


@pytest.mark.parametrize(
    ("name", "degraded"),
    [
        ("unsupported", "optimised: not verified: verify.program by verifier: 12 qubits are too many"),
        ("internal", "optimised: not verified: verify.program by verifier: 12 qubits are too many"),
        ("wrong_output", "optimised: not verified"),
    ],
)
def test_a_check_that_fails_itself_says_nothing_about_the_artifact(name: str, degraded: str) -> None:
    rig = Rig(COMPILE, OPTIMISE, VERIFIER)
    job = rig.submit(client := rig.client(), target="optimised")
    rig.work("pytket_compile")
    rig.work("pytket_optimise")
    rig.fail("verifier", rig.lease("verifier"), name, "12 qubits are too many")
    document = rig.document(client, job)
    assert (document["state"], document["verified"], document["degraded"]) == ("done", [], [degraded])
    assert rig.state("verifier") == ("killing" if name == "wrong_output" else "ready")
    assert rig.state("pytket_optimise") == "ready"


def test_a_check_that_takes_too_long_is_given_up() -> None:
    slow = manifest("verifier", dataclasses.replace(PROGRAM, budget=5.0))
    rig = Rig(COMPILE, OPTIMISE, slow)
    job = rig.submit(client := rig.client(), target="optimised")
    rig.work("pytket_compile")
    rig.work("pytket_optimise")
    lease = rig.lease("verifier")
    rig.advance(5.1)
    document = rig.document(client, job)
    assert document["state"] == "done"
    assert "did not end within 5 s" in document["degraded"][0]
    assert rig.read(rig.address("verifier"), Type.REVOKE).body["lease"] == lease["lease"]


def test_cancelled_while_it_is_checked() -> None:
    rig = Rig(COMPILE, OPTIMISE, VERIFIER)
    job = rig.submit(client := rig.client(), target="optimised")
    rig.work("pytket_compile")
    rig.work("pytket_optimise")
    lease = rig.lease("verifier")
    assert rig.ask(client, Type.JOB_CANCEL, {"job": job}).body["document"]["state"] == "cancelled"
    refused = rig.fail("verifier", lease, "wrong_input", "no", kind="optimised")
    assert refused.body["error"]["name"] == "late"
    assert rig.state("pytket_optimise") == "ready"
    rig.give_up("verifier")
    assert len(rig.kernel.scheduler.leases) == 0
    second = rig.submit(client, target="optimised")
    for component in ("pytket_compile", "pytket_optimise", "verifier"):
        rig.work(component)
    assert rig.document(client, second)["state"] == "done"


def test_nobody_checks_what_it_has_made_itself() -> None:
    both = manifest("both", *OPTIMISE.operations, PROGRAM)
    rig = Rig(COMPILE, both)
    job = rig.submit(client := rig.client(), target="optimised")
    rig.work("pytket_compile")
    assert rig.work("both")["op"] == "optimise"
    document = rig.document(client, job)
    assert (document["state"], document["verified"], document["degraded"]) == ("done", [], [])


def test_inputs_of_the_client_are_not_checked() -> None:
    rig = Rig(*QEC, VERIFIER)
    job = rig.submit(client := rig.client(), "optimised", shots=4)
    boot(rig)
    batch(rig, 4)
    document = rig.document(client, job)
    assert (document["state"], document["verified"], document["degraded"]) == ("done", [], [])


def test_a_check_waits_for_inputs_that_come_without_what_it_checks() -> None:
    """`optimised` is held back until the device is there, as the check needs that as well."""
    wide = manifest("verifier", dataclasses.replace(PROGRAM, consumes=("optimised", "calibration")))
    rig = Rig(*QEC, wide)
    rig.submit(rig.client(), shots=4)
    rig.work("pytket_compile")
    rig.work("pytket_optimise")
    rig.work("stim_adapter")
    assert not rig.has_lease("surface_code") and not rig.has_lease("verifier")
    rig.work("stim_adapter")
    rig.work("verifier")
    rig.work("surface_code")


def test_a_check_that_needs_what_is_made_from_its_object_holds_nothing_back() -> None:
    """Otherwise both would wait for each other. It is done as soon as it can be, and the batches wait for it."""
    wide = manifest("verifier", dataclasses.replace(PROGRAM, consumes=("optimised", "placement")))
    rig = Rig(*QEC, wide)
    job = rig.submit(client := rig.client(), shots=4)
    rig.boot()
    assert not rig.has_lease("matching_tracker")
    rig.work("verifier")
    batch(rig, 4)
    assert rig.document(client, job)["verified"] == ["optimised"]


def test_one_operation_checks_several_kinds_at_once() -> None:
    many = manifest(
        "verifier", Operation("verify", "all", ("fragments", "placement"), checks=("fragments", "placement"))
    )
    rig = Rig(*QEC, many)
    job = rig.submit(client := rig.client(), shots=4)
    rig.boot()
    rig.work("verifier")
    batch(rig, 4)
    assert rig.document(client, job)["verified"] == ["fragments", "placement"]
    assert not rig.has_lease("verifier")


def test_a_sample_of_the_batches_is_checked() -> None:
    rig = Rig(*QEC, SAMPLER)
    job = rig.submit(client := rig.client(), shots=10, batch=1)
    rig.boot()
    checked = []
    for number in range(10):
        batch(rig, 1, value=str(number))
        if rig.has_lease("sampler"):
            lease = rig.work("sampler")
            checked.append(lease["batch"])
            assert lease["summaries"] == {"counts": counts(1, str(number))}  # what the result is merged from
    assert checked == [0, 1, 2, 4, 8]
    document = rig.document(client, job)
    assert (document["state"], document["verified"]) == ("done", ["counts"])
    assert document["batches"] == {"done": 10, "total": 10}


def test_a_batch_that_is_checked_does_not_count_yet_and_delays_no_other() -> None:
    rig = Rig(*QEC, SAMPLER)
    job = rig.submit(client := rig.client(), shots=4, batch=1)
    rig.boot()
    held = [batch(rig, 1) for _ in range(4)]
    document = rig.document(client, job)
    assert (held, document["batches"], document["state"]) == ([0, 1, 2, 3], {"done": 1, "total": 4}, "running")
    for number in (0, 1, 2):
        assert rig.work("sampler")["batch"] == number
    assert rig.document(client, job)["state"] == "done"


def test_a_batch_that_is_refused_late_takes_all_others_along() -> None:
    rig = Rig(*QEC, liar(TRACKER), SAMPLER)
    job = rig.submit(client := rig.client(), shots=6, batch=1)
    rig.boot()
    for number in range(5):
        assert batch(rig, 1, "liar", "1") == number
        if number in (0, 1, 2):
            rig.work("sampler")
    out = rig.lease("stim_adapter")
    rig.fail("sampler", rig.lease("sampler"), "wrong_input", "counts do not add up", kind="counts")
    assert rig.read(rig.address("stim_adapter"), Type.REVOKE).body["lease"] == out["lease"]
    rig.tell(rig.address("stim_adapter"), Type.REVOKED, {"lease": out["lease"], "epoch": out["epoch"]})
    document = rig.document(client, job)
    assert (document["verified"], document["summary"], document["shots_restarted"]) == ([], None, 6)
    for number in range(6):
        assert batch(rig, 1) == number
        if number in (0, 1, 2, 4):
            rig.work("sampler")
    document = rig.document(client, job)
    assert (document["state"], document["summary"]["sum"]["counts"]) == ("done", {"0": 6})
    assert document["verified"] == ["counts"] and "sampler refused `counts` made by liar" in document["degraded"][0]


def test_what_was_checked_once_and_not_another_time_is_not_verified() -> None:
    rig = Rig(*QEC, dataclasses.replace(SAMPLER, restart=Restart(policy="never")))
    job = rig.submit(client := rig.client(), shots=3, batch=1)
    rig.boot()
    batch(rig, 1)
    rig.work("sampler")
    rig.kill("sampler")
    batch(rig, 1)
    batch(rig, 1)
    document = rig.document(client, job)
    assert (document["state"], document["verified"]) == ("done", [])
    assert document["degraded"] == ["counts: not verified"]


def test_the_next_step_of_a_batch_waits_for_the_check_of_the_one_before() -> None:
    first = manifest("first", Operation("first", "op", (), ("x",), each="batch"))
    second = manifest("second", Operation("second", "op", ("x",), ("counts",), each="batch"))
    check = manifest("check", Operation("verify", "x", ("x",), checks=("x",), each="batch"))
    rig = Rig(first, second, check)
    job = rig.submit(client := rig.client(), shots=4, batch=1)
    for number in range(4):
        assert rig.work("first")["batch"] == number
    assert rig.work("second")["batch"] == 3
    for number in range(3):
        assert rig.work("check")["batch"] == number
        assert rig.work("second")["batch"] == number
    document = rig.document(client, job)
    assert (document["state"], document["verified"]) == ("done", ["x"])


def test_the_component_that_checks_can_be_chosen() -> None:
    rig = Rig(COMPILE, OPTIMISE, VERIFIER, liar(VERIFIER, "first"))
    job = rig.submit(client := rig.client(), target="optimised", use={"verify": "verifier"})
    rig.work("pytket_compile")
    rig.work("pytket_optimise")
    assert not rig.has_lease("first")
    rig.work("verifier")
    story = rig.document(client, job)["story"]
    assert [row["who"][0][0] for row in story if row.get("op") == "verify.program"] == ["verifier"]


def test_two_operations_check_the_same_kind() -> None:
    other = manifest("other", dataclasses.replace(PROGRAM, op="idles"))
    rig = Rig(COMPILE, OPTIMISE, VERIFIER, other)
    job = rig.submit(client := rig.client(), target="optimised")
    rig.work("pytket_compile")
    rig.work("pytket_optimise")
    rig.work("other")
    assert rig.document(client, job)["state"] == "booting"
    rig.fail("verifier", rig.lease("verifier"), "unsupported", "T gates")
    document = rig.document(client, job)
    assert (document["state"], document["verified"]) == ("done", [])  # half a check is none


@pytest.mark.parametrize(
    "operation",
    [
        {"checks": ("x",)},
        {"checks": ("x",), "consumes": ("y",)},
        {"checks": ("x",), "consumes": ("x",), "produces": ("z",)},
        {"checks": ("x",), "consumes": ("x",), "stream_in": "rounds", "each": "batch"},
    ],
)
def test_impossible_checks(operation: dict[str, Any]) -> None:
    manifest("a", Operation("s", "o", ("x",), checks=("x",)))
    with pytest.raises(ManifestError, match=r"operation\.checks"):
        manifest("a", Operation("s", "o", **operation))


def test_a_job_with_a_checker_for_something_else_is_as_before() -> None:
    rig = Rig(HELLO, VERIFIER, SAMPLER, ADAPTER)
    job = rig.submit(client := rig.client(), "greeting", target="greeted")
    rig.work("hello")
    assert rig.document(client, job)["state"] == "done"


def test_a_check_may_find_the_stream_wrong_and_not_what_was_made_of_it() -> None:
    rig = Rig(*QEC, liar(ADAPTER), SAMPLER)
    job = rig.submit(client := rig.client(), shots=10)
    rig.work("pytket_compile")
    rig.work("pytket_optimise")
    for component in ("liar", "surface_code", "liar", "grid_mapper"):
        rig.work(component)
    rig.work("liar")
    rig.work("matching_tracker", counts(10, "1"))
    rig.fail("sampler", rig.lease("sampler"), "wrong_input", "random bits", kind="counts", stream="rounds")
    rig.bury("liar")
    for component in ("stim_adapter", "surface_code", "stim_adapter", "grid_mapper"):
        rig.work(component)
    batch(rig, 10)
    rig.work("sampler")
    document = rig.document(client, job)
    assert (document["state"], document["summary"]["sum"]["counts"]) == ("done", {"0": 10})
    assert any(
        "liar" in text and "on the stream `rounds` for `counts`: random bits" in text for text in document["degraded"]
    )
    assert "matching_tracker" not in " ".join(document["degraded"])
