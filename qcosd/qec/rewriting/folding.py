# SPDX-License-Identifier: Apache-2.0
"""Runs of single-qubit gates as cheap gates that do the same.

Clifford gates between two T gates are one matrix, written at least cost.  Two T gates with nothing between them that turns the
axis become one S, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from qcosd.qec import clifford

Gate = tuple[str, tuple[int, ...]]
Known = str | clifford.Matrix
_IDENTITY: Final[clifford.Matrix] = (1, 0, 0, 1)
_S, _SDG = clifford.GATES["s"], clifford.GATES["sdg"]
_EIGHTH: Final = 2**-0.5 * (1 + 1j)
_T: Final[clifford.Matrix] = (1, 0, 0, _EIGHTH)
# What brings each axis to that of T: a gate with one T in it is one of these, T, and a Clifford gate.
_AXES: Final[tuple[clifford.Matrix, ...]] = (
    _IDENTITY,
    clifford.GATES["h"],
    clifford.product(clifford.GATES["h"], _SDG),
)


def folded(gates: Iterable[tuple[Known, tuple[int, ...]]]) -> list[Gate] | None:
    """Folds gates, which are named, or given as a matrix on one qubit. None if one has more than one T in it."""
    pending: dict[int, _Word] = {}
    out: list[Gate] = []

    def flush(qubit: int) -> None:
        word = pending.pop(qubit, None)
        if word is not None:
            out.extend((name, (qubit,)) for name in word.gates())

    for gate, qubits in gates:
        if gate == "cx":
            for qubit in qubits:
                flush(qubit)
            out.append(("cx", qubits))
        elif not pending.setdefault(qubits[0], _Word()).add(gate):
            return None
    for qubit in list(pending):
        flush(qubit)
    return out


class _Word:
    """Clifford gates with a T between each two of them: first one first."""

    def __init__(self) -> None:
        self._cliffords: list[clifford.Matrix] = [_IDENTITY]

    def add(self, gate: Known) -> bool:
        """False, and nothing is done, for a matrix with more than one T in it."""
        if gate in ("t", "tdg"):
            self._eighth()
            if gate == "tdg":
                self._then(_SDG)
            return True
        matrix = clifford.GATES[gate] if isinstance(gate, str) else gate
        if clifford.gates_of(matrix) is not None:
            self._then(matrix)
            return True
        for axis in _AXES:
            rest = clifford.product(matrix, _adjoint(clifford.product(_T, axis)))
            if clifford.gates_of(rest) is not None:
                self._then(axis)
                self._eighth()
                self._then(rest)
                return True
        return False

    def gates(self) -> list[str]:
        first, *others = self._cliffords
        out = list(clifford.gates_of(first) or ())
        for following in others:
            plain = clifford.gates_of(following) or ()
            inverse = clifford.gates_of(clifford.product(following, _S)) or ()
            # T is its inverse and an S: whichever of the two leaves less to do.
            out += ["tdg", *inverse] if clifford.cost(inverse) < clifford.cost(plain) else ["t", *plain]
        return out

    def _then(self, matrix: clifford.Matrix) -> None:
        self._cliffords[-1] = clifford.product(matrix, self._cliffords[-1])

    def _eighth(self) -> None:
        a, b, c, d = last = self._cliffords[-1]
        if len(self._cliffords) > 1 and max(abs(b), abs(c)) < clifford.TOLERANCE:
            self._cliffords.pop()
            self._then(clifford.product(_S, last))
        elif len(self._cliffords) > 1 and max(abs(a), abs(d)) < clifford.TOLERANCE:
            self._cliffords.pop()  # the second turns back what the first has turned
            self._then(last)
        else:
            self._cliffords.append(_IDENTITY)


def _adjoint(matrix: clifford.Matrix) -> clifford.Matrix:
    a, b, c, d = (complex(entry).conjugate() for entry in matrix)
    return (a, c, b, d)
