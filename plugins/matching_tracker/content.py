# SPDX-License-Identifier: Apache-2.0
"""Slots as the tracker keeps them: each distinct slot once, numbered, with what is asked of it again and again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import NamedTuple

from qcosd.qec.fragment import (
    HADAMARD,
    HANDOVERS,
    INIT,
    MEASURE,
    ROUND,
    SEAM,
    SPLIT,
    Choose,
    Frame,
    Hadamard,
    Handover,
    Init,
    Measure,
    Merge,
    Part,
    RecordName,
    Region,
    Slot,
    Split,
)
from qcosd.qec.geometry import Coord

RANK_OF_EVENT = {Split: SPLIT, Measure: MEASURE, Init: INIT, Handover: INIT, Hadamard: HADAMARD, Merge: SEAM}

# Operations that change the place, the frame or the parity of patches; `Frame` and `Choose` touch no qubit.
PhysicalEvent = Init | Handover | Merge | Split | Measure | Hadamard


class Placed(NamedTuple):
    """A part or event with what identifies it wherever it stands.

    ``digest``: 12 bytes, equal for items that are translations of each other by whole cells.  ``anchor``: the corner that
    the digest is relative to, a multiple of the cell pitch.
    """

    item: Part | PhysicalEvent | Region
    patches: tuple[int, ...]
    rank: int
    anchor: Coord
    digest: bytes


class SlotContent:
    """One distinct slot of a program.

    ``number``: equal slots of a program have equal numbers.  ``pitch``: the width of a cell in coordinates.
    """

    def __init__(self, number: int, slot: Slot, pitch: int) -> None:
        self.number = number
        self.slot = slot
        self._pitch = pitch
        self.has_round = bool(slot.regions)

    @cached_property
    def record_rows(self) -> dict[tuple[int, int, int], int]:
        """Record name (x, y, k) -> its row among this slot's records."""
        return {name: row for row, name in enumerate(self.slot.records())}

    @cached_property
    def records(self) -> int:
        """Number of records."""
        return len(self.record_rows)

    @cached_property
    def detectors(self) -> tuple[tuple[int, int, int], ...]:
        """(x, y, kind) of each detector, in the order in which the syndrome holds them."""
        return tuple((d.x, d.y, d.kind) for part in self.slot.parts for d in part.detectors)

    @cached_property
    def detector_records(self) -> tuple[tuple[RecordName, ...], ...]:
        return tuple(d.records for part in self.slot.parts for d in part.detectors)

    @cached_property
    def event_records(self) -> tuple[tuple[RecordName, ...] | None, ...]:
        """The records of each event; None for events that read none."""
        return tuple(None if isinstance(e, Init | Handover | Frame | Choose) else e.records for e in self.slot.events)

    @cached_property
    def parities(self) -> int:
        """Number of events that have records."""
        return sum(names is not None for names in self.event_records)

    @cached_property
    def parts(self) -> tuple[Placed, ...]:
        return tuple(self._placed(part, part.patches, part.rank, _sites(part)) for part in self.slot.parts)

    @cached_property
    def events(self) -> tuple[Placed, ...]:
        """Physical events in program order."""
        found = []
        for event in self.slot.events:
            if not isinstance(event, Frame | Choose):
                found.append(self._placed(event, _patches(event), RANK_OF_EVENT[type(event)], _event_sites(event)))
        return tuple(found)

    @cached_property
    def regions(self) -> tuple[Placed, ...]:
        return tuple(self._placed(r, r.patches, ROUND, [r.rect[:2]]) for r in self.slot.regions)

    def _placed(
        self, item: Part | PhysicalEvent | Region, patches: tuple[int, ...], rank: int, sites: Iterable[Coord]
    ) -> Placed:
        corners = list(sites)
        anchor = tuple(min(c[axis] for c in corners) // self._pitch * self._pitch for axis in (0, 1))
        text = repr((type(item).__name__, rank, _shape(item, *anchor)))
        return Placed(item, patches, rank, anchor, blake2b(text.encode(), digest_size=12).digest())


def _patches(event: PhysicalEvent) -> tuple[int, ...]:
    return (event.first, event.second) if isinstance(event, Merge | Split) else (event.patch,)


def _sites(part: Part) -> list[Coord]:
    return [site for _, targets in part.instructions for site in targets]


def _event_sites(event: PhysicalEvent) -> Sequence[Coord]:
    if isinstance(event, Init | Handover):
        return [event.rect[:2]]
    return [(x, y) for _, x, y, _ in event.records]


def _shape(item: Part | PhysicalEvent | Region, x: int, y: int) -> tuple[object, ...]:
    """The item relative to (x, y), without names of patches, tags and bits."""

    def names(records: tuple[RecordName, ...]) -> list[RecordName]:
        return sorted((dt, rx - x, ry - y, k) for dt, rx, ry, k in records)

    match item:
        case Part():
            # To matching one state that is handed over is like another.
            layers = [
                ("HANDOVER" if name in HANDOVERS else name, [(sx - x, sy - y) for sx, sy in targets])
                for name, targets in item.instructions
            ]
            return (layers, [(d.x - x, d.y - y, d.kind, names(d.records)) for d in item.detectors])
        case Region():
            x0, y0, x1, y1 = item.rect
            return (x0 - x, y0 - y, x1 - x, y1 - y, item.basis)
        case Init() | Handover():
            x0, y0, x1, y1 = item.rect
            return (x0 - x, y0 - y, x1 - x, y1 - y, item.basis if isinstance(item, Init) else "")
        case Merge():
            return (item.basis, names(item.records), sorted((sx - x, sy - y) for sx, sy in item.seam))
        case Split() | Measure():
            return (item.basis, names(item.records))
        case Hadamard():
            return (names(item.records),)
    raise TypeError(type(item).__name__)


class Interner:
    """Numbers the distinct slots of a program."""

    def __init__(self, distance: int) -> None:
        self._pitch = 2 * (distance + 1)
        self._known: dict[Slot, SlotContent] = {}

    def content(self, slot: Slot) -> SlotContent:
        known = self._known.get(slot)
        if known is None:
            known = self._known[slot] = SlotContent(len(self._known), slot, self._pitch)
        return known
