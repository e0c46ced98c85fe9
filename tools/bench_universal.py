# SPDX-License-Identifier: Apache-2.0
"""Case `universal` of `tools/bench`: programs with T gates, shots a second through the running system.

The floor is the same machine and the same tracker in one process, without daemon, streams and checks: the same rounds, births,
windows and decisions, and the counts must be the same.  Growth with T gates and with qubits is measured in that process alone.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos_world import World, only
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.pytket_optimise.optimiser import optimised
from qcos_plugins.stim_adapter.machine import Machine
from qcos_plugins.stim_adapter.states import MAX_AMPLITUDES, largest_factor
from qcos_plugins.stim_adapter.steps import Compiler
from qcos_plugins.surface_code.prepare import prepare

from qcosd.core.batches import seed_of
from qcosd.qec.calibration import Calibration

NOISE, DECODER = 1e-3, "pymatching-tempered"
DISTANCES, SIZES = (3, 5), (1, 256, 1024)
SECONDS = 1.5  # of one measurement, about
MOST = 64  # batches of a job
REPEATS = 3
PLUGINS = ("stim_adapter", "matching_tracker", "surface_code", "pytket_compile", "pytket_optimise", "grid_mapper")
HEADER = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'
PROGRAMS = {
    "T": "qreg q[1]; creg c[1]; h q[0]; t q[0]; h q[0]; measure q -> c;\n",
    "Toffoli": "qreg q[3]; creg c[3]; x q[0]; x q[1]; ccx q[0],q[1],q[2]; measure q -> c;\n",
}

Row = dict[str, Any]
Counts = dict[str, int]


class Bare:
    """One program at one distance, in this process."""

    def __init__(self, source: str, distance: int) -> None:
        logical, _ = optimised(compile_source(source.encode())[0], lambda: False)
        self.program = prepare(logical, distance)
        self.rates = Calibration.uniform(NOISE)
        self.compiler = Compiler(self.program, self.rates)
        self.plans = Plans(self.program, self.rates, decoder=DECODER, templates=TemplateCache())
        self.most = min(1024, MAX_AMPLITUDES >> largest_factor(self.program))

    def batch(self, shots: int, seed: int, number: int = 0) -> Counts:
        machine = Machine(self.program, self.rates, shots, seed, number, compiler=self.compiler)
        tracker = Tracker(self.program, self.rates, shots, plans=self.plans, batch=number)
        decided: dict[tuple[str, int], Any] = {}
        running = machine.run()
        item, answer = next(running), None
        while True:
            if item[0] == "block":
                decided |= {
                    (r[0].path, r[0].k): r[1] for r in tracker.receive(item[1], item[2]) if isinstance(r, tuple)
                }
            else:
                answer = decided[item[1], item[2]]
            try:
                item, answer = running.send(answer), None
            except StopIteration:
                return tracker.outcomes().counts

    def seconds(self, shots: int, batches: int, seed: int) -> tuple[float, Counts]:
        """As long as a job of so many batches takes, and what it comes to."""
        total: Counts = {}
        began = time.perf_counter()
        for number in range(batches):
            for key, count in self.batch(shots, seed_of(seed, number), number).items():
                total[key] = total.get(key, 0) + count
        return time.perf_counter() - began, total


def rows(row: Callable[..., Row], bench: Any) -> list[Row]:
    """All rows of the case; ``row`` makes one."""
    found: list[Row] = []
    with World(config=only(*PLUGINS)) as world:
        bench.wait_until_ready(world.runtime)
        for name, body in PROGRAMS.items():
            path = world.home / f"{name}.qasm"
            path.write_text(HEADER + body)
            for distance in DISTANCES:
                bare = Bare(HEADER + body, distance)
                for size in SIZES:
                    found.append(_compared(row, bench, world, path, bare, f"{name} d{distance} {size}", size))
    return [*found, *_growth(row)]


def _compared(row: Callable[..., Row], bench: Any, world: World, path: Path, bare: Bare, name: str, size: int) -> Row:
    size = min(size, bare.most)
    bare.batch(size, 1)
    once, _ = bare.seconds(size, 1, 1)
    batches = max(2, min(MOST, round(SECONDS / once)))
    _system(bench, world, path, bare.program.distance, size, 2, 1)
    taken: dict[str, list[float]] = {"system": [], "bare": []}
    for seed in range(2, 2 + REPEATS):
        document = _system(bench, world, path, bare.program.distance, size, batches, seed)
        seconds, counts = bare.seconds(size, batches, seed)
        if {key: n for key, n in document["counts"].items() if n} != counts:
            sys.exit(f"{name}, seed {seed}: {counts} in one process, {document['counts']} from the system")
        taken["system"].append(document["seconds"]["execution"])
        taken["bare"].append(seconds)
    rates = {how: size * batches / statistics.median(seconds) for how, seconds in taken.items()}
    what = f"same machine and tracker in one process; {batches} batches of {document['rounds']} rounds"
    return row(f"universal {name}", rates["system"], "shots/s", rates["bare"], what)


def _growth(row: Callable[..., Row]) -> list[Row]:
    """Milliseconds for 64 shots at d = 3, with more T gates and with more qubits that are entangled; beside the least of each."""
    found = []
    for what, bodies in (
        ("T gates", {n: "qreg q[1]; creg c[1]; h q[0]; " + "t q[0]; h q[0]; " * n for n in (1, 4, 16, 64)}),
        ("qubits", {n: f"qreg q[{n}]; creg c[{n}]; h q; t q; " + _chain(n) for n in (1, 2, 4, 8)}),
    ):
        least = None
        for number, body in bodies.items():
            bare = Bare(HEADER + body + "measure q -> c;\n", 3)
            bare.batch(64, 1)
            ms = 1e3 * statistics.median(bare.seconds(64, 1, seed)[0] for seed in range(5))
            least = least or ms
            found.append(row(f"universal {number} {what}", ms, "ms", least, "the first of these"))
    return found


def _chain(qubits: int) -> str:
    return "".join(f"cx q[{q}],q[{q + 1}]; " for q in range(qubits - 1))


def _system(bench: Any, world: World, path: Path, distance: int, size: int, batches: int, seed: int) -> dict[str, Any]:
    words = ["--distance", distance, "--noise", NOISE, "--decoder", DECODER, "--no-verify", "--seed", seed]
    words += ["--shots", size * batches, "--batch", size]
    document: dict[str, Any] = bench.qcosctl(world.runtime, "run", str(path), *map(str, words))
    return document
