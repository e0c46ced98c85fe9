# SPDX-License-Identifier: Apache-2.0
"""Cases `reweight` and `decoders` of `tools/bench`: what the tracker's graphs and decoders cost, without a daemon."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from qcos_plugins.matching_tracker import cache
from qcos_plugins.matching_tracker.admission import ADMITTED
from qcos_plugins.matching_tracker.decoders import offers
from qcos_plugins.matching_tracker.offering import admissions
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.window import next_window
from qcos_plugins.surface_code.builder import Builder

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram

REPEATS = 3


def rows(row: Callable[..., dict[str, Any]], case: str) -> list[dict[str, Any]]:
    """The rows of a case, each made by ``row``."""
    return _reweight(row) if case == "reweight" else _decoders(row)


def _reweight(row: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for distance in (3, 5, 7):
        program = _cnot(distance)
        builds, others, checks = [], [], []
        for _ in range(REPEATS):
            spent = _Spent(cache.check)
            cache.check = spent  # type: ignore[assignment]
            plans = Plans(program, Calibration.uniform(1e-3))
            builds.append(_windows(plans))
            cache.check = spent.function
            checks.append(spent.seconds)
            others.append(_windows(plans.reweighted(Calibration.uniform(2e-3))))
        build = statistics.median(builds)
        what = f"to build them: windows of a CNOT, d = {distance}"
        found.append(row("reweight", 1e3 * statistics.median(others), "ms", 1e3 * build, what))
        what = f"the whole of building, of which the checks are a part, d = {distance}"
        found.append(row("check", 1e3 * statistics.median(checks), "ms", 1e3 * build, what))
    return found


def _decoders(row: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    """One line for each that is admitted."""
    tried = [admissions.of(name, offer) for name, offer in offers().items()]
    return [
        row(a.name, a.us_per_shot, "us/shot", a.us_per_shot / a.ratio, "plain matching beside it, d = 5, 10 rounds")
        for a in tried
        if a.state == ADMITTED
    ]


class _Spent:
    """A function, and the time that it takes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.seconds = 0.0

    def __call__(self, *arguments: Any) -> Any:
        start = time.perf_counter()
        result = self.function(*arguments)
        self.seconds += time.perf_counter() - start
        return result


def _windows(plans: Plans) -> float:
    """Seconds for all windows of the program."""
    contents = plans.contents(0)
    start, seconds = 0, 0.0
    while (window := next_window(start, plans.commit, plans.buffer, len(contents))) is not None:
        before = contents[window.start - 1] if window.start else None
        began = time.perf_counter()
        plans.window(before, contents[window.start : window.needs], window)
        seconds += time.perf_counter() - began
        start = window.commit
    return seconds


def _cnot(distance: int) -> FragmentProgram:
    b = Builder(distance)
    for i in range(2):
        b.init(i, (i, i), "Z")
    b.idle(distance)
    b.cnot(0, 1, ancilla=2)
    b.idle(distance)
    for i in range(2):
        b.measure(i, "Z", bit=i)
    return b.program(bits=2)
