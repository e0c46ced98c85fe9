# SPDX-License-Identifier: Apache-2.0
"""What gates cost on the machine: time in blocks of d rounds, room in patches."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from qcosd.qec.program import PAULIS, Op

# A CX is a ZZ and an XX merge, one after the other, with an ancilla; an S is one merge with a |Y> that is handed over;
# a T is one with a |T>, d rounds until it is decided which way it went, and one with a |Y> or a |+>; H is transversal and
# turns its patch; a Pauli is a change of frame.
BLOCKS: Final = {"cx": 2, "s": 1, "sdg": 1, "t": 3, "tdg": 3, "h": 1, "x": 0, "y": 0, "z": 0}
PATCHES: Final = {"cx": 3, "s": 2, "sdg": 2, "t": 2, "tdg": 2, "h": 1, "x": 0, "y": 0, "z": 0}
"""Patches that take part: the qubits of the gate and its ancilla."""


class Cost(NamedTuple):
    """`total`: patches times blocks of all gates. `depth`: blocks of the longest chain. `turns`: H gates that are
    neither part of a preparation nor of a read-out, which only a device that moves qubits can do. `gates`: all gates."""

    total: int
    depth: int
    turns: int
    gates: int

    def beats(self, other: Cost) -> bool:
        """Whether this is better in one respect and worse in none; the number of gates decides between equals."""
        if self[:3] == other[:3]:
            return self.gates < other.gates
        return all(mine <= its for mine, its in zip(self[:3], other[:3], strict=True))

    def rank(self, qubits: int) -> tuple[int, int]:
        """The lower the better, among costs of the same gates on so many qubits.

        First patches times blocks: every patch lives as long as the longest chain, and gates take room beside it.
        """
        return (qubits * self.depth + self.total, self.gates)


def cost_of(gates: Iterable[Op], fresh: Collection[int] = (), read: Collection[int] = ()) -> Cost:
    """The cost of gates in program order.

    `fresh`: qubits that are prepared right before; a first H on one of them changes the basis of that, and is free.
    `read`: qubits that are measured or reset right after; a last H on one of them is no turn.
    """
    total = number = turns = 0
    reached: dict[int, int] = {}
    begun: set[int] = set()
    turned: set[int] = set()  # qubits whose latest gate is an H that may still be part of a read-out
    for op in gates:
        number += 1
        if op.kind in PAULIS:
            continue
        turns += sum(qubit in turned for qubit in op.qubits)
        turned.difference_update(op.qubits)
        free = op.kind == "h" and op.qubits[0] in fresh and op.qubits[0] not in begun
        begun.update(op.qubits)
        if free:
            continue
        if op.kind == "h":
            turned.update(op.qubits)
        total += BLOCKS[op.kind] * PATCHES[op.kind]
        end = max(reached.get(qubit, 0) for qubit in op.qubits) + BLOCKS[op.kind]
        for qubit in op.qubits:
            reached[qubit] = end
    turns += sum(qubit not in read for qubit in turned)
    return Cost(total, max(reached.values(), default=0), turns, number)
