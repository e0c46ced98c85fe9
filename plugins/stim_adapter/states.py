# SPDX-License-Identifier: Apache-2.0
"""The logical state vector of every shot: what programs with T gates need for a reference."""

from __future__ import annotations

from copy import copy
from typing import Final

import numpy as np
from numpy.typing import NDArray
from qcos_plugins.stim_adapter.frames import Packed, pack, unpack

from qcosd.qec.fragment import FragmentProgram, Handover, Init, Measure

AMPLITUDES: Final = {"Z": (1, 0), "X": (1, 1), "Y": (1, 1j), "T": (1, np.exp(0.25j * np.pi))}
"""Of |0>, |+>, |Y> and |T>, not normalised."""

MAX_AMPLITUDES: Final = 1 << 22
"""Of all shots of a batch together: 64 MiB, and some times that while one is measured."""

States = NDArray[np.complex128]


def patches_at_once(program: FragmentProgram) -> int:
    """How many patches are alive at most, which is how many axes the states get."""
    most = 0
    for fragment in program.fragments:
        alive = len(fragment.entry)
        for i, _ in fragment.timeline:
            for event in fragment.slots[i].events:
                alive += isinstance(event, Init | Handover) - isinstance(event, Measure)
                most = max(most, alive)
    return most


class StateReference:
    """Exact state vectors, complex128 (shots, 2, ..., 2), one axis for each live patch; without noise.

    Every shot has random outcomes of its own.  Memory and time double with each patch.
    """

    def __init__(self, shots: int, seed: int) -> None:
        self._shots = shots
        self._random = np.random.default_rng(seed)
        self._axes: list[int] = []  # patches, in the order of the axes behind that of the shots
        self._states: States = np.ones((shots,), np.complex128)

    def prepare(self, patch: int, state: str, chosen: Packed | None = None) -> None:
        if patch in self._axes:
            self.measure(patch, "Z")
        amplitudes = np.array([AMPLITUDES["Y" if state == "YX" else state]] * self._shots, np.complex128)
        if chosen is not None:
            amplitudes[unpack(chosen, self._shots) == 0] = AMPLITUDES["X"]
        amplitudes /= np.linalg.norm(amplitudes, axis=1, keepdims=True)
        self._states = self._states[..., None] * self._spread(amplitudes)
        self._axes.append(patch)

    def hadamard(self, patch: int) -> None:
        zero, one = self._halves(patch)
        self._states = np.stack([zero + one, zero - one], self._axis(patch)) * np.sqrt(0.5)

    def parity(self, product: tuple[tuple[int, str], ...]) -> Packed:
        image = self._states
        for patch, basis in product:
            axis = self._axis(patch)
            if basis == "X":
                image = np.flip(image, axis)
            else:
                signs = np.ones([2 if i == axis else 1 for i in range(image.ndim)])
                signs.reshape(-1)[1] = -1
                image = image * signs
        rows = self._states.reshape(self._shots, -1), image.reshape(self._shots, -1)
        expected = np.einsum("si,si->s", rows[0].conj(), rows[1]).real
        outcome = self._drawn((1 - expected) / 2)
        found = rows[0] + (1 - 2.0 * outcome)[:, None] * rows[1]
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        self._states = found.reshape(self._states.shape)
        return pack(outcome)

    def measure(self, patch: int, basis: str) -> Packed:
        outcome = self.parity(((patch, basis),))
        ones = unpack(outcome, self._shots).astype(bool)
        zero, one = self._halves(patch)
        ones = ones.reshape(-1, *[1] * (zero.ndim - 1))
        # Of a product state one factor is left, up to a sign or a factor that nobody can see.
        self._states = np.where(ones, one, zero) if basis == "Z" else (zero + np.where(ones, -one, one)) * np.sqrt(0.5)
        self._axes.remove(patch)
        return outcome

    def select(self, keep: NDArray[np.bool_], seed: int) -> StateReference:
        child = copy(self)
        child._shots = int(keep.sum())
        child._random = np.random.default_rng(seed)
        child._axes = list(self._axes)
        child._states = self._states[keep]
        return child

    def _drawn(self, ones: NDArray[np.float64]) -> NDArray[np.bool_]:
        """An outcome for each shot, given the probability of 1."""
        return self._random.random(self._shots) < ones

    def _axis(self, patch: int) -> int:
        return 1 + self._axes.index(patch)

    def _halves(self, patch: int) -> tuple[States, States]:
        axis = self._axis(patch)
        return self._states.take(0, axis), self._states.take(1, axis)

    def _spread(self, amplitudes: States) -> States:
        """(shots, 2), to be multiplied with what has one more axis behind the present ones."""
        return amplitudes.reshape(self._shots, *[1] * len(self._axes), 2)
