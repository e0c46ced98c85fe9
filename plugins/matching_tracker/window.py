# SPDX-License-Identifier: Apache-2.0
"""Which rounds are decoded together, and the regions they fall into.

*Sliding* windows follow each other: each begins where the one before has committed, and needs what that has explained.
*Parallel* ones do so only every second time (Skoric et al., arXiv:2209.08552, "sandwich"): a window that looks back into
slots which it does not commit needs nobody, and those between two of them take what both have explained.  Both commit at
the same slots before a decision, so that a program waits as long for it either way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from qcos_plugins.matching_tracker.content import Placed, SlotContent

from qcosd.qec.fragment import INIT, ROUND, Merge
from qcosd.qec.geometry import Coord


class Window(NamedTuple):
    """Absolute slots: decode ``start`` to ``end``, commit ``start + lead`` to ``commit``.

    With no buffer (``end == commit``) in the middle of a path, the slot ``end`` is looked at as a *ghost*: what the commit
    does to its detectors is kept, its own errors are not decoded.

    ``lead``: slots that it looks at before its commit; then it is *open*, and errors before it may have done anything to its
    first detectors.  ``closed``: another window has decided about all errors of the ghost, whose detectors say what is left.
    """

    start: int
    commit: int
    end: int
    ghost: bool = False
    lead: int = 0
    closed: bool = False

    @property
    def needs(self) -> int:
        """It can be decoded when the slots below this one have arrived."""
        return self.end + self.ghost

    @property
    def first(self) -> int:
        """The first slot that it commits."""
        return self.start + self.lead


@lru_cache(1024)  # asked for every block
def next_window(start: int, step: int, buffer: int, total: int | None) -> Window | None:
    """The window that begins at ``start``; None at the end of the path.

    One clock for all regions: commits of ``step`` slots.  The last window of a path takes everything.  ``total`` is the
    length of the path, None while a decision is still ahead.
    """
    if total is not None and start + step + buffer >= total:
        return Window(start, total, total) if start < total else None
    return Window(start, start + step, start + step + buffer, ghost=buffer == 0)


SLIDING, PARALLEL = "sliding", "parallel"
SCHEMES = (SLIDING, PARALLEL)


@lru_cache(1024)  # the batches of a program ask for the same ones
def schedule(scheme: str, start: int, step: int, buffer: int, stop: int, last: bool) -> tuple[Window, ...]:
    """The windows that commit from slot ``start`` on and need none from ``stop`` on, in the order of their commits.

    ``last``: the path ends at ``stop``, and everything is committed; else there is a decision.  Raises ValueError for
    parallel windows without a buffer.
    """
    if scheme == PARALLEL:
        if buffer < 1:
            raise ValueError("parallel windows need a buffer of at least one slot")
        return tuple(_sandwich(start, step, buffer, stop, last))
    found = []
    while (window := next_window(start, step, buffer, stop if last else None)) is not None and window.needs <= stop:
        found.append(window)
        start = window.commit
    return tuple(found)


def _sandwich(start: int, step: int, buffer: int, stop: int, last: bool) -> Iterator[Window]:
    """A window that follows what was committed before; then, as long as there is room, one that needs nobody and before it one
    that closes the gap; then whatever slides to the end."""
    between = step * -(-buffer // step)  # no window looks back beyond a commit
    reach = step + buffer
    open_ended = last and start + reach >= stop
    if not open_ended and start + reach <= stop:
        yield Window(start, start + step, start + reach)
        start += step
    while start + between + reach <= stop or (last and start + reach < stop):
        yield Window(start, start + between, start + between, ghost=True, closed=True)
        start += between
        whole = last and start + reach >= stop
        commit, end = (stop, stop) if whole else (start + step, start + reach)
        yield Window(start - buffer, commit, end, lead=buffer)
        start = commit
    yield from schedule(SLIDING, start, step, buffer, stop, last)


class Life(NamedTuple):
    """One life of a patch: a name is used again after a read-out, and lives of one name need have nothing in common."""

    patch: int
    births: int


class Resident(NamedTuple):
    """A part, event or region and the lives that it concerns."""

    placed: Placed
    lives: tuple[Life, ...]


class Layer(NamedTuple):
    """What one slot does in a region.  Parts in order of execution, physical events by rank, both otherwise by place."""

    parts: tuple[Resident, ...]
    events: tuple[Resident, ...]


class RegionWindow(NamedTuple):
    """A window of one region: patches joined by any merge while it lasts.

    ``before``: the rounds, and merges that began, in the slot before the window (None at the start of a path), and
    ``regions`` its configuration.  ``layers``: the slots of the window, and its ghost.  ``lives``: in order of appearance,
    the order in which a template numbers them.  ``origin``: upper left corner, a multiple of the cell pitch.  ``key``: equal
    for two regions that are translations of each other.
    """

    before: Layer | None
    regions: tuple[Resident, ...]
    layers: tuple[Layer, ...]
    lives: tuple[Life, ...]
    origin: Coord
    key: tuple[object, ...]


def region_windows(before: SlotContent | None, contents: Sequence[SlotContent]) -> list[RegionWindow]:
    """The regions of a window whose slots (and ghost) are ``contents``."""
    previous, regions, layers = _residents(before, contents)
    root = _components(previous, layers)
    found = []
    for own in sorted(set(root.values())):

        def mine(residents: Sequence[Resident], own: Life = own) -> tuple[Resident, ...]:
            return tuple(r for r in residents if root.get(r.lives[0]) == own)

        found.append(
            _region_window(
                previous and Layer(mine(previous.parts), mine(previous.events)),
                mine(regions),
                tuple(Layer(mine(layer.parts), mine(layer.events)) for layer in layers),
            )
        )
    return found


def _order(placed: Placed) -> tuple[int, int, int]:
    return placed.rank, placed.anchor[1], placed.anchor[0]


def _residents(
    before: SlotContent | None, contents: Sequence[SlotContent]
) -> tuple[Layer | None, tuple[Resident, ...], list[Layer]]:
    """Everything in the window with its lives, in canonical order: the slot before, its regions, the window's slots."""
    births: Counter[int] = Counter()

    def settle(items: Sequence[Placed], born: frozenset[int]) -> tuple[Resident, ...]:
        # A patch may be read out and born again in one slot: earlier ranks concern the old life.
        return tuple(
            Resident(p, tuple(Life(n, births[n] + (n in born and p.rank >= INIT)) for n in p.patches))
            for p in sorted(items, key=_order)
        )

    previous, regions = None, ()
    if before is not None:
        # What the slot before did ahead of its round lies in the past; only a parity measured by its round does not.
        previous = Layer(
            settle([p for p in before.parts if p.rank == ROUND], frozenset()),
            settle([e for e in before.events if isinstance(e.item, Merge)], frozenset()),
        )
        regions = settle(before.regions, frozenset())
    layers = []
    for content in contents:
        born = frozenset(n for p in content.parts if p.rank == INIT for n in p.patches)
        layers.append(Layer(settle(content.parts, born), settle(content.events, born)))
        births.update(born)
    return previous, regions, layers


