# SPDX-License-Identifier: Apache-2.0
"""All jobs: those that go on, and what is remembered of those that have ended. Who does the work is the business of ``scheduler``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

from qcosd.core.alarms import Alarms
from qcosd.core.demand import Step
from qcosd.core.events import Limits
from qcosd.core.given_plan import GivenPlan
from qcosd.core.job import Job, JobState
from qcosd.core.job_image import accepted, job_of
from qcosd.core.outbox import Outbox
from qcosd.core.records import RecordType
from qcosd.core.requests import Refused
from qcosd.core.results import Summary, SummaryError, merge
from qcosd.core.terms import MAX_BATCHES, Terms
from qcosd.core.topics import Topics
from qcosd.core.work import Work
from qcosd.protocol import error_table


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that has ended. ``document``: all that is remembered of it."""

    document: dict[str, Any]
    owner: str
    position: int = 0  # of the record that says so; 0: of an earlier boot

    @property
    def state(self) -> JobState:
        """How it ended."""
        return JobState(self.document["state"])


class Jobs:
    """Jobs by name, in the order of their numbers."""

    def __init__(self, outbox: Outbox, topics: Topics, alarms: Alarms, limits: Limits) -> None:
        self._outbox = outbox
        self._topics = topics
        self._alarms = alarms
        self._limits = limits
        self._ended: list[Job] = []
        self._forgotten: list[str] = []
        self.last = 0  # number given last
        self.position = 0  # of the last record about any job in this boot
        self.boots: list[list[Any]] = []  # the latest starts of the daemon: boot number, seconds since the epoch
        self.active: dict[str, Job] = {}
        self.history: dict[str, Ended] = {}

    def submit(self, owner: str, inputs: dict[str, str], options: dict[str, Any], now: float, given: GivenPlan) -> Job:
        """Accept a job. ``given``: the plan of an earlier run that it follows. Raises Refused."""
        if len(self.active) >= self._limits.jobs_waiting:
            raise Refused("over_quota", f"{len(self.active)} jobs have not ended")
        terms = Terms.of(options, self._limits)
        self.last += 1
        body = {
            "job": str(self.last), "owner": owner, "inputs": inputs, "options": options, "terms": terms.table(),
            "planned": given.artifacts, "providers": given.providers, "facts": given.facts,
        }  # fmt: skip
        self._outbox.append(RecordType.JOB_ACCEPTED, now, **body)
        job = accepted(body, now + self._outbox.wall)
        self._note_position(job)
        self._admit(job, now)
        self.publish(job)
        return job

    def restore(
        self, jobs: Iterable[dict[str, Any]], history: dict[str, dict[str, Any]], last: int, now: float
    ) -> None:
        """Take what the journal has of earlier boots. Who needs work is found by the scheduler."""
        self.last = last
        self.history = {
            name: Ended(history[name]["document"], history[name]["owner"]) for name in sorted(history, key=int)
        }
        for ended in self.history.values():
            shown = ("job", "state", "cause", "stage", "fraction", "batches")
            self._topics.publish(f"job.{ended.document['job']}", {key: ended.document[key] for key in shown})
        for job in sorted(map(job_of, jobs), key=lambda job: job.number):
            self._admit(job, now)
            self.publish(job)

    def _admit(self, job: Job, now: float) -> None:
        job.waiting_since = now
        self.active[job.id] = job
        if job.terms.deadline is not None:
            self._alarms.set(("job", job), job.submitted - self._outbox.wall + job.terms.deadline)

    def get(self, id: str) -> Job | Ended:
        """The job of that name. Raises Refused."""
        found = self.active.get(id) or self.history.get(id)
        if found is None:
            raise Refused("no_such_job", f"no job {id}")
        return found

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """Rows of JOB_LISTING."""
        names = sorted([*self.active, *self.history], key=int, reverse=True)[:limit]
        return [_row(self.active.get(name) or self.history[name]) for name in names]

    def counts(self) -> dict[str, int]:
        """State -> number of jobs."""
        counts = Counter([job.state for job in self.active.values()] + [job.state for job in self.history.values()])
        return {str(state): counts[state] for state in JobState}

    def record(self, job: Job, kind: RecordType, now: float, **body: Any) -> None:
        """Journal a change of a job and let it have its effect: the only way in which what is durable of a job changes."""
        self._outbox.append(kind, now, job=job.id, **body)
        job.apply(kind, body, now + self._outbox.wall)
        self._note_position(job)

    def _note_position(self, job: Job) -> None:
        job.position = self.position = self._outbox.position

    def place(self, job: Job, step: Step, now: float) -> int:
        """Where the steps of a job have this one; it is added if need be."""
        if step not in job.steps:
            self.record(job, RecordType.STEP, now, parts=step.table())
        return job.steps.index(step)

    def enter(self, job: Job, state: JobState, cause: str = "") -> None:
        """Put a job that goes on into a state. Recovery finds it again by itself."""
        if (job.state, job.cause) != (state, cause):
            job.state, job.cause = state, cause
            self.publish(job)

    def hold(self, job: Job, cause: str, now: float) -> None:
        """Note what a job waits for that is not there; nothing, with an empty cause."""
        if job.held_by != cause:
            self.record(job, RecordType.HOLD, now, cause=cause)

    def deliver(
        self, work: Work, outputs: dict[str, str], facts: dict[str, Any], summary: Summary | None, now: float
    ) -> None:
        """Take what a step has made. Raises SummaryError, and then nothing is taken."""
        job, batch = work.job, work.batch
        _check_limit(facts)
        if summary is not None and not work.step.checks:
            merge(job.summary, summary)
            _check_shots(summary.get("sum", {}), job.shots_of(batch))
        shown = summary if job.batches.is_sample(batch) else None
        merged = None if work.step.checks else summary
        body = {"batch": batch, "op": work.step.name, "facts": facts, "outputs": outputs, "summary": merged}
        self.record(job, RecordType.OUTPUT, now, **body, **({"shown": shown} if shown is not None else {}))

    def note(self, work: Work, operation: str, facts: dict[str, Any], now: float) -> None:
        """Take the facts of an operation that delivers nothing."""
        self.record(work.job, RecordType.OUTPUT, now, batch=work.batch, op=operation, facts=facts)

    def top_up(self, job: Job, now: float) -> None:
        """All batches are finished: add some for shots that were not accepted, as far as the budget of discards goes."""
        terms, batches = job.terms, job.batches
        accepted = (job.summary or {}).get("sum", {}).get("shots_accepted", terms.shots)
        missing, discarded = terms.shots - accepted, sum(batches.sizes) - accepted
        if missing <= 0:
            return
        text = f"{accepted} of {terms.shots} shots were accepted"
        if discarded > terms.discard_budget:
            text += f": {discarded} were discarded, the budget is {terms.discard_budget}"
        elif len(batches.sizes) + missing // batches.size >= 2 * MAX_BATCHES:
            text += f": there were {len(batches.sizes)} batches"
        else:
            self.record(job, RecordType.BATCHES, now, shots=missing, size=0)
            return
        self.record(job, RecordType.DEGRADED, now, text=text)

    def end(self, job: Job, state: JobState, now: float, error: dict[str, Any] | None = None) -> None:
        """End a job. Whoever waits for it is told by ``take_ended``."""
        if state is JobState.DONE and (job.summary or {}).get("sum", {}).get("shots_accepted") == 0:
            state, error = JobState.FAILED, {**error_table("budget", job.degraded[-1]), "chain": []}
        job.state, job.error, job.ended = state, error, now + self._outbox.wall
        job.cause = error["message"] if error else ""
        job.stage = ""
        job.fraction = 1.0 if state is JobState.DONE else job.fraction
        job.story.tell(
            job.ended, "ended", state=str(state), **({"error": error["name"], "reason": job.cause} if error else {})
        )
        del self.active[job.id]
        self._alarms.clear(("job", job))
        document = self.document(job, now)
        self._outbox.append(RecordType.JOB_ENDED, now, job=job.id, owner=job.owner, document=document)
        self._note_position(job)
        self.history[job.id] = Ended(document, job.owner, job.position)
        self.publish(job)
        self._ended.append(job)
        self._forget_oldest(now)

    def take_ended(self) -> list[Job]:
        """Jobs that have ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def take_forgotten(self) -> list[str]:
        """Names of jobs that are not remembered any more since the last call."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def publish(self, job: Job) -> None:
        """Publish how the job stands."""
        self._topics.publish(job.topic, job.progress())

    def document(self, job: Job | Ended, now: float) -> dict[str, Any]:
        """Everything the kernel knows of a job: the document of JOB_DOCUMENT."""
        if isinstance(job, Ended):
            return job.document
        until = now + self._outbox.wall if job.ended is None else job.ended
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
            "plan": plan_of(job),
            "story": job.story.document((boot, at) for boot, at in self.boots),
            "fenced": {name: fence.reason for name, fence in job.fences.items()},
            "restarts": job.restarts,
            "shots_restarted": job.shots_restarted,
            "verified": sorted(job.verified - job.unverified.keys()),
            "degraded": [*job.degraded, *job.unverified.values()],
            "submitted": job.submitted,
            "seconds": {"total": until - job.submitted, "boot": boot, "execution": execution},
            "error": job.error,
        }

    def _forget_oldest(self, now: float) -> None:
        """Keep the number of remembered jobs that have ended within its limit."""
        surplus = len(self.history) - self._limits.jobs_kept
        if surplus <= 0:
            return
        names = nsmallest(surplus, self.history, key=int)
        self._outbox.append(RecordType.JOB_FORGOTTEN, now, jobs=names)
        self._forgotten += names
        for name in names:
            del self.history[name]
            self._topics.forget(f"job.{name}")


def plan_of(job: Job) -> dict[str, Any]:
    """The choices of a job: who did what, and what the whole job was made with. The same program, seed and plan give the same bits.

    Whether something was checked changes no bits: checks are no part of it.
    """
    checks = {step.name for step in job.steps if step.checks}
    return {
        "providers": {name: component for name, component in job.chosen.items() if name not in checks},
        "artifacts": {kind: sha for kind, sha in job.artifacts.items() if kind not in job.inputs},
        "batch": job.batches.size,
        "batches": len(job.batches.sizes),
    }


def _row(job: Job | Ended) -> dict[str, Any]:
    if isinstance(job, Ended):
        document = job.document
        return {key: document[key] for key in ("job", "state", "submitted", "cause")}
    return {"job": job.id, "state": str(job.state), "submitted": job.submitted, "cause": job.cause or None}


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
