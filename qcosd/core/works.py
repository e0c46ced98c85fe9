# SPDX-License-Identifier: Apache-2.0
"""What becomes of the leases of work items: given out, ended, taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qcosd.core.aide import part_ended
from qcosd.core.alarms import Alarms
from qcosd.core.demand import Step
from qcosd.core.events import Address, Channel
from qcosd.core.job import Job
from qcosd.core.jobs import Jobs
from qcosd.core.leases import Leases, Stranger
from qcosd.core.outbox import Outbox
from qcosd.core.records import RecordType
from qcosd.core.work import Lease, Work
from qcosd.protocol import Type

PREEMPT_GRACE = 1.0  # seconds from REVOKE to SIGKILL for whoever is preempted
MOMENT = 2.0  # seconds for aides to end by themselves once what they help with is done


class Works:
    """Changes of work items: each is a record, and what it means for leases and plugins. ``where``: address of an incarnation, if it
    is connected."""

    def __init__(
        self, outbox: Outbox, alarms: Alarms, jobs: Jobs, where: Callable[[int], Address | None], grace: float
    ) -> None:
        self._outbox = outbox
        self._alarms = alarms
        self._jobs = jobs
        self._where = where
        self._grace = grace  # seconds from REVOKE to SIGKILL
        self.silenced = False  # what plugins are told does not reach them: the journal cannot be written
        self.leases = Leases()

    def idle(self, job: Job, step: Step, batch: int | None, now: float) -> Work | None:
        """The work item of a step, if it has parts that nobody has in hand."""
        work = job.works.get((batch, step.name))
        if work is None:
            return Work(job, step, batch)
        if work.delivered or work.not_before > now or (work.live and not work.orphaned):
            return None
        if not work.live and work.step != step:  # another provider begins from nothing
            self.give_back(work, "somebody else takes over", now, over=True)
            return Work(job, step, batch)
        return work

    def start(self, work: Work, incarnations: dict[int, int], now: float) -> list[Lease]:
        """The next attempt on a work item begins. ``incarnations``: part -> who gets it. The new leases."""
        job, step = work.job, work.step
        place = self._jobs.place(job, step, now)
        if len(work.numbers) != len(step.parts):
            work.numbers = tuple(self.leases.number() for _ in step.parts)
        grant = work.grant or self.leases.number()
        who = [
            incarnations.get(i, work.incarnations[i] if i < len(work.incarnations) else 0)
            for i in range(len(step.parts))
        ]
        kept = {lease.index for lease in work.live}
        body = {
            "step": place, "batch": work.batch, "numbers": list(work.numbers), "grant": grant, "epoch": work.epoch + 1,
            "parts": sorted(incarnations), "incarnations": who,
        }  # fmt: skip
        job.works.setdefault(work.name, work)
        self._jobs.record(job, RecordType.LEASE, now, **body)
        work.deferred = False
        fresh = [lease for lease in work.live if lease.index not in kept]
        for lease in fresh:
            self.leases.add(lease)
            self.watch(lease, now)
        return fresh

    def watch(self, lease: Lease, now: float) -> None:
        """The budget of a lease begins."""
        lease.since = now
        self._alarms.set(("lease", lease), now + lease.part.operation.budget)

    def renew(self, lease: Lease | Stranger, now: float) -> None:
        """Nobody could have kept the deadline of a lease: it has its time anew."""
        in_force = isinstance(lease, Lease) and not lease.revoked and not _released(lease)
        seconds = lease.part.operation.budget if isinstance(lease, Lease) and in_force else self._grace
        self._alarms.set(("lease", lease), now + seconds)

    def renew_all(self, now: float) -> None:
        """As ``renew``, for all of them: the daemon was held up."""
        for incarnation in self.leases.incarnations():
            for lease in self.leases.of_incarnation(incarnation):
                self.renew(lease, now)

    def silence(self, on: bool, now: float) -> None:
        """What plugins are told does not reach them from now on, or does again."""
        self.silenced = on
        self.renew_all(now)

    def settle(self, lease: Lease, now: float, *, well: bool = False) -> None:
        """A lease has ended by its own plugin. ``well``: who helped may come to an end too. Of an aide the rest is for ``Aides``."""
        self._free(lease, settled=True)
        work = lease.work
        if lease in work.live and not work.helps:
            self._release(work, {other.index for other in work.live if other is not lease}, now, well=well)
            self._jobs.record(
                work.job, RecordType.LEASE_END, now, batch=work.batch, op=work.step.name, lease=lease.number, epoch=lease.epoch
            )  # fmt: skip

    def free(self, lease: Lease | Stranger) -> None:
        """A lease occupies its plugin no more, without having been settled."""
        self._free(lease, settled=False)

    def give_back(
        self, work: Work, reason: str, now: float, *, parts: tuple[int, ...] | None = None, **why: Any
    ) -> None:
        """Take back leases of a work item, all unless ``parts`` says which. Those that live are revoked. ``why``: see ``Job.apply``."""
        taken = [lease for lease in work.live if parts is None or lease.index in parts]
        grace = PREEMPT_GRACE if why.get("preempted") else self._grace
        for lease in taken:
            self._revoke(lease, reason, now, grace)
        self._release(work, {lease.index for lease in work.live if lease not in taken}, now)
        body = {"batch": work.batch, "op": work.step.name, "parts": [lease.index for lease in taken], "reason": reason}
        self._jobs.record(work.job, RecordType.WORK_BACK, now, **body, **why)
        if why.get("over"):
            self._alarms.clear(("retry", work))

    def revoke_all(self, works: list[Work], reason: str, now: float) -> None:
        """Revoke leases of work that is about to be forgotten by another record."""
        for work in works:
            self._alarms.clear(("retry", work))
            work.deferred = False
            for lease in work.leases:
                self._revoke(lease, reason, now, self._grace)

    def end(self, job: Job, reason: str, now: float) -> None:
        """A job has ended. Who still sends what nobody needs may come to its end."""
        self.revoke_all([work for work in job.works.values() if not work.delivered], reason, now)
        for work in job.works.values():
            self._release(work, set(), now, well=work.delivered)
            work.live.clear()
            part_ended(work)
        job.works.clear()

    def expel(self, number: int, epoch: int, incarnation: int, reason: str, now: float) -> None:
        """Revoke what a plugin holds and the kernel does not know."""
        stranger = Stranger(number, epoch, incarnation)
        self.leases.add(stranger)
        self._tell_revoked(stranger, reason)
        self._alarms.set(("lease", stranger), now + self._grace)

    def revoke(self, lease: Lease, reason: str, now: float) -> None:
        """Take back a lease that no work item counts on, or that of an aide."""
        self._revoke(lease, reason, now, self._grace)

    def remind(self, lease: Lease | Stranger, reason: str) -> None:
        """Send REVOKE again to a plugin that may not have got it."""
        self._tell_revoked(lease, reason)

    def _release(self, work: Work, parts: set[int], now: float, *, well: bool = False) -> None:
        """Only these parts of a work item are at work from now on: who helps the others has nothing more to do. The next record
        says so."""
        for lease in [lease for aide in work.aides.values() if aide.index not in parts for lease in aide.live]:
            if well:
                self._alarms.set(("lease", lease), now + MOMENT)
            else:
                self._revoke(lease, "what it helped with is over", now, self._grace)

    def _free(self, lease: Lease | Stranger, *, settled: bool) -> None:
        self._alarms.clear(("lease", lease))
        self.leases.remove(lease, settled=settled)

    def _revoke(self, lease: Lease, reason: str, now: float, grace: float) -> None:
        """The lease occupies its plugin until that has given it up. One whose plugin has died is free already."""
        if self.leases.get(lease.number, lease.epoch, lease.incarnation) is None:
            return
        lease.revoked = True
        self._alarms.set(("lease", lease), now + grace)
        self._tell_revoked(lease, reason)

    def _tell_revoked(self, lease: Lease | Stranger, reason: str) -> None:
        if (address := self._where(lease.incarnation)) is not None:
            body = {"lease": lease.number, "epoch": lease.epoch, "reason": reason}
            self._outbox.send(Channel.PLUGINS, address, Type.REVOKE, body)


def _released(lease: Lease) -> bool:
    return lease.work.helps and lease not in lease.work.live  # its host does not need it any more
