# SPDX-License-Identifier: Apache-2.0
"""From raw records to detectors: parities of records of a slot and of the slot before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qcos_plugins.matching_tracker.content import SlotContent
from qcos_plugins.matching_tracker.packed import Bits

from qcosd.qec.fragment import RecordName


class Gather:
    """Parities of a fixed list of sets of rows: all sets at once, made equally long by a row of zeros."""

    def __init__(self, sets: Sequence[Sequence[int]]) -> None:
        size = max(map(len, sets), default=0)
        self._rows = np.full((size, len(sets)), -1, np.intp)
        for i, rows in enumerate(sets):
            self._rows[: len(rows), i] = rows
        self.size = self._rows.size

    def of(self, records: Bits) -> Bits:
        """uint8 (rows, bytes), the last row zero -> uint8 (sets, bytes)."""
        if not self._rows.size:
            return np.zeros((self._rows.shape[1], records.shape[1]), np.uint8)
        return np.bitwise_xor.reduce(records.take(self._rows, axis=0), axis=0)


class BlockSyndrome:
    """What the records of consecutive slots say, given the slot before them.

    ``contents``: the slots.  ``m``: records of each.  ``records``, ``rounds``, ``detectors``: how many there are in all.
    ``size``: numbers of rows that it holds, 8 bytes each.
    """

    def __init__(self, before: SlotContent | None, contents: Sequence[SlotContent]) -> None:
        self.contents = tuple(contents)
        self.m = tuple(content.records for content in contents)
        self.records = sum(self.m)
        self.rounds = sum(content.has_round for content in contents)
        detectors: list[list[int]] = []
        parities: list[list[int]] = []
        begin = before.records if before else 0
        for content in contents:
            at = _Rows(before, content, begin)
            detectors += map(at.of, content.detector_records)
            parities += (at.of(names) for names in content.event_records if names is not None)
            before, begin = content, begin + content.records
        self.detectors = len(detectors)
        self._detectors = Gather(detectors)
        self._parities = Gather(parities)
        self.size = self._detectors.size + self._parities.size

    def of(self, records: Bits) -> tuple[Bits, Bits]:
        """uint8 (m before + records + 1, bytes), the records of the slot before, those of these slots, a row of zeros.

        Returns the detectors, in order of time, and the parities of events (a row for each event with records, in order).
        """
        return self._detectors.of(records), self._parities.of(records)


class _Rows:
    """Rows of the records that a slot names; ``begin``: of its own first record."""

    def __init__(self, before: SlotContent | None, content: SlotContent, begin: int) -> None:
        self._before = before
        self._content = content
        self._begin = begin

    def of(self, names: Sequence[RecordName]) -> list[int]:
        rows = []
        for dt, x, y, k in names:
            if dt == 0:
                rows.append(self._begin + self._content.record_rows[x, y, k])
            elif dt == -1 and self._before is not None:
                rows.append(self._begin - self._before.records + self._before.record_rows[x, y, k])
            else:
                raise ValueError(f"record ({dt}, {x}, {y}, {k}) lies outside of its slot and the one before")
        return rows
