# SPDX-License-Identifier: Apache-2.0
"""How a kernel takes up what earlier boots have left, or where it was away itself, and what it does when the journal has lost some
of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcosd.core.events import Away, Start
from qcosd.core.image import Image, later_boots
from qcosd.core.job import JobState
from qcosd.core.job_image import body_of
from qcosd.core.records import RecordType
from qcosd.core.work import Lease

if TYPE_CHECKING:
    from qcosd.core.kernel import Kernel

LEAP = 1 << 20  # by which all counters go on after a loss: more than can have been lost


def restore(kernel: Kernel, start: Start, now: float) -> None:
    """Take what the journal has. Nothing is started yet."""
    image = start.image
    last = {name: body["last"] for name, body in image.get("kernel", {}).items()}
    known = image.get("kernel", {}).get("boot", {}).get("times", [])
    kernel.jobs.boots = later_boots(known, start.boot, now + kernel.outbox.wall)
    kernel.blobs.restore(start.artifacts)
    kernel.supervisor.restore(image, start.survivors, now)
    kernel.jobs.restore(image.get("job", {}).values(), image.get("history", {}), last.get("jobs", 0), now)
    kernel.requests.restore(image.get("key", {}), image.get("begun", {}))
    kernel.scheduler.restore(last.get("numbers", 0), now)
    for incarnation in kernel.scheduler.leases.incarnations():
        if kernel.supervisor.of_incarnation(incarnation) is None:
            kernel.reports.abandon(incarnation, _end_of(kernel, incarnation), now)


def _end_of(kernel: Kernel, incarnation: int) -> str:
    """Why a process with work in hand is not there any more."""
    held = [lease for lease in kernel.scheduler.leases.of_incarnation(incarnation) if isinstance(lease, Lease)]
    if gone := kernel.supervisor.without_manifest(lease.part.component for lease in held):
        return gone
    return "its plugin ended while the daemon was away"


def begin(kernel: Kernel, now: float) -> None:
    """Start what is to run, and go on with the jobs."""
    for job in list(kernel.jobs.active.values()):
        made = [job.artifacts, *job.batches.made.values()]
        if lost := sorted({kind for level in made for kind, sha in level.items() if not kernel.blobs.has(sha)}):
            text = f"the store has lost {', '.join(f'`{kind}`' for kind in lost)}: submit the job again"
            kernel.scheduler.end(job, JobState.FAILED, now, "no_such_artifact", text)
    kernel.supervisor.start_all(now)  # upon which the scheduler finds the way of every job
    kernel.collector.begin(now)
    start, jobs, plugins = kernel.start, len(kernel.jobs.active), sorted(kernel.supervisor.components)
    kernel.log("started", version=start.version, boot=start.boot, jobs=jobs, plugins=plugins)


def image_of(kernel: Kernel) -> Image:
    """What the journal has, found from what is here: equal to the fold of all records."""
    counters = {"jobs": kernel.jobs.last, "numbers": kernel.scheduler.leases.last}
    processes = kernel.supervisor.image()
    return {
        **processes,
        "kernel": {
            **processes["kernel"],
            **{name: {"last": last} for name, last in counters.items() if last},
            "boot": {"last": kernel.start.boot, "times": kernel.jobs.boots},
        },
        "job": {name: body_of(job) for name, job in kernel.jobs.active.items()},
        "history": {n: {"document": j.document, "owner": j.owner} for n, j in kernel.jobs.history.items()},
        **kernel.requests.image(),
    }


def on_away(kernel: Kernel, event: Away, now: float) -> None:
    """The daemon was frozen, or busy with one thing: whoever is silent or owes something has its time anew."""
    kernel.log("was held up, or frozen", seconds=round(event.seconds, 1))
    kernel.liveness.away(event.seconds, now)
    kernel.scheduler.works.renew_all(now)


def fence(kernel: Kernel, evidence: str, now: float) -> None:
    """Something knows more than the journal does: end all processes and give out nothing until somebody accepts the loss."""
    if kernel.rolled_back:
        return
    kernel.rolled_back = f"journal rolled back: {evidence}"
    kernel.log("everything is fenced until `qcosctl doctor --accept`", reason=kernel.rolled_back)
    kernel.supervisor.suspend(now)


def accept(kernel: Kernel, now: float) -> None:
    """The loss is accepted: go on with what there is. No number is used again that may have been used before."""
    if not kernel.rolled_back:
        return
    kernel.log("the loss of records was accepted", reason=kernel.rolled_back)
    kernel.rolled_back = ""
    leases, jobs, supervisor = kernel.scheduler.leases, kernel.jobs, kernel.supervisor
    leases.last, jobs.last, supervisor.last = leases.last + LEAP, jobs.last + LEAP, supervisor.last + LEAP
    counters = {"numbers": leases.last, "jobs": jobs.last, "incarnations": supervisor.last}
    kernel.outbox.append(RecordType.ROLLBACK_ACCEPTED, now, counters=counters)
    for work in [work for job in jobs.active.values() for work in job.works.values()]:
        kernel.scheduler.works.give_back(work, "later attempts may have been lost", now, over=True)
    begin(kernel, now)
