# SPDX-License-Identifier: Apache-2.0
"""Messages of a `windows` stream, from a tracker to somebody who decodes for it, and back.

    {"type": "plans", "digest"} calibration      before any window: what both must have worked out for the job; and the rates that
                                                 count from here on, a `calibration` artifact
    {"type": "window", "key": [path, fragment, number], "shots", "window", "before", "contents"} syndrome
                                                 ``window``: lead, commit and end in slots from its start, and whether it is closed;
                                                 ``before``, ``contents``: numbers of slots (-1: none)
    {"type": "found", "key", "us"} predictions   the answer to a window: how long it took

Syndromes are uint8 (rows of the window's plan, ceil(shots/8)), predictions uint8 (predictions of it, ceil(shots/8)), little-endian
bits along the shots, padding zero.  An answer depends on the question alone: it may be asked twice, and answered twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from qcos_plugins.matching_tracker.fault import StreamFault
from qcos_plugins.matching_tracker.helpers import Key
from qcos_plugins.matching_tracker.packed import Bits, mask, width
from qcos_plugins.matching_tracker.plan import Plans, WindowPlan
from qcos_plugins.matching_tracker.structure import WrongFragments
from qcos_plugins.matching_tracker.task import Task
from qcos_plugins.matching_tracker.window import Window

Header = dict[str, Any]


def window_header(key: Key, task: Task, shots: int) -> Header:
    window = task.window
    return {
        "type": "window",
        "key": list(key),
        "shots": shots,
        "window": [window.lead, window.commit - window.start, window.end - window.start, window.closed],
        "before": -1 if task.before is None else task.before.number,
        "contents": [content.number for content in task.contents],
    }


def question(plans: Plans, header: Mapping[str, Any], payload: Sequence[bytes]) -> tuple[WindowPlan, Bits, int]:
    """The plan of a window, its syndrome, and how many shots it has.  Raises StreamFault for what is none of these plans."""
    try:
        lead, commit, end, closed = header["window"]
        before = None if header["before"] < 0 else plans.content(header["before"])
        contents = [plans.content(number) for number in header["contents"]]
        window = Window(0, commit, end, len(contents) > end, lead, closed)
        plan = plans.window(before, contents, window)
        shots = header["shots"]
        syndrome = np.frombuffer(payload[0], np.uint8).reshape(plan.rows, width(shots))
    except (KeyError, IndexError, TypeError, ValueError, WrongFragments) as error:
        raise StreamFault(f"not a window of this program: {error!r}") from error
    return plan, syndrome, shots


def answer(header: Mapping[str, Any], payload: Sequence[bytes], rows: int, shots: int) -> tuple[Bits, float]:
    """``rows`` predictions of a window, and the seconds that they took.  Raises StreamFault for what is no answer."""
    try:
        predictions = np.frombuffer(payload[0], np.uint8).reshape(rows, width(shots))
        seconds = header["us"] / 1e6
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise StreamFault(f"not an answer: {error!r}") from error
    if (predictions & ~mask(shots)).any():
        raise StreamFault("an answer for shots that there are not")
    return predictions, seconds
