# SPDX-License-Identifier: Apache-2.0
"""Whole unitaries of small gates: pytket multiplies them out, stim recognises and writes the Clifford ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import stim
from pytket.circuit import Circuit, OpType

from qcosd.qec.clifford import TOLERANCE

MAX_QUBITS: Final = 5
"""The largest gate of qelib1 (c4x)."""

Primitive = tuple[tuple[float, ...], tuple[int, ...]]
"""The built-in U (three angles in radians, one qubit) or CX (no angles, two qubits)."""
Gate = tuple[str, tuple[int, ...]]
"""A gate of the logical program on qubits of the gate at hand."""

_TYPES: Final = {
    "h": OpType.H,
    "s": OpType.S,
    "sdg": OpType.Sdg,
    "t": OpType.T,
    "tdg": OpType.Tdg,
    "x": OpType.X,
    "y": OpType.Y,
    "z": OpType.Z,
    "cx": OpType.CX,
}
_OF_STIM: Final = {"H": "h", "S": "s", "S_DAG": "sdg", "X": "x", "Y": "y", "Z": "z", "CX": "cx"}


def of_primitives(primitives: Sequence[Primitive], qubits: int) -> np.ndarray[Any, Any]:
    """The unitary, complex128 of shape (2**qubits, 2**qubits), qubit 0 most significant."""
    circuit = Circuit(qubits)
    for angles, targets in primitives:
        if angles:
            # pytket counts angles in half turns.
            circuit.add_gate(OpType.U3, [angle / math.pi for angle in angles], list(targets))
        else:
            circuit.CX(*targets)
    return circuit.get_unitary()


def of_gates(gates: Sequence[Gate], qubits: int) -> np.ndarray[Any, Any]:
    """The unitary of gates of the logical program, as `of_primitives`."""
    circuit = Circuit(qubits)
    for name, targets in gates:
        circuit.add_gate(_TYPES[name], list(targets))
    return circuit.get_unitary()


def difference(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    """The largest difference of an entry after the best global phase."""
    overlap = np.vdot(first, second)
    phase = overlap / abs(overlap) if abs(overlap) > 0 else 1.0
    return float(np.max(np.abs(first * phase - second)))


def clifford_gates(unitary: np.ndarray[Any, Any]) -> list[Gate] | None:
    """Gates that make this unitary up to global phase, or None if it is not Clifford."""
    qubits = len(unitary).bit_length() - 1
    try:
        tableau = stim.Tableau.from_unitary_matrix(unitary.astype(np.complex64), endian="big")
    except ValueError:
        return None
    gates: list[Gate] = []
    for instruction in tableau.to_circuit("elimination"):
        targets = [target.value for target in instruction.targets_copy()]
        width = 2 if instruction.name == "CX" else 1
        for start in range(0, len(targets), width):
            gates.append((_OF_STIM[instruction.name], tuple(targets[start : start + width])))
    # stim looks at single-precision numbers with a wide tolerance: a gate near a Clifford gate passes there.
    return gates if difference(of_gates(gates, qubits), unitary) < TOLERANCE * len(unitary) else None
