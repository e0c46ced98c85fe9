# SPDX-License-Identifier: Apache-2.0
"""A machine without noise that runs fragments shot by shot on a stabiliser simulator, and reads their events.

It takes decisions as the tracker would, knows true random outcomes and nothing of schedules; it shares no code with the
plugins.
"""

from __future__ import annotations

from collections import defaultdict

import stim

from qcosd.qec.fragment import FragmentProgram, Frame, Hadamard, Handover, Init, Measure, Merge, Split
from qcosd.qec.geometry import plaquette_basis


class Shot:
    """One run.  ``written``: the values measured into each classical bit, in order; ``bits``: the last ones."""

    def __init__(self, program: FragmentProgram, seed: int) -> None:
        self.program = program
        self.simulator = stim.TableauSimulator(seed=seed)
        self.qubit: dict[tuple[int, int], int] = {}
        self.records: dict[tuple[int, int, int, int], int] = {}
        self.slot = 0
        self.rounds = 0
        self.bits = [0] * program.bits
        self.written: dict[int, list[int]] = defaultdict(list)
        self.decisions: list[int] = []
        self.tags: dict[int, int] = {}
        self.sign: dict[str, dict[int, int]] = {"X": {}, "Z": {}}
        self.live: set[int] = set()

    def run(self) -> Shot:
        fragment = self.program.fragments[0]
        while True:
            assert {patch for patch, _ in fragment.entry} == self.live
            for slot in fragment.sequence():
                self._slot(slot)
            if fragment.decision is None:
                assert not self.live
                return self
            value = fragment.decision.condition.holds([self.bits[bit] for bit in fragment.decision.condition.bits])
            self.decisions.append(int(value))
            fragment = self.program.fragments[fragment.decision.then if value else fragment.decision.otherwise]

    def _slot(self, slot) -> None:
        for part in slot.parts:
            for name, targets in part.instructions:
                self._instruction(name, targets)
            for detector in part.detectors:
                assert sum(self._value(name) for name in detector.records) % 2 == 0, detector
        for event in slot.events:
            self._event(event)
        self.slot += 1
        self.rounds += bool(slot.regions)

    def _value(self, name) -> int:
        dt, x, y, k = name
        assert dt in (0, -1)
        return self.records[self.slot + dt, x, y, k]

    def _parity(self, names) -> int:
        return sum(map(self._value, names)) % 2

    def _instruction(self, name, targets) -> None:
        if name == "PERM":
            moved = {new: self.qubit[old] for old, new in zip(targets[::2], targets[1::2], strict=True)}
            assert sorted(moved) == sorted(targets[::2])
            self.qubit.update(moved)
        elif name == "HANDOVER_Y":
            self._arrive(targets)
        elif name not in ("I", "TICK"):
            ids = [self.qubit.setdefault(site, len(self.qubit)) for site in targets]
            assert len(set(ids)) == len(ids)
            self.simulator.do(stim.Circuit(f"{name} {' '.join(map(str, ids))}"))
            if name in ("M", "MX"):
                for site, bit in zip(targets, self.simulator.current_measurement_record()[-len(ids) :], strict=True):
                    self.records[self.slot, *site, 0] = bit

    def _arrive(self, targets) -> None:
        data = [site for site in targets if site[0] % 2 == 0]
        ids = {site: self.qubit.setdefault(site, len(self.qubit)) for site in data}
        self.simulator.reset(*ids.values())
        for x, y in targets:
            if x % 2:
                basis = plaquette_basis((x, y))
                support = [ids[s] for s in ((x - 1, y - 1), (x + 1, y - 1), (x - 1, y + 1), (x + 1, y + 1)) if s in ids]
                self.records[self.slot, x, y, 1] = self._product({q: basis for q in support})
        x0, y0 = data[0]
        logical = {q: ("Y" if s == (x0, y0) else "Z") for s, q in ids.items() if s[0] == x0}
        logical |= {q: "X" for s, q in ids.items() if s[1] == y0 and s[0] != x0}
        if self._product(logical):
            self.simulator.z(*(q for s, q in ids.items() if s[0] == x0))

    def _product(self, factors: dict[int, str]) -> int:
        observable = stim.PauliString(max(factors) + 1)
        for qubit, pauli in factors.items():
            observable[qubit] = pauli
        return int(self.simulator.measure_observable(observable))

    def _event(self, event) -> None:
        x, z = self.sign["X"], self.sign["Z"]
        if isinstance(event, Init | Handover):
            assert event.patch not in self.live
            self.live.add(event.patch)
            x[event.patch] = z[event.patch] = 0
        elif isinstance(event, Merge):
            measured, joint = (z, x) if event.basis == "Z" else (x, z)
            assert event.tag not in self.tags
            self.tags[event.tag] = measured[event.first] ^ measured[event.second] ^ self._parity(event.records)
            joint[event.first] ^= joint[event.second]
            joint[event.second] = 0
        elif isinstance(event, Split):
            joint = x if event.basis == "Z" else z
            joint[event.first] ^= self._parity(event.records)
        elif isinstance(event, Measure):
            self.live.remove(event.patch)
            value = self.sign[event.basis][event.patch] ^ self._parity(event.records)
            assert event.tag not in self.tags
            self.tags[event.tag] = value
            if event.bit >= 0:
                self.bits[event.bit] = value
                self.written[event.bit].append(value)
        elif isinstance(event, Hadamard):
            x[event.patch], z[event.patch] = z[event.patch] ^ self._parity(event.records), x[event.patch]
        elif isinstance(event, Frame):
            assert event.patch in self.live
            value = event.constant
            if event.condition is not None:
                value = int(event.condition.holds([self.bits[bit] for bit in event.condition.bits]))
            for tag in event.tags:
                value ^= self.tags[tag]
            (z if event.pauli == "X" else x)[event.patch] ^= value


