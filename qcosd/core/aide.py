# SPDX-License-Identifier: Apache-2.0
"""A further part of a running batch: it helps a part of a work item, and is never needed.

It is a work item of its own, with numbers, a grant, epochs and deaths, that belongs to its host and goes with it. So nothing that
is said of the host's own parts (which are missing, whether it is orphaned, who has died over it) knows of aides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qcosd.core.work import Lease, Work

if TYPE_CHECKING:
    from qcosd.core.job import Job

MOST_FAILURES = 3  # of one place in one batch; then it stays empty
SHADOW = 1 << 16  # the place of who looks on, beyond those of workers


@dataclass(eq=False, slots=True, kw_only=True)
class Aide(Work):
    """One place among the aides of a part of a work item. What was said of ``Work`` about the journal holds here too: it changes
    by ``lent``, ``returned`` and ``part_ended``, and by nothing else."""

    host: Work
    index: int  # of the part of the host that is helped
    number: int  # its place among those that help that part
    finished: bool = (
        False  # it has ended well: there is nothing more to do for it, as long as the host goes on as it is
    )

    @property
    def helps(self) -> bool:
        """Whether it is the part of an aide, and never needed."""
        return True

    @property
    def barred(self) -> bool:
        """Whether its place stays empty. Who looks on must have seen the beginning."""
        return self.finished or self.deaths >= MOST_FAILURES or self.looks_on

    @property
    def looks_on(self) -> bool:
        """Whether it only looks on."""
        return self.number == SHADOW


def lent(job: Job, body: dict[str, Any], at: float) -> None:
    """Somebody is to help: an aide has its next attempt."""
    host, step = job.works[body["batch"], body["op"]], job.steps[body["step"]]
    index, number = body["index"], body["place"]
    aide = host.aides.get((index, number))
    if aide is None:
        aide = host.aides[index, number] = Aide(
            job=job, step=step, batch=host.batch, host=host, index=index, number=number
        )
    aide.step, aide.numbers, aide.grant, aide.epoch = step, tuple(body["numbers"]), body["grant"], body["epoch"]
    aide.incarnations = (body["incarnation"],)
    aide.live = [Lease(aide.numbers[0], aide.epoch, aide, 0, body["incarnation"])]


def returned(job: Job, body: dict[str, Any], at: float) -> None:
    """An aide has ended, well (``finished``) or not (``failed``), or is taken back."""
    aide = job.works[body["batch"], body["op"]].aides[body["index"], body["place"]]
    aide.live.clear()
    aide.deaths += body.get("failed", False)
    aide.finished = body.get("finished", False)


def part_ended(host: Work) -> None:
    """Parts of a work item have ended or were taken back: nobody helps those any more."""
    at_work = {lease.index for lease in host.live}
    for aide in host.aides.values():
        if aide.index not in at_work:
            aide.live.clear()
            aide.finished = False
