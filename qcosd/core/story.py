# SPDX-License-Identifier: Apache-2.0
"""The story of a job, for whoever asks later what became of it. The job's records tell it, so that it outlives the daemon.

It is kept short: what happens over and over, such as batches that go well, is one entry that counts; of a story that gets too
long all the same, the middle goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qcosd.core.aide import SHADOW
from qcosd.core.records import RecordType

if TYPE_CHECKING:
    from qcosd.core.job import Job
    from qcosd.core.work import Work

KEPT = 200  # entries
BEGINNING = 40  # of those, how many of the first
NEAR = 8  # entries back to which a repeat is looked for

Entry = list[Any]  # when, what, its fields, how often, when last


@dataclass(eq=False, slots=True)
class Story:
    """Entries in the order of time (seconds since the epoch)."""

    entries: list[Entry] = field(default_factory=list)
    left_out: int = 0  # entries behind the first BEGINNING ones that have gone

    def tell(self, at: float, event: str, **fields: Any) -> None:
        """Something has happened; several times in a row is one entry."""
        for entry in self.entries[: -NEAR - 1 : -1]:
            if entry[1] == event and entry[2] == fields:
                entry[3], entry[4] = entry[3] + 1, at
                return
        self.entries.append([at, event, fields, 1, at])
        if len(self.entries) > KEPT:
            del self.entries[BEGINNING]
            self.left_out += 1

    def sum_up(self, at: float, event: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Something of which there is one entry, however often and with whatever in between; ``change`` makes its fields of those
        that it has so far."""
        for entry in self.entries:
            if entry[1] == event:
                entry[2:] = [change(entry[2]), entry[3] + 1, at]
                return
        self.tell(at, event, **change({}))

    def body(self) -> dict[str, Any]:
        """What a snapshot has of it."""
        return {"entries": [list(entry) for entry in self.entries], "left_out": self.left_out}

    @classmethod
    def of(cls, body: dict[str, Any]) -> Story:
        """The story of a body."""
        return cls([list(entry) for entry in body["entries"]], body["left_out"])

    def document(self, boots: Iterable[tuple[int, float]]) -> list[dict[str, Any]]:
        """Rows {at, event, times, until, ...}, with the starts of the daemon meanwhile (boot number, when)."""
        rows = [
            {"at": at, "event": what, "times": n, "until": last, **more} for at, what, more, n, last in self.entries
        ]
        if self.left_out:
            at = rows[BEGINNING]["at"]
            rows.insert(BEGINNING, {"at": at, "event": "left_out", "times": self.left_out, "until": at})
        since = rows[0]["at"]
        starts = [{"at": at, "event": "boot", "times": 1, "until": at, "boot": n} for n, at in boots if at > since]
        return sorted([*starts, *rows], key=lambda row: float(row["at"]))


def tell(job: Job, kind: RecordType, body: dict[str, Any], at: float) -> None:
    """Tell what a record is about to do to a job."""
    say = job.story.tell
    match kind:
        case RecordType.LEASE:
            _tell_lease(job, body, at)
        case RecordType.AIDE if body["place"] == SHADOW:
            say(at, "shadowed", op=body["op"])
        case RecordType.AIDE_BACK if body["place"] == SHADOW:
            pass
        case RecordType.AIDE:
            _tell_help(job, body, at)
        case RecordType.AIDE_BACK if body.get("failed"):
            job.story.sum_up(at, "helped", lambda told: {**told, "failures": told.get("failures", 0) + 1})
        case RecordType.WORK_BACK:
            work = job.works[body["batch"], body["op"]]
            if not work.delivered:  # else somebody who was left over has gone
                _tell_loss(work, body, at)
        case RecordType.OUTPUT if body.get("outputs") is not None:
            work = job.works[body["batch"], body["op"]]
            if work.batch is None and not work.step.checks:
                say(at, "delivered", op=body["op"], kinds=sorted(body["outputs"]))
            elif not work.step.checks:
                say(at, "batches_delivered", op=body["op"])
        case RecordType.FENCE:
            say(at, "fenced", component=body["component"], reason=body["reason"], place=body["place"])
        case RecordType.DROPPED:
            say(at, "dropped", components=sorted({component for component, _ in body["guilty"]}))
        case RecordType.BATCHES if body["size"]:
            say(at, "batches_cut", shots=body["shots"], size=body["size"])
        case RecordType.BATCHES:
            say(at, "batches_added", shots=body["shots"])
        case RecordType.REVIEW:
            _tell_review(job, body, at)
        case RecordType.HOLD if body["cause"]:
            say(at, "held", cause=body["cause"])
        case RecordType.HOLD:
            say(at, "released")
        case RecordType.DEGRADED:
            say(at, "degraded", text=body["text"])


def _tell_lease(job: Job, body: dict[str, Any], at: float) -> None:
    step, batch = job.steps[body["step"]], body["batch"]
    for part in step.parts:
        before = job.chosen.get(part.operation.name)
        if before not in (None, part.component):
            job.story.tell(at, "took_over", op=part.operation.name, component=part.component, before=before)
    who = [[step.parts[i].component, body["incarnations"][i]] for i in body["parts"]]
    if batch is not None and body["epoch"] == 1:
        job.story.tell(at, "batches_given", op=step.name, who=who)
    else:
        job.story.tell(at, "given", op=step.name, batch=batch, epoch=body["epoch"], who=who)


def _tell_help(job: Job, body: dict[str, Any], at: float) -> None:
    """Workers that help: the most at a time, and how often one failed."""
    aides = job.works[body["batch"], body["op"]].aides
    others = [
        number for (index, number), aide in aides.items() if aide.live and index == body["index"] and number != SHADOW
    ]
    count = len({*others, body["place"]})

    def change(told: dict[str, Any]) -> dict[str, Any]:
        return {"workers": max(count, told.get("workers", 0)), "failures": told.get("failures", 0)}

    job.story.sum_up(at, "helped", change)


def _tell_loss(work: Work, body: dict[str, Any], at: float) -> None:
    parts = [lease for lease in work.live if lease.index in body["parts"]]
    who = [[lease.part.component, lease.incarnation] for lease in parts]
    happened = "lost" if body.get("died") else "preempted" if body.get("preempted") else "taken_back"
    more = {"log": body["log"]} if body.get("log") else {}
    work.job.story.tell(at, happened, op=body["op"], batch=body["batch"], who=who, reason=body["reason"], **more)


def _tell_review(job: Job, body: dict[str, Any], at: float) -> None:
    step, batch = job.steps[body["step"]], body["batch"]
    if not body["passed"]:
        job.story.tell(at, "waived", kinds=list(step.checks), batch=batch, reason=body["reason"])
    elif batch is None:
        job.story.tell(at, "checked", kinds=list(step.checks))
    else:
        job.story.tell(at, "batches_checked", kinds=list(step.checks))
