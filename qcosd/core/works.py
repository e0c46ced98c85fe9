# SPDX-License-Identifier: Apache-2.0
"""All work items of all jobs that are not over, and what becomes of their leases."""

from __future__ import annotations

from collections.abc import Callable

from qcosd.core.alarms import Alarms
from qcosd.core.demand import Step
from qcosd.core.events import Channel
from qcosd.core.jobs import Job
from qcosd.core.leases import Lease, Leases, Work
from qcosd.core.outbox import Outbox
from qcosd.protocol import Type


class Works:
    """Work by job, and by batch and step within it."""

    def __init__(self, outbox: Outbox, alarms: Alarms, grace: float) -> None:
        self._outbox = outbox
        self._alarms = alarms
        self._grace = grace  # seconds from REVOKE to SIGKILL
        self._works: dict[Job, dict[tuple[int | None, str], Work]] = {}
        self.leases = Leases()

    def of(self, job: Job) -> list[Work]:
        """Work of a job that was started and is not over."""
        return list(self._works.get(job, {}).values())

    def idle(self, job: Job, step: Step, batch: int | None, now: float) -> Work | None:
        """The work item of a step, if nobody has it in hand."""
        work = self._works.get(job, {}).get((batch, step.name))
        if work is None:
            return Work(job, step, batch, tuple(self.leases.number() for _ in step.parts), self.leases.number())
        if work.live or work.delivered or work.not_before > now:
            return None
        if len(work.numbers) != len(step.parts):  # another provider took over, with or without a stream
            work.numbers = tuple(self.leases.number() for _ in step.parts)
        work.step = step
        return work

    def start(self, work: Work) -> None:
        """The next attempt on a work item begins."""
        self._works.setdefault(work.job, {})[work.name] = work
        work.epoch, work.deferred = work.epoch + 1, False

    def settle(self, lease: Lease) -> None:
        """A lease has ended by its own plugin."""
        self._alarms.clear(("lease", lease))
        if lease in lease.work.live:
            lease.work.live.remove(lease)
        self.leases.remove(lease, settled=True)

    def free(self, lease: Lease) -> None:
        """A lease occupies its plugin no more, without having been settled."""
        self._alarms.clear(("lease", lease))
        self.leases.remove(lease, settled=False)

    def revoke(self, work: Work, reason: str, now: float) -> None:
        """Take back all leases of a work item. They occupy their plugins until those have given them up."""
        for lease in work.live:
            lease.revoked = True
            self._alarms.set(("lease", lease), now + self._grace)
            body = {"lease": lease.number, "epoch": lease.epoch, "reason": reason}
            self._outbox.send(Channel.PLUGINS, lease.address, Type.REVOKE, body)
        work.live.clear()

    def retire(self, work: Work) -> None:
        """Forget a work item of which nothing is left to do."""
        if work.delivered and not work.live:
            self._forget(work)

    def take_back(self, job: Job, condition: Callable[[Work], bool], reason: str, now: float) -> set[int]:
        """Give up and forget work of a job, what has delivered included. Batches that somebody had in hand undelivered."""
        batches: set[int] = set()
        for work in filter(condition, self.of(job)):
            if work.live and work.batch is not None and not work.delivered and not work.step.checks:
                batches.add(work.batch)
            self.revoke(work, reason, now)
            self._forget(work)
        return batches

    def end(self, job: Job, reason: str, now: float) -> None:
        """A job has ended. Who still sends what nobody needs may come to its end."""
        for work in self.of(job):
            if not work.delivered:
                self.revoke(work, reason, now)
            self._forget(work)

    def _forget(self, work: Work) -> None:
        work.deferred = False
        self._alarms.clear(("retry", work))
        works = self._works.get(work.job, {})
        if works.get(work.name) is work:
            del works[work.name]
            if not works:
                del self._works[work.job]
