# SPDX-License-Identifier: Apache-2.0
"""Recorded shots for tests of the tracker: a physical circuit sampled by stim, cut into blocks, and decoded globally.

stim samples the whole path at once, true random bits of gauges and logical outcomes included; the tracker gets the same
records block by block, as from a machine.  Global decoding sees all of them together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pymatching
import stim
from qcos_plugins.matching_tracker.model import matching_model
from qcos_plugins.matching_tracker.outcomes import Outcomes
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.stim_adapter.machine import Machine
from qcos_plugins.surface_code.builder import Builder

from qcosd.qec.calibration import Calibration
from qcosd.qec.circuit import whole_circuit
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.stream import Block, Decided, child_path


def memory(distance: int, rounds: int) -> FragmentProgram:
    b = Builder(distance)
    b.init(0, (0, 0), "Z")
    b.idle(rounds)
    b.measure(0, "Z", bit=0)
    return b.program(bits=1)


def cnot(distance: int, basis: str) -> FragmentProgram:
    return _entangled(distance, (basis, basis), basis)


def ghz(distance: int, qubits: int, basis: str = "Z") -> FragmentProgram:
    return _entangled(distance, ("X",) + ("Z",) * (qubits - 1), basis)


def _entangled(distance: int, births: Sequence[str], basis: str) -> FragmentProgram:
    b = Builder(distance)
    for i, birth in enumerate(births):
        b.init(i, (i, i), birth)
    b.idle(1)
    for i in range(1, len(births)):
        b.cnot(0, i, ancilla=len(births))
    for i in range(len(births)):
        b.measure(i, basis, bit=i)
    return b.program(bits=len(births))


def hadamards(distance: int, basis: str) -> FragmentProgram:
    """Three H in a row."""
    b = Builder(distance)
    b.init(0, (0, 0), basis)
    for _ in range(3):
        b.idle(distance)
        b.hadamard(0)
    b.idle(1)
    b.measure(0, "X" if basis == "Z" else "Z", bit=0)
    return b.program(bits=1)


def phases(distance: int, dagger: bool) -> FragmentProgram:
    """|+>, S, then S or its inverse: |-> or |+>."""
    b = Builder(distance)
    b.init(0, (0, 0), "X")
    b.idle(1)
    b.phase(0, 1)
    b.phase(0, 1, dagger=dagger)
    b.measure(0, "X", bit=0)
    return b.program(bits=1)


@dataclass(frozen=True)
class Recording:
    """``records``: bool (shots, records) of one path of a program.  ``observables``: parities of bits, fixed but for noise."""

    program: FragmentProgram
    rates: Calibration
    observables: tuple[tuple[int, ...], ...]
    decisions: tuple[int, ...]
    records: np.ndarray

    @property
    def shots(self) -> int:
        return len(self.records)

    def chosen(self, shots: np.ndarray) -> Recording:
        return Recording(self.program, self.rates, self.observables, self.decisions, self.records[shots])

    @cached_property
    def _observed(self) -> tuple[np.ndarray, np.ndarray]:
        whole = whole_circuit(self.program, self.rates, self.observables, self.decisions)
        converter = stim.Circuit(whole.text).compile_m2d_converter(skip_reference_sample=True)
        detections, flips = converter.convert(measurements=self.records, separate_observables=True)
        return detections, flips ^ np.array([bool(p.constant) for p in whole.observables])

    def undecoded(self) -> np.ndarray:
        """bool (shots, observables)."""
        return self._observed[1]

    def decoded_globally(self, decoder: str) -> np.ndarray:
        """bool (shots, observables): all rounds decoded at once."""
        text = whole_circuit(self.program, self.rates.floored(), self.observables, self.decisions).text
        model = stim.Circuit(text).detector_error_model(decompose_errors=True)
        correlated = decoder != "pymatching"
        if decoder == "pymatching-tempered":
            model = matching_model(model, decoder)
        matching = pymatching.Matching.from_detector_error_model(model, enable_correlations=correlated)
        predicted = matching.decode_batch(self._observed[0], enable_correlations=correlated)
        return self._observed[1] ^ predicted.astype(bool)

    def parities(self, bits: np.ndarray) -> np.ndarray:
        """The observables, bool (shots, observables), of classical bits (bits, shots)."""
        return np.array([np.bitwise_xor.reduce(bits[list(o)], axis=0) for o in self.observables]).T.astype(bool)


def record(
    program: FragmentProgram,
    p: float,
    shots: int,
    observables: Sequence[Sequence[int]] | None = None,
    *,
    decisions: Sequence[int] = (),
    seed: int = 1,
) -> Recording:
    """Default observables: each bit alone."""
    chosen = tuple(map(tuple, observables)) if observables is not None else tuple((b,) for b in range(program.bits))
    rates = Calibration.uniform(p)
    circuit = stim.Circuit(whole_circuit(program, rates, chosen, decisions).text)
    records = circuit.compile_sampler(seed=seed).sample(shots)
    return Recording(program, rates, chosen, tuple(decisions), records)


def record_from_machine(
    program: FragmentProgram,
    p: float,
    shots: int,
    observables: Sequence[Sequence[int]],
    *,
    seed: int,
    **machine: object,
) -> Recording:
    """What stim_adapter sends for a program without decisions, as `record` gives stim's own samples."""
    rates = Calibration.uniform(p)
    rows = []
    for _, block, bits in Machine(program, rates, shots, seed, **machine).run():
        rows.append(np.unpackbits(bits, axis=1, count=block.shots, bitorder="little"))
    return Recording(program, rates, tuple(map(tuple, observables)), (), np.vstack(rows).T.astype(bool))


