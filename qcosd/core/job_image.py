# SPDX-License-Identifier: Apache-2.0
"""A job as a snapshot of the journal has it: a map that msgpack takes, and back. Steps are named by their place in a list."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

from qcosd.core.aide import Aide
from qcosd.core.batches import Batches
from qcosd.core.demand import Step
from qcosd.core.job import Fence, Job
from qcosd.core.provenance import Source
from qcosd.core.story import Story
from qcosd.core.terms import Terms
from qcosd.core.work import Lease, Work


def accepted(body: dict[str, Any], at: float) -> Job:
    """A job as its first record has it."""
    inputs = dict(body["inputs"])
    artifacts = {**body["planned"], **inputs}
    job = Job(int(body["job"]), body["owner"], body["options"], inputs, Terms(**body["terms"]), at, artifacts)
    job.chosen, job.facts = dict(body["providers"]), dict(body["facts"])
    job.story.tell(at, "accepted", owner=job.owner, shots=job.terms.shots, seed=job.terms.seed)
    return job


def body_of(job: Job) -> dict[str, Any]:
    """Everything of a job that is not volatile."""
    places = {id(step): place for place, step in enumerate(job.steps)}

    def place(step: Step) -> int:
        return places[id(step)] if id(step) in places else job.steps.index(step)

    return {
        "job": job.id,
        "owner": job.owner,
        "options": job.options,
        "inputs": job.inputs,
        "terms": job.terms.table(),
        "submitted": job.submitted,
        "artifacts": dict(job.artifacts),
        "steps": [step.table() for step in job.steps],
        "works": [_work_body(work, place) for work in job.works.values()],
        "chosen": dict(job.chosen),
        "fences": {name: list(fence) for name, fence in job.fences.items()},
        "sources": [
            [batch, {kind: [place(s.step), list(s.incarnations), s.summary] for kind, s in level.items()}]
            for batch, level in job.sources.items()
            if level
        ],
        "reviews": [[batch, place(step)] for (batch, _), step in job.reviews.items()],
        "verified": sorted(job.verified),
        "unverified": dict(job.unverified),
        "facts": dict(job.facts),
        "summary": job.summary,
        "batches": {
            "size": job.batches.size,
            "sizes": [[size, len(list(run))] for size, run in groupby(job.batches.sizes)],
            "made": [[batch, made] for batch, made in job.batches.made.items()],
        },
        "restarts": job.restarts,
        "shots_restarted": job.shots_restarted,
        "degraded": list(job.degraded),
        "steps_done": job.steps_done,
        "booted": job.booted,
        "running": job.running,
        "held_by": job.held_by,
        "story": job.story.body(),
    }


def job_of(body: dict[str, Any]) -> Job:
    """The job of a body. What was made for batches and awaits a look by checks has arrived."""
    inputs, terms = dict(body["inputs"]), Terms(**body["terms"])
    job = Job(
        int(body["job"]), body["owner"], body["options"], inputs, terms, body["submitted"], dict(body["artifacts"])
    )
    job.steps = [Step.of(table) for table in body["steps"]]
    job.chosen, job.facts, job.summary = dict(body["chosen"]), dict(body["facts"]), body["summary"]
    job.fences = {name: Fence(*fence) for name, fence in body["fences"].items()}
    job.sources = {
        batch: {kind: Source(job.steps[at], tuple(who), summary) for kind, (at, who, summary) in level.items()}
        for batch, level in body["sources"]
    }
    job.muster()
    job.reviews = {(batch, job.steps[at].name): job.steps[at] for batch, at in body["reviews"]}
    job.verified, job.unverified = set(body["verified"]), dict(body["unverified"])
    job.batches = _batches(body["batches"], job.terms.target)
    job.restarts, job.shots_restarted = body["restarts"], body["shots_restarted"]
    job.degraded, job.steps_done = list(body["degraded"]), body["steps_done"]
    job.booted, job.running = body["booted"], body["running"]
    job.held_by, job.story = body["held_by"], Story.of(body["story"])
    for table in body["works"]:
        work = _work(job, table)
        job.works[work.name] = work
    return job


def _batches(body: dict[str, Any], target: str) -> Batches:
    batches = Batches(body["size"])
    batches.sizes = [size for size, count in body["sizes"] for _ in range(count)]
    batches.made = {batch: dict(made) for batch, made in body["made"]}
    batches.arrived = {batch for batch, made in batches.made.items() if target in made}
    return batches


def _work_body(work: Work, place: Callable[[Step], int]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "step": place(work.step),
        "batch": work.batch,
        "numbers": list(work.numbers),
        "grant": work.grant,
        "epoch": work.epoch,
        "incarnations": list(work.incarnations),
        "deaths": work.deaths,
        "strikes": work.strikes,
        "preemptions": work.preemptions,
        "delivered": work.delivered,
        "live": [[lease.index, lease.epoch, lease.incarnation] for lease in work.live],
    }
    if work.aides:
        body["aides"] = [[*key, aide.finished, _work_body(aide, place)] for key, aide in work.aides.items()]
    return body


def _work(job: Job, body: dict[str, Any]) -> Work:
    work = Work(job, job.steps[body["step"]], body["batch"])
    _fill(work, body)
    for index, number, finished, table in body.get("aides", ()):
        step = job.steps[table["step"]]
        aide = Aide(job=job, step=step, batch=work.batch, host=work, index=index, number=number, finished=finished)
        _fill(aide, table)
        work.aides[index, number] = aide
    return work


def _fill(work: Work, body: dict[str, Any]) -> None:
    work.numbers, work.grant, work.epoch = tuple(body["numbers"]), body["grant"], body["epoch"]
    work.incarnations, work.deaths, work.strikes = tuple(body["incarnations"]), body["deaths"], body["strikes"]
    work.preemptions, work.delivered = body["preemptions"], body["delivered"]
    live: Iterable[list[int]] = body["live"]
    work.live = [Lease(work.numbers[i], epoch, work, i, incarnation) for i, epoch, incarnation in live]
