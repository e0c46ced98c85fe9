# SPDX-License-Identifier: Apache-2.0
"""Runs of single-qubit gates as the cheapest gates that do the same."""

from __future__ import annotations

from collections.abc import Iterable

from qcosd.qec import clifford

Gate = tuple[str, tuple[int, ...]]
_IDENTITY: clifford.Matrix = (1, 0, 0, 1)


def folded(gates: Iterable[tuple[str | clifford.Matrix, tuple[int, ...]]]) -> list[Gate] | None:
    """Folds gates, which are named, or given as a matrix on one qubit. None if one is not Clifford."""
    pending: dict[int, clifford.Matrix] = {}
    out: list[Gate] = []

    def flush(qubit: int) -> bool:
        names = clifford.gates_of(pending.pop(qubit, _IDENTITY))
        out.extend((name, (qubit,)) for name in names or ())
        return names is not None

    for gate, qubits in gates:
        if gate == "cx":
            if not all([flush(qubit) for qubit in qubits]):
                return None
            out.append(("cx", qubits))
        else:
            matrix = clifford.GATES[gate] if isinstance(gate, str) else gate
            pending[qubits[0]] = clifford.product(matrix, pending.get(qubits[0], _IDENTITY))
    return out if all([flush(qubit) for qubit in list(pending)]) else None