def pack(values: np.ndarray) -> np.ndarray:
    return np.packbits(values, axis=-1, bitorder="little")


def blocks(
    program: FragmentProgram, records: np.ndarray, size: int, *, decisions: Sequence[int] = ()
) -> list[tuple[Block, np.ndarray]]:
    """One path's records, bool (shots, records), as blocks of ``size`` slots that end where fragments end."""
    found, path, row, start, values = [], "", 0, 0, list(decisions)
    for fragment in program.path(decisions):
        sizes = [len(slot.records()) for slot in fragment.sequence()]
        for slot in range(0, len(sizes), size):
            m = tuple(sizes[slot : slot + size])
            last = fragment.decision is None and slot + size >= len(sizes)
            time = 1000 * (start + slot + len(m) + 1)
            block = Block(0, path, len(records), fragment.index, slot, start + slot, row, m, t_hw_ns=time, last=last)
            found.append((block, pack(records[:, row : row + sum(m)].T)))
            row += sum(m)
        start += len(sizes)
        if fragment.decision is not None:
            path = child_path(path, fragment.decision.k, values.pop(0))
    return found


def track(recording: Recording, *, size: int | None = None, **options: object) -> Outcomes:
    """What the tracker makes of a recording of a program without decisions."""
    program = recording.program
    tracker = Tracker(program, recording.rates, recording.shots, **options)
    for block, bits in blocks(program, recording.records, size or program.distance):
        tracker.receive(block, bits)
    return tracker.outcomes()


def decided(tracker: Tracker, recording: Recording) -> np.ndarray:
    """What the tracker decides at the end of the first fragment, bool (shots,)."""
    for block, bits in blocks(
        recording.program, recording.records, recording.program.distance, decisions=recording.decisions
    ):
        for reply in tracker.receive(block, bits):
            if isinstance(reply, tuple):
                header, values = reply
                assert header == Decided("", 0, recording.shots)
                return np.unpackbits(values, count=recording.shots, bitorder="little").astype(bool)
    raise AssertionError("no decision")


Program = Callable[[], FragmentProgram]
