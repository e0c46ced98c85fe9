# SPDX-License-Identifier: Apache-2.0
"""What `qcosctl chaos` and `tools/chaos` conclude from what they have seen."""

from __future__ import annotations

import copy

import pytest
from chaos import sound as campaign_sound
from chaos_jobs import VOLATILE, Course, Spec, specs

from qcosd.ctl.chaos import describe, quantile, report, sound
from qcosd.ctl.injection import DAEMON, FREEZE, KILL, SLOW, Fault, Plan, Struck


def struck(kind: str, target: str, seconds: float | None) -> Struck:
    return Struck(Fault(kind, target), 0.0, 1, 4711, seconds=seconds, trouble="" if seconds else "it stays away")


def test_the_same_seed_is_the_same_faults() -> None:
    targets = ["hello", "verifier", DAEMON]
    drawn = [[plan.next(targets) for _ in range(60)] for plan in (Plan(7, {KILL: 1, FREEZE: 1, SLOW: 2}) for _ in "ab")]
    assert drawn[0] == drawn[1]
    assert {fault.target for fault in drawn[0]} == set(targets)
    assert {fault.kind for fault in drawn[0]} == {KILL, FREEZE, SLOW}
    assert Fault(SLOW, DAEMON) not in drawn[0], "the daemon has no such message"
    assert drawn[0] != [Plan(8, {KILL: 1, FREEZE: 1, SLOW: 2}).next(targets) for _ in range(60)]
    assert {Plan(seed, {KILL: 1}).next(targets).kind for seed in range(20)} == {KILL}
    with pytest.raises(ValueError, match="share"):
        Plan(1, {KILL: 0.0})


def test_quantiles() -> None:
    times = [0.1 * n for n in range(1, 101)]
    assert [quantile(times, share) for share in (0.5, 0.99, 1.0)] == [5.0, 9.9, 10.0]
    assert quantile([2.0], 0.99) == 2.0
    assert quantile([], 0.5) is None


def test_a_fault_without_recovery_is_told_from_a_slow_one() -> None:
    hits = [struck(KILL, "hello", 0.25), struck(KILL, "verifier", 0.5), struck(KILL, DAEMON, None)]
    document = {"seed": 1, "seconds": 3.0, **report(hits), "resets": 0, "skipped": 0, "orphans": [], "jobs": jobs()}
    assert document["kinds"] == [
        {"fault": "kill daemon", "injected": 1, "survived": 0, "p50": None, "p99": None, "max": None},
        {"fault": "kill plugin", "injected": 2, "survived": 2, "p50": 0.25, "p99": 0.5, "max": 0.5},
    ]
    assert document["troubles"] == ["kill daemon: it stays away"]
    assert not sound(document)
    assert "it stays away" in describe(document)


def jobs(**changes: object) -> dict[str, object]:
    return {"seen": 2, "done": 1, "cancelled": 0, "open": 1, "failed": [], "lost": [], **changes}


def test_what_is_not_sound() -> None:
    good = {
        "seed": 1,
        "seconds": 3.0,
        **report([struck(KILL, "hello", 0.25)]),
        "resets": 0,
        "skipped": 0,
        "orphans": [],
        "jobs": jobs(),
    }
    assert sound(good)
    for changes in (
        {"orphans": [4711]},
        {"resets": 1},
        {"jobs": jobs(lost=["3"])},
        report([]),
        report([struck(FREEZE, "hello", None)]),
    ):
        bad = good | changes
        assert not sound(bad), changes
    assert "1: a plugin had failed" in describe(good | {"resets": 1})
    assert "pid 4711" in describe(good | {"orphans": [4711]})
    assert "1 lost (3)" in describe(good | {"jobs": jobs(lost=["3"])})


def test_a_campaign_with_jobs_in_which_a_plugin_had_to_be_reset_is_not_sound() -> None:
    nothing: dict[str, object] = {key: {} for key in ("wrong", "failed", "lost")}
    good = {**report([struck(KILL, "hello", 0.25)]), "stopped": 0, **nothing, "twice": [], "orphans": [], "resets": 0}
    assert campaign_sound(good)
    assert not campaign_sound(good | {"resets": 1})


def test_one_count_makes_a_result_another() -> None:
    document = {"job": "1", "state": "done", "counts": {"00": 3, "11": 2}, "seconds": {"total": 1.0}, "restarts": 0, "artifacts": {"counts": "a"}}  # fmt: skip
    first = Course(Spec("k", "bell", "stim", 1, 100), document=document)
    other = copy.deepcopy(document) | {"job": "9", "seconds": {"total": 8.0}, "restarts": 4}
    assert Course(first.spec, document=other).differences(first) == []
    other["counts"]["00"] = 4
    assert Course(first.spec, document=other).differences(first) == ["counts"]
    del other["artifacts"]
    assert Course(first.spec, document=other).differences(first) == ["artifacts", "counts"]
    assert not {"counts", "counts_undecoded", "rounds", "detectors", "detection_events", "registers", "seed", "artifacts", "state"} & VOLATILE  # fmt: skip


def test_the_jobs_of_a_campaign() -> None:
    drawn = specs(40, ("stim", "tableau"), 5)
    assert drawn == specs(40, ("stim", "tableau"), 5)
    assert {(spec.program, spec.adapter) for spec in drawn} >= {("branch", "tableau"), ("idle", "stim")}
    assert {spec.shots for spec in specs(4, ("tableau",), 5, 2.5)} == {1500}
    assert len({spec.key for spec in drawn}) == len({spec.seed for spec in drawn}) == 40
    assert drawn[0].options["use"] == {"hardware": f"{drawn[0].adapter}_adapter"}
