# SPDX-License-Identifier: Apache-2.0
"""Where the qubits of rotated surface-code patches stand, and in which order a round touches them.

Coordinates are doubled integers, so that every site is a pair of ints: the data qubit in column ``a`` and row ``b`` is
``(2a, 2b)``; the measure qubit in the middle of a plaquette is ``(odd, odd)``.  A *cell* ``(i, j)`` holds one patch of
distance ``d``; its upper left data qubit is ``(2i(d+1), 2j(d+1))``.  The free column and row between two cells is the
seam of a merge.  Because ``d + 1`` is even, the colours of plaquettes agree in all cells.

The logical X of a patch is the product of X over its top row, the logical Z that of Z over its left column.  A
horizontal merge measures ZZ, a vertical one XX.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

Coord = tuple[int, int]
Cell = tuple[int, int]


class Rect(NamedTuple):
    """A rectangle of data qubits, corners included, in doubled coordinates."""

    x0: int
    y0: int
    x1: int
    y1: int

    def data(self) -> list[Coord]:
        """Data qubits, row by row."""
        return [(x, y) for y in range(self.y0, self.y1 + 1, 2) for x in range(self.x0, self.x1 + 1, 2)]

    def row(self) -> list[Coord]:
        """The top row: the representative of the logical X."""
        return [(x, self.y0) for x in range(self.x0, self.x1 + 1, 2)]

    def column(self) -> list[Coord]:
        """The left column: the representative of the logical Z."""
        return [(self.x0, y) for y in range(self.y0, self.y1 + 1, 2)]

    def contains(self, site: Coord) -> bool:
        return self.x0 <= site[0] <= self.x1 and self.y0 <= site[1] <= self.y1

    def plaquettes(self) -> list[Plaquette]:
        """Stabilisers of the rotated code on this rectangle, column by column of their centres.

        X plaquettes of weight two close the left and right sides, Z plaquettes the top and bottom.
        """
        found = []
        for px in range(self.x0 - 1, self.x1 + 2, 2):
            for py in range(self.y0 - 1, self.y1 + 2, 2):
                corners = tuple(
                    q if self.contains(q) else None
                    for q in ((px - 1, py - 1), (px + 1, py - 1), (px - 1, py + 1), (px + 1, py + 1))
                )
                weight = sum(q is not None for q in corners)
                basis = plaquette_basis((px, py))
                on_side = px in (self.x0 - 1, self.x1 + 1)
                if weight == 4 or (weight == 2 and on_side == (basis == "X")):
                    found.append(Plaquette((px, py), basis, corners))
        return found


class Plaquette(NamedTuple):
    """One stabiliser: its centre (the measure qubit), its basis, its corners (None where the code has no data qubit).

    Corners are in the order upper left, upper right, lower left, lower right.
    """

    centre: Coord
    basis: str
    corners: tuple[Coord | None, ...]

    def support(self) -> frozenset[Coord]:
        return frozenset(q for q in self.corners if q is not None)


# The order in which a plaquette's measure qubit meets its corners, one per CX layer.  X and Z differ so that hook
# errors lie across the logical operator of their own basis and keep the distance at d.
CX_ORDER = {"X": (0, 2, 1, 3), "Z": (0, 1, 2, 3)}


def plaquette_basis(centre: Coord) -> str:
    return "X" if (centre[0] + centre[1]) // 2 % 2 == 1 else "Z"


def other(basis: str) -> str:
    """The conjugate basis: X for Z and Z for X."""
    return "Z" if basis == "X" else "X"


def cell_rect(cell: Cell, distance: int) -> Rect:
    """The data qubits of the patch in a cell."""
    pitch = 2 * (distance + 1)
    x0, y0 = cell[0] * pitch, cell[1] * pitch
    return Rect(x0, y0, x0 + 2 * (distance - 1), y0 + 2 * (distance - 1))


def spanning_rect(rects: Iterable[Rect]) -> Rect:
    """The smallest rectangle around some others."""
    boxes = list(rects)
    return Rect(min(r.x0 for r in boxes), min(r.y0 for r in boxes), max(r.x1 for r in boxes), max(r.y1 for r in boxes))


def rotate(site: Coord, patch: Rect) -> Coord:
    """The place a data or measure qubit of a square patch goes to under the quarter turn that follows a transversal H."""
    return (patch.x0 + (site[1] - patch.y0), patch.y1 - (site[0] - patch.x0))
