# SPDX-License-Identifier: Apache-2.0
"""Whether two runs of gates do the same, exactly up to global phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import stim

from qcosd.qec.program import Op

_NAMES: Final = {"h": "H", "s": "S", "sdg": "S_DAG", "x": "X", "y": "Y", "z": "Z", "cx": "CX"}


def tableau_of(gates: Sequence[Op], places: dict[int, int]) -> stim.Tableau:
    """The tableau of gates on qubits counted by `places`."""
    circuit = stim.Circuit()
    for place in places.values():
        circuit.append("I", [place])
    for op in gates:
        circuit.append(_NAMES[op.kind], [places[qubit] for qubit in op.qubits])
    return circuit.to_tableau()


def equivalent(first: Sequence[Op], second: Sequence[Op]) -> bool:
    """Whether both send every Pauli to the same Pauli with the same sign, which fixes a unitary up to global phase."""
    qubits = sorted({qubit for op in (*first, *second) for qubit in op.qubits})
    places = {qubit: place for place, qubit in enumerate(qubits)}
    return bool(tableau_of(first, places) == tableau_of(second, places))
