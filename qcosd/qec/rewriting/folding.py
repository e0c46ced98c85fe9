# SPDX-License-Identifier: Apache-2.0
"""Runs of single-qubit gates as cheap gates that do the same.

Clifford gates between two T gates are one matrix, written at least cost.  Two T gates with nothing between them that turns the
axis become one S, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from qcosd.qec import clifford
from qcosd.qec.rewriting.words import IDENTITY, word_of

Gate = tuple[str, tuple[int, ...]]
Known = str | clifford.Matrix
_S, _SDG = clifford.GATES["s"], clifford.GATES["sdg"]


def folded(gates: Iterable[tuple[Known, tuple[int, ...]]]) -> list[Gate] | None:
    """Folds gates, which are named, or given as a matrix on one qubit. None if one of these is not exactly made of Clifford gates and a few T gates."""
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
        self._cliffords: list[clifford.Matrix] = [IDENTITY]

    def add(self, gate: Known) -> bool:
        """False, and nothing is done, for a matrix that is not known."""
        if gate in ("t", "tdg"):
            self._eighth()
            if gate == "tdg":
                self._then(_SDG)
            return True
        word = word_of(clifford.GATES[gate] if isinstance(gate, str) else gate)
        if word is None:
            return False
        for place, matrix in enumerate(word):
            if place:
                self._eighth()
            self._then(matrix)
        return True

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
            self._cliffords.append(IDENTITY)
