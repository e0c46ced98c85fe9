# SPDX-License-Identifier: Apache-2.0
"""Records without a value: which of them a window lacks, shot by shot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from qcos_plugins.matching_tracker.content import SlotContent
from qcos_plugins.matching_tracker.packed import Bits, transpose, unpack

from qcosd.qec.fragment import RecordName

Lacking = list[tuple[RecordName, ...]]


def lacking(slots: Iterable[tuple[int, SlotContent, Bits | None]], shots: int) -> Lacking | None:
    """For each shot the records that it lacks, in order of time; None if no shot lacks any.

    ``slots``: number of a slot within the window (-1: the one before it), content, and the slot's missing records as
    uint8 (m, bytes) or None.  Shots that lack the same records share one tuple.
    """
    names: list[RecordName] = []
    rows: list[Bits] = []
    for t, content, missing in slots:
        if missing is not None:
            affected = np.flatnonzero(missing.any(axis=1))
            every = list(content.record_rows)
            names += [(t, *every[row]) for row in affected]
            rows.append(missing[affected])
    if not names:
        return None
    patterns, which = np.unique(transpose(np.concatenate(rows), shots), axis=0, return_inverse=True)
    sets = [tuple(names[i] for i in np.flatnonzero(row)) for row in unpack(patterns, len(names))]
    return [sets[i] for i in which.ravel()]


def touched(
    names: Sequence[RecordName], slot: int, contents: Sequence[SlotContent], missing: Sequence[Bits | None]
) -> Bits | None:
    """Shots, packed, that lack any of the records that slot number ``slot`` of ``contents`` names; None if none does."""
    found: Bits | None = None
    for dt, x, y, k in names:
        # The first slot of a path names nothing before it.
        absent = missing[slot + dt]
        if absent is not None:
            row = absent[contents[slot + dt].record_rows[x, y, k]]
            found = row if found is None else found | row
    return found
