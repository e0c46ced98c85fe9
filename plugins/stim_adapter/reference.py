# SPDX-License-Identifier: Apache-2.0
"""What the logical measurements of a program come out as, exactly and without noise.

The all-zero record (see frames.py) is right for the physical rounds, but not for the logical program on top of them: the
measurements XX, ZZ, XZ, ZX on four qubits cannot all come out as zero.  So logical outcomes come from a reference, and
the machine steers them into the record.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import stim
from numpy.typing import NDArray
from qcos_plugins.stim_adapter.frames import Packed, full_mask


class Reference(Protocol):
    """The logical state of every shot of a batch, qubits named by patch number.

    Outcomes are packed along the shots.  A reference with states of its own per shot (state vectors, for T gates)
    implements the same five calls.
    """

    def prepare(self, patch: int, state: str, chosen: Packed | None = None) -> None:
        """A patch is born in |0> ("Z"), |+> ("X") or a state of `fragment.HANDOVERS`; one of that name that is there already
        is replaced.  ``chosen``: the shots of a "YX" that get |Y>."""

    def hadamard(self, patch: int) -> None: ...

    def parity(self, product: tuple[tuple[int, str], ...]) -> Packed:
        """Measures a product of X and Z: (patch, basis), ...; the state collapses."""

    def measure(self, patch: int, basis: str) -> Packed:
        """Measures a patch and forgets it."""

    def select(self, keep: NDArray[np.bool_], seed: int) -> Reference:
        """The shots where ``keep`` is true, on their own; this one stays as it is."""


_RESETS = {
    "X": stim.TableauSimulator.reset_x,
    "Y": stim.TableauSimulator.reset_y,
    "Z": stim.TableauSimulator.reset_z,
}


class CliffordReference:
    """One sample of one tableau for all shots of a batch.

    That is enough without T gates: where an outcome is random, the random stabilisers in the frames make it so from
    shot to shot, and where outcomes depend on each other the sample has the dependence.
    """

    def __init__(self, shots: int, seed: int) -> None:
        self._mask = full_mask(shots)
        self._none = np.zeros_like(self._mask)
        self._tableau = stim.TableauSimulator(seed=seed)
        self._qubits: dict[int, int] = {}
        self._free: list[int] = []

    def prepare(self, patch: int, state: str, chosen: Packed | None = None) -> None:
        if patch not in self._qubits:
            self._qubits[patch] = self._free.pop() if self._free else len(self._qubits)
        _RESETS[state](self._tableau, self._qubits[patch])

    def hadamard(self, patch: int) -> None:
        self._tableau.h(self._qubits[patch])

    def parity(self, product: tuple[tuple[int, str], ...]) -> Packed:
        observable = stim.PauliString(len(self._qubits) + len(self._free))
        for patch, basis in product:
            observable[self._qubits[patch]] = basis
        return self._mask if self._tableau.measure_observable(observable) else self._none

    def measure(self, patch: int, basis: str) -> Packed:
        outcome = self.parity(((patch, basis),))
        self._free.append(self._qubits.pop(patch))
        return outcome

    def select(self, keep: NDArray[np.bool_], seed: int) -> CliffordReference:
        child = CliffordReference(int(keep.sum()), seed)
        child._tableau = self._tableau.copy(seed=seed)
        child._qubits = dict(self._qubits)
        child._free = list(self._free)
        return child
