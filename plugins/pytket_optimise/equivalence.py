# SPDX-License-Identifier: Apache-2.0
"""Whether two runs of gates do the same, up to global phase: exactly for Clifford gates, by their matrices with T gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import stim
from pytket.circuit import Circuit
from qcos_plugins.pytket_optimise.passes import TYPES

from qcosd.qec.program import Op

MOST_QUBITS: Final = 8
"""Of a matrix."""
ROUNDING: Final = 1e-9
"""Of the overlap of two matrices."""
_NAMES: Final = {"h": "H", "s": "S", "sdg": "S_DAG", "x": "X", "y": "Y", "z": "Z", "cx": "CX"}


def tableau_of(gates: Sequence[Op], places: dict[int, int]) -> stim.Tableau:
    """The tableau of gates on qubits counted by `places`."""
    circuit = stim.Circuit()
    for place in places.values():
        circuit.append("I", [place])
    for op in gates:
        circuit.append(_NAMES[op.kind], [places[qubit] for qubit in op.qubits])
    return circuit.to_tableau()


def _circuit(gates: Sequence[Op], places: dict[int, int]) -> Circuit:
    circuit = Circuit(len(places))
    for op in gates:
        circuit.add_gate(TYPES[op.kind], [places[qubit] for qubit in op.qubits])
    return circuit


def equivalent(first: Sequence[Op], second: Sequence[Op]) -> bool:
    """Whether both send every Pauli to the same Pauli with the same sign, which fixes a unitary up to global phase.

    With T gates: whether their matrices agree to within rounding.  False where these would be too large.
    """
    qubits = sorted({qubit for op in (*first, *second) for qubit in op.qubits})
    places = {qubit: place for place, qubit in enumerate(qubits)}
    if any(op.kind not in _NAMES for op in (*first, *second)):
        if len(qubits) > MOST_QUBITS:
            return False
        matrices = [_circuit(gates, places).get_unitary() for gates in (first, second)]
        return bool(abs(np.vdot(*matrices)) > (1 - ROUNDING) * len(matrices[0]))
    return bool(tableau_of(first, places) == tableau_of(second, places))
