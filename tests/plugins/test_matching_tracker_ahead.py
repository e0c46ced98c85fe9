# SPDX-License-Identifier: Apache-2.0
"""Windows that are built before a program runs are those that it then needs, on every path."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import sampled
from qcos_plugins.matching_tracker import ahead
from qcos_plugins.matching_tracker.ahead import prepare
from qcos_plugins.matching_tracker.effects import _windows
from qcos_plugins.matching_tracker.plan import Plans
from test_matching_tracker_checkpoint import nested

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram

RATES = Calibration.uniform(1e-3)
PROGRAMS: dict[str, Callable[[], FragmentProgram]] = {
    "memory": lambda: sampled.memory(3, 41),
    "cnot": lambda: sampled.cnot(3, "Z"),
    "hhh": lambda: sampled.hadamards(3, "X"),
    "branches": nested,
}


# Programs that decide have no other buffer than the distance.
@pytest.mark.parametrize(("name", "buffer"), [*((name, None) for name in PROGRAMS), ("memory", 0), ("cnot", 0)])
def test_the_windows_are_those_of_all_paths(name: str, buffer: int | None) -> None:
    program = PROGRAMS[name]()
    decisions = len({f.decision.k for f in program.fragments if f.decision})
    prepared, walked = (Plans(program, RATES, buffer=buffer) for _ in range(2))
    reports: list[int] = []
    count = prepare(prepared, reports.append)
    for path in product((0, 1), repeat=decisions):
        for window, before, contents in _windows(walked, path):
            walked.window(before, contents, window)
    assert count == len(prepared._windows) > 0
    assert reports == list(range(count))
    assert prepared._windows.keys() == walked._windows.keys()


def test_a_long_memory_has_three_windows() -> None:
    assert prepare(Plans(sampled.memory(3, 3001), RATES), lambda count: None) == 3


def test_a_batch_after_it_builds_nothing() -> None:
    recording = sampled.record(sampled.ghz(3, 3), 3e-3, 20)
    plans = Plans(recording.program, RATES)
    prepare(plans, lambda count: None)
    assert plans.templates.misses > 5
    assert sampled.track(recording, plans=plans).templates_missed == 0


def test_no_more_are_prepared_than_plans_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MOST", 2)
    plans = Plans(sampled.memory(3, 41), RATES)
    assert prepare(plans, lambda count: None) == 2
    assert plans.templates.misses == 2