def only_paulis(op) -> bool:
    """Whether an `if` holds Paulis and barriers alone, however deep."""
    return all(
        only_paulis(inner) if inner.kind == "if" else inner.kind in ("x", "y", "z", "barrier") for inner in op.body
    )


def agrees(program, shot: Shot) -> bool:
    """Whether the logical program can give the values that a shot wrote, and takes the decisions that it took.

    Each outcome that is certain must be the one seen; one that is not is taken as it was seen.  A reset takes a new
    qubit: nobody knows what became of the old one.  An `if` over Paulis alone is taken for no decision: `if`s in it must
    compare by == as it does.
    """
    simulator = stim.TableauSimulator()
    place = list(range(program.qubits))
    bits = [0] * program.bits
    written = {bit: list(values) for bit, values in shot.written.items()}
    decisions = list(shot.decisions)

    def do(op) -> bool:
        nonlocal place
        where = [place[q] for q in op.qubits]
        if op.kind in ("h", "s", "x", "y", "z", "cx"):
            getattr(simulator, op.kind)(*where)
        elif op.kind == "sdg":
            simulator.s_dag(*where)
        elif op.kind == "reset":
            place[op.qubits[0]] = max(max(place) + 1, simulator.num_qubits)
        elif op.kind == "measure":
            seen = written[op.bit].pop(0)
            expected = simulator.peek_z(where[0])  # 1 for a certain 0, -1 for a certain 1, 0 for neither
            if expected and expected != 1 - 2 * seen:
                return False
            simulator.postselect_z(where[0], desired_value=bool(seen))
            bits[op.bit] = seen
        elif op.kind == "if":
            holds = op.condition.holds([bits[bit] for bit in op.condition.bits])
            if not only_paulis(op) and decisions.pop(0) != holds:
                return False
            return not holds or all(do(inner) for inner in op.body)
        return True

    return all(do(op) for op in program.ops) and not any(written.values()) and not decisions and bits == shot.bits
