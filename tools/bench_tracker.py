# SPDX-License-Identifier: Apache-2.0
"""Case `tracker` of `tools/bench`: from packed raw bits to committed frames, beside bare decoding of the same syndromes.

Blocks are recorded from the simulated machine and given to `Tracker.receive` again and again, templates warm, transport
left out.  The floor is `decode_batch` of the same windows' syndromes, packed on both sides, on graphs that are ready.
Both are taken in turns, as time of this thread on its core: other work on the machine counts for neither, as far as
that can be told.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.follow import EVERY
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.stim_adapter.machine import Machine
from qcos_plugins.surface_code.builder import Builder
from qcos_plugins.surface_code.prepare import prepare

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.stream import Block

NOISE = Calibration.uniform(1e-3)
DECODERS = ("pymatching", "pymatching-tempered")  # in one pass, and in two
DISTANCES = (3, 5, 9)
SHOTS = (1, 64, 256, 1024)
WINDOWS = 12  # of memory
REPEATS = 101
SECONDS = 2.0  # for the repeats of one line, at most
BATCHES = 8  # of one shot: a single one has few errors, or many
GHZ3 = b"""OPENQASM 2.0;
include "qelib1.inc";
qreg q[3];
creg c[3];
h q[0];
cx q[0], q[1];
cx q[1], q[2];
measure q -> c;
"""

Recorded = list[tuple[Block, np.ndarray]]


class Call(NamedTuple):
    """A window that is decoded: the graph, uint8 (shots, bytes), and whether matching takes two passes."""

    matching: Any
    syndromes: np.ndarray
    correlated: bool


def rows(
    row: Callable[..., dict[str, Any]],
    *,
    distances: Iterable[int] = DISTANCES,
    sizes: Iterable[int] = SHOTS,
    decoders: Iterable[str] = DECODERS,
    programs: Iterable[str] = ("memory", "ghz3"),
) -> list[dict[str, Any]]:
    """One line for each program, distance, decoder and number of shots, made by ``row``."""
    found = []
    for name in programs:
        for distance in distances:
            program = PROGRAMS[name](distance)
            recorded = {shots: [_record(program, shots, i) for i in range(_batches(shots))] for shots in sizes}
            templates = TemplateCache()
            for decoder in decoders:
                plans = Plans(program, NOISE, decoder=decoder, templates=templates)
                for shots, batches in recorded.items():
                    value, floor, kept = _measured(plans, shots, batches)
                    case = f"{name} d{distance} {decoder.removeprefix('pymatching').strip('-') or 'plain'} {shots}"
                    what = f"bare decode_batch; checkpoints {100 * kept:.1f} % more"
                    found.append(row(case, value, "us/round" if shots == 1 else "us/shot/round", floor, what))
    return found


def _memory(distance: int) -> FragmentProgram:
    b = Builder(distance)
    b.init(0, (0, 0), "Z")
    b.idle(distance * WINDOWS)
    b.measure(0, "Z", bit=0)
    return b.program(bits=1)


def _ghz3(distance: int) -> FragmentProgram:
    return prepare(compile_source(GHZ3)[0], distance)


PROGRAMS = {"memory": _memory, "ghz3": _ghz3}


def _tracker(plans: Plans, shots: int) -> Tracker:
    """As the plugin makes it."""
    return Tracker(plans.program, plans.calibration, shots, plans=plans, clock=time.perf_counter)


def _batches(shots: int) -> int:
    return BATCHES if shots == 1 else 1


def _record(program: FragmentProgram, shots: int, seed: int) -> Recorded:
    found = []
    for item in Machine(program, NOISE, shots, seed).run():
        assert item[0] == "block", "these programs decide nothing"
        found.append((item[1], np.array(item[2])))
    return found


def _measured(plans: Plans, shots: int, batches: list[Recorded]) -> tuple[float, float, float]:
    """Of tracking and of bare decoding, us per shot and round; and checkpoints as a share of tracking."""
    calls = [call for batch in batches for call in _calls(plans, shots, batch)]
    rounds = sum(fragment.length for fragment in plans.program.path()) * len(batches) * shots
    tracked, bare, kept = [], [], []
    over = time.monotonic() + SECONDS
    for _ in _quietly(over):
        trackers = [_tracker(plans, shots) for _ in batches]
        start = time.thread_time_ns()
        for tracker, batch in zip(trackers, batches, strict=True):
            for block, bits in batch:
                tracker.receive(block, bits)
        tracked.append(time.thread_time_ns() - start)
        start = time.thread_time_ns()
        _decode(calls)
        bare.append(time.thread_time_ns() - start)
        kept.append(_checkpoints(plans, shots, batches))
    value, floor, saved = (min(times) for times in (tracked, bare, kept))
    return value / 1e3 / rounds, floor / 1e3 / rounds, saved / value


def _quietly(over: float) -> Iterator[None]:
    """A few repeats, without collections of garbage in the middle of one."""
    gc.collect()
    gc.disable()
    try:
        for i in range(REPEATS):
            if i > 2 and time.monotonic() > over:
                return
            yield
    finally:
        gc.enable()


def _checkpoints(plans: Plans, shots: int, batches: list[Recorded]) -> float:
    """Nanoseconds that one checkpoint after every `EVERY` blocks takes, each as dear as one in the middle of the batch."""
    spent, blocks = 0, 0
    for batch in batches:
        tracker = _tracker(plans, shots)
        for block, bits in batch[: (len(batch) + 1) // 2]:
            tracker.receive(block, bits)
        start = time.thread_time_ns()
        tracker.checkpoint()
        spent += time.thread_time_ns() - start
        blocks += len(batch)
    return spent / len(batches) * blocks / EVERY


def _calls(plans: Plans, shots: int, batch: Recorded) -> list[Call]:
    """What the decoders of all windows are asked in a batch."""
    calls: list[Call] = []
    tracker = _tracker(plans, shots)
    for block, bits in batch:
        tracker.receive(block, bits)  # builds what is missing
    compiled = {}
    for plan in plans._windows.values():
        for instance in plan.instances:
            made = instance.template._compiled
            if not isinstance(made, _Heard):
                compiled[instance.template] = made
                instance.template._compiled = _Heard(made, calls)
    try:
        tracker = _tracker(plans, shots)
        for block, bits in batch:
            tracker.receive(block, bits)
    finally:
        for template, made in compiled.items():
            template._compiled = made
    return calls


class _Heard:
    """A decoder, and what it is asked."""

    def __init__(self, compiled: Any, calls: list[Call]) -> None:
        self._compiled = compiled
        self._calls = calls

    def decode_shots_bit_packed(self, *, bit_packed_detection_event_data: np.ndarray) -> np.ndarray:
        made = self._compiled
        self._calls.append(Call(made._matching, bit_packed_detection_event_data, made._correlated))
        found: np.ndarray = made.decode_shots_bit_packed(
            bit_packed_detection_event_data=bit_packed_detection_event_data
        )
        return found


def _decode(calls: list[Call]) -> None:
    for matching, syndromes, correlated in calls:
        matching.decode_batch(
            syndromes, bit_packed_shots=True, bit_packed_predictions=True, enable_correlations=correlated
        )
