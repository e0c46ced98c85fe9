# SPDX-License-Identifier: Apache-2.0
"""Recorded shots that lack records: as hardware would send them, junk in the place of what is missing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np
import sampled
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.outcomes import Outcomes
from qcos_plugins.matching_tracker.tracker import Tracker

from qcosd.qec.calibration import Calibration
from qcosd.qec.stream import Block

PRIOR = Calibration.uniform(1e-3)
TEMPLATES = TemplateCache()
HOW = ("valid", "erasure", "llr")


def records_of(recording: sampled.Recording) -> list[tuple[int, int, int, int]]:
    """(slot, x, y, k) of each record of a program without decisions."""
    slots = recording.program.fragments[0].sequence()
    return [(t, *name) for t, slot in enumerate(slots) for name in slot.records()]


def without(
    recording: sampled.Recording, missing: np.ndarray, how: str = "erasure", *, size: int | None = None, junk: int = 0
) -> Iterator[tuple[Block, list[np.ndarray]]]:
    """Blocks and payload frames.  ``missing``: bool (shots, records).  ``junk``: seed of the bits that mean nothing."""
    noise = np.random.default_rng(junk).random(missing.shape) < 0.5
    sent = np.where(missing, noise, recording.records)
    for block, bits in sampled.blocks(recording.program, sent, size or recording.program.distance):
        absent = missing[:, block.rec_start : block.rec_start + sum(block.m)].T
        frame = {
            "valid": lambda absent=absent: sampled.pack(~absent),
            "erasure": lambda absent=absent: sampled.pack(absent),
            "llr": lambda absent=absent, bits=bits: np.where(
                absent, 0, 40 - 80 * np.unpackbits(bits, axis=1, count=absent.shape[1], bitorder="little").astype(int)
            ).astype(np.int8),
        }[how]()
        yield replace(block, payload=("bits", how)), [bits, frame]


def losing(recording: sampled.Recording, slots: Collection[int]) -> Iterator[tuple[Block, list[np.ndarray]]]:
    """Blocks of one slot, of which some are lost."""
    for block, bits in sampled.blocks(recording.program, recording.records, 1):
        if block.round in slots:
            yield replace(block, status="lost", payload=()), []
        else:
            yield block, [bits]


def tracked(
    recording: sampled.Recording,
    blocks: Iterator[tuple[Block, list[np.ndarray]]],
    *,
    prior: Calibration = PRIOR,
    **options: object,
) -> Outcomes:
    tracker = Tracker(recording.program, prior, recording.shots, **{"templates": TEMPLATES, **options})
    for block, frames in blocks:
        tracker.receive(block, *frames)
    return tracker.outcomes()


def whole(recording: sampled.Recording, **options: object) -> Outcomes:
    """What the same shots come to when nothing is missing."""
    return tracked(recording, losing(recording, ()), **options)
