# SPDX-License-Identifier: Apache-2.0
"""From raw records to detectors: parities of records of a slot and of the slot before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qcos_plugins.matching_tracker.content import SlotContent
from qcos_plugins.matching_tracker.packed import Bits

from qcosd.qec.fragment import RecordName


class Gather:
    """Parities of a fixed list of sets of rows.

    Set by set XOR would be a loop over thousands of detectors; here it is one over the few sizes that occur.
    """

    def __init__(self, sets: Sequence[Sequence[int]]) -> None:
        self._count = len(sets)
        self._layers: list[tuple[np.ndarray | None, np.ndarray]] = []
        for depth in range(max(map(len, sets), default=0)):
            members = [i for i, rows in enumerate(sets) if len(rows) > depth]
            source = np.array([sets[i][depth] for i in members], np.intp)
            target = None if len(members) == len(sets) else np.array(members, np.intp)
            self._layers.append((target, source))

    def of(self, records: Bits) -> Bits:
        """uint8 (rows, bytes) -> uint8 (sets, bytes)."""
        out = np.zeros((self._count, records.shape[1]), np.uint8)
        for target, source in self._layers:
            if target is None:
                out ^= records.take(source, axis=0)
            else:
                out[target] ^= records.take(source, axis=0)
        return out


class SlotSyndrome:
    """What a slot's records say, given the slot before it.

    ``of(records)`` takes uint8 (m before + m, bytes), the records of both slots, and returns the detectors of this slot
    and the parities of its events (a row for each event with records, in order).
    """

    def __init__(self, before: SlotContent | None, content: SlotContent) -> None:
        self._before = before
        self._content = content
        self._detectors = Gather([self._rows(names) for names in content.detector_records])
        self._events = [np.array(self._rows(names), np.intp) for names in content.event_records if names is not None]

    def _rows(self, names: Sequence[RecordName]) -> list[int]:
        offset = self._before.records if self._before else 0
        rows = []
        for dt, x, y, k in names:
            if dt == 0:
                rows.append(offset + self._content.record_rows[x, y, k])
            elif dt == -1 and self._before is not None:
                rows.append(self._before.record_rows[x, y, k])
            else:
                raise ValueError(f"record ({dt}, {x}, {y}, {k}) lies outside of its slot and the one before")
        return rows

    def of(self, records: Bits) -> tuple[Bits, Bits]:
        events = np.zeros((len(self._events), records.shape[1]), np.uint8)
        for row, source in enumerate(self._events):
            np.bitwise_xor.reduce(records.take(source, axis=0), axis=0, out=events[row])
        return self._detectors.of(records), events
