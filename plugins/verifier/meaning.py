# SPDX-License-Identifier: Apache-2.0
"""Whether fragments do what the logical program says: run without noise, over their branches, and read as a tracker would.

T gates are run with stand-ins for the states that they need (see `parity`), and compared with the Clifford gates that these
make of them: so are their records, detectors, decisions and frames.  That it is a |T> which is handed over stands in the artifact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

import numpy as np
import stim
from qcos_plugins.verifier.finding import Wrong
from qcos_plugins.verifier.lattice import Lattice, lattice
from qcos_plugins.verifier.parity import Gadget, Tested, Written
from qcos_plugins.verifier.steps import Step, steps_of, walk

from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.program import LogicalProgram

PATHS: Final = 6
"""Paths that are run: each decision both ways first."""
TRIED: Final = 24
"""Paths that are written out to find them: nobody takes a path whose condition never holds."""
RUNS: Final = (4, 16)
"""Of the first path with T gates, at least and at most, and two of a few others: what stands for their states decides which
outcomes are certain, and so what is seen.  So many make each combination of the first four states."""
MOST_DETECTORS: Final = 20_000
"""Of all runs of such a path, where it has more than the least."""
SHOTS: Final = 16
"""Shots of each path whose outcomes are looked up in the logical program, one by one."""
MORE: Final = 40
"""Shots beyond the number of coin flips of a path: so many make a parity of them that is always the same certain."""
MOST_SHOTS: Final = 1 << 12
MOST_STEPS: Final = 100_000

Bits = np.ndarray  # bool


@dataclass
class Run:
    """Shots of one path.  ``written``: bool (writings, shots); ``bits``: bool (classical bits, shots), at the end;
    ``decided``: bool (decisions, shots)."""

    decisions: tuple[int, ...]
    path: Lattice
    written: Bits
    bits: Bits
    decided: Bits

    @property
    def taken(self) -> np.ndarray:
        """The shots that go this path."""
        return np.flatnonzero((self.decided == np.array(self.decisions, bool)[:, None]).all(axis=0))


@dataclass
class Examined:
    paths: int = 0
    shots: int = 0
    skipped: list[str] = field(default_factory=list)
    decisions: list[tuple[int, ...]] = field(default_factory=list)


def check_meaning(program: LogicalProgram, fragments: FragmentProgram, seed: int = 0) -> Examined:
    """Detectors even, every outcome one that the logical program can give, and random where it leaves it to chance; every
    idle at least as long as asked.  Raises Wrong, TooLarge."""
    found = Examined()
    steps = steps_of(program.ops)
    cost = 0
    for run in runs(fragments, seed):
        shots = run.taken
        if run.decisions not in found.decisions:
            found.paths += 1
            found.decisions.append(run.decisions)
        if run.path.left:
            raise Wrong(f"patches {run.path.left} are still alive at the end")
        if not len(shots):
            continue
        flips: list[int] = []
        for shot in shots[:SHOTS]:
            cost += len(steps)
            if cost > MOST_STEPS:
                break
            flips = _Logical(program, run, int(shot)).follow(steps)
            found.shots += 1
        _check_random(run, flips)
    if not found.shots:
        found.skipped.append("outcomes: no shot was met on the paths that were tried")
    if cost > MOST_STEPS:
        found.skipped.append("outcomes beyond the first shots")
    return found


def runs(fragments: FragmentProgram, seed: int) -> Iterator[Run]:
    """Runs of several paths: new decisions first.  Raises Wrong where a detector is odd."""
    waiting: list[tuple[int, ...]] = [()]
    seen: set[tuple[int, ...]] = set()
    met: set[tuple[int, int]] = set()
    useful = 0
    while waiting and useful < PATHS and len(seen) < TRIED:
        prefix = waiting.pop(0)
        whole = _completed(fragments, prefix)
        if whole in seen:
            continue
        seen.add(whole)
        run = _run(fragments, whole, seed + len(seen))
        useful += bool(len(run.taken))
        yield run
        if run.path.gadgets:
            least, most = RUNS
            times = max(least, min(most, MOST_DETECTORS // max(1, run.path.detectors))) if len(seen) == 1 else 2
            for more in range(1, times if len(seen) <= least else 1):
                yield _run(fragments, whole, seed + len(seen) + more * TRIED, more)
        numbers = [f.decision.k for f in fragments.path(whole) if f.decision is not None]
        met.update(zip(numbers, whole, strict=True))
        # Other ways that its shots go: they share the path up to where they leave it.
        for place in range(len(whole)):
            agree = (run.decided[:place] == np.array(whole[:place], bool)[:, None]).all(axis=0)
            if (agree & (run.decided[place] != bool(whole[place]))).any():
                waiting.append((*whole[:place], 1 - whole[place]))
        waiting.sort(key=lambda p: (_last(fragments, p) in met, len(p)))


def _last(fragments: FragmentProgram, prefix: Sequence[int]) -> tuple[int, int]:
    path = fragments.path(prefix)[len(prefix) - 1]
    assert path.decision is not None
    return path.decision.k, prefix[-1]


def _completed(fragments: FragmentProgram, prefix: Sequence[int]) -> tuple[int, ...]:
    number = sum(fragment.decision is not None for fragment in fragments.path(prefix))
    return (*prefix, *(0 for _ in range(number - len(prefix))))


def _run(fragments: FragmentProgram, decisions: tuple[int, ...], seed: int, number: int = 0) -> Run:
    """``number``: of the run of this path."""
    random = Random(f"stand-ins/{seed}")

    def stands(state: int) -> bool:
        return bool(5 * number >> (state - 1) & 1) if state <= 4 else random.random() < 0.5

    path = lattice(fragments, decisions, stands=stands)
    if unfinished := [gadget.qubit for gadget in path.gadgets if gadget.phase < 0 and not gadget.branches]:
        raise Wrong(f"a T gate of qubit {unfinished[0]} hands nothing over by its decision")
    circuit = path.circuit(entry.parity.records for entry in path.written)
    coins = len(path.written) + MORE
    shots = max(coins, min(MOST_SHOTS, 2 * coins << len(decisions)))
    records = circuit.compile_sampler(seed=seed).sample(shots)
    converter = circuit.compile_m2d_converter(skip_reference_sample=True)
    detections, raw = converter.convert(measurements=records, separate_observables=True)
    if detections.any():
        number = int(np.flatnonzero(detections.any(axis=0))[0])
        where = circuit.get_detector_coordinates()[number]
        raise Wrong(f"a detector at {[int(v) for v in where[:2]]} in round {int(where[2])} is odd without noise")
    unwatched = circuit.count_determined_measurements() - path.certain_tags - path.detectors
    if unwatched > 0:
        raise Wrong(f"{unwatched} parities of records are certain without noise, and no detector looks at them")
    return Run(decisions, path, *evaluate(path, raw.T, fragments.bits + fragments.scratch))


def evaluate(path: Lattice, raw: Bits, bits: int) -> tuple[Bits, Bits, Bits]:
    """What is written, the classical bits at the end, and the decisions.

    ``raw``: bool (writings, shots), the parities of their records, corrected or not.
    """
    values = np.zeros((bits, raw.shape[1]), bool)
    written = np.zeros_like(raw, bool)
    tests: dict[int, Bits] = {}
    decided = []
    number = 0
    for entry in path.history:
        if isinstance(entry, Written):
            value = raw[number] ^ bool(entry.parity.constant)
            for test in entry.parity.tests:
                value = value ^ tests[test]
            written[number] = values[entry.bit] = value
            number += 1
        else:
            tests[entry.number] = _holds(entry, values)
            if entry.bit >= 0:
                values[entry.bit] = tests[entry.number]
            if entry.decision:
                decided.append(tests[entry.number])
    return written, values, np.array(decided, bool).reshape(len(decided), raw.shape[1])


def _holds(entry: Tested, values: Bits) -> Bits:
    chosen, columns = np.unique(values[list(entry.condition.bits)], axis=1, return_inverse=True)
    answers = np.array([entry.condition.holds([int(bit) for bit in column]) for column in chosen.T], bool)
    return answers[np.asarray(columns).reshape(-1)]


class _Logical:
    """The logical program, made to give the outcomes of one shot."""

    def __init__(self, program: LogicalProgram, run: Run, shot: int) -> None:
        self._simulator = stim.TableauSimulator(seed=shot)
        self._simulator.set_num_qubits(program.qubits)
        self._place = list(range(program.qubits))
        self._values = [0] * program.bits
        self._due: dict[int, list[int]] = {}
        for number, entry in enumerate(run.path.written):
            if entry.qubit >= 0:
                self._due.setdefault(entry.bit, []).append(number)
        self._gadgets: dict[int, list[Gadget]] = {}
        for gadget in run.path.gadgets:
            self._gadgets.setdefault(gadget.qubit, []).append(gadget)
        self._written = run.written[:, shot]
        self._random: list[int] = []

    def follow(self, steps: Sequence[Step]) -> list[int]:
        """Numbers of the writings that are coin flips.  Raises Wrong where an outcome is impossible."""
        self._do(steps)
        rest = [bit for bit, numbers in self._due.items() if numbers]
        if rest:
            raise Wrong(f"bit {rest[0]} is written more often than the program says")
        if more := [qubit for qubit, gadgets in self._gadgets.items() if gadgets]:
            raise Wrong(f"qubit {more[0]} goes through more T gates than the program says")
        return self._random

    def _do(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if step.kind == "gate" and step.tableau is None:
                self._eighth(step)
            elif step.kind == "gate":
                self._simulator.do_tableau(step.tableau, [self._place[qubit] for qubit in step.qubits])
            elif step.kind == "reset":
                # A new qubit: nobody knows what became of the old one, and to look would decide what others give.
                self._place[step.qubits[0]] = self._simulator.num_qubits
                self._simulator.set_num_qubits(self._simulator.num_qubits + 1)
            elif step.kind == "measure":
                self._measure(step)
            elif step.kind == "if":
                assert step.guard is not None
                if step.guard.holds(self._values):
                    self._do(step.body)

    def _eighth(self, step: Step) -> None:
        """What a T or its inverse comes to with the stand-ins of its gadget, given its two outcomes.

        |Y> for |T> makes S where the parity is 0 and its inverse where it is 1.  |Y> in the second place makes S, or S Z where
        the phase is 1, and the frame adds the Z that belongs to a |Y> exactly where the choice has one.
        """
        (qubit,) = step.qubits
        due = self._gadgets.get(qubit)
        if not due:
            raise Wrong(f"the {step.text()} is not done")
        gadget = due.pop(0)
        if gadget.inverse != (step.name == "tdg"):
            raise Wrong(f"the {step.text()} is done as its inverse")
        parity = bool(self._written[gadget.parity])
        if gadget.branches:
            if gadget.first:
                (self._simulator.s_dag if parity else self._simulator.s)(self._place[qubit])
            if parity != gadget.inverse:  # the branch that this shot has taken
                (self._simulator.s_dag if gadget.inverse else self._simulator.s)(self._place[qubit])
            self._random.append(gadget.parity)
            return
        phase = bool(self._written[gadget.phase])
        chosen, turned = (parity, phase) if step.name == "t" else (not parity, not phase)
        place = self._place[qubit]
        if gadget.first:
            (self._simulator.s_dag if parity else self._simulator.s)(place)
        if gadget.second:
            self._simulator.s(place)
        if (gadget.second and phase) != (chosen and turned):
            self._simulator.z(place)
        self._random += [gadget.parity, gadget.phase]

    def _measure(self, step: Step) -> None:
        qubit = self._place[step.qubits[0]]
        due = self._due.get(step.bit)
        if not due:
            raise Wrong(f"the {step.text()} is not done")
        number = due.pop(0)
        value = bool(self._written[number])
        expected = self._simulator.peek_z(qubit)
        if expected and expected != 1 - 2 * value:
            raise Wrong(f"the {step.text()} gives {int(value)}, which the program rules out")
        if not expected:
            self._random.append(number)
        self._simulator.postselect_z(qubit, desired_value=value)
        self._values[step.bit] = int(value)


def _check_random(run: Run, flips: Sequence[int]) -> None:
    """No parity of coin flips is always the same.

    Over all shots, also those that would not go this path: in those that do, the bits that it was chosen by are no coins.
    """
    chosen = run.written[list(flips)]
    rows: dict[int, tuple[int, frozenset[int]]] = {}
    for number, row in zip(flips, chosen, strict=True):
        # A parity may be constantly 1: only changes count.
        value = int.from_bytes(np.packbits(row ^ row[0]).tobytes(), "big")
        members = frozenset([number])
        while value and (high := value.bit_length()) in rows:
            value, members = value ^ rows[high][0], members ^ rows[high][1]
        if not value:
            bits = sorted({run.path.written[member].bit for member in members})
            raise Wrong(f"bits {bits} always have the same parity, which the program leaves to chance")
        rows[value.bit_length()] = (value, members)


def check_idles(program: LogicalProgram, distance: int, path: Lattice) -> None:
    """Every qubit is left alone at least as long as its idles ask for, between two of its measurements.

    Idles in branches are not counted, and where branches measure nothing is.  Raises Wrong.
    """
    if any(step.kind == "measure" for op in steps_of(program.ops) for step in walk(op.body)):
        return
    asked: dict[int, list[int]] = {qubit: [0] for qubit in range(program.qubits)}
    for op in program.ops:
        if op.kind == "idle":
            for qubit in op.qubits:
                asked[qubit][-1] += op.blocks * distance
        elif op.kind == "measure":
            asked[op.qubits[0]].append(0)
    for qubit, needs in asked.items():
        given = path.alone.get(qubit, [0])
        for number, need in enumerate(needs):
            if need and (number >= len(given) or given[number] < need):
                rounds = given[number] if number < len(given) else 0
                raise Wrong(f"qubit {qubit} is left alone for {rounds} rounds, its idles ask for {need}")
