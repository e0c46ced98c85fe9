# SPDX-License-Identifier: Apache-2.0
"""Pauli frames of many shots in lock-step: everything physical that the simulated machine does.

The raw bits of a shot are the flips of one Pauli frame over the record that is all zero.  That record is a legal one
while circuits hold only R, RX, CX, transversal H, M, MX (and SWAP): along it every stabiliser has the sign +.  Stim's
stabiliser randomisation stays on: each random Pauli it inserts stabilises the state at that place, so it changes no
joint distribution, and it is what makes syndromes, seams and data bits look as random as those of a machine.

Masks and bits are packed along the shots: uint8, little-endian, ceil(shots/8) bytes, padding zero.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import stim
from numpy.typing import NDArray

Packed = NDArray[np.uint8]

# A simulator keeps its whole measurement record.  Past this size reallocations stall it by 50 ms and more, so the
# frames move to a fresh one; moving costs 0.05 to 0.75 ms for 1024 shots.
RECORD_BYTES = 8 << 20


def pack(bits: NDArray[np.uint8 | np.bool_]) -> Packed:
    """Packs the last axis (shots)."""
    packed: Packed = np.packbits(bits, axis=-1, bitorder="little")
    return packed


def unpack(packed: Packed, shots: int) -> NDArray[np.uint8]:
    """Inverse of `pack`: uint8 zeros and ones, shots along the last axis."""
    return np.unpackbits(packed, axis=-1, count=shots, bitorder="little")


def full_mask(shots: int) -> Packed:
    """All shots, padding zero."""
    return pack(np.ones(shots, np.uint8))


@lru_cache(maxsize=64)
def _loader(qubits: int) -> stim.Circuit:
    """Turns the 2n newest records (X rows, then Z rows) into the frames of qubits 0..n-1.

    Building it takes milliseconds and running it microseconds; `broadcast_pauli_errors` would take up to 20 ms a time.
    """
    lines = []
    for gate, first in (("CX", -2 * qubits), ("CZ", -qubits)):
        lines.append(f"{gate} " + " ".join(f"rec[{first + q}] {q}" for q in range(qubits)))
    return stim.Circuit("\n".join(lines))


class FlipBatch:
    """Pauli frames of ``shots`` shots on ``qubits`` qubits.  Equal seeds and calls give equal bits."""

    def __init__(self, shots: int, qubits: int, seed: int, record_bytes: int = RECORD_BYTES) -> None:
        if shots < 1 or qubits < 1:
            raise ValueError(f"a batch of {shots} shots on {qubits} qubits")
        self.shots = shots
        self.qubits = qubits
        self.mask = full_mask(shots)
        self._padded = shots % 8 != 0
        self._record_bytes = record_bytes
        self._row_bytes = 32 * -(-shots // 256)  # stim keeps records in words of 256 shots
        self._seeds = np.random.default_rng(seed)
        self._start()

    def _start(self) -> None:
        self._simulator = stim.FlipSimulator(
            batch_size=self.shots, num_qubits=self.qubits, seed=int(self._seeds.integers(1 << 63))
        )
        self._observables: Packed = np.zeros((0, len(self.mask)), np.uint8)

    def do(self, circuit: stim.Circuit) -> None:
        """Runs a noisy circuit."""
        self._simulator.do(circuit)

    def read(self, count: int) -> Packed:
        """What the reader (see `reader`) that ran last saw: uint8 (count, ceil(shots/8)).

        The cost depends on ``count`` and not on how long the record is.  Moves to a fresh simulator when the record
        has grown too big, so nothing may look back at older records afterwards.
        """
        bits = self._changes(count)
        if self._simulator.num_measurements * self._row_bytes > self._record_bytes:
            self.hand_over()
        return bits

    def parity(self, operator: stim.Circuit) -> Packed:
        """In which shots the frame anticommutes with a Pauli product, given as "OBSERVABLE_INCLUDE(0) Z3 Z7 ..."."""
        self._simulator.do(operator)
        return self._changes(1)[0]

    def inject(self, mask: Packed, pauli: stim.Circuit) -> None:
        """Applies a Pauli product, given as "CX rec[-1] q ..." or "CZ rec[-1] q ...", in the shots of a mask.

        It appends one record, which `reader` must be told to step over.
        """
        self._simulator.append_measurement_flips(mask)
        self._simulator.do(pauli)

    def strike(self, xs: NDArray[np.bool_], zs: NDArray[np.bool_]) -> None:
        """Applies X and Z where the arrays, bool (qubits, shots), say so.  Slow: for injected faults in tests."""
        self._simulator.broadcast_pauli_errors(pauli="X", mask=xs)
        self._simulator.broadcast_pauli_errors(pauli="Z", mask=zs)

    def hand_over(self) -> None:
        """Moves the frames to a fresh simulator with an empty record."""
        self._load(*self._frames())

    def select(self, keep: NDArray[np.bool_], seed: int) -> FlipBatch:
        """A batch of its own of the shots where ``keep``, bool (shots,), is true.  This one stays as it is."""
        child = FlipBatch(int(keep.sum()), self.qubits, seed, self._record_bytes)
        xs, zs = (pack(unpack(rows, self.shots)[:, keep]) for rows in self._frames())
        child._load(xs, zs)
        return child

    def _changes(self, count: int) -> Packed:
        # Observables accumulate: the newest bits are what changed since the last look.
        now: Packed = self._simulator.get_observable_flips(bit_packed=True)
        known = self._observables[:count]
        bits: Packed
        if len(known) == count:
            bits = now[:count] ^ known
        else:
            bits = now[:count].copy()
            bits[: len(known)] ^= known
        if self._padded:
            bits &= self.mask  # stim leaves garbage in the padding
        self._observables = now
        return bits

    def _frames(self) -> tuple[Packed, Packed]:
        xs, zs, *_ = self._simulator.to_numpy(output_xs=True, output_zs=True, bit_packed=True)
        return xs, zs

    def _load(self, xs: Packed, zs: Packed) -> None:
        self._start()
        _, random_zs = self._frames()  # a fresh randomised simulator begins with a random Z on every qubit
        self._simulator.append_measurement_flips(np.vstack([xs, zs ^ random_zs]))
        self._simulator.do(_loader(self.qubits))


def reader(runs: list[int]) -> list[str]:
    """Lines of circuit that fold the newest records into observables, record k into observable k, for `FlipBatch.read`.

    ``runs``: how many records were measured before, between and after the injected ones, which are left out: [3, 4]
    means three records, one injected, four records.
    """
    lines: list[str] = []
    back = sum(runs) + len(runs) - 1
    for run in runs:
        for _ in range(run):
            lines.append(f"OBSERVABLE_INCLUDE({len(lines)}) rec[{-back}]")
            back -= 1
        back -= 1
    return lines
