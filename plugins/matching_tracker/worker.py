# SPDX-License-Identifier: Apache-2.0
"""The worker's end of a `windows` stream: a window in, predictions out.  It knows nothing of shots, paths or programs' progress."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from qcos_plugins.matching_tracker.fault import StreamFault
from qcos_plugins.matching_tracker.handing import question
from qcos_plugins.matching_tracker.plan import Plans

from qcosd.qec.calibration import Calibration


def serve(plans: Plans, stream: Any, clock: Callable[[], float] = perf_counter) -> int:
    """Answers until the tracker closes.  Returns how many windows were decoded.  Raises StreamFault for what is no question.

    ``plans``: those of the job.  ``stream``: a StreamReader.  What a worker was told of the rates is its checkpoint.
    """
    told = stream.resumed()
    rates, now = (told[0], _at(plans, told[0])) if told else (b"", None)
    done = 0
    for message in stream:
        kind = message.header.get("type")
        if kind == "plans" and len(message.payload) == 1:
            if message.header.get("digest") != plans.digest:
                raise StreamFault("the tracker has planned something else, or with other software")
            rates = bytes(message.payload[0])
            now = _at(plans, rates)
        elif kind == "window" and now is not None:
            began = clock()
            plan, syndrome, shots = question(now, message.header, message.payload)
            predictions = plan.decode(syndrome, shots)
            us = round(1e6 * (clock() - began))
            stream.send({"type": "found", "key": message.header["key"], "us": us}, predictions)
            done += 1
        else:
            raise StreamFault(f"a message of type {kind!r} is not due")
        stream.ack(None, rates)
    return done


def _at(plans: Plans, rates: bytes) -> Plans:
    """``rates``: a calibration artifact."""
    try:
        return plans.reweighted(Calibration.from_bytes(rates))
    except ValueError as error:
        raise StreamFault(str(error)) from error
