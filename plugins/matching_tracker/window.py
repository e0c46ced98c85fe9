# SPDX-License-Identifier: Apache-2.0
"""Which rounds are decoded together, and the regions they fall into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from qcos_plugins.matching_tracker.content import Placed, SlotContent

from qcosd.qec.fragment import ROUND, Merge
from qcosd.qec.geometry import Coord


class Window(NamedTuple):
    """Absolute slots: decode ``start`` to ``end``, commit ``start`` to ``commit``.

    With no buffer (``end == commit``) in the middle of a path, the slot ``end`` is looked at as a *ghost*: what the commit
    does to its detectors is kept, its own errors are not decoded.
    """

    start: int
    commit: int
    end: int
    ghost: bool = False

    @property
    def needs(self) -> int:
        """It can be decoded when the slots below this one have arrived."""
        return self.end + self.ghost


def next_window(start: int, step: int, buffer: int, total: int | None) -> Window | None:
    """The window that begins at ``start``; None at the end of the path.

    One clock for all regions: commits of ``step`` slots.  The last window of a path takes everything.  ``total`` is the
    length of the path, None while a decision is still ahead.
    """
    if total is not None and start + step + buffer >= total:
        return Window(start, total, total) if start < total else None
    return Window(start, start + step, start + step + buffer, ghost=buffer == 0)


class Layer(NamedTuple):
    """What one slot does in a region.  Parts in order of execution, physical events by rank, both otherwise by place."""

    parts: tuple[Placed, ...]
    events: tuple[Placed, ...]


class RegionWindow(NamedTuple):
    """A window of one region: patches joined by any merge while it lasts.

    ``before``: the rounds, and merges that began, in the slot before the window (None at the start of a path), and
    ``regions`` its configuration.  ``layers``: the slots of the window, and its ghost.  ``patches``: in order of
    appearance, the order in which a template numbers them.  ``origin``: upper left corner, a multiple of the cell pitch.
    ``key``: equal for two regions that are translations of each other.
    """

    before: Layer | None
    regions: tuple[Placed, ...]
    layers: tuple[Layer, ...]
    patches: tuple[int, ...]
    origin: Coord
    key: tuple[object, ...]


def _order(placed: Placed) -> tuple[int, int, int]:
    return placed.rank, placed.anchor[1], placed.anchor[0]


def _layer(content: SlotContent, own: frozenset[int]) -> Layer:
    return Layer(
        tuple(sorted((p for p in content.parts if p.patches[0] in own), key=_order)),
        tuple(sorted((e for e in content.events if e.patches[0] in own), key=_order)),
    )


def components(before: SlotContent | None, contents: Sequence[SlotContent]) -> list[frozenset[int]]:
    """Patches that some part joins in the round of the slot before or in the slots of a window."""
    parent: dict[int, int] = {}

    def root(patch: int) -> int:
        parent.setdefault(patch, patch)
        while parent[patch] != patch:
            patch = parent[patch]
        return patch

    parts = [p for p in before.parts if p.rank == ROUND] if before else []
    for content in contents:
        parts += content.parts
    for part in parts:
        for patch in part.patches:
            parent[root(patch)] = root(part.patches[0])
    members: dict[int, set[int]] = {}
    for patch in parent:
        members.setdefault(root(patch), set()).add(patch)
    return [frozenset(m) for m in members.values()]


def region_windows(before: SlotContent | None, contents: Sequence[SlotContent]) -> Iterator[RegionWindow]:
    """The regions of a window whose slots (and ghost) are ``contents``."""
    for own in components(before, contents):
        yield _region_window(before, contents, own)


def _region_window(before: SlotContent | None, contents: Sequence[SlotContent], own: frozenset[int]) -> RegionWindow:
    layers = tuple(_layer(content, own) for content in contents)
    previous, regions = None, ()
    if before is not None:
        parts, events = _layer(before, own)
        # What the slot before did ahead of its round lies in the past; only a parity measured by its round does not.
        previous = Layer(
            tuple(p for p in parts if p.rank == ROUND), tuple(e for e in events if isinstance(e.item, Merge))
        )
        regions = tuple(sorted((r for r in before.regions if r.patches[0] in own), key=_order))
    every = (*((previous,) if previous else ()), *layers)
    patches = tuple(dict.fromkeys(patch for layer in every for part in layer.parts for patch in part.patches))
    anchors = [part.anchor for layer in every for part in layer.parts]
    origin = (min(a[0] for a in anchors), min(a[1] for a in anchors))
    number = {patch: i for i, patch in enumerate(patches)}

    def key(items: Sequence[Placed]) -> tuple[object, ...]:
        return tuple(
            (p.digest, p.anchor[0] - origin[0], p.anchor[1] - origin[1], *(number[n] for n in p.patches)) for p in items
        )

    content = tuple((key(layer.parts), key(layer.events)) for layer in every)
    return RegionWindow(previous, regions, layers, patches, origin, (before is not None, key(regions), content))
