# SPDX-License-Identifier: Apache-2.0
"""Service track: raw records of a batch become outcomes, decoded while the batch runs."""

from __future__ import annotations

from collections import OrderedDict
from time import perf_counter
from typing import Any

import msgpack
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.fault import Aborted, StreamFault
from qcos_plugins.matching_tracker.follow import follow
from qcos_plugins.matching_tracker.model import DEFAULT_DECODER
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.tracker import Tracker

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.versions import versions
from qcosd.sdk import Plugin, Refused
from qcosd.sdk import StreamFault as BrokenStream

KEPT_PROGRAMS = 2

plugin = Plugin()
templates = TemplateCache()  # outlives jobs: most programs are made of the same windows
kept: OrderedDict[tuple[object, ...], Plans] = OrderedDict()


@plugin.operation("track", "run")
def run(lease: Any) -> Any:
    """One batch."""
    plans = _plans(lease)
    tracker = Tracker(plans.program, plans.calibration, lease.shots, plans=plans, batch=lease.batch, clock=perf_counter)
    try:
        follow(tracker, lease.stream, lease.progress)
        summary = tracker.outcomes().summary()
    except Aborted as end:
        raise Refused("retry_later", str(end), end.details) from end
    except (StreamFault, BrokenStream) as fault:
        raise Refused("wrong_input", str(fault), {"stream": "rounds", **getattr(fault, "details", {})}) from fault
    used = {"versions": versions("pymatching", "stim", "numpy")}
    return lease.result(outputs={"counts": msgpack.packb(summary["sum"])}, facts=used, summary=summary)


def _plans(lease: Any) -> Plans:
    """Those of an earlier batch of the same work, where there is one."""
    decoder = lease.options.get("decoder") or DEFAULT_DECODER
    buffer = (lease.options.get("set") or {}).get("buffer")
    if not isinstance(decoder, str):
        raise Refused("bad_input", f"decoder {decoder!r}: a name expected")
    if buffer is not None:
        try:
            buffer = int(buffer)
        except (TypeError, ValueError) as error:
            raise Refused("bad_input", f"buffer {buffer!r}: a whole number of rounds expected") from error
    key = (lease.inputs["fragments"], lease.inputs["calibration"], decoder, buffer)
    if key not in kept:
        try:
            kept[key] = Plans(
                FragmentProgram.from_bytes(lease.input("fragments")),
                Calibration.from_bytes(lease.input("calibration")),
                decoder=decoder,
                buffer=buffer,
                templates=templates,
            )
        except ValueError as error:
            raise Refused("bad_input", str(error)) from error
        if len(kept) > KEPT_PROGRAMS:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]


if __name__ == "__main__":
    plugin.main()
