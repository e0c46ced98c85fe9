# SPDX-License-Identifier: Apache-2.0
"""The ledger of frames: nothing is read before the window that settles it."""

from __future__ import annotations

import numpy as np
import pytest
from qcos_plugins.matching_tracker.frames import DECODED, UNDECODED, Ledger, NotFinal

from qcosd.qec.fragment import Event, Frame, Init, Measure, Merge
from qcosd.qec.geometry import Rect

RECT = Rect(0, 0, 4, 4)
ONE = np.array([1], np.uint8)


def ledger(*events: tuple[Event, int], commit: int) -> Ledger:
    """Of one shot, after events at their slots."""
    found = Ledger({0: 0, 1: 1}, tags=2, bits=1, shots=1)
    for event, slot in ((Init(0, RECT, "Z"), 0), (Init(1, RECT, "Z"), 0), *events):
        found.apply(event, slot, commit, None if isinstance(event, Init | Frame) else ONE)
    return found


MERGE = Merge(0, 1, "Z", 0, (), ())
READ = Measure(1, "Z", 1, (), 0)


@pytest.mark.parametrize(("event", "tag", "settles"), [(MERGE, 0, 6), (READ, 1, 5)], ids=["merge", "measure"])
def test_a_parity_is_final_when_its_detectors_are_committed(event: Event, tag: int, settles: int) -> None:
    """A merge needs the round after its first one too, which sees the flips of its records; a read-out needs none."""
    use = Frame(0, "X", (tag,))
    done = ledger((event, 4), (use, 5), commit=settles)
    assert done.frames[1, (DECODED, UNDECODED), 0].tolist() == [1, 1]  # an X flips the sign of Z
    for early in range(4, settles):
        with pytest.raises(NotFinal, match=f"parity {tag}, which is not final when slots below {early} are"):
            ledger((event, 4), (use, 5), commit=early)


def test_a_parity_that_nobody_has_measured_is_never_final() -> None:
    with pytest.raises(NotFinal):
        ledger((Frame(0, "X", (1,)), 5), commit=100)


def test_a_parity_is_measured_once() -> None:
    with pytest.raises(ValueError, match="measured twice"):
        ledger((READ, 4), (READ, 5), commit=9)
