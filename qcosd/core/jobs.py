# SPDX-License-Identifier: Apache-2.0
"""Jobs: what was asked for, what exists of it, and how it ended. Who does the work is the business of ``scheduler``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from qcosd.core.alarms import Alarms
from qcosd.core.demand import Plan
from qcosd.core.events import Limits
from qcosd.core.outbox import Outbox
from qcosd.core.records import RecordType
from qcosd.core.requests import Refused
from qcosd.core.results import Summary, merge
from qcosd.core.terms import Terms
from qcosd.core.topics import Topics
from qcosd.schema import UINT_MAX


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


def seed_of(seed: int, batch: int | None) -> int:
    """Seed of a batch: 63 bits that depend on the job's seed and the index; the job's own seed for what is done once a job."""
    if batch is None:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{batch}".encode()).digest()[:8], "big") & UINT_MAX


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
    chosen: dict[str, str] = field(default_factory=dict)  # service.op -> component that has been given work
    facts: dict[str, Any] = field(default_factory=dict)
    summary: Summary | None = None
    batches: int = 0  # 0 while nothing is done for each batch
    made: dict[int, dict[str, str]] = field(default_factory=dict)  # batch -> kind -> digest
    finished: set[int] = field(default_factory=set)  # batches that have the target
    first_unfinished: int = 0
    restarts: int = 0
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

    def unfinished(self) -> Iterator[int]:
        """Batches that do not have the target yet, in order."""
        while self.first_unfinished in self.finished:
            self.first_unfinished += 1
        return (batch for batch in range(self.first_unfinished, self.batches) if batch not in self.finished)

    def shots_of(self, batch: int | None) -> int:
        """Shots of a batch, or of the whole job; the last batch takes what is left."""
        return self.terms.shots if batch is None else min(self.terms.batch, self.terms.shots - batch * self.terms.batch)

    def has(self, batch: int | None) -> dict[str, str]:
        """Artifacts that work of the batch can use."""
        return self.artifacts if batch is None else {**self.artifacts, **self.made.get(batch, {})}

    def progress(self) -> dict[str, Any]:
        """State of its topic."""
        return {
            "job": self.id,
            "state": str(self.state),
            "cause": self.cause or None,
            "stage": self.stage,
            "fraction": round(self.fraction, 4),
            "batches": {"done": len(self.finished), "total": self.batches},
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
            changed, job.state, job.cause = job.state is not state, state, cause
            after = (
                self._outbox.append(RecordType.JOB_STATE, now, job=job.id, state=str(state), cause=cause)
                if changed
                else 0
            )
            self.publish(job, after)

    def deliver(self, job: Job, batch: int | None, step: str, outputs: dict[str, str], facts: dict[str, Any], summary: Summary | None, now: float) -> int:  # fmt: skip
        """Take what a step has made. The journal position to wait for. Raises SummaryError, and then nothing is taken."""
        merged = job.summary if summary is None else merge(job.summary, summary)
        job.summary = merged
        if facts:
            job.facts[step] = facts
        if batch is None:
            job.artifacts.update(outputs)
            job.steps_done += 1
        else:
            made = job.made.setdefault(batch, {})
            made.update(outputs)
            if job.terms.target in made:
                job.finished.add(batch)
        return self._outbox.append(RecordType.OUTPUT, now, job=job.id, batch=batch, step=step, outputs=outputs, facts=facts, summary=summary)  # fmt: skip

    def complete(self, job: Job) -> bool:
        """Whether the target exists."""
        return job.terms.target in job.artifacts or (job.batches > 0 and len(job.finished) == job.batches)

    def end(self, job: Job, state: JobState, now: float, error: dict[str, Any] | None = None) -> None:
        """End a job. Whoever waits for it is told by ``take_ended``."""
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
            "outputs": [job.made.get(batch, {}).get(job.terms.target) for batch in range(job.batches)],
            "facts": dict(job.facts),
            "summary": job.summary,
            "plan": dict(job.chosen),
            "restarts": job.restarts,
            "degraded": list(job.degraded),
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
