# SPDX-License-Identifier: Apache-2.0
"""The demand graph on its own."""

from __future__ import annotations

import pytest
from kernel_rig import ADAPTER, QEC, TRACKER, Rig, manifest

from qcosd.core.demand import Plan, resolve
from qcosd.core.manifest import Manifest, ManifestError, Operation, ProcessLimits, Restart, StopLadder
from qcosd.protocol import Type


def plan(*manifests: Manifest, have: str = "source", target: str = "counts", broken: str = "", pinned: dict[str, str] | None = None) -> Plan:  # fmt: skip
    table = {m.name: m for m in manifests}
    return resolve(table, lambda name: name not in broken.split(), pinned or {}, frozenset(have.split()), target)


def names(found: Plan) -> list[str]:
    return ["+".join(f"{part.component}:{part.operation.op}" for part in step.parts) for step in found.steps]


def test_the_shipped_path() -> None:
    found = names(plan(*QEC))
    assert found[-1] == "matching_tracker:run+stim_adapter:run"
    for before, after in [
        ("pytket_compile:compile", "pytket_optimise:optimise"),
        ("pytket_optimise:optimise", "surface_code:prepare"),
        ("stim_adapter:describe", "surface_code:prepare"),
        ("stim_adapter:describe", "stim_adapter:calibrate"),
        ("surface_code:prepare", "grid_mapper:place"),
    ]:
        assert found.index(before) < found.index(after)
    assert len(found) == 7
    assert names(plan(*QEC, have="optimised device")) == [name for name in found if name.split(":")[0] not in ("pytket_compile", "pytket_optimise") and name != "stim_adapter:describe"]  # fmt: skip


def test_nothing_to_do() -> None:
    assert plan(have="counts") == Plan(())


@pytest.mark.parametrize(
    ("manifests", "broken", "cause"),
    [
        ((), "", "nothing produces `counts`"),
        ((TRACKER,), "", "nothing feeds the stream `rounds`"),
        ((TRACKER, ADAPTER), "", "nothing produces `fragments`"),
        (
            QEC,
            "pytket_optimise",
            "optimise.optimise needs pytket_optimise, which is not available: `qcosctl plugin list` says why, `qcosctl plugin restart pytket_optimise` starts it again",
        ),
        (
            QEC,
            "stim_adapter",
            "hardware.run needs stim_adapter, which is not available: `qcosctl plugin list` says why, `qcosctl plugin restart stim_adapter` starts it again",
        ),
    ],
)
def test_the_cause_is_named(manifests: tuple[Manifest, ...], broken: str, cause: str) -> None:
    assert plan(*manifests, broken=broken) == Plan((), cause)


def test_rank_then_what_works_then_the_pin() -> None:
    low = manifest("a", Operation("s", "op", (), ("x",)))
    high = manifest("b", Operation("s", "op", (), ("x",)), rank=5)
    blocked = manifest("c", Operation("s", "op", ("nowhere",), ("x",)), rank=9)
    assert names(plan(low, high, target="x")) == ["b:op"]
    assert names(plan(low, high, blocked, target="x")) == ["b:op"]
    assert names(plan(low, high, target="x", broken="b")) == ["a:op"]
    assert names(plan(low, high, target="x", pinned={"s.op": "a"})) == ["a:op"]
    assert names(plan(low, high, target="x", pinned={"s.op": "a"}, broken="a")) == ["b:op"]


def test_a_circle_is_no_way() -> None:
    egg = manifest("egg", Operation("egg", "lay", ("hen",), ("egg",)))
    hen = manifest("hen", Operation("hen", "hatch", ("egg",), ("hen",)))
    assert plan(egg, hen, target="egg").cause == "`egg` would be made from itself"
    assert names(plan(egg, hen, have="egg", target="hen")) == ["hen:hatch"]


def test_work_of_the_whole_job_cannot_use_what_is_made_for_each_batch() -> None:
    batch = manifest("a", Operation("a", "op", (), ("x",), each="batch"))
    whole = manifest("b", Operation("b", "op", ("x",), ("y",)))
    chain = manifest("c", Operation("c", "op", ("x",), ("y",), each="batch"))
    assert "cannot use `x`" in plan(batch, whole, target="y").cause
    assert names(plan(batch, chain, target="y")) == ["a:op", "c:op"]


def test_batches_go_through_a_chain() -> None:
    first = manifest("first", Operation("first", "op", (), ("x",), each="batch"))
    second = manifest("second", Operation("second", "op", ("x",), ("y",), each="batch"))
    rig = Rig(first, second)
    job = rig.submit(client := rig.client(), target="y", shots=2, batch=1)
    assert rig.work("first")["batch"] == 0
    assert rig.work("first")["batch"] == 1
    lease = rig.work("second")
    assert (lease["batch"], set(lease["inputs"])) == (0, {"x"})
    rig.work("second")
    assert rig.document(client, job)["batches"] == {"done": 2, "total": 2}


def test_another_provider_takes_over_and_the_job_says_so() -> None:
    spare = manifest("spare", Operation("hello", "greet", ("greeting",), ("greeted",)), rank=-1)
    main = manifest("main", Operation("hello", "greet", ("greeting",), ("greeted",)))
    rig = Rig(main, spare)
    client = rig.client()
    job = rig.submit(client, "greeting", target="greeted")
    assert rig.has_lease("main") and not rig.has_lease("spare")
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "main"})
    rig.kill("main", status=0)
    rig.work("spare")
    document = rig.document(client, job)
    assert (document["state"], document["plan"]["providers"]) == ("done", {"hello.greet": "spare"})
    assert document["degraded"] == ["hello.greet: spare took over from main"]


@pytest.mark.parametrize(
    "changes",
    [{"name": "Upper"}, {"argv": ()}, {"replicas": 0}, {"replicas": 2, "max_replicas": 1}, {"spares": -1}, {"spares": 300}, {"operations": (Operation("s", "o", each="round"),)},
     {"operations": (Operation("s", "o", stream_in="r"),)}, {"operations": (Operation("s", "o", budget=0),)},
     {"operations": (Operation("s", "run it"),)}, {"operations": (Operation("", "o"),)},
     {"operations": (Operation("s", "o", budget=float("inf")),)}, {"readiness_timeout": float("nan")}, {"name": "n" * 300},
     {"stop": StopLadder(ask=-1.0)}, {"restart": Restart(within=2e9)}, {"limits": ProcessLimits(memory_mb=1 << 70)},
     {"operations": (Operation("s", "o", preempt="maybe"),)}, {"operations": (Operation("s", "o", each="batch", stream_in="r", stream_out="q"),)}],
)  # fmt: skip
def test_impossible_manifests(changes: dict[str, object]) -> None:
    good: dict[str, object] = {"name": "a", "version": "1", "argv": ("x",)}
    Manifest(**good)  # type: ignore[arg-type]
    with pytest.raises(ManifestError):
        Manifest(**{**good, **changes})  # type: ignore[arg-type]
