# SPDX-License-Identifier: Apache-2.0
"""A logical program cut at its decisions, and between which of its operations each qubit has to be alive.

A *place* is a run of operations without a decision in it.  Places are numbered in program order.  An `if` that must wait
for its condition ends the place before it; its body is the next places, and what follows the `if` begins a new one.  So
a shot that does the body goes on with the next place, one that does not goes on behind the body, and without a decision
every place runs into the next.

An `if` over Paulis only is no decision: the tracker applies it in the frame.  That holds of `if`s within it as well, as
long as their conditions together are one condition; where they are not, the outer one is a decision.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from qcos_plugins.surface_code.conjunction import conjunction

from qcosd.qec.program import PAULIS, Condition, Op, qubits_of

UNPHYSICAL = PAULIS | {"barrier", "if"}  # of what a place holds: no operation of these kinds touches hardware


class Where(NamedTuple):
    """Where an operation stands; increases in program order."""

    place: int
    index: int


class Step(NamedTuple):
    """An operation and where it stands.  An `if` holds Paulis and barriers only."""

    where: Where
    op: Op


class Fork(NamedTuple):
    """A decision: it stands at the end of ``place``.  Shots in which ``condition`` holds go on with the next place, the
    others with ``behind``."""

    place: int
    condition: Condition
    behind: int


@dataclass(frozen=True)
class Flow:
    """``places``: the operations of each place.  ``forks``: the decisions in program order.

    ``last_use``: the last operation of a qubit that touches hardware; a qubit without one is never made.
    ``first_place``: from the end of which place on, at the latest, a qubit must be alive.
    """

    places: tuple[tuple[Step, ...], ...]
    forks: tuple[Fork, ...]
    last_use: dict[int, Where]
    first_place: dict[int, int]

    @classmethod
    def of(cls, ops: Sequence[Op]) -> Flow:
        cutter = _Cutter()
        cutter.add(ops)
        places = tuple(
            tuple(Step(Where(place, index), op) for index, op in enumerate(ops))
            for place, ops in enumerate(cutter.places)
        )
        last_use: dict[int, Where] = {}
        first_place: dict[int, int] = {}
        for place, before in zip(places, cutter.before, strict=True):
            for where, op in place:
                for qubit in op.qubits:
                    if op.kind not in UNPHYSICAL:
                        last_use[qubit] = where
                for qubit in _makers(op, in_body=before != where.place):
                    # What a body may use exists before the outermost decision, on all paths.
                    first_place.setdefault(qubit, before)
        return cls(places, tuple(cutter.forks), last_use, first_place)

    def alive(self, k: int) -> frozenset[int]:
        """The qubits that are alive at decision k, whichever way it was reached."""
        place = self.forks[k].place
        return frozenset(
            qubit
            for qubit, last in self.last_use.items()
            if last.place > place and self.first_place.get(qubit, last.place) <= place
        )

    def run(self, place: int) -> tuple[list[Step], int | None]:
        """What happens from a place on until the next decision: the operations, and the number of the decision, None at
        the end of the program."""
        k = bisect_left(self.forks, place, key=lambda fork: fork.place)
        last = k == len(self.forks)
        end = len(self.places) if last else self.forks[k].place + 1
        return [step for steps in self.places[place:end] for step in steps], None if last else k


class _Cutter:
    """``before``: of each place, the place before the outermost `if` around it, itself where there is none."""

    def __init__(self) -> None:
        self.places: list[list[Op]] = [[]]
        self.before = [0]
        self.forks: list[Fork] = []

    def add(self, ops: Sequence[Op], outermost: int | None = None) -> None:
        for op in ops:
            framed = _framed(op)
            if framed is not None:
                self.places[-1] += framed
                continue
            assert op.condition is not None
            place, k = len(self.places) - 1, len(self.forks)
            before = place if outermost is None else outermost
            self.forks.append(Fork(place, op.condition, -1))
            self._open(before)
            self.add(op.body, before)
            self.forks[k] = self.forks[k]._replace(behind=len(self.places))
            self._open(outermost)

    def _open(self, before: int | None) -> None:
        self.before.append(len(self.places) if before is None else before)
        self.places.append([])


def _framed(op: Op, condition: Condition | None = None) -> list[Op] | None:
    """What stands for an operation in a place, None for an `if` that is a decision.

    An `if` over Paulis becomes one for each run of Paulis under the same conditions: a Pauli changes no bit, so all of
    them may be read one after the other.  ``condition``: that of the `if`s around the operation.
    """
    if op.kind != "if":
        return [op] if condition is None or op.kind in PAULIS | {"barrier"} else None
    assert op.condition is not None
    both = op.condition if condition is None else conjunction(condition, op.condition)
    if both is None:
        return None
    out: list[Op] = []
    run: list[Op] = []
    for inner in op.body:
        within = _framed(inner, both)
        if within is None:
            return None
        if inner.kind != "if":
            run += within
            continue
        out += _guarded(run, op.line, both) + within
        run = []
    return out + _guarded(run, op.line, both)


def _guarded(run: list[Op], line: int, condition: Condition) -> list[Op]:
    return [Op("if", qubits_of(run), line, condition=condition, body=tuple(run))] if run else []


def _makers(op: Op, *, in_body: bool) -> tuple[int, ...]:
    """The qubits that an operation needs to exist.

    A Pauli, a barrier or a reset of a qubit that does not exist needs nothing, unless it happens in one branch only.
    """
    if op.kind == "barrier" or (op.kind in PAULIS | {"reset"} and not in_body):
        return ()
    return op.qubits