def _components(previous: Layer | None, layers: Sequence[Layer]) -> dict[Life, Life]:
    """Each life's representative among those that some part joins."""
    parent: dict[Life, Life] = {}

    def root(life: Life) -> Life:
        parent.setdefault(life, life)
        while parent[life] != life:
            life = parent[life]
        return life

    for layer in (*((previous,) if previous else ()), *layers):
        for part in layer.parts:
            for life in part.lives:
                parent[root(life)] = root(part.lives[0])
    return {life: root(life) for life in parent}


def _region_window(previous: Layer | None, regions: tuple[Resident, ...], layers: tuple[Layer, ...]) -> RegionWindow:
    every = (*((previous,) if previous else ()), *layers)
    lives = tuple(dict.fromkeys(life for layer in every for part in layer.parts for life in part.lives))
    anchors = [part.placed.anchor for layer in every for part in layer.parts]
    left, top = min(a[0] for a in anchors), min(a[1] for a in anchors)
    number = {life: i for i, life in enumerate(lives)}

    def key(items: Sequence[Resident]) -> tuple[object, ...]:
        return tuple((p.digest, p.anchor[0] - left, p.anchor[1] - top, *map(number.__getitem__, at)) for p, at in items)

    content = tuple((key(layer.parts), key(layer.events)) for layer in every)
    return RegionWindow(previous, regions, layers, lives, (left, top), (previous is not None, key(regions), content))
