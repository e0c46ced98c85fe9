# SPDX-License-Identifier: Apache-2.0
"""By how much two programs differ at one point: the unitary that turns the state of the first into that of the second.

Gates of the second stand on its left, those of the first, undone, on its right.  A fence may be passed as long as the
residue does nothing to its qubits, because then both commute; at the end nothing must be left.  This is exact, whatever
is measured and whatever the qubits were at the beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol

import numpy as np
import stim
from qcos_plugins.verifier.alignment import aligned
from qcos_plugins.verifier.finding import TooLarge, Wrong
from qcos_plugins.verifier.steps import Step

MOST_QUBITS: Final = 10
"""Of a matrix."""
MOST_ENTRIES: Final = 1 << 21
"""Entries of matrices that are computed, over all gates: some hundredths of a second."""
MOST_ENTRIES_OF_T: Final = 1 << 25
"""Where there is no other way: a second."""
MOST_TABLEAU: Final = 3_000
"""Qubits of a tableau: it has four bits for each pair of them."""
TOLERANCE: Final = 1e-9


class Residue(Protocol):
    def undo(self, gate: Step) -> None:
        """The first program does a gate."""

    def do(self, gate: Step) -> None:
        """The second program does a gate."""

    def spares(self, qubit: int) -> bool:
        """Whether it does nothing to a qubit, or nearly, if so much is tolerated."""


class TableauResidue:
    """Exact for Clifford gates, up to global phase."""

    def __init__(self, qubits: Iterable[int]) -> None:
        self._place = {qubit: place for place, qubit in enumerate(sorted(set(qubits)))}
        self._tableau = stim.Tableau(len(self._place))

    def undo(self, gate: Step) -> None:
        assert gate.tableau is not None
        self._tableau.prepend(gate.tableau.inverse(), [self._place[qubit] for qubit in gate.qubits])

    def do(self, gate: Step) -> None:
        assert gate.tableau is not None
        self._tableau.append(gate.tableau, [self._place[qubit] for qubit in gate.qubits])

    def spares(self, qubit: int) -> bool:
        place = self._place[qubit]
        for output, pauli in ((self._tableau.x_output(place), "X"), (self._tableau.z_output(place), "Z")):
            if output.weight != 1 or output.sign != 1 or str(output)[1 + place] != pauli:
                return False
        return True


class MatrixResidue:
    """For any gates, on few qubits.  ``tolerance``: of an entry of the matrix."""

    def __init__(self, qubits: Iterable[int], tolerance: float = TOLERANCE) -> None:
        self._tolerance = tolerance
        self._place = {qubit: place for place, qubit in enumerate(sorted(set(qubits)))}
        size = len(self._place)
        # Axes: outputs 0..size-1, inputs size..2*size-1.
        self._matrix = np.eye(2**size, dtype=complex).reshape((2,) * (2 * size))

    def undo(self, gate: Step) -> None:
        assert gate.matrix is not None
        # The residue becomes itself times the adjoint: on the input axes, that is the complex conjugate.
        self._apply(gate.matrix.conj(), [self._place[qubit] + len(self._place) for qubit in gate.qubits])

    def do(self, gate: Step) -> None:
        assert gate.matrix is not None
        self._apply(gate.matrix, [self._place[qubit] for qubit in gate.qubits])

    def _apply(self, matrix: np.ndarray, axes: list[int]) -> None:
        count = len(axes)
        tensor = matrix.reshape((2,) * (2 * count))
        moved = np.tensordot(tensor, self._matrix, axes=(range(count, 2 * count), axes))
        self._matrix = np.moveaxis(moved, range(count), axes)

    def spares(self, qubit: int) -> bool:
        place = self._place[qubit]
        whole = np.moveaxis(self._matrix, (place, place + len(self._place)), (0, 1))
        rest = [np.abs(whole[0, 1]).max(), np.abs(whole[1, 0]).max(), np.abs(whole[0, 0] - whole[1, 1]).max()]
        return max(rest) < self._tolerance


def compare(first: Sequence[Step], second: Sequence[Step], bodies: bool = True, tolerance: float = TOLERANCE) -> str:
    """Whether two programs do the same from any state, with the same fences between the same gates.

    Returns the method, "unitary" or "tableau".  Raises Wrong where they differ, TooLarge.  ``bodies``: compares those of `if`s.
    ``tolerance``: by which matrices may differ; Clifford gates are always compared exactly.
    """
    qubits = sorted({qubit for step in (*first, *second) for qubit in step.qubits})
    if len(qubits) > MOST_TABLEAU:
        raise TooLarge(f"gates on {len(qubits)} qubits, more than {MOST_TABLEAU}")
    clifford = all(step.fence or step.tableau is not None for step in (*first, *second))
    gates = sum(not step.fence for step in (*first, *second))
    most = MOST_ENTRIES if clifford else MOST_ENTRIES_OF_T
    small = len(qubits) <= MOST_QUBITS and gates * 4 ** len(qubits) <= most
    if not small and not clifford:
        raise TooLarge(f"{gates} gates on {len(qubits)} qubits, T gates among them")
    method = "unitary" if small else "tableau"
    residue: Residue = MatrixResidue(qubits, tolerance) if method == "unitary" else TableauResidue(qubits)
    theirs = iter(aligned(first, second))
    last = "the beginning"
    for step in first:
        if not step.fence:
            residue.undo(step)
            continue
        for other in theirs:
            if other.fence:
                break
            residue.do(other)
        for qubit in step.qubits:
            if not residue.spares(qubit):
                raise Wrong(f"between {last} and the {step.text()} qubit {qubit} is changed in another way")
        if bodies and step.body:
            compare(step.body, other.body, tolerance=tolerance)
        last = f"the {step.text()}"
    for other in theirs:
        residue.do(other)
    for qubit in qubits:
        if not residue.spares(qubit):
            raise Wrong(f"at the end qubit {qubit} has been changed in another way")
    return method
