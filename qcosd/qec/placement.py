# SPDX-License-Identifier: Apache-2.0
"""The `placement` artifact: which site of the device each canonical coordinate of a program becomes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgpack

from qcosd.qec.geometry import Coord


class PlacementError(ValueError):
    """The bytes are no valid placement."""


@dataclass(frozen=True)
class Placement:
    """A translation: coordinate (x, y) of the program is (x + offset[0], y + offset[1]) on the device.

    `coordinates`: all that the program uses, ordered by (y, x); the place of one in it is its site index.
    """

    device: str
    offset: Coord
    coordinates: tuple[Coord, ...]

    @classmethod
    def of(cls, device: str, offset: Coord, used: Iterable[Coord]) -> Placement:
        """The placement of some coordinates, given in any order."""
        return cls(device, offset, tuple(sorted(used, key=lambda site: (site[1], site[0]))))

    @cached_property
    def index(self) -> dict[Coord, int]:
        """Site index, 0 to number of sites - 1, of each coordinate of the program."""
        return {site: number for number, site in enumerate(self.coordinates)}

    def on_device(self, site: Coord) -> Coord:
        """Where a coordinate of the program lies on the device."""
        return (site[0] + self.offset[0], site[1] + self.offset[1])

    def to_bytes(self) -> bytes:
        document = {
            "device": self.device,
            "offset": self.offset,
            "sites": len(self.coordinates),
            "map": [(x, y, number) for number, (x, y) in enumerate(self.coordinates)],
        }
        data: bytes = msgpack.packb(document)
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Placement:
        """Reads and checks an artifact. Raises PlacementError."""
        try:
            document: Any = msgpack.unpackb(data)
            device, offset, sites, entries = (document[key] for key in ("device", "offset", "sites", "map"))
            ox, oy = offset
            coordinates = {number: (x, y) for x, y, number in entries}
        except (ValueError, TypeError, KeyError, msgpack.exceptions.UnpackException) as error:
            raise PlacementError(f"not a placement: {error!r}") from None
        numbers = [*coordinates, *(value for site in coordinates.values() for value in site), ox, oy, sites]
        if not isinstance(device, str) or any(type(number) is not int for number in numbers):
            raise PlacementError("not a placement: a name and integers are expected")
        if len(entries) != sites or set(coordinates) != set(range(sites)) or len(set(coordinates.values())) != sites:
            raise PlacementError(f"not a placement: its map is not one to one onto {sites} sites")
        if ox % 2 or oy % 2:
            raise PlacementError(f"not a placement: offset {ox}, {oy} swaps data and measure sites")
        return cls(device, (ox, oy), tuple(coordinates[number] for number in range(sites)))
