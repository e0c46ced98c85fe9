# SPDX-License-Identifier: Apache-2.0
"""The `records` artifact: the raw records of a batch and what was made of them, by the paths that its shots took.

A msgpack map, made to be written to files as it stands:

- ``version``; ``batch``; ``registers`` [[name, size], ...]; ``decoder``.
- ``calibration``: bytes of the `calibration` artifact that the batch was decoded with, empty where it was the job's.
- ``paths``: a list of maps, one for each path that a shot ended on:

  - ``decisions``: [0 or 1, ...] in the order in which they were made.
  - ``measurements``: records of a shot; ``bits``: its classical bits.
  - ``shots``: numbers in the batch of the accepted shots, increasing; ``discarded``: those of the others.
  - ``records``, ``outcomes``, ``undecoded``, ``frames``: stim's b8 format, one row for each accepted shot in that order.
    ``frames`` is what constant and conditional Paulis added to each bit.
  - ``missing``: as ``records``, 1 where a record has no value (the record itself is 0 then); empty where none is missing.
"""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
from qcos_plugins.matching_tracker.outcomes import Outcomes
from qcos_plugins.matching_tracker.packed import Bits, pack, unpack, width

VERSION = 1


def recorded(outcomes: Outcomes, batch: int, calibration: bytes = b"") -> bytes:
    """The artifact of a batch whose records were kept."""
    program = outcomes.plans.program
    return bytes(
        msgpack.packb(
            {
                "version": VERSION,
                "batch": batch,
                "registers": [list(register) for register in program.registers],
                "decoder": outcomes.plans.decoder,
                "calibration": calibration,
                "paths": [_path(outcomes, name) for name in outcomes.paths],
            }
        )
    )


def _path(outcomes: Outcomes, name: str) -> dict[str, Any]:
    shots = outcomes.members[name]
    accepted = shots[~outcomes.discarded[shots]]
    # What a shot went through before its branch stands with the paths that lead to it.
    steps = name.split("/") if name else []
    pasts = ["/".join(steps[:length]) for length in range(len(steps) + 1)]
    records = _columns(outcomes, outcomes.records, pasts, accepted)
    missing = _columns(outcomes, outcomes.missing, pasts, accepted)
    return {
        "decisions": [int(step.rpartition("=")[2]) for step in steps],
        "measurements": len(records),
        "bits": len(outcomes.bits),
        "shots": accepted.tolist(),
        "discarded": shots[outcomes.discarded[shots]].tolist(),
        "records": _b8(records & ~missing & 1),
        "outcomes": _b8(outcomes.bits[:, accepted]),
        "undecoded": _b8(outcomes.undecoded[:, accepted]),
        "frames": _b8(outcomes.applied[:, accepted]),
        "missing": _b8(missing) if missing.any() else b"",
    }


def _columns(outcomes: Outcomes, kept: dict[str, Bits], pasts: list[str], shots: np.ndarray) -> Bits:
    """0/1 values (records of the whole path, shots); zeros for a path that kept nothing."""
    found = [np.zeros((0, len(shots)), np.uint8)]
    for past in pasts:
        members = outcomes.members[past]
        empty = np.zeros((len(outcomes.records.get(past, ())), width(len(members))), np.uint8)
        rows = unpack(kept.get(past, empty), len(members))
        found.append(rows[:, np.searchsorted(members, shots)])
    return np.concatenate(found)


def _b8(values: Bits) -> bytes:
    """0/1 values, shots on the last axis, as stim's b8."""
    return pack(np.ascontiguousarray(values.T)).tobytes()
