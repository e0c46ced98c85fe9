# SPDX-License-Identifier: Apache-2.0
"""What a program uses of the canonical plane: sites, couplers, and whether regions of one slot keep apart."""

from __future__ import annotations

from dataclasses import dataclass

from qcosd.qec.fragment import FragmentProgram, Region, Slot
from qcosd.qec.geometry import Coord, Rect


class OverlapError(Exception):
    """Two regions of one slot share a site: the schedule of the program is wrong."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """`sites`: every coordinate that is touched. `couplers`: pairs that a CX joins. `moves`: whether qubits are moved."""

    sites: frozenset[Coord]
    couplers: frozenset[tuple[Coord, Coord]]
    moves: bool

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Smallest x and y, largest x and y."""
        xs, ys = [x for x, _ in self.sites], [y for _, y in self.sites]
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def extent(self) -> tuple[int, int]:
        """Width and height in doubled coordinates that a grid needs to hold it: it begins with an even coordinate."""
        x0, y0, x1, y1 = self.corners
        return x1 - (x0 - x0 % 2) + 1, y1 - (y0 - y0 % 2) + 1


def footprint_of(program: FragmentProgram) -> Footprint:
    """Collects all that the slots of a program touch. Raises OverlapError."""
    sites: set[Coord] = set()
    couplers: set[tuple[Coord, Coord]] = set()
    moves = False
    apart: dict[tuple[Region, ...], None] = {}
    for fragment in program.fragments:
        for slot in fragment.slots:
            for part in slot.parts:
                for name, targets in part.instructions:
                    sites.update(targets)
                    moves = moves or name == "PERM"
                    if name == "CX":
                        couplers.update(zip(targets[::2], targets[1::2], strict=True))
            if slot.regions not in apart:
                check_apart(slot, f"fragment {fragment.index}")
                apart[slot.regions] = None
    return Footprint(frozenset(sites), frozenset(couplers), moves)


def check_apart(slot: Slot, where: str) -> None:
    """Raises OverlapError when two regions of a slot share a data or a measure site."""
    owner: dict[Coord, Region] = {}
    for region in slot.regions:
        for site in sites_of(region.rect):
            other = owner.setdefault(site, region)
            if other is not region:
                raise OverlapError(
                    f"{where}: patches {list(other.patches)} and {list(region.patches)} share site {list(site)} in one slot"
                )


def sites_of(rect: Rect) -> list[Coord]:
    """Data and measure sites of a region."""
    return [*rect.data(), *(plaquette.centre for plaquette in rect.plaquettes())]
