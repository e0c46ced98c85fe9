# SPDX-License-Identifier: Apache-2.0
"""The next batch is leased to those who have the present one in hand, so that they begin without waiting for the kernel.

Only where every part of the step says that it takes leases ahead (``ahead`` in its manifest), where no other job would be given the
same components next, and in increasing order of batches: producer and consumer begin with the same one, also when either is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator

from qcosd.core.components import Instance
from qcosd.core.job import JobState
from qcosd.core.supervisor import Supervisor
from qcosd.core.urgency import Urgency
from qcosd.core.work import Lease, Work
from qcosd.core.works import Works


class Ahead:
    """What can be leased ahead."""

    def __init__(self, works: Works, supervisor: Supervisor, urgency: Urgency) -> None:
        self._works = works
        self._supervisor = supervisor
        self._urgency = urgency

    def found(self, now: float) -> Iterator[tuple[Work, dict[int, Instance]]]:
        """Work that has not begun, and who is to have each part: those who have all of the batch before, and nothing else."""
        leases = self._works.leases
        for incarnation in leases.incarnations():
            held = leases.of_incarnation(incarnation)
            if len(held) == 1 and isinstance(held[0], Lease) and self._is_followed(held[0].work, held[0]):
                before = held[0].work
                after = self._after(before, now)
                who = {lease.index: self._supervisor.of_incarnation(lease.incarnation) for lease in before.live}
                active = {index: each for index, each in who.items() if each is not None and self._is_active(each)}
                if after is not None and len(active) == len(before.step.parts) == len(set(active.values())):
                    yield after, active

    def _is_followed(self, work: Work, lease: Lease) -> bool:
        """Whether a batch is in hand whose successor may be leased, looked at from the part that delivers."""
        parts = work.step.parts
        in_hand = lease.delivers and not work.helps and not work.delivered and len(work.live) == len(parts) > 1
        return (
            in_hand
            and all(part.operation.ahead for part in parts)
            and all(not each.revoked and self._works.leases.load(each.incarnation) == 1 for each in work.live)
        )

    def _after(self, work: Work, now: float) -> Work | None:
        """The next batch of the same step, if its job is the one that would be given it."""
        job, step = work.job, work.step
        if work.batch is None or job.state is not JobState.RUNNING or step not in job.frontier or job.pending.get(None):
            return None
        wanted = step.load.keys()
        first = self._urgency.first(lambda needs: any(name in wanted for load in needs for name, _ in load), now)
        if next(first, None) is not job:
            return None
        for batch in job.batches.unfinished():
            due = step.consumes <= job.usable(batch) and not step.produces <= job.has(batch).keys()
            if due and (after := self._works.idle(job, step, batch, now)):
                return after if batch > work.batch and not after.live else None
        return None

    def _is_active(self, instance: Instance) -> bool:
        return instance in self._supervisor.active(instance.component.name)
