# SPDX-License-Identifier: Apache-2.0
"""Which job comes first. Ten thousand may wait: they are kept in order, by what they need, and looked at only as far as it is free."""

from __future__ import annotations

import heapq
import math
from bisect import insort
from collections.abc import Callable, Iterator
from typing import NamedTuple

from qcosd.core.job import Job

Needs = frozenset[frozenset[tuple[str, int]]]  # any of these loads, component and leases, would let a job go on
FRESH = 1.0  # seconds for which an order counts: little against the period of ageing


class Rank(NamedTuple):
    """Place of a job in the order, the lowest first: the effective priority, then the earliest deadline, then the number."""

    priority: int  # negative
    deadline: float
    number: int


class Urgency:
    """Active jobs that wait for components."""

    def __init__(self, ageing_period: float) -> None:
        self._period = ageing_period
        self._needs: dict[str, Needs] = {}  # id -> what it waits for
        self._jobs: dict[Needs, dict[str, Job]] = {}
        self._order: dict[Needs, list[tuple[Rank, str]]] = {}  # with entries of jobs that have left
        self._ceiling = -math.inf  # one above the highest class that waits
        self._made = -math.inf

    def put(self, job: Job, needs: Needs, now: float) -> None:
        """A job waits for any of these components; none: for nothing."""
        if self._needs.get(job.id, frozenset()) == needs:
            return
        self.discard(job)
        if not needs:
            return
        self._needs[job.id] = needs
        self._jobs.setdefault(needs, {})[job.id] = job
        if job.terms.priority >= self._ceiling:  # others may rise higher now
            self._ceiling, self._made = job.terms.priority + 1, -math.inf
        insort(self._order.setdefault(needs, []), (self._rank(job, now), job.id))

    def discard(self, job: Job) -> None:
        """A job waits for nothing any more."""
        needs = self._needs.pop(job.id, None)
        if needs is not None:
            del self._jobs[needs][job.id]
            if not self._jobs[needs]:
                del self._jobs[needs], self._order[needs]

    def reorder(self) -> None:
        """A job has begun to wait anew: no order made before counts."""
        self._made = -math.inf

    def first(self, free: Callable[[Needs], bool], now: float) -> Iterator[Job]:
        """Jobs by urgency, of those that wait for something that is ``free``. It is asked again after each job."""
        if now - self._made >= FRESH:
            self._refresh(now)
        queues = {needs: iter(order) for needs, order in self._order.items() if free(needs)}
        heads = [(*head, needs) for needs, queue in queues.items() if (head := next(queue, None))]
        heapq.heapify(heads)
        while heads:
            _, id, needs = heads[0]
            if not free(needs):
                heapq.heappop(heads)
                continue
            if (job := self._jobs.get(needs, {}).get(id)) is not None:
                yield job
            if (head := next(queues[needs], None)) is not None:
                heapq.heapreplace(heads, (*head, needs))
            else:
                heapq.heappop(heads)

    def _refresh(self, now: float) -> None:
        self._made = now
        everybody = [job for jobs in self._jobs.values() for job in jobs.values()]
        self._ceiling = max((job.terms.priority for job in everybody), default=0) + 1
        for needs, jobs in self._jobs.items():
            self._order[needs] = sorted((self._rank(job, now), id) for id, job in jobs.items())

    def _rank(self, job: Job, now: float) -> Rank:
        """Each ageing period of waiting counts one, up to the ceiling."""
        aged = job.terms.priority + math.floor((now - job.waiting_since) / self._period)
        deadline = math.inf if job.terms.deadline is None else job.submitted + job.terms.deadline
        return Rank(int(-min(aged, self._ceiling)), deadline, job.number)
