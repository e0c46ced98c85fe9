# SPDX-License-Identifier: Apache-2.0
"""Decisions that were made and that hardware may not have got yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qcos_plugins.matching_tracker.packed import Bits, read_rows
from qcos_plugins.matching_tracker.path import Path

from qcosd.qec.stream import Block, Decided

Decision = tuple[Decided, Bits]


class Told:
    """By path and number.  What hardware has acted on is forgotten."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Decision] = {}

    def decide(self, path: Path, k: int, value: Bits) -> Decision:
        """``value``: uint8 (bytes,), padding undefined; shots that are discarded go on where it is 0."""
        made = Decided(path.name, k, len(path.shots)), value & path.live
        self._known[path.name, k] = made
        return made

    def chosen(self, path: Path) -> list[Decision]:
        """The choices that the latest commits of a path have made."""
        made, path.ledger.chosen = path.ledger.chosen, []
        return [self.decide(path, k, value) for k, value in made]

    def came(self, block: Block, path: Path) -> None:
        """Hardware sent this block of a path, and had what it needed for it."""
        if not self._known:
            return
        above = block.path
        while above:  # hardware went on below them
            above = above.rpartition("/")[0]
            for name, k in [key for key in self._known if key[0] == above]:
                del self._known[name, k]
        reached = block.slot + len(block.m)
        for slot, k in path.fragment.choices:
            if slot < reached:
                self._known.pop((path.name, k), None)

    def all(self) -> list[Decision]:
        return list(self._known.values())

    def state(self) -> list[Any]:
        """All of it, of plain values and bytes."""
        return [[*vars(decided).values(), values.tobytes()] for decided, values in self._known.values()]

    def restore(self, state: Iterable[Any]) -> None:
        """To what `state` said."""
        for *fields, values in state:
            decided = Decided(*fields)
            self._known[decided.path, decided.k] = (decided, read_rows(values, decided.shots)[0])
