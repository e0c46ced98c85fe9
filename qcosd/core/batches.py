# SPDX-License-Identifier: Apache-2.0
"""The batches of a job: how its shots are cut, what exists of each, and which are finished."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from qcosd.schema import UINT_MAX


def seed_of(seed: int, batch: int | None) -> int:
    """Seed of a batch: 63 bits that depend on the job's seed and the index; the job's own seed for what is done once a job."""
    if batch is None:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{batch}".encode()).digest()[:8], "big") & UINT_MAX


@dataclass(eq=False, slots=True)
class Batches:
    """Numbered from 0; a number is never used for anything else, so that a seed is not either."""

    size: int = 0  # shots of a batch, at most
    sizes: list[int] = field(default_factory=list)  # none while nothing is done for each batch
    made: dict[int, dict[str, str]] = field(default_factory=dict)  # batch -> kind -> digest
    arrived: set[int] = field(default_factory=set)  # batches that have the target; a check may hold it back
    finished: set[int] = field(default_factory=set)  # batches of which nothing is left to do
    _first_unfinished: int = 0

    def cut(self, shots: int, size: int) -> None:
        """Cut anew, before any batch has been started."""
        self.size, self.sizes = size, []
        self.add(shots)

    def add(self, shots: int) -> None:
        """Add as few batches as these shots need; the last one takes what is left."""
        self.sizes += [min(self.size, shots - start) for start in range(0, shots, self.size)]

    def unfinished(self) -> Iterator[int]:
        """Batches that are not finished, in order."""
        while self._first_unfinished in self.finished:
            self._first_unfinished += 1
        return (batch for batch in range(self._first_unfinished, len(self.sizes)) if batch not in self.finished)

    def sampled(self) -> Iterator[int]:
        """Batches whose artifacts are checked: 0 and the powers of two, as far as something of them exists unfinished."""
        return (b for b in _powers(len(self.sizes)) if b in self.made and b not in self.finished)

    @staticmethod
    def is_sample(batch: int | None) -> bool:
        """Whether what is made for this batch may be checked."""
        return batch is not None and batch & (batch - 1) == 0

    @property
    def complete(self) -> bool:
        """Whether all are finished."""
        return bool(self.sizes) and len(self.finished) == len(self.sizes)


def _powers(end: int) -> Iterator[int]:
    """0, 1, 2, 4, 8, ... below the end."""
    power = 0
    while power < end:
        yield power
        power = 2 * power or 1
