# SPDX-License-Identifier: Apache-2.0
"""A window to be decoded, whoever does it, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from qcos_plugins.matching_tracker.content import SlotContent
from qcos_plugins.matching_tracker.missing import Lacking
from qcos_plugins.matching_tracker.packed import Bits, pack
from qcos_plugins.matching_tracker.plan import Artifacts, WindowPlan
from qcos_plugins.matching_tracker.window import Window

Explained = tuple[np.ndarray, Bits]
"""Detectors, and in which shots a window has explained them: uint8 (detectors, bytes)."""


class Task(NamedTuple):
    """A window of a path that can be decoded.

    ``number``, ``fragment``: which.  ``before``, ``contents``: the slot before it, its slots and its ghost.  ``syndrome``: uint8
    (plan.rows, bytes), without what other windows have explained.  ``missing``: see `Instance.decode`; None if nothing is.
    """

    number: int
    fragment: int
    window: Window
    before: SlotContent | None
    contents: Sequence[SlotContent]
    plan: WindowPlan
    syndrome: Bits
    missing: Lacking | None

    def decode(self, shots: int) -> tuple[Bits, Bits | None]:
        """Predictions as `WindowPlan.decode`; and the shots, packed, whose missing records leave nothing to decide by, if there
        are any."""
        if self.missing is None:
            return self.plan.decode(self.syndrome, shots), None
        lost: Bits | None = None
        found = [self.syndrome[:0]]
        for instance in self.plan.instances:
            prediction, undecidable = instance.decode(self.syndrome, shots, self.missing)
            found.append(prediction)
            if undecidable is not None and undecidable.any():
                lost = pack(undecidable) | (0 if lost is None else lost)
        return np.concatenate(found), lost


class Found(NamedTuple):
    """What decoding a window has come to.

    ``predictions``: as `WindowPlan.decode`.  ``undecidable``: shots, packed, whose missing records leave nothing to decide by.
    ``earlier``, ``later``: what it has done to those detectors of its plan.
    """

    plan: WindowPlan
    predictions: Bits
    undecidable: Bits | None
    earlier: Explained | None
    later: Explained | None


def explained(artifacts: Artifacts | None, predictions: Bits) -> Explained | None:
    """What a commit has done to detectors that others look at; None for nothing."""
    return None if artifacts is None else (artifacts.detectors, predictions.take(artifacts.rows, axis=0))


def without(syndrome: Bits, begin: int, known: Explained | None) -> Bits:
    """A syndrome in which other windows have explained some detectors, counted from row ``begin`` on."""
    if known is None:
        return syndrome
    detectors, flips = known
    if begin:
        detectors = detectors + begin
    left = syndrome.copy()
    left[detectors] = left.take(detectors, axis=0) ^ flips
    return left
