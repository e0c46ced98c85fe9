# SPDX-License-Identifier: Apache-2.0
"""A logical program cut at its decisions, and between which of its operations each qubit has to be alive.

*Section* k is what stands between decision k - 1 and decision k; *body* k is what decision k guards.  *Places* number
them in program order: section k is place 2k, body k is place 2k + 1.  An `if` over Paulis only is no decision: the
tracker applies it in the frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from qcosd.qec.program import PAULIS, LogicalProgram, Op

UNPHYSICAL = PAULIS | {"barrier", "if"}  # of what a section holds: no operation of these kinds touches hardware


class Where(NamedTuple):
    """Where an operation stands; increases in program order."""

    place: int
    index: int


class Step(NamedTuple):
    """An operation and where it stands."""

    where: Where
    op: Op


def decides(op: Op) -> bool:
    """Whether an operation must wait for its condition."""
    return op.kind == "if" and any(inner.kind not in PAULIS | {"barrier"} for inner in op.body)


@dataclass(frozen=True)
class Flow:
    """``places``: the operations of each place.  ``decisions``: the `if` of each body.

    ``last_use``: the last operation of a qubit that touches hardware; a qubit without one is never made.
    ``first_place``: from the end of which place on, at the latest, a qubit must be alive.
    """

    places: tuple[tuple[Step, ...], ...]
    decisions: tuple[Op, ...]
    last_use: dict[int, Where]
    first_place: dict[int, int]

    @classmethod
    def of(cls, program: LogicalProgram) -> Flow:
        contents: list[list[Op]] = [[]]
        decisions = []
        for op in program.ops:
            if decides(op):
                decisions.append(op)
                contents += [list(op.body), []]
            else:
                contents[-1].append(op)
        places = tuple(
            tuple(Step(Where(place, index), op) for index, op in enumerate(ops)) for place, ops in enumerate(contents)
        )
        last_use: dict[int, Where] = {}
        first_place: dict[int, int] = {}
        for place in places:
            for where, op in place:
                for qubit in op.qubits:
                    if op.kind not in UNPHYSICAL:
                        last_use[qubit] = where
                for qubit in _makers(where, op):
                    # What a body may use exists before its decision, in both branches.
                    first_place.setdefault(qubit, where.place - where.place % 2)
        return cls(places, tuple(decisions), last_use, first_place)

    def alive(self, k: int) -> frozenset[int]:
        """The qubits that are alive at decision k, whichever way it was reached."""
        return frozenset(
            qubit
            for qubit, last in self.last_use.items()
            if last.place > 2 * k and self.first_place.get(qubit, last.place) <= 2 * k
        )

    def steps(self, *places: int) -> Iterator[Step]:
        for place in places:
            yield from self.places[place]


def _makers(where: Where, op: Op) -> tuple[int, ...]:
    """The qubits that an operation needs to exist.

    A Pauli, a barrier or a reset of a qubit that does not exist needs nothing, unless it happens in one branch only.
    """
    in_body = where.place % 2 == 1
    if op.kind == "barrier" or (op.kind in PAULIS | {"reset"} and not in_body):
        return ()
    return op.qubits
