# SPDX-License-Identifier: Apache-2.0
"""The story of a job as the kernel's document has it, told line by line: when, and what."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]


def told(document: Mapping[str, Any]) -> list[str]:
    """A line for each entry: time of day, seconds since the job was accepted, what happened; what was printed last stands below."""
    lines: list[str] = []
    for row in document.get("story") or []:
        since = float(row["at"]) - float(document["submitted"])
        lines.append(f"{_clock(row['at'])}  {since:+10.3f} s  {sentence(row)}{_repeats(row, document)}")
        lines += [f"{'':26}| {line}" for line in row.get("log") or []]
    return lines


def sentence(row: Row) -> str:
    """What one entry says, in one line. One of a kind that is not known here is shown as it is."""
    place = f"{row.get('op', '')}" + (f" of batch {row['batch']}" if row.get("batch") is not None else "")
    who, reason, kinds = _names(row.get("who") or []), row.get("reason") or "", ", ".join(row.get("kinds") or [])
    n = int(row.get("times", 1))
    batches = f"{n} batch" if n == 1 else f"{n} batches"
    match row["event"]:
        case "accepted":
            text = f"accepted from {row['owner']}: {row['shots']} shots, seed {row['seed']}"
        case "given":
            again = "" if row["epoch"] == 1 else f" again (epoch {row['epoch']})"
            text = f"{place} given to {who}{again}"
        case "batches_given":
            text = f"{row['op']}: {batches} given to {who}"
        case "helped":
            helpers = "1 worker helps" if row["workers"] == 1 else f"{row['workers']} workers help"
            failures = int(row["failures"])
            text = helpers + (f"; {failures} failed or died, which costs the job nothing" if failures else "")
        case "shadowed":
            text = f"{row['op']}: a shadow looks on in {batches}"
        case "delivered":
            text = f"{place} has delivered {kinds}"
        case "batches_delivered":
            text = f"{row['op']}: {batches} delivered"
        case "lost":
            text = f"{place} lost by {who}: {reason}" if who else f"{place} lost: {reason}"
        case "preempted":
            text = f"{place} taken back from {who}: {reason}"
        case "taken_back":
            text = f"{place} taken back{f' from {who}' if who else ''}: {reason}"
        case "took_over":
            text = f"{row['component']} takes over {place} from {row['before']}"
        case "fenced":
            text = f"{row['component']} does nothing more for this job: {reason} (noticed by {row['place']})"
        case "dropped":
            text = f"what {', '.join(row['components'])} made is dropped, and what was made from that"
        case "batches_cut":
            text = f"{row['shots']} shots make batches of {row['size']}"
        case "batches_added":
            text = f"batches added for {row['shots']} shots that were discarded"
        case "checked":
            text = f"{kinds} passed the check"
        case "batches_checked":
            text = f"{kinds}: {batches} passed the check"
        case "waived":
            batch = f" of batch {row['batch']}" if row.get("batch") is not None else ""
            text = f"{kinds}{batch} goes unchecked" + (f": {reason}" if reason else "")
        case "held":
            text = f"held: {row['cause']}"
        case "released":
            text = "goes on"
        case "degraded":
            text = f"degraded: {row['text']}"
        case "boot":
            text = f"the daemon was started again (boot {row['boot']})"
        case "left_out":
            text = f"... {n} entries left out ..."
        case "ended":
            failed = row.get("error") not in (None, row["state"])
            text = str(row["state"]) + (f" ({row['error']}): {reason}" if failed else "")
        case event:
            known = ("at", "until", "times", "event")
            text = " ".join([str(event), *(f"{key}={value}" for key, value in row.items() if key not in known)])
    return " ".join(text.split())


def people(document: Mapping[str, Any]) -> list[str]:
    """The components that had a hand in a job, or lost it: those of its plan first."""
    plan = document.get("plan") or {}
    names = [*(plan.get("providers") or {}).values(), *(document.get("fenced") or {})]
    names += [component for row in document.get("story") or [] for component, _ in row.get("who") or []]
    return list(dict.fromkeys(map(str, names)))


def _repeats(row: Row, document: Mapping[str, Any]) -> str:
    if int(row.get("times", 1)) < 2 or row["event"] == "left_out":
        return ""
    last = f"the last at {float(row['until']) - float(document['submitted']):+.3f} s"
    return f", {last}" if str(row["event"]).startswith("batches_") else f", {row['times']} times, {last}"


def _names(who: Iterable[Iterable[Any]]) -> str:
    return " and ".join(f"{component}/{incarnation}" for component, incarnation in who)


def _clock(at: Any) -> str:
    return time.strftime("%H:%M:%S", time.localtime(float(at))) + f"{float(at) % 1:.3f}"[1:]
