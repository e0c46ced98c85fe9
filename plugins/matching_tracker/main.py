# SPDX-License-Identifier: Apache-2.0
"""Service track: raw records of a batch become outcomes, decoded while the batch runs, and are written down if asked for."""

from __future__ import annotations

import gc
from collections import OrderedDict
from time import perf_counter
from typing import Any

import msgpack
from qcos_plugins.matching_tracker import ahead
from qcos_plugins.matching_tracker.audit import SHOTS, audit, sampled
from qcos_plugins.matching_tracker.circuits import written_circuits
from qcos_plugins.matching_tracker.experiment import decode
from qcos_plugins.matching_tracker.fault import Aborted, Behind, StreamFault, WrongCheckpoint
from qcos_plugins.matching_tracker.follow import follow
from qcos_plugins.matching_tracker.frames import NotFinal
from qcos_plugins.matching_tracker.load import Load
from qcos_plugins.matching_tracker.offering import admit, table
from qcos_plugins.matching_tracker.outcomes import VOLATILE
from qcos_plugins.matching_tracker.planned import KEPT_PROGRAMS, offset_of, plans_of, shadow_of
from qcos_plugins.matching_tracker.pool import Pool
from qcos_plugins.matching_tracker.recording import recorded
from qcos_plugins.matching_tracker.shadow import STREAM, Shadow
from qcos_plugins.matching_tracker.structure import WrongFragments
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.matching_tracker.window import PARALLEL

from qcosd.qec.versions import versions
from qcosd.sdk import Interrupt, Plugin, Refused, StreamClosed
from qcosd.sdk import StreamFault as BrokenStream

VERSION = 1  # of the artifact `windows`

plugin = Plugin()
loads: OrderedDict[str, Load] = OrderedDict()


plugin.operation("track", "admit")(admit)
plugin.operation("track", "decode")(decode)
plugin.operation("track", "decoders")(table)


@plugin.operation("track", "prepare")
def prepare(lease: Any) -> Any:
    """Before anything runs, all that its windows need, here or on disk: {version, windows}, how many were looked at."""
    plans = plans_of(lease)
    templates = plans.templates

    def report(count: int) -> None:
        lease.check()
        lease.progress(0.0, f"{count} windows")

    built, loaded = templates.misses, templates.loaded
    try:
        count = ahead.prepare(plans, report)
    except WrongFragments as fault:
        raise Refused("wrong_input", str(fault), {"kind": "fragments"}) from fault
    facts = {
        "built": templates.misses - built,
        "loaded": templates.loaded - loaded,
        "versions": versions("pymatching", "stim", "numpy"),
    }
    if facts["built"] or facts["loaded"]:
        _settle()
    return lease.result(outputs={"windows": msgpack.packb({"version": VERSION, "windows": count})}, facts=facts)


def _settle() -> None:
    """What windows are made of stays for long: to look through it for garbage in the middle of a batch takes 70 ms and more."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


@plugin.operation("track", "run")
def run(lease: Any) -> Any:
    """One batch."""
    return _result(lease, _followed(lease, keep_records=False))


@plugin.operation("track", "record")
def record(lease: Any) -> Any:
    """One batch, and its raw records."""
    tracker = _followed(lease, keep_records=True)
    outcomes = tracker.outcomes()
    rates = tracker.plans.calibration.to_bytes() if outcomes.calibration else b""
    return _result(lease, tracker, records=recorded(outcomes, lease.batch, rates))


@plugin.operation("track", "circuits")
def circuits(lease: Any) -> Any:
    """The circuits and error models of some paths, for written records."""
    try:
        made = written_circuits(plans_of(lease), offset_of(lease), lease.input("paths"))
    except ValueError as error:
        raise Refused("bad_input", str(error)) from error
    return lease.result(outputs={"circuits": made}, facts={"versions": versions("pymatching", "stim", "numpy")})


def _followed(lease: Any, *, keep_records: bool) -> Tracker:
    """The tracker of a batch that has ended."""
    plans = plans_of(lease)
    missing = (lease.options.get("set") or {}).get("missing", "decode")
    if missing not in ("decode", "discard"):
        raise Refused("bad_input", f"missing {missing!r}: decode or discard expected")
    pool = None
    if plans.scheme == PARALLEL:
        pool = Pool(
            lambda: [stream for stream in lease.pool.streams() if stream.grant.name != STREAM],
            plans.digest,
            lambda: tracker.plans,
            lambda key, found: tracker.agrees(key, found),
        )
    tracker = Tracker(
        plans.program,
        plans.calibration,
        lease.shots,
        plans=plans,
        batch=lease.batch,
        decode_missing=missing == "decode",
        keep_records=keep_records,
        keep_shots=SHOTS if _audited(lease) else None,
        clock=perf_counter,
        load=_load(lease.job),
        helpers=pool,
    )
    shadow = Shadow(lease.pool.streams) if shadow_of(lease) else None
    try:
        follow(tracker, lease.stream, lease.progress, pool=pool, shadow=shadow)
        outcomes = tracker.outcomes()
        if shadow is not None:
            outcomes.shadow = shadow.verdict(outcomes.counts)
    except Aborted as end:
        raise Refused("retry_later", str(end), end.details) from end
    except Behind as end:
        raise Interrupt("backlog", str(end), end.details) from end
    except WrongCheckpoint as end:
        # The hardware can do nothing about it: both begin the batch again.
        raise Refused("retry_later", str(end)) from end
    except StreamClosed as end:
        # Whoever produces it may have good reasons, and tells the kernel; unless it says that this was all.
        raise Refused("retry_later", f"{end} before its last block", {"stream": "rounds"}) from end
    except (StreamFault, BrokenStream) as fault:
        raise Refused("wrong_input", str(fault), {"stream": "rounds", **getattr(fault, "details", {})}) from fault
    except (WrongFragments, NotFinal) as fault:
        raise Refused("wrong_input", str(fault), {"kind": "fragments"}) from fault
    return tracker


def _load(job: str) -> Load:
    """That of the job, while it runs: a batch may be too short to say anything."""
    load = loads.setdefault(job, Load())
    loads.move_to_end(job)
    while len(loads) > KEPT_PROGRAMS:
        loads.popitem(last=False)
    return load


def _audited(lease: Any) -> bool:
    """Whether some shots go with the counts, for those who check them."""
    return bool(lease.options.get("verify", True)) and sampled(lease.batch)


def _result(lease: Any, tracker: Tracker, **outputs: bytes) -> Any:
    summary = tracker.outcomes().summary()
    lasting = {name: value for name, value in summary["sum"].items() if name not in VOLATILE}
    shown = {}
    if _audited(lease):
        shown["audit"] = audit(tracker.outcomes())
        if tracker.outcomes().calibration:
            shown["calibration"] = tracker.plans.calibration.to_bytes()
    used = {"versions": versions("pymatching", "stim", "numpy")}
    return lease.result(
        outputs={"counts": msgpack.packb({**lasting, **shown}), **outputs},
        facts=used,
        summary=summary,
    )


if __name__ == "__main__":
    plugin.main()
