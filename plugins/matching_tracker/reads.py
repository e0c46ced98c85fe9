# SPDX-License-Identifier: Apache-2.0
"""What becomes of the signs of logical operators after a commit: which of them anything will ever read.

A patch that is read out in Z has no more use for its sign of X; nor is there a detector any more that guards it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qcos_plugins.matching_tracker.frames import X, Z, sign
from qcos_plugins.matching_tracker.window import Layer

from qcosd.qec.fragment import Hadamard, Measure, Merge

Sign = tuple[int, int]  # patch, X or Z


def unread(layers: Iterable[Layer], signs: Sequence[Sign]) -> list[tuple[int, ...]]:
    """Sets of ``signs``, by number, that may flip together without changing anything that is measured in ``layers``, or that
    is left after them."""
    carried = {held: 1 << i for i, held in enumerate(signs)}
    reads = []
    for layer in layers:
        for event in (resident.placed.item for resident in layer.events):
            match event:
                case Measure():
                    reads.append(carried.pop((event.patch, sign(event.basis)), 0))
                    carried.pop((event.patch, 1 - sign(event.basis)), None)
                case Merge():
                    first, second, kind = event.first, event.second, sign(event.basis)
                    reads.append(carried.get((first, kind), 0) ^ carried.get((second, kind), 0))
                    joint = carried.get((first, 1 - kind), 0) ^ carried.pop((second, 1 - kind), 0)
                    carried[first, 1 - kind] = joint
                case Hadamard():
                    x, z = carried.pop((event.patch, X), 0), carried.pop((event.patch, Z), 0)
                    carried[event.patch, X], carried[event.patch, Z] = z, x
    return _orthogonal([*reads, *carried.values()], len(signs))


def _orthogonal(rows: Iterable[int], size: int) -> list[tuple[int, ...]]:
    """A basis of the sets that share an even number of members with every row; rows as bits."""
    pivots: dict[int, int] = {}  # member -> a row that has it, and no other row has
    for row in rows:
        for member, known in pivots.items():
            if row >> member & 1:
                row ^= known
        if row:
            member = row.bit_length() - 1
            pivots = {m: known ^ row if known >> member & 1 else known for m, known in pivots.items()}
            pivots[member] = row
    free = [i for i in range(size) if i not in pivots]
    return [tuple(sorted([i, *(m for m, known in pivots.items() if known >> i & 1)])) for i in free]
