# SPDX-License-Identifier: Apache-2.0
"""Bus glue of `track.decode`: a batch of a foreign experiment becomes counts of the logical errors that decoding leaves."""

from __future__ import annotations

from collections import OrderedDict
from time import perf_counter
from typing import Any

import msgpack
from qcos_plugins.matching_tracker.experiment_tracker import ExperimentTracker
from qcos_plugins.matching_tracker.experiment_windows import ModelWindows
from qcos_plugins.matching_tracker.fault import Aborted, StreamFault, WrongCheckpoint
from qcos_plugins.matching_tracker.follow import follow
from qcos_plugins.matching_tracker.outcomes import VOLATILE

from qcosd.qec.experiment import Experiment
from qcosd.qec.versions import versions
from qcosd.sdk import Refused, StreamClosed
from qcosd.sdk import StreamFault as BrokenStream

KEPT = 2

kept: OrderedDict[tuple[object, ...], tuple[Experiment, ModelWindows]] = OrderedDict()


def decode(lease: Any) -> Any:
    """One batch, with the job's `decoder`."""
    experiment, windows = _windows(lease, _decoder(lease))
    tracker = ExperimentTracker(experiment, windows, lease.shots, batch=lease.batch, clock=perf_counter)
    try:
        # Its windows reach so far that a checkpoint would be most of what has come: a short batch begins again.
        follow(tracker, lease.stream, lease.progress, checkpoints=False)
        summary = tracker.summary()
    except Aborted as end:
        raise Refused("retry_later", str(end), end.details) from end
    except WrongCheckpoint as end:
        raise Refused("retry_later", str(end)) from end
    except StreamClosed as end:
        # Whoever produces it may have good reasons, and tells the kernel; unless it says that this was all.
        raise Refused("retry_later", f"{end} before its last block", {"stream": "rounds"}) from end
    except (StreamFault, BrokenStream) as fault:
        raise Refused("wrong_input", str(fault), {"stream": "rounds", **getattr(fault, "details", {})}) from fault
    return lease.result(
        outputs={"counts": msgpack.packb({k: v for k, v in summary["sum"].items() if k not in VOLATILE})},
        facts={"versions": versions("pymatching", "stim", "numpy")},
        summary=summary,
    )


def _decoder(lease: Any) -> str:
    try:
        return str(msgpack.unpackb(lease.input("decoder"))["name"])
    except (KeyError, TypeError, ValueError, msgpack.UnpackException) as error:
        raise Refused("wrong_input", f"not a decoder artifact: {error!r}", {"kind": "decoder"}) from error


def _windows(lease: Any, decoder: str) -> tuple[Experiment, ModelWindows]:
    """Those of an earlier batch of the same work, where there is one."""
    key = (lease.inputs["experiment"], decoder)
    if key not in kept:
        data = lease.input("experiment")
        try:
            experiment = Experiment.from_bytes(data)
            kept[key] = (experiment, ModelWindows(experiment, decoder=decoder))
        except ValueError as error:
            raise Refused("wrong_input", str(error), {"kind": "experiment"}) from error
        if len(kept) > KEPT:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]
