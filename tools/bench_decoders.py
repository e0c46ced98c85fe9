# SPDX-License-Identifier: Apache-2.0
"""Cases `templates`, `reweight` and `decoders` of `tools/bench`: what the tracker's graphs and decoders cost, without a daemon.

Times are those of the processor: other work on the machine does not count.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stim
from qcos_plugins.matching_tracker import cache
from qcos_plugins.matching_tracker.admission import ADMITTED
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.decoders import offers
from qcos_plugins.matching_tracker.disk import Disk
from qcos_plugins.matching_tracker.elements import LocalCircuit
from qcos_plugins.matching_tracker.local import local_circuit
from qcos_plugins.matching_tracker.offering import admissions
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.window import next_window
from qcos_plugins.surface_code.builder import Builder

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram

REPEATS = 3


def rows(row: Callable[..., dict[str, Any]], case: str) -> list[dict[str, Any]]:
    """The rows of a case, each made by ``row``."""
    return {"templates": _templates, "reweight": _reweight, "decoders": _decoders}[case](row)


def _templates(row: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    """The windows of a CNOT in a process that knows none of them, in one that finds them on disk, and again there."""
    found = []
    for distance in (5, 9):
        program = _cnot(distance)
        spent: dict[str, list[float]] = {"cold": [], "from disk": [], "warm": [], "bare": []}
        for _ in range(REPEATS):
            circuits: list[stim.Circuit] = []

            def kept(*arguments: Any, circuits: list[stim.Circuit] = circuits, **options: Any) -> LocalCircuit:
                local = local_circuit(*arguments, **options)
                circuits.append(stim.Circuit(local.text))
                return local

            with tempfile.TemporaryDirectory() as place:
                disk = Disk(Path(place))
                cache.local_circuit = kept
                spent["cold"].append(_built(program, TemplateCache(disk=disk)))
                cache.local_circuit = local_circuit
                again = TemplateCache(disk=disk)
                spent["from disk"].append(_built(program, again))
                spent["warm"].append(_built(program, again))
            start = time.process_time()
            for circuit in circuits:
                circuit.detector_error_model(decompose_errors=True, flatten_loops=True)
            spent["bare"].append(time.process_time() - start)
        floor = 1e3 * statistics.median(spent.pop("bare"))
        what = f"detector_error_model of the same local circuits, loops unrolled: windows of a CNOT, d = {distance}"
        found += [row(f"{name} {distance}", 1e3 * statistics.median(s), "ms", floor, what) for name, s in spent.items()]
    return found


def _built(program: FragmentProgram, templates: TemplateCache) -> float:
    """Seconds until a program's windows are there."""
    return _windows(Plans(program, Calibration.uniform(1e-3), templates=templates))


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
        start = time.process_time()
        result = self.function(*arguments)
        self.seconds += time.process_time() - start
        return result


def _windows(plans: Plans) -> float:
    """Seconds for all windows of the program."""
    contents = plans.contents(0)
    start, seconds = 0, 0.0
    while (window := next_window(start, plans.commit, plans.buffer, len(contents))) is not None:
        before = contents[window.start - 1] if window.start else None
        began = time.process_time()
        plans.window(before, contents[window.start : window.needs], window)
        seconds += time.process_time() - began
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
