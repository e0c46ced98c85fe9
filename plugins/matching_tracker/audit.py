# SPDX-License-Identifier: Apache-2.0
"""A few shots of a batch with their raw records, for whoever wants to look at how they were decoded.

A list of maps, one for each path on which such a shot ended:

- ``decisions``: [0 or 1, ...] in the order in which they were made.
- ``shots``: how many; ``measurements``: records of each.
- ``records``, ``outcomes``, ``undecoded``, ``frames``: stim's b8 format, one row a shot.  ``frames`` is what constant and
  conditional Paulis added to each bit.

Shots that were discarded or lack a record are left out.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from qcos_plugins.matching_tracker.outcomes import Outcomes
from qcos_plugins.matching_tracker.packed import Bits, pack, unpack, width

SHOTS: Final = 32
"""The first ones of a batch.  Of its records that many columns have to be kept."""


def sampled(batch: int | None) -> bool:
    """Whether the shots of a batch are to be shown: 0, 1, 2, 4, 8, ..."""
    return batch is not None and batch & (batch - 1) == 0


def audit(outcomes: Outcomes) -> list[dict[str, Any]]:
    """Of a batch whose records were kept, at least those of its first `SHOTS` shots."""
    return [row for name in outcomes.paths if (row := _path(outcomes, name))["shots"]]


def _path(outcomes: Outcomes, name: str) -> dict[str, Any]:
    shots = outcomes.members[name]
    shots = shots[shots < SHOTS]
    shots = shots[~(outcomes.discarded | outcomes.unread)[shots]]
    steps = name.split("/") if name else []
    pasts = ["/".join(steps[:length]) for length in range(len(steps) + 1)]
    lacking = _columns(outcomes, outcomes.missing, pasts, shots).any(axis=0)
    shots = shots[~lacking]
    records = _columns(outcomes, outcomes.records, pasts, shots)
    return {
        "decisions": [int(step.rpartition("=")[2]) for step in steps],
        "shots": len(shots),
        "measurements": len(records),
        "records": _b8(records),
        "outcomes": _b8(outcomes.bits[:, shots]),
        "undecoded": _b8(outcomes.undecoded[:, shots]),
        "frames": _b8(outcomes.applied[:, shots]),
    }


def _columns(outcomes: Outcomes, kept: dict[str, Bits], pasts: list[str], shots: np.ndarray) -> Bits:
    """0/1 values (records of the whole path, shots)."""
    found = [np.zeros((0, len(shots)), np.uint8)]
    for past in pasts:
        # The first shots of a batch are among the first of every path that they take.
        first = outcomes.members[past][:SHOTS]
        empty = np.zeros((len(outcomes.records.get(past, ())), width(len(first))), np.uint8)
        rows = unpack(kept.get(past, empty)[:, : width(len(first))], len(first))
        found.append(rows[:, np.searchsorted(first, shots)])
    return np.concatenate(found)


def _b8(values: Bits) -> bytes:
    return pack(np.ascontiguousarray(values.T)).tobytes()
