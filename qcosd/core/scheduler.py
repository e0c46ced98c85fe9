# SPDX-License-Identifier: Apache-2.0
"""Who does what, when: work that is ready goes to components that are free, as leases with epochs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from qcosd.core.alarms import Alarms
from qcosd.core.blobs import Blobs
from qcosd.core.demand import Plan, Provider, Step, resolve
from qcosd.core.entropy import Entropy
from qcosd.core.events import Channel, Limits
from qcosd.core.jobs import ENDED, Job, Jobs, JobState, seed_of
from qcosd.core.leases import Lease, Leases, Work
from qcosd.core.lifecycle import State
from qcosd.core.outbox import Outbox
from qcosd.core.records import RecordType
from qcosd.core.requests import Refused
from qcosd.core.results import SummaryError
from qcosd.core.supervisor import Component, Supervisor
from qcosd.protocol import Type, error_table

DEFERRALS = 20  # `retry_later` in a row that a work item may get
DEFER_FIRST, DEFER_MAX = 0.1, 8.0  # seconds until it is tried again: doubling
PLANS_KEPT = 256  # ways to a target that are remembered; any of them can be found again


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
        self._works: dict[Job, dict[tuple[str, int | None], Work]] = {}
        self._plans: dict[Any, Plan] = {}
        self._seen = -1  # version of the supervisor for which the plans hold
        self._stirred = True  # whether there may be work that could start since the last ``fill``
        self.leases = Leases()

    # Giving work out

    def fill(self, now: float) -> None:
        """Give ready work to free components, the most urgent job first."""
        if self._seen != self._supervisor.version:
            self._seen = self._supervisor.version
            self._plans.clear()
            for job in list(self._jobs.active.values()):
                self.replan(job, now)
        free = self._free() if self._stirred else Counter()
        self._stirred = False
        if not free:
            return
        for job in self._by_urgency(now):
            if any(step.load <= free for step in job.plan.frontier):
                self._give(job, free, now)

    def stir(self) -> None:
        """Something outside has changed that may let work start: a component is ready, a pause is over."""
        self._stirred = True

    def _give(self, job: Job, free: Counter[str], now: float) -> None:
        """Give ready work of a job to components that are free; take what it needs off their slots."""
        for work in self._ready(job, now):
            if work.step.load <= free:
                free -= work.step.load
                self._issue(work, now)
            elif work.batch is not None:
                return  # the other batches need the same components

    def replan(self, job: Job, now: float) -> None:
        """Find the way to the job's target anew; complete, hold or release the job accordingly."""
        if job.state in ENDED:
            return
        self._stirred = True
        if self._jobs.complete(job):
            self._end(job, JobState.DONE, now)
            return
        have = frozenset(job.artifacts)
        key = (have, job.terms.target, frozenset(job.chosen.items()))
        if key not in self._plans:
            if len(self._plans) >= PLANS_KEPT:  # clients choose kinds and targets
                self._plans.clear()
            manifests = {name: component.manifest for name, component in self._supervisor.components.items()}
            self._plans[key] = resolve(manifests, self._serviceable, job.chosen, have, job.terms.target)
        plan = job.plan = self._plans[key]
        if plan.cause:
            self._jobs.enter(job, JobState.HELD, now, plan.cause)
            return
        if any(step.per_batch for step in plan.steps):
            job.batches = -(-job.terms.shots // job.terms.batch)
        phase = (
            JobState.RUNNING if job.running is not None else JobState.QUEUED if job.booted is None else JobState.BOOTING
        )
        self._jobs.enter(job, phase, now)

    def _serviceable(self, name: str) -> bool:
        return self._supervisor.serviceable(self._supervisor.components[name])

    def _free(self) -> Counter[str]:
        """Component -> leases that it can take now."""
        ready = (c for c in self._supervisor.components.values() if c.state is State.READY)
        return +Counter(
            {component.name: component.slots - self.leases.load(component.incarnation) for component in ready}
        )

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
        for step in job.plan.frontier:
            if not step.per_batch and (work := self._idle(job, step, None, now)):
                yield work
        steps = [step for step in job.plan.frontier if step.per_batch]
        if not steps:
            return
        for batch in job.unfinished():
            has = job.has(batch).keys()
            for step in steps:
                if step.consumes <= has and not step.produces <= has and (work := self._idle(job, step, batch, now)):
                    yield work

    def _idle(self, job: Job, step: Step, batch: int | None, now: float) -> Work | None:
        """The work item of a step, if nobody has it in hand."""
        work = self._works.get(job, {}).get((step.name, batch))
        if work is None:
            return Work(job, step, batch, tuple(self.leases.number() for _ in step.parts), self.leases.number())
        if work.live or work.delivered or work.not_before > now:
            return None
        if len(work.numbers) != len(step.parts):  # another provider took over, with or without a stream
            work.numbers = tuple(self.leases.number() for _ in step.parts)
        work.step = step
        return work

    def _issue(self, work: Work, now: float) -> None:
        """Lease all parts of a work item at once."""
        job = work.job
        self._works.setdefault(job, {})[work.step.name, work.batch] = work
        work.epoch += 1
        job.waiting_since = now
        job.stage = work.step.name
        job.booted = now if job.booted is None else job.booted
        if work.batch is not None and job.running is None:
            job.running = now
        secret = self._entropy.secret() if len(work.step.parts) > 1 else ""
        for number, part in zip(work.numbers, work.step.parts, strict=True):
            self._choose(job, part)
            component = self._supervisor.components[part.component]
            if component.address is None:
                raise RuntimeError(f"{component.name} is ready and has no address")
            lease = Lease(number, work.epoch, work, part, component.incarnation, component.address, now)
            self.leases.add(lease)
            work.live.append(lease)
            after = self._outbox.append(
                RecordType.LEASE, now, lease=number, epoch=work.epoch, job=job.id, step=work.step.name, batch=work.batch, incarnation=lease.incarnation
            )  # fmt: skip
            self._alarms.set(("lease", lease), now + part.operation.budget)
            self._outbox.send(Channel.PLUGINS, lease.address, Type.LEASE, self._lease_body(lease, secret), after=after)
        self._jobs.enter(job, JobState.BOOTING if job.running is None else JobState.RUNNING, now)
        self._jobs.publish(job)

    def _choose(self, job: Job, part: Provider) -> None:
        """Keep to the component once chosen; note it where another one had to take over."""
        before = job.chosen.get(part.operation.name)
        if before is not None and before != part.component:
            job.degraded.append(f"{part.operation.name}: {part.component} took over from {before}")
        job.chosen[part.operation.name] = part.component

    def _lease_body(self, lease: Lease, secret: str) -> dict[str, Any]:
        work, operation, terms = lease.work, lease.part.operation, lease.work.job.terms
        has = work.job.has(work.batch)
        stream = None
        if secret:
            stream = {
                "grant": work.grant,
                "epoch": work.epoch,
                "name": operation.stream_in or operation.stream_out,
                "role": "bind" if operation.stream_in else "connect",
                "endpoint": f"{self._streams}{work.grant}.{work.epoch}",
                "secret": secret,
                "credit": terms.credit,
            }
        return {
            "lease": lease.number,
            "epoch": lease.epoch,
            "job": work.job.id,
            "service": operation.service,
            "op": operation.op,
            "batch": work.batch,
            "options": work.job.options,
            "shots": work.job.shots_of(work.batch),
            "seed": seed_of(terms.seed, work.batch),
            "inputs": {kind: {"sha": has[kind], "size": self._blobs.size(has[kind])} for kind in operation.consumes},
            "stream": stream,
            "budget": operation.budget,
        }

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
        try:
            self._check_outputs(lease, outputs)
            after = 0
            if lease.delivers:
                after = self._jobs.deliver(job, work.batch, work.step.name, outputs, facts, summary, now)
        except (Refused, SummaryError) as breach:
            self._settle(lease)
            error = error_table("wrong_output", f"{lease.part.component}: {breach}")
            self._fail(work, error, now, lease.place)
            raise Refused("wrong_output", str(breach)) from None
        self._settle(lease)
        if lease.delivers:
            work.delivered = True
            self.replan(job, now)
            self._measure(job)
            self._jobs.publish(job, after)
        self._retire(work)
        return after

    def failed(self, number: int, epoch: int, incarnation: int, error: dict[str, Any], now: float) -> None:
        """A plugin cannot do its part. Raises Refused(late)."""
        if self.leases.was_settled(number, epoch, incarnation):
            return
        lease = self._current(number, epoch, incarnation)
        work = lease.work
        self._settle(lease)
        if work.delivered:
            self._retire(work)
        elif error["name"] == "retry_later" and work.deferrals < DEFERRALS:
            work.deferrals += 1
            work.not_before = now + min(DEFER_MAX, DEFER_FIRST * 2.0 ** (work.deferrals - 1))
            self._alarms.set(("retry", work), work.not_before)
            self._revoke(work, "the other side of the stream is deferred", now)
        else:
            self._fail(work, error, now, lease.place)

    def revoked(self, number: int, epoch: int, incarnation: int) -> None:
        """A plugin has given a revoked lease up."""
        lease = self.leases.get(number, epoch, incarnation)
        if lease is not None and lease.revoked:
            self._alarms.clear(("lease", lease))
            self.leases.remove(lease, settled=False)
            self._stirred = True

    def expire(self, lease: Lease, now: float) -> Component | None:
        """The alarm of a lease. The component to be killed, where it has not given up a revoked lease in time."""
        if lease.revoked:
            return self._supervisor.of_incarnation(lease.incarnation)
        if lease.work.delivered:
            self._revoke(lease.work, "the result is here", now)
            self._retire(lease.work)
        else:
            budget = lease.part.operation.budget
            text = f"{lease.part.operation.name} did not end within {budget:g} s"
            self._fail(lease.work, error_table("budget", text), now, lease.place)
        return None

    def lost(self, component: Component, reason: str, now: float) -> bool:
        """A plugin has died: its leases go back. Whether it had any in hand, which then pay for the death."""
        held = self.leases.of_incarnation(component.incarnation)
        blamed = component.wanted and not component.reborn  # else it ended because it was told to
        in_force = [lease for lease in held if not lease.revoked]
        for lease in held:
            self._alarms.clear(("lease", lease))
            self.leases.remove(lease, settled=False)
        for lease in in_force:
            lease.work.live.remove(lease)
        for work in dict.fromkeys(lease.work for lease in in_force):
            if work.delivered:
                self._retire(work)
            elif work.job.state not in ENDED:
                self._lose(work, component, reason, blamed, now)
        return bool(held)

    def _lose(self, work: Work, component: Component, reason: str, blamed: bool, now: float) -> None:
        """A plugin has died over a work item: give it out again, or call it poison."""
        work.job.restarts += 1
        work.deaths += blamed
        if work.deaths >= self._limits.attempts:
            text = (
                f"{work.place} killed its plugin {work.deaths} times in a row; the last time {component.name}: {reason}"
            )
            self._fail(work, error_table("poison", text, {"log": list(component.log)}), now)
        else:
            self._revoke(work, f"{component.name} died", now)

    def end(self, job: Job, state: JobState, now: float, name: str, text: str = "") -> None:
        """End a job from outside: cancelled, or past its deadline."""
        self._end(job, state, now, {**error_table(name, text), "chain": []})

    # Inner parts

    def _current(self, number: int, epoch: int, incarnation: int) -> Lease:
        lease = self.leases.get(number, epoch, incarnation)
        if lease is None or lease.revoked:
            raise Refused("late", f"lease {number} epoch {epoch} is not in force")
        return lease

    def _check_outputs(self, lease: Lease, outputs: dict[str, str]) -> None:
        promised = set(lease.part.operation.produces)
        if outputs.keys() != promised:
            raise Refused(
                "wrong_output", f"{lease.part.operation.name} delivered {sorted(outputs)}, not {sorted(promised)}"
            )
        for kind, digest in outputs.items():
            if not self._blobs.has(digest):
                raise Refused("wrong_output", f"the artifact `{kind}` was not stored before DONE")

    def _settle(self, lease: Lease) -> None:
        """A lease has ended by its own plugin."""
        self._alarms.clear(("lease", lease))
        lease.work.live.remove(lease)
        self.leases.remove(lease, settled=True)
        self._stirred = True

    def _retire(self, work: Work) -> None:
        """Forget a work item of which nothing is left to do."""
        if work.delivered and not work.live and (works := self._works.get(work.job)) is not None:
            works.pop((work.step.name, work.batch), None)
            if not works:
                del self._works[work.job]

    def _revoke(self, work: Work, reason: str, now: float) -> None:
        """Take back all leases of a work item. They occupy their plugins until those have given them up."""
        for lease in work.live:
            lease.revoked = True
            self._alarms.set(("lease", lease), now + self._limits.revoke_grace)
            body = {"lease": lease.number, "epoch": lease.epoch, "reason": reason}
            self._outbox.send(Channel.PLUGINS, lease.address, Type.REVOKE, body)
        work.live.clear()

    def _fail(self, work: Work, error: dict[str, Any], now: float, place: str = "") -> None:
        """The job of a work item fails because of it; `place`: where in it, if known."""
        if work.job.state not in ENDED:
            place = place or f"{work.place} by {work.job.chosen.get(work.step.name, 'nobody')}"
            self._end(work.job, JobState.FAILED, now, {**error, "chain": [place]})

    def _end(self, job: Job, state: JobState, now: float, error: dict[str, Any] | None = None) -> None:
        for work in self._works.pop(job, {}).values():
            self._alarms.clear(("retry", work))
            if not work.delivered:
                self._revoke(work, f"the job is {state}", now)
        self._jobs.end(job, state, now, error)

    def _measure(self, job: Job) -> None:
        """How much of the job is done: batches once they run, steps before."""
        if job.state in ENDED:
            return
        if job.batches and job.running is not None:
            running = sum(
                lease.fraction for work in self._works.get(job, {}).values() for lease in work.live if lease.delivers
            )
            done, total = len(job.finished) + running, job.batches
        else:
            boot = [step for step in job.plan.steps if not step.per_batch]
            done, total = job.steps_done, job.steps_done + max(1, len(boot))
        job.fraction = min(1.0, done / total)
