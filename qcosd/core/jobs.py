# SPDX-License-Identifier: Apache-2.0
"""Jobs: what was asked for, what exists of it, and how it ended. Who does the work is the business of ``scheduler``."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from qcosd.core.alarms import Alarms
from qcosd.core.batches import Batches
from qcosd.core.demand import Plan, Provider, Step
from qcosd.core.events import Limits
from qcosd.core.outbox import Outbox
from qcosd.core.provenance import Guilty, Source, tainted
from qcosd.core.records import RecordType
from qcosd.core.requests import Refused
from qcosd.core.results import Summary, SummaryError, merge
from qcosd.core.terms import MAX_BATCHES, Terms
from qcosd.core.topics import Topics
from qcosd.protocol import error_table


class JobState(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"  # accepted, no work given out yet
    BOOTING = "booting"  # operations of the whole job
    RUNNING = "running"  # batches
    HELD = "held"  # something that it needs is not available; the cause says what
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


class Fence(NamedTuple):
    """Why a component does nothing for a job any more. ``place``: where that was noticed, and by whom."""

    reason: str
    place: str


@dataclass(eq=False, slots=True)
class Job:
    """A job and everything that the kernel knows of it."""

    number: int
    owner: str  # identity of who submitted it
    options: dict[str, Any]
    inputs: dict[str, str]
    terms: Terms
    submitted: float
    artifacts: dict[str, str]  # kind -> digest
    state: JobState = JobState.QUEUED
    cause: str = ""
    plan: Plan = field(default_factory=lambda: Plan(()))
    frontier: list[Step] = field(default_factory=list)  # steps of the plan that can start, but for what batches have
    pending: dict[int | None, list[Step]] = field(default_factory=dict)  # batch -> checks that artifacts wait for
    chosen: dict[str, str] = field(default_factory=dict)  # service.op -> component that has been given work
    fences: dict[str, Fence] = field(default_factory=dict)  # component -> why it may do nothing for this job
    crew: set[Provider] = field(default_factory=set)  # who had a hand in what the job has
    sources: dict[int | None, dict[str, Source]] = field(default_factory=dict)  # batch -> kind -> how it came about
    reviews: dict[tuple[int | None, str], Step] = field(
        default_factory=dict
    )  # (batch, service.op): checks that are over
    verified: set[str] = field(default_factory=set)  # kinds of which something has passed a check
    unverified: dict[str, str] = field(default_factory=dict)  # kind -> what has become of its check, for people
    facts: dict[str, Any] = field(default_factory=dict)
    summary: Summary | None = None
    batches: Batches = field(default_factory=Batches)
    restarts: int = 0
    shots_restarted: int = 0
    degraded: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None
    stage: str = ""
    fraction: float = 0.0
    steps_done: int = 0  # of the whole job
    waiting_since: float = 0.0  # when it was last given work
    booted: float | None = None  # first work of the whole job
    running: float | None = None  # first batch
    ended: float | None = None

    @property
    def id(self) -> str:
        """Its name for clients."""
        return str(self.number)

    @property
    def topic(self) -> str:
        """Topic of its events, and subject of requests that wait for its end."""
        return f"job.{self.id}"

    @property
    def complete(self) -> bool:
        """Whether the target exists and nothing holds it back."""
        return self.terms.target in self.usable(None) or self.batches.complete

    def shots_of(self, batch: int | None) -> int:
        """Shots of a batch, or of the whole job."""
        return self.terms.shots if batch is None else self.batches.sizes[batch]

    def has(self, batch: int | None) -> dict[str, str]:
        """Artifacts that a check of the batch can use: all that exist."""
        return self.artifacts if batch is None else {**self.artifacts, **self.batches.made.get(batch, {})}

    def usable(self, batch: int | None) -> set[str]:
        """Kinds that other work of the batch can use: those that no check holds back."""
        held = {kind for level in {None, batch} for step in self.pending.get(level, ()) for kind in step.checks}
        return self.has(batch).keys() - held

    def source(self, batch: int | None, kind: str) -> Source | None:
        """How an artifact that work of the batch uses came about; None for what the client gave."""
        return self.sources.get(batch, {}).get(kind) or self.sources.get(None, {}).get(kind)

    def tainted(self, guilty: Guilty) -> tuple[frozenset[str], list[Step]]:
        """Kinds that somebody guilty has had a hand in, and the steps that made them."""
        return tainted((source.step for level in self.sources.values() for source in level.values()), guilty)

    def drop(self, guilty: Guilty) -> frozenset[str]:
        """Forget what somebody guilty has had a hand in, and what it has led to. The kinds that are lost.

        If that concerns what was made for batches, all batches are forgotten: their summaries have been merged. If nothing was
        made for batches yet, they may be cut anew.
        """
        lost, bad = self.tainted(guilty)
        if any(step.per_batch for step in bad) or (lost and not self.batches.made):
            self.summary, self.running, self.batches = None, None, Batches()
            self.reviews = {name: step for name, step in self.reviews.items() if name[0] is None}
            bad += [
                source.step for batch, level in self.sources.items() if batch is not None for source in level.values()
            ]
            self.sources = {None: self.sources.get(None, {})}
        whole = self.sources[None] = {k: s for k, s in self.sources.get(None, {}).items() if k not in lost}
        self.artifacts = {k: sha for k, sha in self.artifacts.items() if k in whole or k in self.inputs}
        self.reviews = {name: step for name, step in self.reviews.items() if not step.consumes & lost}
        for part in {part for step in bad for part in step.parts}:
            self.facts.pop(part.operation.name, None)
        self.crew = {part for level in self.sources.values() for source in level.values() for part in source.step.parts}
        self.verified -= lost
        self.unverified = {kind: text for kind, text in self.unverified.items() if kind not in lost}
        return lost

    def batch_size(self) -> int:
        """Shots of a batch: what was asked for, or less where what was done for the whole job limits it."""
        names = {source.step.name for source in self.sources.get(None, {}).values()}
        limits: list[int] = [
            self.facts[name]["batch_limit"] for name in names if "batch_limit" in self.facts.get(name, {})
        ]
        return min([self.terms.batch, *limits])

    def top_up(self) -> None:
        """All batches are finished: add some for shots that were not accepted, as far as the budget of discards goes."""
        accepted = (self.summary or {}).get("sum", {}).get("shots_accepted", self.terms.shots)
        missing, discarded = self.terms.shots - accepted, sum(self.batches.sizes) - accepted
        if missing <= 0:
            return
        text = f"{accepted} of {self.terms.shots} shots were accepted"
        if discarded > self.terms.discard_budget:
            self.degraded.append(f"{text}: {discarded} were discarded, the budget is {self.terms.discard_budget}")
        elif len(self.batches.sizes) + missing // self.batches.size >= 2 * MAX_BATCHES:
            self.degraded.append(f"{text}: there were {len(self.batches.sizes)} batches")
        else:
            self.batches.add(missing)

    def measure(self, running: float) -> None:
        """Find how much is done: batches once they run (``running``: the fractions of those in hand), steps before."""
        if self.state in ENDED:
            return
        if self.batches.sizes and self.running is not None:
            done, total = len(self.batches.finished) + running, len(self.batches.sizes)
        else:
            boot = [step for step in self.plan.steps if not step.per_batch]
            done, total = self.steps_done, self.steps_done + max(1, len(boot))
        self.fraction = min(1.0, done / total)

    def progress(self) -> dict[str, Any]:
        """State of its topic."""
        return {
            "job": self.id,
            "state": str(self.state),
            "cause": self.cause or None,
            "stage": self.stage,
            "fraction": round(self.fraction, 4),
            "batches": {"done": len(self.batches.finished), "total": len(self.batches.sizes)},
        }


class Jobs:
    """All jobs that are remembered, in the order of their numbers."""

    def __init__(self, outbox: Outbox, topics: Topics, alarms: Alarms, limits: Limits) -> None:
        self._outbox = outbox
        self._topics = topics
        self._alarms = alarms
        self._limits = limits
        self._number = 0
        self._jobs: dict[str, Job] = {}
        self._ended: list[Job] = []
        self.active: dict[str, Job] = {}  # those that have not ended
        self.wall = 0.0  # to be added to a monotonic time for seconds since the epoch

    def submit(self, owner: str, inputs: dict[str, str], options: dict[str, Any], now: float) -> tuple[Job, int]:
        """Accept a job; with it the journal position to wait for. Raises Refused."""
        if len(self.active) >= self._limits.jobs_waiting:
            raise Refused("over_quota", f"{len(self.active)} jobs have not ended")
        terms = Terms.of(options, self._limits)
        self._number += 1
        job = Job(self._number, owner, options, inputs, terms, now, dict(inputs), waiting_since=now)
        after = self._outbox.append(
            RecordType.JOB_ACCEPTED, now, job=job.id, owner=owner, inputs=inputs, options=options
        )
        self._jobs[job.id] = self.active[job.id] = job
        if terms.deadline is not None:
            self._alarms.set(("job", job), now + terms.deadline)
        self.publish(job, after)
        return job, after

    def get(self, id: str) -> Job:
        """The job of that name. Raises Refused."""
        if (job := self._jobs.get(id)) is None:
            raise Refused("no_such_job", f"no job {id}")
        return job

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """Rows of JOB_LISTING."""
        rows = list(self._jobs.values())[-limit:] if limit else []
        return [
            {"job": job.id, "state": str(job.state), "submitted": job.submitted + self.wall, "cause": job.cause or None}
            for job in reversed(rows)
        ]

    def counts(self) -> dict[str, int]:
        """State -> number of jobs."""
        counts = dict.fromkeys(map(str, JobState), 0)
        for job in self._jobs.values():
            counts[job.state] += 1
        return counts

    def enter(self, job: Job, state: JobState, now: float, cause: str = "") -> None:
        """Put a job that goes on into a state."""
        if (job.state, job.cause) != (state, cause):
            changed, job.state, job.cause, after = job.state is not state, state, cause, 0
            if changed:
                after = self._outbox.append(RecordType.JOB_STATE, now, job=job.id, state=str(state), cause=cause)
            self.publish(job, after)

    def deliver(self, job: Job, batch: int | None, source: Source, outputs: dict[str, str], facts: dict[str, Any], summary: Summary | None, now: float) -> int:  # fmt: skip
        """Take what a step has made. The journal position to wait for. Raises SummaryError, and then nothing is taken."""
        _check_limit(facts)
        if summary is not None:
            merged = merge(job.summary, summary)
            _check_shots(summary.get("sum", {}), job.shots_of(batch))
            job.summary = merged
        if batch is None:
            made = job.artifacts
            job.steps_done += 1
        else:
            made = job.batches.made.setdefault(batch, {})
        for kind in outputs.keys() - made.keys():  # what is here already may have been used
            made[kind] = outputs[kind]
            job.sources.setdefault(batch, {})[kind] = source
            job.crew.update(source.step.parts)
        if batch is not None and job.terms.target in made:
            job.batches.arrived.add(batch)
        return self.note(job, batch, source.step.name, facts, now, outputs=outputs, summary=summary)

    def note(self, job: Job, batch: int | None, operation: str, facts: dict[str, Any], now: float, **more: Any) -> int:
        """Take the facts of an operation. The journal position to wait for."""
        if facts:
            job.facts[operation] = facts
        return self._outbox.append(RecordType.OUTPUT, now, job=job.id, batch=batch, step=operation, facts=facts, **more)

    def end(self, job: Job, state: JobState, now: float, error: dict[str, Any] | None = None) -> None:
        """End a job. Whoever waits for it is told by ``take_ended``."""
        if state is JobState.DONE and (job.summary or {}).get("sum", {}).get("shots_accepted") == 0:
            state, error = JobState.FAILED, {**error_table("budget", job.degraded[-1]), "chain": []}
        job.state, job.error, job.ended = state, error, now
        job.cause = error["message"] if error else ""
        job.stage = ""
        job.fraction = 1.0 if state is JobState.DONE else job.fraction
        del self.active[job.id]
        self._alarms.clear(("job", job))
        after = self._outbox.append(
            RecordType.JOB_STATE, now, job=job.id, state=str(state), cause=job.cause, error=error
        )
        self.publish(job, after)
        self._ended.append(job)
        self._forget_oldest()

    def take_ended(self) -> list[Job]:
        """Jobs that have ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def publish(self, job: Job, after: int = 0) -> None:
        """Publish how the job stands."""
        self._topics.publish(job.topic, job.progress(), after)

    def document(self, job: Job, now: float) -> dict[str, Any]:
        """Everything the kernel knows of a job: the document of JOB_DOCUMENT."""
        until = now if job.ended is None else job.ended
        execution = 0.0 if job.running is None else until - job.running
        boot = 0.0 if job.booted is None else (until if job.running is None else job.running) - job.booted
        return {
            **job.progress(),
            "options": job.options,
            "inputs": job.inputs,
            "artifacts": dict(job.artifacts),
            "outputs": [job.batches.made.get(b, {}).get(job.terms.target) for b in range(len(job.batches.sizes))],
            "facts": dict(job.facts),
            "summary": job.summary,
            "plan": dict(job.chosen),
            "restarts": job.restarts,
            "shots_restarted": job.shots_restarted,
            "verified": sorted(job.verified - job.unverified.keys()),
            "degraded": [*job.degraded, *job.unverified.values()],
            "submitted": job.submitted + self.wall,
            "seconds": {"total": until - job.submitted, "boot": boot, "execution": execution},
            "error": job.error,
        }

    def _forget_oldest(self) -> None:
        """Keep the number of remembered jobs that have ended within its limit."""
        surplus = len(self._jobs) - len(self.active) - self._limits.jobs_kept
        if surplus <= 0:
            return
        for job in [job for job in self._jobs.values() if job.state in ENDED][:surplus]:
            del self._jobs[job.id]
            self._topics.forget(job.topic)


def _check_limit(facts: dict[str, Any]) -> None:
    limit = facts.get("batch_limit", 1)
    if type(limit) is not int or limit < 1:
        raise SummaryError(f"the fact batch_limit is {limit!r}, not a number of shots")


def _check_shots(total: dict[str, Any], shots: int) -> None:
    """Whoever counts shots must count all of them, once."""
    accepted = total.get("shots_accepted")
    if accepted is None:
        return
    discarded = total.get("shots_discarded", shots - accepted if type(accepted) is int else 0)
    if not type(accepted) is type(discarded) is int or min(accepted, discarded) < 0 or accepted + discarded != shots:
        raise SummaryError(f"{accepted} shots accepted and {discarded} discarded make not {shots}")
