# SPDX-License-Identifier: Apache-2.0
"""The logical state vector of every shot: what programs with T gates need for a reference."""

from __future__ import annotations

from copy import copy
from typing import Final

import numpy as np
from numpy.typing import NDArray
from qcos_plugins.stim_adapter.frames import Packed, pack, unpack

from qcosd.qec.fragment import FragmentProgram, Handover, Init, Measure, Merge

AMPLITUDES: Final = {"Z": (1, 0), "X": (1, 1), "Y": (1, 1j), "T": (1, np.exp(0.25j * np.pi))}
"""Of |0>, |+>, |Y> and |T>, not normalised."""

MAX_AMPLITUDES: Final = 1 << 22
"""Of all shots of a batch together: 64 MiB, and some times that while one is measured."""

States = NDArray[np.complex128]


def largest_factor(program: FragmentProgram) -> int:
    """How many patches may be entangled with one another at most, which is how many axes the states get.

    Those that are alive as a fragment begins are taken for entangled.
    """
    most = 0
    for fragment in program.fragments:
        together: dict[int, set[int]] = {}
        entry = {patch for patch, _ in fragment.entry}
        together.update(dict.fromkeys(entry, entry))
        for event in (event for i, _ in fragment.timeline for event in fragment.slots[i].events):
            if isinstance(event, Init | Handover):
                together[event.patch] = {event.patch}
            elif isinstance(event, Merge):
                both = together[event.first] | together[event.second]
                together.update(dict.fromkeys(both, both))
            elif isinstance(event, Measure):
                together.pop(event.patch).discard(event.patch)
            most = max([most, *map(len, together.values())])
    return most


class Factor:
    """Patches that may be entangled with one another, and with no others.

    ``states``: complex128 (shots, 2, ..., 2), an axis for each of ``patches``, in their order.
    """

    def __init__(self, patches: list[int], states: States) -> None:
        self.patches = patches
        self.states = states

    def axis(self, patch: int) -> int:
        return 1 + self.patches.index(patch)

    def halves(self, patch: int) -> tuple[States, States]:
        """Where a patch is |0>, and where it is |1>."""
        axis = self.axis(patch)
        return self.states.take(0, axis), self.states.take(1, axis)

    def times(self, other: Factor) -> Factor:
        left, right = self.states, other.states
        shots, mine, theirs = len(left), left.ndim - 1, right.ndim - 1
        product = left.reshape(*left.shape, *[1] * theirs) * right.reshape(shots, *[1] * mine, *right.shape[1:])
        return Factor([*self.patches, *other.patches], product)


class StateReference:
    """Exact state vectors of every shot, without noise, as a product of factors: those of patches that have met.

    Every shot has random outcomes of its own.  Memory and time double with each patch of the largest factor.
    """

    def __init__(self, shots: int, seed: int) -> None:
        self._shots = shots
        self._random = np.random.default_rng(seed)
        self._factors: dict[int, Factor] = {}  # by patch

    def prepare(self, patch: int, state: str, chosen: Packed | None = None) -> None:
        if patch in self._factors:
            self.measure(patch, "Z")
        amplitudes = np.array([AMPLITUDES["Y" if state == "YX" else state]] * self._shots, np.complex128)
        if chosen is not None:
            amplitudes[unpack(chosen, self._shots) == 0] = AMPLITUDES["X"]
        amplitudes /= np.linalg.norm(amplitudes, axis=1, keepdims=True)
        self._factors[patch] = Factor([patch], amplitudes)

    def hadamard(self, patch: int) -> None:
        factor = self._factors[patch]
        zero, one = factor.halves(patch)
        factor.states = np.stack([zero + one, zero - one], factor.axis(patch)) * np.sqrt(0.5)

    def parity(self, product: tuple[tuple[int, str], ...]) -> Packed:
        factor = self._joined([patch for patch, _ in product])
        image = factor.states
        for patch, basis in product:
            axis = factor.axis(patch)
            if basis == "X":
                image = np.flip(image, axis)
            else:
                signs = np.ones([2 if i == axis else 1 for i in range(image.ndim)])
                signs.reshape(-1)[1] = -1
                image = image * signs
        rows = factor.states.reshape(self._shots, -1), image.reshape(self._shots, -1)
        expected = np.einsum("si,si->s", rows[0].conj(), rows[1]).real
        outcome = self._drawn((1 - expected) / 2)
        found = rows[0] + (1 - 2.0 * outcome)[:, None] * rows[1]
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        factor.states = found.reshape(factor.states.shape)
        return pack(outcome)

    def measure(self, patch: int, basis: str) -> Packed:
        outcome = self.parity(((patch, basis),))
        factor = self._factors.pop(patch)
        zero, one = factor.halves(patch)
        ones = unpack(outcome, self._shots).astype(bool).reshape(-1, *[1] * (zero.ndim - 1))
        # The rest is left, up to a sign or a factor that nobody can see.
        left = np.where(ones, one, zero) if basis == "Z" else (zero + np.where(ones, -one, one)) * np.sqrt(0.5)
        factor.states = left
        factor.patches.remove(patch)
        return outcome

    def select(self, keep: NDArray[np.bool_], seed: int) -> StateReference:
        child = copy(self)
        child._shots = int(keep.sum())
        child._random = np.random.default_rng(seed)
        child._factors = {}
        for factor in {id(factor): factor for factor in self._factors.values()}.values():
            child._hold(Factor(list(factor.patches), factor.states[keep]))
        return child

    def _joined(self, patches: list[int]) -> Factor:
        """The factor of some patches, which meet now if they have not before."""
        first = self._factors[patches[0]]
        for patch in patches[1:]:
            if (other := self._factors[patch]) is not first:
                first = first.times(other)
                self._hold(first)
        return first

    def _hold(self, factor: Factor) -> None:
        self._factors.update(dict.fromkeys(factor.patches, factor))

    def _drawn(self, ones: NDArray[np.float64]) -> NDArray[np.bool_]:
        """An outcome for each shot, given the probability of 1."""
        return self._random.random(self._shots) < ones
