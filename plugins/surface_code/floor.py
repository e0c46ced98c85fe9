# SPDX-License-Identifier: Apache-2.0
"""Where patches stand, and which cells are taken when.

Data patch q stands on cell (2q, q), its magic ancilla on (2q + 1, q), the ancilla of cx(c, t) on (2t, c).  So every
corridor is straight: rows belong to controls and magic states, even columns to targets, and only corridors of different
CXs can cross.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from typing import NamedTuple

from qcosd.qec.geometry import Cell


def data_cell(qubit: int) -> Cell:
    return (2 * qubit, qubit)


def magic_cell(qubit: int) -> Cell:
    return (2 * qubit + 1, qubit)


def corner_cell(control: int, target: int) -> Cell:
    return (2 * target, control)


def patch_on(cell: Cell, qubits: int) -> int:
    """Patch id of an ancilla.  It follows from its cell, so that equal operations give equal slots."""
    return qubits + cell[1] * 2 * qubits + cell[0]


def corridor(one: Cell, two: Cell) -> list[Cell]:
    """All cells from one to the other, in one row or column."""
    (x0, x1), (y0, y1) = sorted((one[0], two[0])), sorted((one[1], two[1]))
    return [(x, y) for x in range(x0, x1 + 1) for y in range(y0, y1 + 1)]


class Need(NamedTuple):
    """A cell needed from ``begin`` until before ``end``, in slots after the start of the operation."""

    cell: Cell
    begin: int
    end: int


class Floor:
    """The reservations of one fragment."""

    def __init__(self) -> None:
        self._taken: dict[Cell, list[tuple[int, int]]] = {}  # disjoint intervals of slots, sorted

    def reserve(self, start: int, needs: Iterable[Need]) -> int:
        """Takes the cells at the first slot from ``start`` on at which all of them are free; returns it."""
        wanted = list(needs)
        while (later := max(self._free_from(start, need) for need in wanted)) > start:
            start = later
        for cell, begin, end in wanted:
            insort(self._taken.setdefault(cell, []), (start + begin, start + end))
        return start

    def _free_from(self, start: int, need: Need) -> int:
        """The start at which the first reservation that is in the way of this need is over, else ``start``."""
        taken = self._taken.get(need.cell, [])
        begin, end = start + need.begin, start + need.end
        position = bisect_right(taken, (begin, begin))
        for low, high in taken[max(position - 1, 0) : position + 1]:
            if low < end and begin < high:
                return high - need.begin
        return start
