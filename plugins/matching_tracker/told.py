# SPDX-License-Identifier: Apache-2.0
"""Decisions that were made and that hardware may not have got yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from qcos_plugins.matching_tracker.packed import Bits, read_rows
from qcos_plugins.matching_tracker.path import Path

from qcosd.qec.stream import Block, Decided

Decision = tuple[Decided, Bits]


Given = Callable[[str, int, int], Bits]
"""What somebody else has decided, of a path, a decision and so many shots: uint8 (bytes,)."""


class Told:
    """By path and number.  What hardware has acted on is forgotten.  ``given``: who decides in place of the tracker, if anybody."""

    def __init__(self, given: Given | None = None) -> None:
        self._given = given
        self._known: dict[tuple[str, int], Decision] = {}

    def decide(self, path: Path, k: int, value: Bits) -> Decision:
        """``value``: uint8 (bytes,), padding undefined; shots that are discarded go on where it is 0."""
        shots = len(path.shots)
        made = value & path.live if self._given is None else self._given(path.name, k, shots)
        self._known[path.name, k] = Decided(path.name, k, shots), made
        return self._known[path.name, k]

    def chosen(self, path: Path) -> list[Decision]:
        """The choices that the latest commits of a path have made."""
        made, path.ledger.chosen = path.ledger.chosen, []
        found = []
        for k, bit, value in made:
            found.append(self.decide(path, k, value))
            if self._given is not None:
                path.ledger.bits[bit] = found[-1][1]  # what was handed over is what counts
        return found

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
