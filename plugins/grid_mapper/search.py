# SPDX-License-Identifier: Apache-2.0
"""Where on a grid a footprint fits."""

from __future__ import annotations

from collections.abc import Iterable

from qcos_plugins.grid_mapper.footprint import sites_of

from qcosd.qec.device import Device
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.geometry import Coord, Rect, cell_rect, spanning_rect

SMALLEST_DISTANCE = 3


def offset_for(sites: Iterable[Coord], device: Device) -> Coord | None:
    """The first even translation, row by row, that puts every site on a living site of the device; None if none does.

    Even in both coordinates, so that data sites stay data sites.
    """
    used = list(sites)
    xs, ys = [x for x, _ in used], [y for _, y in used]
    # A translation is no good if it puts one of the sites on a dead one. So at most dead x used are, and the search
    # below ends after one more than that.
    taken = {(dx - x, dy - y) for dx, dy in device.dead for x, y in used}
    columns = _steps(min(xs), max(xs), device.width, [x for x, _ in device.dead])
    rows = _steps(min(ys), max(ys), device.height, [y for _, y in device.dead])
    return next(((ox, oy) for oy in rows for ox in columns if (ox, oy) not in taken), None)


def _steps(least: int, most: int, side: int | None, dead: list[int]) -> range:
    """Even translations that put least..most within 0..side-1, or without a side, until all dead sites are passed."""
    first = -least + least % 2
    beyond = max(first, max(dead, default=0) + 2 - least) + 1
    return range(first, beyond if side is None else side - most, 2)


def largest_distance(program: FragmentProgram, device: Device) -> int | None:
    """The largest odd distance below the program's at which the cells it uses fit on the device; None if none does."""
    cells = {_cells(region.rect, program.distance) for f in program.fragments for s in f.slots for region in s.regions}
    for distance in range(program.distance - 2, SMALLEST_DISTANCE - 1, -2):
        rects = [spanning_rect([cell_rect(a, distance), cell_rect(b, distance)]) for a, b in cells]
        if rects and offset_for({site for rect in rects for site in sites_of(rect)}, device) is not None:
            return distance
    return None


def _cells(rect: Rect, distance: int) -> tuple[Coord, Coord]:
    """The first and the last cell of a region."""
    pitch = 2 * (distance + 1)
    return (rect.x0 // pitch, rect.y0 // pitch), (rect.x1 // pitch, rect.y1 // pitch)
