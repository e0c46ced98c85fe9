# SPDX-License-Identifier: Apache-2.0
"""Whether two runs of gates do the same, up to global phase.

Exactly for Clifford gates.  With T gates exactly as well, where they are the same rotations about Pauli products; and otherwise
by their matrices, where these are small.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import stim

from qcosd.qec import clifford
from qcosd.qec.program import Op
from qcosd.qec.rewriting.rotations import NAMES, rotations_of

MOST_QUBITS: Final = 8
"""Of a matrix."""
ROUNDING: Final = 1e-9
"""Largest difference of an entry of two matrices."""
_MATRICES: Final[dict[str, clifford.Matrix]] = {
    **clifford.GATES,
    "t": (1, 0, 0, cmath.exp(0.25j * math.pi)),
    "tdg": (1, 0, 0, cmath.exp(-0.25j * math.pi)),
}


def tableau_of(gates: Sequence[Op], places: Mapping[int, int]) -> stim.Tableau:
    """The tableau of gates on qubits counted by `places`."""
    circuit = stim.Circuit()
    for place in places.values():
        circuit.append("I", [place])
    for op in gates:
        circuit.append(NAMES[op.kind], [places[qubit] for qubit in op.qubits])
    return circuit.to_tableau()


def matrix_of(gates: Sequence[Op], places: Mapping[int, int]) -> np.ndarray[Any, Any]:
    """The unitary, complex128 of shape (2**n, 2**n); `places` counts the qubits, place 0 is the least significant."""
    size = 1 << len(places)
    matrix = np.eye(size, dtype=complex)
    rows = np.arange(size)
    for op in gates:
        first = places[op.qubits[0]]
        if op.kind == "cx":
            matrix = matrix[rows ^ ((rows >> first & 1) << places[op.qubits[1]])]
            continue
        a, b, c, d = _MATRICES[op.kind]
        halves = matrix.reshape(-1, 2, size << first)
        matrix = np.stack((a * halves[:, 0] + b * halves[:, 1], c * halves[:, 0] + d * halves[:, 1]), 1)
        matrix = matrix.reshape(size, size)
    return matrix


def equivalent(first: Sequence[Op], second: Sequence[Op]) -> bool:
    """Whether both send every state to the same one.  False where that cannot be told."""
    qubits = sorted({qubit for op in (*first, *second) for qubit in op.qubits})
    places = {qubit: place for place, qubit in enumerate(qubits)}
    if all(op.kind in NAMES for op in (*first, *second)):
        # Every Pauli becomes the same Pauli with the same sign, which fixes a unitary up to global phase.
        return bool(tableau_of(first, places) == tableau_of(second, places))
    one, other = (rotations_of([(op.kind, op.qubits) for op in gates], places) for gates in (first, second))
    return one.same_as(other) or (len(qubits) <= MOST_QUBITS and _same_matrix(first, second, places))


def _same_matrix(first: Sequence[Op], second: Sequence[Op], places: Mapping[int, int]) -> bool:
    one, other = matrix_of(first, places), matrix_of(second, places)
    overlap = np.vdot(one, other)
    if abs(overlap) < 0.5 * len(one):
        return False
    return bool(np.max(np.abs(one * (overlap / abs(overlap)) - other)) < ROUNDING)
