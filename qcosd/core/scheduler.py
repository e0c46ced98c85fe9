# SPDX-License-Identifier: Apache-2.0
"""Who does what, when: work that is ready goes to components that are free, as leases with epochs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

from qcosd.core.alarms import Alarms
from qcosd.core.blame import Verdict, verdict
from qcosd.core.blobs import Blobs
from qcosd.core.checks import Checks
from qcosd.core.components import Instance
from qcosd.core.demand import Provider
from qcosd.core.entropy import Entropy
from qcosd.core.events import Channel, Limits
from qcosd.core.jobs import ENDED, Fence, Job, Jobs, JobState
from qcosd.core.leases import Lease, Work
from qcosd.core.outbox import Outbox
from qcosd.core.planner import Planner
from qcosd.core.provenance import Guilty, Source
from qcosd.core.records import RecordType
from qcosd.core.requests import Refused
from qcosd.core.results import SummaryError
from qcosd.core.supervisor import Supervisor
from qcosd.core.terms import MAX_BATCHES
from qcosd.core.works import Works
from qcosd.protocol import Type, error_table

DEFERRALS = 20  # `retry_later` in a row that a work item may get
DEFER_FIRST, DEFER_MAX = 0.1, 8.0  # seconds until it is tried again: doubling


class Scheduler:
    """Ready work and the leases in hand."""

    def __init__(
        self, outbox: Outbox, alarms: Alarms, entropy: Entropy, jobs: Jobs, supervisor: Supervisor, blobs: Blobs, limits: Limits, streams: str
    ) -> None:  # fmt: skip
        self._outbox = outbox
        self._alarms = alarms
        self._entropy = entropy
        self._jobs = jobs
        self._supervisor = supervisor
        self._blobs = blobs
        self._limits = limits
        self._streams = streams
        self._planner = Planner(supervisor)
        self._checks = Checks(supervisor)
        self._works = Works(outbox, alarms, limits.revoke_grace)
        self._stirred = True  # whether there may be work that could start since the last ``fill``
        self.leases = self._works.leases

    # Giving work out

    def fill(self, now: float) -> None:
        """Give ready work to free components, the most urgent job first."""
        if self._planner.outdated():
            for job in list(self._jobs.active.values()):
                self.replan(job, now)
        free = self._free() if self._stirred else Counter()
        self._stirred = False
        if not free:
            return
        for job in self._by_urgency(now):
            if any(step.load <= free for step in chain(job.frontier, *job.pending.values())):
                self._give(job, free, now)

    def stir(self) -> None:
        """Something outside has changed that may let work start."""
        self._stirred = True

    def _give(self, job: Job, free: Counter[str], now: float) -> None:
        """Give ready work of a job to components that are free; take what it needs off their slots."""
        for work in self._ready(job, now):
            if work.step.load <= free:
                free -= work.step.load
                self._issue(work, now)
            elif work.batch is not None and not work.step.checks:
                return  # the other batches need the same components

    def replan(self, job: Job, now: float) -> None:
        """Find the way to the job's target anew; complete, hold or release the job accordingly."""
        if job.state in ENDED:
            return
        self._stirred = True
        plan, replaced = self._planner.plan(job)
        job.plan, job.frontier = plan, []
        self._checks.look(job)
        if job.batches.complete:
            job.top_up()
        if job.complete:
            self._end(job, JobState.DONE, now)
        elif plan.cause and (job.fences or job.terms.use) and self._planner.hopeless(job):
            self._give_up(job, plan.cause, now)
        elif plan.cause:
            self._jobs.enter(job, JobState.HELD, now, plan.cause)
        elif replaced:
            self._forget(job, lambda part: (part.component, part.operation.service) in replaced, now)
            self.replan(job, now)
        else:
            self._advance(job, now)

    def _advance(self, job: Job, now: float) -> None:
        """Find what a job can start now: batches once nothing is left to do for the whole job."""
        whole = [step for step in job.plan.steps if not step.per_batch]
        size = job.batch_size()
        if len(whole) < len(job.plan.steps) and job.running is None:
            if job.terms.shots > size * MAX_BATCHES:
                text = f"{job.terms.shots} shots make more than {MAX_BATCHES} batches of {size}, the most that fit"
                self._end(job, JobState.FAILED, now, {**error_table("unsupported", text), "chain": []})
                return
            job.batches.cut(job.terms.shots, size)
        if whole or job.pending.get(None):
            usable = job.usable(None)
            job.frontier = [step for step in whole if step.consumes <= usable]
        else:
            job.frontier = list(job.plan.steps)
        waiting = JobState.QUEUED if job.booted is None else JobState.BOOTING
        self._jobs.enter(job, waiting if job.running is None else JobState.RUNNING, now)

    def _free(self) -> Counter[str]:
        """Component -> leases that it can take now."""
        names = self._supervisor.components
        return +Counter({name: sum(map(self.leases.room, self._supervisor.active(name))) for name in names})

    def _by_urgency(self, now: float) -> list[Job]:
        """Jobs by effective priority: each ageing period of waiting counts one, up to one above the highest class; then the earliest deadline."""
        jobs = [job for job in self._jobs.active.values() if job.state is not JobState.HELD]
        ceiling = max((job.terms.priority for job in jobs), default=0) + 1

        def urgency(job: Job) -> tuple[int, float, int]:
            aged = job.terms.priority + math.floor((now - job.waiting_since) / self._limits.ageing_period)
            deadline = math.inf if job.terms.deadline is None else job.submitted + job.terms.deadline
            return -min(aged, ceiling), deadline, job.number

        return sorted(jobs, key=urgency)

    def _ready(self, job: Job, now: float) -> Iterator[Work]:
        """Work of a job that could start now. Batches are looked at only as far as somebody takes them."""
        for batch, checks in job.pending.items():
            for step in checks:
                if step.consumes <= job.has(batch).keys() and (work := self._works.idle(job, step, batch, now)):
                    yield work
        steps = [step for step in job.frontier if step.per_batch]
        for step in job.frontier:
            if not step.per_batch and (work := self._works.idle(job, step, None, now)):
                yield work
        for batch in job.batches.unfinished() if steps else ():
            has, usable = job.has(batch).keys(), job.usable(batch)
            for step in steps:
                due = step.consumes <= usable and not step.produces <= has
                if due and (work := self._works.idle(job, step, batch, now)):
                    yield work

    def _issue(self, work: Work, now: float) -> None:
        """Lease all parts of a work item at once."""
        job = work.job
        self._works.start(work)
        taken: list[Instance] = []
        for part in work.step.parts:
            active = self._supervisor.active(part.component)
            taken.append(max(active, key=lambda instance: self.leases.room(instance) - taken.count(instance)))
        work.incarnations = tuple(instance.incarnation for instance in taken)
        job.waiting_since = now
        job.stage = work.step.name
        job.booted = now if job.booted is None else job.booted
        if work.batch is not None and job.running is None:
            job.running = now
        secret = self._entropy.secret() if len(work.step.parts) > 1 else ""
        for number, part, instance in zip(work.numbers, work.step.parts, taken, strict=True):
            self._choose(job, part)
            assert instance.address is not None, f"{instance.name} is ready"
            lease = Lease(number, work.epoch, work, part, instance.incarnation, instance.address, now)
            self.leases.add(lease)
            work.live.append(lease)
            after = self._outbox.append(
                RecordType.LEASE, now, lease=number, epoch=work.epoch, job=job.id, step=work.step.name, batch=work.batch, incarnation=lease.incarnation
            )  # fmt: skip
            self._alarms.set(("lease", lease), now + part.operation.budget)
            body = lease.body(self._streams, secret, self._blobs.size)
            self._outbox.send(Channel.PLUGINS, lease.address, Type.LEASE, body, after=after)
        self._jobs.enter(job, JobState.BOOTING if job.running is None else JobState.RUNNING, now)
        self._jobs.publish(job)

    def _choose(self, job: Job, part: Provider) -> None:
        """Keep to the component once chosen; note it where another one had to take over."""
        before = job.chosen.get(part.operation.name)
        if before is not None and before != part.component:
            fence = job.fences.get(before)
            why = f": {fence.reason}" if fence else ""
            job.degraded.append(f"{part.operation.name}: {part.component} took over from {before}{why}")
        job.chosen[part.operation.name] = part.component

    # Taking it back

    def progress(self, number: int, epoch: int, incarnation: int, fraction: float, text: str) -> None:
        """A plugin tells how far it is. Raises Refused(late)."""
        lease = self._current(number, epoch, incarnation)
        work, job = lease.work, lease.work.job
        if not lease.delivers or work.delivered:
            return
        lease.fraction = fraction
        job.stage = f"{work.step.name}: {text}" if text else work.step.name
        self._measure(job)
        self._jobs.publish(job)

    def done(self, number: int, epoch: int, incarnation: int, outputs: dict[str, str], facts: dict[str, Any], summary: dict[str, Any] | None, now: float) -> int:  # fmt: skip
        """A plugin has done its part. The journal position to wait for before it is acknowledged. Raises Refused."""
        if self.leases.was_settled(number, epoch, incarnation):
            return self._outbox.position
        lease = self._current(number, epoch, incarnation)
        work, job = lease.work, lease.work.job
        source = Source(work.step, work.incarnations, summary if job.batches.is_sample(work.batch) else None)
        try:
            lease.check(outputs, self._blobs.has)
            after = 0
            if lease.delivers:
                merged = None if work.step.checks else summary
                after = self._jobs.deliver(job, work.batch, source, outputs, facts, merged, now)
            elif facts and not work.delivered:
                after = self._jobs.note(job, work.batch, lease.part.operation.name, facts, now)
        except (Refused, SummaryError) as breach:
            self._settle(lease)
            self._judge(lease, error_table("wrong_output", str(breach)), now)
            raise Refused("wrong_output", str(breach)) from None
        self._settle(lease)
        if lease.delivers:
            work.delivered = True
            if work.step.checks:
                self._checks.passed(job, work.batch, work.step)
            self.replan(job, now)
            self._measure(job)
            self._jobs.publish(job, after)
        self._works.retire(work)
        return after

    def failed(self, number: int, epoch: int, incarnation: int, error: dict[str, Any], now: float) -> None:
        """A plugin cannot do its part. Raises Refused(late)."""
        if self.leases.was_settled(number, epoch, incarnation):
            return
        lease = self._current(number, epoch, incarnation, failing=error["name"] != "retry_later")
        work = lease.work
        self._settle(lease)
        if work.delivered:
            self._works.retire(work)
        elif error["name"] in ("wrong_input", "wrong_output") or lease.cut_short(error):
            self._judge(lease, error, now)
        elif error["name"] == "retry_later" and work.deferrals < DEFERRALS:
            self._count_again(work)
            work.deferrals, work.deferred = work.deferrals + 1, True
            work.not_before = now + min(DEFER_MAX, DEFER_FIRST * 2.0 ** (work.deferrals - 1))
            self._alarms.set(("retry", work), work.not_before)
            self._works.revoke(work, "the other side of the stream is deferred", now)
        else:
            self._fail(work, error, now, lease.place)

    def revoked(self, number: int, epoch: int, incarnation: int) -> None:
        """A plugin has given a revoked lease up."""
        lease = self.leases.get(number, epoch, incarnation)
        if lease is not None and lease.revoked:
            self._works.free(lease)
            self._stirred = True

    def expire(self, lease: Lease, now: float) -> Instance | None:
        """The alarm of a lease. The instance to be killed, where it has not given up a revoked lease in time."""
        if lease.revoked:
            return self._supervisor.of_incarnation(lease.incarnation)
        if lease.work.delivered:
            self._works.revoke(lease.work, "the result is here", now)
            self._works.retire(lease.work)
        else:
            budget = lease.part.operation.budget
            text = f"{lease.part.operation.name} did not end within {budget:g} s"
            self._fail(lease.work, error_table("budget", text), now, lease.place)
        return None

    def lost(self, instance: Instance, reason: str, now: float) -> bool:
        """A plugin has died: its leases go back. Whether it had any in hand, which then pay for the death."""
        held = self.leases.of_incarnation(instance.incarnation)
        # Else it ended because it was told to, or for what it delivered to some job.
        blamed = instance.wanted and not instance.reborn and not instance.guilty
        in_force = [lease for lease in held if not lease.revoked]
        for lease in held:
            self._works.free(lease)
        for lease in in_force:
            lease.work.live.remove(lease)
        for work in dict.fromkeys(lease.work for lease in in_force):
            if work.delivered:
                self._works.retire(work)
            elif work.job.state not in ENDED:
                self._lose(work, instance, reason, blamed, now)
        return bool(held)

    def _lose(self, work: Work, instance: Instance, reason: str, blamed: bool, now: float) -> None:
        """A plugin has died over a work item: give it out again, or call it poison."""
        work.job.restarts += 1
        self._count_again(work)
        work.deaths += blamed
        if work.deaths >= self._limits.attempts:
            often = f"{work.place} killed its plugin {work.deaths} times in a row"
            text = f"{often}; the last time {instance.name}: {reason}"
            self._fail(work, error_table("poison", text, {"log": list(instance.component.log)}), now)
        else:
            self._works.revoke(work, f"{instance.name} died", now)

    def end(self, job: Job, state: JobState, now: float, name: str, text: str = "") -> None:
        """End a job from outside: cancelled, or past its deadline."""
        self._end(job, state, now, {**error_table(name, text), "chain": []})

    def reconcile(self, instance: Instance, held: list[dict[str, Any]], now: float) -> None:
        """A plugin has connected and says which leases it holds. Nothing follows from that yet."""

    # Faults of what was delivered

    def _judge(self, lease: Lease, error: dict[str, Any], now: float) -> None:
        """Something delivered was wrong: go on without whoever did it."""
        job, found = lease.work.job, verdict(lease, error)
        if job.state in ENDED:
            return
        if found.component is None:
            table = error_table("bad_input", found.reason, error.get("details"))
            self._end(job, JobState.FAILED, now, {**table, "chain": [lease.place]})
        else:
            self._fence(job, found.component, found, lease.place, now)

    def _fence(self, job: Job, name: str, found: Verdict, place: str, now: float) -> None:
        """Keep a component away from a job, with all that it has made for it; its process ends, like that of one that crashed."""
        job.fences[name] = Fence(found.reason, place)
        self._outbox.append(RecordType.FENCE, now, job=job.id, component=name, reason=found.reason)
        instance = self._supervisor.of_incarnation(found.incarnation)
        if instance is not None and instance.wanted:
            self._supervisor.kill(instance, f"delivered something wrong: {found.reason}", now, guilty=True)
        self._forget(job, lambda part: part.component == name, now)
        self.replan(job, now)
        self._measure(job)
        self._jobs.publish(job)

    def _forget(self, job: Job, guilty: Guilty, now: float) -> None:
        """Drop what somebody has made for a job and what was made from that; take back the work that it went into."""
        before = job.batches
        lost = job.drop(guilty)
        anew = job.batches is not before

        def spoilt(work: Work) -> bool:
            whose = any(map(guilty, work.step.parts))
            return whose or bool(work.step.consumes & lost) or (anew and work.batch is not None)

        again = self._works.take_back(job, spoilt, "it is done again by somebody else", now)
        again |= before.made.keys() if anew else set()
        job.shots_restarted += sum(before.sizes[batch] for batch in again)

    def _give_up(self, job: Job, cause: str, now: float) -> None:
        """Nobody is left for a job: fail it with everyone who was found wrong, and by whom; or those whom it may use cannot do it."""
        if not job.fences:
            wanted = ", ".join(f"{service}={component}" for service, component in job.terms.use.items())
            self._end(job, JobState.FAILED, now, {**error_table("unsupported", f"use {wanted}: {cause}"), "chain": []})
            return
        text = "; ".join([*(fence.reason for fence in job.fences.values()), cause])
        details = {"fenced": {name: fence.reason for name, fence in job.fences.items()}}
        places = [fence.place for fence in job.fences.values()]
        self._end(job, JobState.FAILED, now, {**error_table("wrong_output", text, details), "chain": places})

    # Inner parts

    def _count_again(self, work: Work) -> None:
        """A batch that was started is to be started again."""
        if work.batch is not None and not work.step.checks:
            work.job.shots_restarted += work.job.shots_of(work.batch)

    def _current(self, number: int, epoch: int, incarnation: int, *, failing: bool = False) -> Lease:
        lease = self.leases.get(number, epoch, incarnation)
        if lease is None or (lease.revoked and not (failing and lease.overtaken)):
            raise Refused("late", f"lease {number} epoch {epoch} is not in force")
        return lease

    def _settle(self, lease: Lease) -> None:
        self._works.settle(lease)
        self._stirred = True

    def _fail(self, work: Work, error: dict[str, Any], now: float, place: str = "") -> None:
        """The job of a work item fails because of it, unless it goes on without; `place`: where in it, if known."""
        if work.step.checks and work.job.state not in ENDED:
            self._works.take_back(work.job, lambda other: other is work, "the job goes on without it", now)
            self._checks.waive(work.job, work.batch, work.step, f"{place or work.place}: {error['message']}")
            self.replan(work.job, now)
        elif work.job.state not in ENDED:
            place = place or f"{work.place} by {work.job.chosen.get(work.step.name, 'nobody')}"
            self._end(work.job, JobState.FAILED, now, {**error, "chain": [place]})

    def _end(self, job: Job, state: JobState, now: float, error: dict[str, Any] | None = None) -> None:
        self._works.end(job, f"the job is {state}", now)
        self._jobs.end(job, state, now, error)

    def _measure(self, job: Job) -> None:
        live = [lease for work in self._works.of(job) if not work.step.checks for lease in work.live if lease.delivers]
        job.measure(sum(lease.fraction for lease in live))
