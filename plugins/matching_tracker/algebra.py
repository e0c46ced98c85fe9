# SPDX-License-Identifier: Apache-2.0
"""The frame algebra of a whole commit, worked out once: new values as parities of old ones.

All that `Ledger.apply` does is affine over GF(2), except for conditions on classical bits.  So it is applied once to unit
vectors, and what comes out says which rows to add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from qcos_plugins.matching_tracker.frames import DECODED, PLANES, Ledger
from qcos_plugins.matching_tracker.packed import Bits, pack, unpack
from qcos_plugins.matching_tracker.syndrome import Gather

from qcosd.qec.fragment import Event, Frame, Measure, Merge

BEFORE = -(1 << 62)  # settled before any slot

Happening = tuple[int, Event, bool]
"""Slot within the commit, event, whether it has records."""


class Algebra:
    """What a commit of ``length`` slots does to a ledger.  Raises NotFinal or ValueError as `Ledger.apply`.

    ``happenings``: its events in program order, none of them with a condition.  ``parities``, ``frames``: (tag, column) and
    (row of the ledger's frames, column) for each prediction that is added; ``columns``: how many predictions there are.
    """

    def __init__(
        self,
        rows: Mapping[int, int],
        size: tuple[int, int],
        length: int,
        happenings: Sequence[Happening],
        parities: Iterable[tuple[int, int]],
        frames: Iterable[tuple[int, int]],
        columns: int,
    ) -> None:
        """``rows``: of patches, ``size``: tags and bits, of the ledger."""
        parities, frames = list(parities), list(frames)
        events = [event for _, event, _ in happenings]
        measured = [event.tag for event in events if isinstance(event, Merge | Measure)]
        read = {tag for event in events if isinstance(event, Frame) for tag in event.tags}
        self._length = length
        self._reads = sorted(read - set(measured))
        tags = sorted({*measured, *read, *(tag for tag, _ in parities)})
        # The shots of this ledger: one for each value that may be read, and a last one in which all of them are 0.
        first = 2 * len(rows)
        inputs = [*range(first), *(first + tag for tag in tags)]
        raws = sum(has_records for _, _, has_records in happenings)
        shots = len(inputs) + raws + columns + 1
        ledger = Ledger(rows, *size, shots)
        ledger.settled = dict.fromkeys(self._reads, BEFORE)
        units = pack(np.eye(shots, dtype=np.uint8))
        raw_units, column_units = np.split(units[len(inputs) :], [raws])
        ledger.values[inputs] = units[: len(inputs), None]
        for tag, column in parities:
            ledger.parities[tag, DECODED] ^= column_units[column]
        waiting = iter(raw_units)
        for slot, event, has_records in happenings:
            ledger.apply(event, slot, length, next(waiting) if has_records else None)
        for row, column in frames:
            ledger.frames[row, DECODED] ^= column_units[column]
        self._settles = {tag: end for tag, end in ledger.settled.items() if end != BEFORE}
        self._compile(unpack(ledger.values, shots), inputs, [first + size[0] + bit for bit in _bits(events)])

    def _compile(self, found: Bits, inputs: Sequence[int], written: Sequence[int]) -> None:
        """``found``: uint8 (values, 3, shots).  Values are numbered with their planes, 3 * row + plane."""
        constant = found[..., -1]
        effects = found[..., :-1] ^ constant[..., None]
        unchanged = np.zeros_like(effects)
        unchanged[inputs, :, range(len(inputs))] = 1
        changed = (effects != unchanged).any(axis=2) | (constant != 0)
        changed[written] = True
        self._changed = np.flatnonzero(changed)
        held: dict[int, int] = {}  # a value that is read -> its place among them
        sources = []
        for row, plane in np.argwhere(changed).tolist():
            # Whatever is not held in the ledger is counted from the end; the last rows are ones and zeros.
            rows = [
                held.setdefault(PLANES * inputs[i] + plane, len(held)) if i < len(inputs) else i - effects.shape[2] - 2
                for i in np.flatnonzero(effects[row, plane]).tolist()
            ]
            sources.append([*rows, -2] if constant[row, plane] else rows)
        self._held = np.fromiter(held, np.intp)
        self._gather = Gather(sources)

    def apply(self, ledger: Ledger, start: int, raw: Bits, predictions: Bits) -> bool:
        """The commit that begins in slot ``start``.  False, and nothing is done, if `Ledger.apply` would refuse an event.

        ``raw``: uint8 (events with records, bytes), their parities in order; ``predictions``: (columns, bytes).
        """
        settled, commit = ledger.settled, start + self._length
        for tag in self._reads:
            if settled.get(tag, commit + 1) > commit:
                return False
        if not settled.keys().isdisjoint(self._settles):
            return False
        values = ledger.values.reshape(-1, ledger.values.shape[2])
        held = values.take(self._held, axis=0)
        values[self._changed] = self._gather.of(np.concatenate((held, raw, predictions, ledger.constants)))
        for tag, end in self._settles.items():
            settled[tag] = start + end
        return True


def _bits(events: Iterable[Event]) -> list[int]:
    """Classical bits that are written."""
    return [event.bit for event in events if isinstance(event, Measure | Merge) and event.bit >= 0]
