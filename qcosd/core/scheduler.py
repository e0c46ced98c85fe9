# SPDX-License-Identifier: Apache-2.0
"""Who does what, when: work that is ready goes to components that are free, as leases with epochs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

from qcosd.core.ahead import Ahead
from qcosd.core.aides import Aides, Unsent
from qcosd.core.alarms import Alarms
from qcosd.core.blobs import Blobs
from qcosd.core.checks import Checks
from qcosd.core.components import Instance
from qcosd.core.entropy import Entropy
from qcosd.core.events import Channel, Limits
from qcosd.core.job import ENDED, Job, JobState, guilty_of
from qcosd.core.jobs import Jobs
from qcosd.core.outbox import Outbox
from qcosd.core.planner import Planner
from qcosd.core.records import RecordType
from qcosd.core.supervisor import Supervisor
from qcosd.core.terms import MAX_BATCHES
from qcosd.core.urgency import Needs, Urgency
from qcosd.core.work import Lease, Work
from qcosd.core.works import Works
from qcosd.protocol import Type, error_table

ROOM = 4  # jobs for which room is made at a time
PREEMPTIONS = 2  # of a work item; then it is left alone

Guilty = list[list[str | None]]  # pairs of component and service, or nil for all that it does


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
        self.planner = Planner(supervisor)
        self._checks = Checks(supervisor, jobs)
        self.works = Works(outbox, alarms, jobs, supervisor.address_of, limits.revoke_grace)
        self.aides = Aides(outbox, entropy, jobs, supervisor, blobs, self.works, streams)
        self._unsent: Unsent = {}
        self._urgency = Urgency(limits.ageing_period)
        self._ahead = Ahead(self.works, supervisor, self._urgency)
        self._done: Counter[str] = Counter()  # service -> work that has delivered in this boot
        self._stirred = True  # whether there may be work that could start since the last ``fill``
        self.leases = self.works.leases

    # Giving work out

    def fill(self, now: float) -> None:
        """Give ready work to free components, the most urgent job first."""
        if self.planner.outdated():
            for job in list(self._jobs.active.values()):
                self.replan(job, now)
        if not self._stirred:
            return
        self._stirred = False
        free = self._free()

        def fits(needs: Needs) -> bool:
            return any(all(free[component] >= count for component, count in load) for load in needs)

        for job in self._urgency.first(fits, now):
            self._give(job, free, now)
        for work, instances in self._ahead.found(now):  # each is issued before the next one is looked for
            self._issue(work, now, instances)
        self.aides.staff(self._unsent, now)
        self._send()
        for job in islice(self._urgency.first(lambda needs: not fits(needs), now), ROOM):
            self._make_room(job, free, now)

    def stir(self) -> None:
        """Something outside has changed that may let work start: a component is ready, a pause is over."""
        self._stirred = True

    def _give(self, job: Job, free: Counter[str], now: float) -> None:
        """Give ready work of a job to components that are free; take what it needs off their slots."""
        for work in self._ready(job, now):
            load = _load(work)
            if load <= free:
                free -= load
                self._issue(work, now)
            elif work.batch is not None and not work.step.checks:
                return  # the other batches need the same components

    def replan(self, job: Job, now: float) -> None:
        """Find the way to the job's target anew; complete, hold or release the job accordingly."""
        if job.state in ENDED:
            return
        self._stirred = True
        plan, replaced = self.planner.plan(job)
        job.plan, job.frontier = plan, []
        for work in [work for work in job.works.values() if work.orphaned and self._strays(work)]:
            self.works.give_back(work, "nobody is there to take it", now, again=True)
        self._checks.look(job, now)
        if job.batches.complete:
            self._jobs.top_up(job, now)
        if job.complete:
            self.finish(job, JobState.DONE, now)
        elif plan.cause and (job.fences or job.terms.use) and self.planner.hopeless(job):
            self._give_up(job, plan.cause, now)
        elif plan.cause:
            self._hold(job, plan.cause, now)
        elif replaced:
            self.forget(job, sorted([component, service] for component, service in replaced), now)
            self.replan(job, now)
        else:
            self._advance(job, now)

    def _hold(self, job: Job, cause: str, now: float) -> None:
        """A job waits for a component that is not there."""
        self._jobs.hold(job, cause, now)
        self._jobs.enter(job, JobState.HELD, cause)
        self._queue(job, now)

    def _advance(self, job: Job, now: float) -> None:
        """Find what a job can start now: batches once nothing is left to do for the whole job."""
        self._jobs.hold(job, "", now)
        whole = [step for step in job.plan.steps if not step.per_batch]
        size, shots = job.batch_size(), job.terms.shots
        if len(whole) < len(job.plan.steps) and job.running is None:
            if shots > size * MAX_BATCHES:
                text = f"{shots} shots make more than {MAX_BATCHES} batches of {size}, the most that fit"
                self.finish(job, JobState.FAILED, now, {**error_table("unsupported", text), "chain": []})
                return
            if job.batches.size != size:
                self._jobs.record(job, RecordType.BATCHES, now, shots=shots, size=size)
        if whole or job.pending.get(None):
            usable = job.usable(None)
            job.frontier = [step for step in whole if step.consumes <= usable]
        else:
            job.frontier = list(job.plan.steps)
        waiting = JobState.QUEUED if job.booted is None else JobState.BOOTING
        self._jobs.enter(job, waiting if job.running is None else JobState.RUNNING)
        self._queue(job, now)

    def _queue(self, job: Job, now: float) -> None:
        """Put a job where it waits for what it needs now."""
        if job.state in ENDED or job.state is JobState.HELD:
            self._urgency.discard(job)
            return
        loads = [step.load for steps in (job.frontier, *job.pending.values()) for step in steps]
        loads += [_load(work) for work in job.works.values() if work.orphaned]
        self._urgency.put(job, frozenset(frozenset(load.items()) for load in loads), now)

    def _free(self) -> Counter[str]:
        """Component -> leases that it can take now."""
        names = self._supervisor.components
        return Counter({name: sum(map(self.leases.room, self._supervisor.active(name))) for name in names})

    def _ready(self, job: Job, now: float) -> Iterator[Work]:
        """Work of a job that could start now. Batches are looked at only as far as somebody takes them, and first those whose
        producer waits for a consumer: what it occupies is what the others lack."""
        for batch, checks in job.pending.items():
            for step in checks:
                if step.consumes <= job.has(batch).keys() and (work := self.works.idle(job, step, batch, now)):
                    yield work
        steps = [step for step in job.frontier if step.per_batch]
        for step in job.frontier:
            if not step.per_batch and (work := self.works.idle(job, step, None, now)):
                yield work
        orphans = sorted(work.batch for work in job.works.values() if work.orphaned and work.batch is not None)
        for batch in chain(orphans, job.batches.unfinished()) if steps else ():
            has, usable = job.has(batch).keys(), job.usable(batch)
            for step in steps:
                due = step.consumes <= usable and not step.produces <= has
                if due and (work := self.works.idle(job, step, batch, now)):
                    yield work

    def _issue(self, work: Work, now: float, ahead: dict[int, Instance] | None = None) -> None:
        """Lease all parts of a work item that nobody has, at once. A producer that goes on is told of its new consumer. ``ahead``: who
        gets them, though he has something else in hand."""
        job = work.job
        kept = list(work.live)
        taken: dict[int, Instance] = dict(ahead or {})
        for index in work.missing if ahead is None else ():
            active = self._supervisor.active(work.step.parts[index].component)
            taken[index] = max(active, key=lambda each: self.leases.room(each) - list(taken.values()).count(each))
        job.waiting_since = now
        job.stage = work.step.name
        fresh = self.works.start(work, {index: each.incarnation for index, each in taken.items()}, now)
        secret = self._entropy.secret() if len(work.step.parts) > 1 else ""
        for lease in [*fresh, *kept]:
            address = self._supervisor.address_of(lease.incarnation)
            stream = lease.stream(self._streams, secret) if secret else None
            if lease not in kept:
                self._unsent[lease] = lease.body(stream, self._blobs.size)
                continue
            self.works.watch(lease, now)
            if address is not None:  # else it is away, and hears of it when it is back
                body = {"lease": lease.number, "epoch": lease.epoch, "stream": stream}
                self._outbox.send(Channel.PLUGINS, address, Type.GRANT, body)
        self.aides.expect(work)
        self._jobs.enter(job, JobState.BOOTING if job.running is None else JobState.RUNNING)
        self.show(job)
        self._queue(job, now)

    def _send(self) -> None:
        """Tell of the new leases, with the aides that were found for them."""
        for lease, body in self._unsent.items():
            if (address := self._supervisor.address_of(lease.incarnation)) is not None:
                self._outbox.send(Channel.PLUGINS, address, Type.LEASE, body)
        self._unsent = {}

    def _make_room(self, job: Job, free: Counter[str], now: float) -> None:
        """Something urgent does not fit: let those make way who only help, or ask for one more process, else take a lease back from
        a job of a lower class."""
        for work in self._ready(job, now):
            lacking = {name: count - free[name] for name, count in _load(work).items() if free[name] < count}
            if self.aides.make_way(lacking, now):
                return
            for component in lacking:
                if not self._supervisor.want_more(component, now):
                    self._preempt(component, job, now)
            return

    def _preempt(self, component: str, urgent: Job, now: float) -> None:
        """Take back the lease of the least urgent job below a class, if the operation may be killed and was not too often."""
        held = [
            lease
            for each in self._supervisor.active(component)
            for lease in self.leases.of_incarnation(each.incarnation)
        ]
        if any(lease.revoked for lease in held):
            return  # room is being made
        victims = [
            lease for lease in held
            if isinstance(lease, Lease) and lease.part.operation.preempt == "kill"
            and not lease.work.delivered and not lease.work.helps
            and lease.work.preemptions < PREEMPTIONS and lease.work.job.terms.priority < urgent.terms.priority
        ]  # fmt: skip
        if victims:
            least = min(victims, key=lambda lease: (lease.work.job.terms.priority, -lease.work.job.number))
            self.again(least.work, f"job {urgent.id} is more urgent", now, preempted=True)

    # Taking it back

    @staticmethod
    def _strays(work: Work) -> bool:
        """Whether the job goes another way now, or none: what waits for a consumer would keep hardware from others for ever."""
        plan = work.job.plan
        return bool(plan.cause) or (bool(plan.steps) and work.step not in plan.steps)

    def end(self, job: Job, state: JobState, now: float, name: str, text: str = "") -> None:
        """End a job from outside: cancelled, or past its deadline."""
        self.finish(job, state, now, {**error_table(name, text), "chain": []})

    def overdue(self, job: Job, now: float) -> None:
        """The deadline of a job has passed."""
        text = f"not done within {job.terms.deadline:g} s" + (f": {job.cause}" if job.cause else "")
        self.end(job, JobState.FAILED, now, "deadline", text)

    def again(self, work: Work, reason: str, now: float, *, parts: tuple[int, ...] | None = None, **why: Any) -> None:
        """Take leases of a work item back, all unless ``parts`` says which, and give it out anew when that can be. See ``Works``."""
        if parts is not None and not work.delivered and self._strays(work):
            parts = None
        whole = parts is None and work.batch is not None and not work.step.checks
        self.works.give_back(work, reason, now, parts=parts, again=whole, **why)
        if why.get("preempted"):
            work.job.waiting_since = now  # while it ran it did not wait: it must not come before who took its place
            self._urgency.reorder()
        self._stirred = True
        self._queue(work.job, now)

    def forget(self, job: Job, guilty: Guilty, now: float) -> None:
        """Drop what somebody has made for a job and what was made from that; take back the work that it went into."""
        self.works.revoke_all(job.loss(guilty_of(guilty)).works, "it is done again by somebody else", now)
        self._jobs.record(job, RecordType.DROPPED, now, guilty=guilty)

    def fail(self, work: Work, error: dict[str, Any], now: float, place: str = "") -> None:
        """The job of a work item fails because of it, unless it goes on without; `place`: where in it, if known."""
        job = work.job
        if job.state in ENDED:
            return
        if work.step.checks:
            if work.name in job.works:
                self.works.give_back(work, "the job goes on without it", now, over=True)
            self._checks.waive(job, work.batch, work.step, now, f"{place or work.place}: {error['message']}")
            self.replan(job, now)
        else:
            place = place or f"{work.place} by {job.chosen.get(work.step.name, 'nobody')}"
            self.finish(job, JobState.FAILED, now, {**error, "chain": [place]})

    def delivered(self, work: Work, now: float) -> None:
        """A work item has delivered."""
        self._done[work.step.parts[0].operation.service] += 1
        if work.step.checks:
            self._checks.passed(work.job, work.batch, work.step, now)
        self.replan(work.job, now)

    def done_by_others(self, work: Work) -> int:
        """How much work of the same service has delivered in this boot."""
        return self._done[work.step.parts[0].operation.service]

    def restore(self, last: int, now: float) -> None:
        """Take what the journal has of work in hand, and find what each job needs. ``last``: number given out last."""
        self.leases.last = last
        for job in list(self._jobs.active.values()):
            for work in job.works.values():
                self.aides.expect(work)
                for lease in work.leases:
                    self.leases.add(lease)
                    self.works.watch(lease, now)

    def show(self, job: Job) -> None:
        """Find how much of a job is done, and publish it."""
        live = [lease for work in job.works.values() if not work.step.checks for lease in work.live if lease.delivers]
        job.measure(sum(lease.fraction for lease in live))
        self._jobs.publish(job)

    def _give_up(self, job: Job, cause: str, now: float) -> None:
        """Nobody is left for a job: fail it with everyone who was found wrong, and by whom; or those whom it may use cannot do it."""
        if not job.fences:
            wanted = ", ".join(f"{service}={component}" for service, component in job.terms.use.items())
            self.finish(
                job, JobState.FAILED, now, {**error_table("unsupported", f"use {wanted}: {cause}"), "chain": []}
            )
            return
        text = "; ".join([*(fence.reason for fence in job.fences.values()), cause])
        details = {"fenced": {name: fence.reason for name, fence in job.fences.items()}}
        places = [fence.place for fence in job.fences.values()]
        self.finish(job, JobState.FAILED, now, {**error_table("wrong_output", text, details), "chain": places})

    def finish(self, job: Job, state: JobState, now: float, error: dict[str, Any] | None = None) -> None:
        """End a job. ``error``: table and chain of places, of one that is not done."""
        self.works.end(job, f"the job is {state}", now)
        self._urgency.discard(job)
        self._jobs.end(job, state, now, error)


def _load(work: Work) -> Counter[str]:
    """Component -> leases that the next attempt on a work item takes."""
    return Counter(work.step.parts[index].component for index in work.missing)
