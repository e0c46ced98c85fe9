# SPDX-License-Identifier: Apache-2.0
"""What gates cost on the machine, in blocks of d rounds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from qcosd.qec.program import Op

# A CX is two merges and the birth and reading of its ancilla; an S is one merge with a |Y> that is handed over; H is
# transversal, but moves the patch to the next block; a Pauli is a change of frame.
BLOCKS: Final = {"cx": 3, "s": 2, "sdg": 2, "h": 1, "x": 0, "y": 0, "z": 0}


class Cost(NamedTuple):
    """`total`: of all gates together. `depth`: of the dearest chain of gates. `gates`: how many there are."""

    total: int
    depth: int
    gates: int

    def beats(self, other: Cost) -> bool:
        """Whether this is better in one respect and worse in none; the number of gates decides between equals."""
        if self[:2] == other[:2]:
            return self.gates < other.gates
        return self.total <= other.total and self.depth <= other.depth

    def rank(self, qubits: int) -> tuple[int, int]:
        """The lower the better, among costs of the same gates on so many qubits.

        First patches times blocks: every patch lives as long as the dearest chain, every gate takes room beside it.
        """
        return (qubits * self.depth + self.total, self.gates)


def cost_of(gates: Iterable[Op]) -> Cost:
    """The cost of gates in program order."""
    total = number = 0
    reached: dict[int, int] = {}
    for op in gates:
        blocks = BLOCKS[op.kind]
        total += blocks
        number += 1
        end = max((reached.get(qubit, 0) for qubit in op.qubits), default=0) + blocks
        for qubit in op.qubits:
            reached[qubit] = end
    return Cost(total, max(reached.values(), default=0), number)
