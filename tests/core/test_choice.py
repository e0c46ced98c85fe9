# SPDX-License-Identifier: Apache-2.0
"""Which component does what: the option `use`, and one component for all of a service."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from kernel_rig import ADAPTER, QEC, Rig, manifest

from qcosd.core.demand import Plan, resolve
from qcosd.core.manifest import Manifest, Operation
from qcosd.protocol import Type

SECOND = dataclasses.replace(ADAPTER, name="tableau_adapter")


def sides(found: Plan) -> dict[str, str]:
    return {part.operation.name: part.component for step in found.steps for part in step.parts}


def plan(*manifests: Manifest, pinned: dict[str, str] | None = None, **more: Any) -> Plan:
    table = {m.name: m for m in manifests}
    return resolve(table, lambda name: True, pinned or {}, frozenset({"source"}), "counts", **more)


def hardware(rig: Rig, job: str, client: Any) -> set[str]:
    return {
        name
        for operation, name in rig.document(client, job)["plan"]["providers"].items()
        if operation.startswith("hardware.")
    }


@pytest.mark.parametrize("name", ["stim_adapter", "tableau_adapter"])
def test_the_job_says_which_component(name: str) -> None:
    rig = Rig(*QEC, dataclasses.replace(SECOND, rank=1))
    job = rig.submit(client := rig.client(), shots=1, use={"hardware": name})
    for component in (
        "pytket_compile",
        "pytket_optimise",
        name,
        "surface_code",
        name,
        "grid_mapper",
        name,
        "matching_tracker",
    ):
        rig.work(component)
    assert rig.document(client, job)["state"] == "done"
    assert hardware(rig, job, client) == {name}


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ({"hardwear": "stim_adapter"}, "'hardwear'; services: compile, hardware, map, optimise, qecc, track"),
        ({"hardware": "stim"}, "'stim' does not offer hardware; components that do: stim_adapter"),
        ({"hardware": "grid_mapper"}, "components that do: stim_adapter"),
        ({"hardware": ["stim_adapter"]}, "components that do: stim_adapter"),
        (["hardware"], "use: is not a map"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(use: Any, words: str) -> None:
    rig = Rig(*QEC)
    client = rig.client()
    sha = rig.put(client, b"program")
    answer = rig.ask(client, Type.JOB_SUBMIT, {"inputs": {"source": sha}, "options": {"use": use}})
    assert answer.body["error"]["name"] == "bad_input"
    assert words in answer.body["error"]["message"]


@pytest.mark.parametrize("options", [{"verify": "no"}, {"verify": 1}, {"discard_budget": -1}, {"discard_budget": 0.5}])
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    rig = Rig(*QEC)
    client = rig.client()
    sha = rig.put(client, b"program")
    assert rig.refusal(client, Type.JOB_SUBMIT, {"inputs": {"source": sha}, "options": options}) == "bad_input"


def test_a_component_that_is_asked_for_and_is_not_there_is_waited_for() -> None:
    rig = Rig(*QEC, SECOND)
    client = rig.client()
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "stim_adapter"})
    rig.kill("stim_adapter", status=0)
    job = rig.submit(client, use={"hardware": "stim_adapter"})
    document = rig.document(client, job)
    assert document["state"] == "held"
    assert "stim_adapter, which is not available" in document["cause"]
    assert not rig.has_lease("tableau_adapter")


def test_hardware_that_runs_is_hardware_that_described() -> None:
    partial = manifest("aa", Operation("hardware", "describe", (), ("device",)))
    assert set(sides(plan(*QEC, partial)).values()) & {"aa", "stim_adapter"} == {"stim_adapter"}
    better = dataclasses.replace(partial, rank=9)
    found = sides(plan(*QEC, better))
    assert (found["hardware.run"], found["hardware.describe"]) == ("stim_adapter", "stim_adapter")
    found = sides(plan(*QEC, better, pinned={"hardware.describe": "aa"}))
    assert (found["hardware.run"], found["hardware.describe"]) == ("stim_adapter", "aa")


def test_a_way_that_leads_nowhere_leaves_no_trace() -> None:
    """A provider that is tried first and lacks something must not decide who does the rest of its service."""
    dead_end = manifest(
        "dead_end",
        Operation("hardware", "describe", (), ("device",)),
        Operation("hardware", "replay", ("recording",), (), each="batch", stream_out="rounds"),
        rank=9,
    )
    found = sides(plan(*QEC, dead_end))
    assert {found[name] for name in ("hardware.describe", "hardware.calibrate", "hardware.run")} == {"stim_adapter"}


def test_the_reason_that_helps_is_given() -> None:
    replay = manifest(
        "replay", Operation("hardware", "replay", ("recording",), (), each="batch", stream_out="rounds"), rank=9
    )
    table = {m.name: m for m in (*QEC, replay)}
    found = resolve(table, lambda name: name != "stim_adapter", {}, frozenset({"source"}), "counts")
    assert "stim_adapter, which is not available" in found.cause


def test_a_second_machine_begins_at_the_beginning() -> None:
    """What the first one described and what was made of that is of no use when another one takes over."""
    rig = Rig(*QEC, SECOND)
    client = rig.client()
    job = rig.submit(client, shots=20, batch=10)
    rig.boot()
    rig.work("stim_adapter")
    rig.work("matching_tracker", {"sum": {"counts": {"0": 10}}})
    rig.lease("stim_adapter")
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "stim_adapter"})
    rig.kill("stim_adapter", status=0)
    rig.give_up("matching_tracker")
    rig.lease("matching_tracker")  # of the batch that was in hand
    before = rig.document(client, job)
    assert set(before["artifacts"]) == {"source", "logical", "optimised"}
    assert before["summary"] is None and before["shots_restarted"] == 20
    for component in ("tableau_adapter", "surface_code", "tableau_adapter", "grid_mapper"):
        rig.work(component)
    for batch in (0, 1):
        assert rig.work("tableau_adapter")["batch"] == batch
        rig.work("matching_tracker", {"sum": {"counts": {"1": 10}}})
    document = rig.document(client, job)
    assert (document["state"], document["summary"]["sum"]) == ("done", {"counts": {"1": 20}})
    assert hardware(rig, job, client) == {"tableau_adapter"}
    assert "hardware.run: tableau_adapter took over from stim_adapter" in document["degraded"]


def test_a_component_that_comes_back_in_time_keeps_its_work() -> None:
    """A stop without a successor holds the job, and loses nothing."""
    rig = Rig(*QEC)
    client = rig.client()
    job = rig.submit(client, shots=10)
    rig.boot()
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "stim_adapter"})
    rig.kill("stim_adapter", status=0)
    rig.give_up("matching_tracker")
    rig.lease("matching_tracker")
    assert rig.document(client, job)["state"] == "held"
    rig.ask(client, Type.PLUGIN_START, {"plugin": "stim_adapter"})
    rig.work("stim_adapter")
    rig.work("matching_tracker")
    assert rig.document(client, job)["state"] == "done"


def test_a_stranger_without_all_that_is_needed_does_not_take_over() -> None:
    """Another machine that cannot be described would have to run what was made for the first one."""
    half = manifest("half", *(o for o in ADAPTER.operations if o.op == "run"))
    rig = Rig(*QEC, half)
    client = rig.client()
    job = rig.submit(client, shots=10)
    rig.boot()
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "stim_adapter"})
    rig.kill("stim_adapter", status=0)
    rig.give_up("matching_tracker")
    assert rig.document(client, job)["state"] == "held"
    assert not rig.has_lease("half")


def test_a_choice_that_can_never_do_it_fails_at_once() -> None:
    player = manifest("player", Operation("hardware", "play", ("recording",), each="batch", stream_out="rounds"))
    rig = Rig(*QEC, player)
    job = rig.submit(client := rig.client(), shots=1, use={"hardware": "player"})
    document = rig.document(client, job)
    assert (document["state"], document["error"]["name"]) == ("failed", "unsupported")
    assert document["cause"] == "use hardware=player: nothing produces `calibration`"


def test_a_choice_that_is_only_away_is_waited_for() -> None:
    rig = Rig(*QEC, dataclasses.replace(SECOND, rank=1))
    client = rig.client()
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "tableau_adapter"})
    job = rig.submit(client, shots=1, use={"hardware": "tableau_adapter"})
    assert rig.document(client, job)["state"] == "held"
