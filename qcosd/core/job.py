# SPDX-License-Identifier: Apache-2.0
"""A job: what was asked for, what exists of it, and who has what of it in hand.

What the journal has of a job changes in ``apply`` and nowhere else: the live kernel appends a record and applies it, recovery
applies it again. Everything that is marked as volatile can be found again from the rest. Times in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from qcosd.core.aide import lent, part_ended, returned
from qcosd.core.batches import Batches
from qcosd.core.demand import Plan, Provider, Step
from qcosd.core.provenance import Guilty, Source, tainted
from qcosd.core.records import RecordType
from qcosd.core.results import Summary, merge
from qcosd.core.story import Story, tell
from qcosd.core.terms import Terms
from qcosd.core.work import Lease, Work


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


class Loss(NamedTuple):
    """What goes when somebody's work is not taken any more."""

    kinds: frozenset[str]
    steps: list[Step]
    anew: bool  # all batches begin anew
    works: list[Work]  # that have to be taken back


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
    steps: list[Step] = field(default_factory=list)  # all that were ever begun; records name them by their place here
    works: dict[tuple[int | None, str], Work] = field(default_factory=dict)  # begun and not over
    chosen: dict[str, str] = field(default_factory=dict)  # service.op -> component that has been given work
    fences: dict[str, Fence] = field(default_factory=dict)  # component -> why it may do nothing for this job
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
    steps_done: int = 0  # of the whole job
    booted: float | None = None  # first work of the whole job
    running: float | None = None  # first batch
    held_by: str = ""  # what it waits for that is not there
    story: Story = field(default_factory=Story)
    # volatile
    position: int = 0  # of the last record about it in this boot
    state: JobState = JobState.QUEUED
    cause: str = ""
    error: dict[str, Any] | None = None
    ended: float | None = None
    plan: Plan = field(default_factory=lambda: Plan(()))
    frontier: list[Step] = field(default_factory=list)  # steps of the plan that can start, but for what batches have
    pending: dict[int | None, list[Step]] = field(default_factory=dict)  # batch -> checks that artifacts wait for
    crew: set[Provider] = field(default_factory=set)  # who had a hand in what the job has
    stage: str = ""
    fraction: float = 0.0
    waiting_since: float = 0.0  # monotonic: when it was last given work

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

    def muster(self) -> None:
        """Find the crew from what there is. It is kept, since a job may have a hundred thousand batches."""
        steps = {id(s.step): s.step for level in self.sources.values() for s in level.values()}
        self.crew = {part for step in steps.values() for part in step.parts}

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

    def loss(self, guilty: Guilty) -> Loss:
        """What goes when nothing is taken that somebody guilty has had a hand in, nor what it has led to.

        If that concerns what was made for batches, all batches begin anew: their summaries have been merged. If nothing was made
        for batches yet, they may be cut anew.
        """
        lost, bad = self.tainted(guilty)
        anew = any(step.per_batch for step in bad) or bool(lost and not self.batches.made)
        spoilt = [
            work
            for work in self.works.values()
            if any(map(guilty, work.step.parts)) or work.step.consumes & lost or (anew and work.batch is not None)
        ]
        return Loss(lost, bad, anew, spoilt)

    def batch_size(self) -> int:
        """Shots of a batch: what was asked for, or less where what was done for the whole job limits it."""
        names = {source.step.name for source in self.sources.get(None, {}).values()}
        limits: list[int] = [
            self.facts[name]["batch_limit"] for name in names if "batch_limit" in self.facts.get(name, {})
        ]
        return min([self.terms.batch, *limits])

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
            "job": self.id, "state": str(self.state), "cause": self.cause or None, "stage": self.stage,
            "fraction": round(self.fraction, 4), "batches": {"done": len(self.batches.finished), "total": len(self.batches.sizes)},
        }  # fmt: skip

    # What the journal has of it

    def apply(self, kind: RecordType, body: dict[str, Any], at: float) -> None:
        """Let a record of this job have its effect. ``at``: when it was written."""
        tell(self, kind, body, at)
        _RULES[kind](self, body, at)

    def _leased(self, body: dict[str, Any], at: float) -> None:
        """An attempt on a work item: some or all of its parts are in somebody's hands."""
        step = self.steps[body["step"]]
        batch = body["batch"]
        work = self.works.setdefault((batch, step.name), Work(self, step, batch))
        work.step, work.numbers, work.grant, work.epoch = step, tuple(body["numbers"]), body["grant"], body["epoch"]
        work.incarnations = tuple(body["incarnations"])
        work.live += [Lease(work.numbers[i], work.epoch, work, i, work.incarnations[i]) for i in body["parts"]]
        work.live.sort(key=lambda lease: lease.index)
        for part in step.parts:
            self._choose(part)
        self.booted = at if self.booted is None else self.booted
        if batch is not None and self.running is None:
            self.running = at

    def _choose(self, part: Provider) -> None:
        """Keep to the component once chosen; note it where another one had to take over."""
        before = self.chosen.get(part.operation.name)
        if before is not None and before != part.component:
            fence = self.fences.get(before)
            why = f": {fence.reason}" if fence else ""
            self.degraded.append(f"{part.operation.name}: {part.component} took over from {before}{why}")
        self.chosen[part.operation.name] = part.component

    def _lease_ended(self, body: dict[str, Any], at: float) -> None:
        """A part of a work item has ended by its own plugin."""
        work = self.works.get((body["batch"], body["op"]))
        if work is not None:
            work.live = [lease for lease in work.live if (lease.number, lease.epoch) != (body["lease"], body["epoch"])]
            part_ended(work)
            self._retire(work)

    def _retire(self, work: Work) -> None:
        """Forget a work item of which nothing is left to do."""
        if work.delivered and not work.live:
            self.works.pop(work.name, None)

    def _work_back(self, body: dict[str, Any], at: float) -> None:
        """Leases of a work item are given up, because somebody died (``died``, ``blamed``), or for another reason."""
        work = self.works[body["batch"], body["op"]]
        work.live = [lease for lease in work.live if lease.index not in body["parts"]]
        part_ended(work)
        self.restarts += body.get("died", False)
        work.deaths += body.get("blamed", False)
        work.strikes += body.get("struck", False)
        work.preemptions += body.get("preempted", False)
        if body.get("again", False):
            self.shots_restarted += self.shots_of(work.batch)
        if body.get("over", False):
            del self.works[work.name]
        self._retire(work)

    def _output(self, body: dict[str, Any], at: float) -> None:
        """Something was delivered, or facts alone."""
        batch, op, facts, summary = body["batch"], body["op"], body["facts"], body.get("summary")
        if facts:
            self.facts[op] = facts
        outputs = body.get("outputs")
        if outputs is None:
            return
        if summary is not None:
            self.summary = merge(self.summary, summary)
        if batch is None:
            made = self.artifacts
            self.steps_done += 1
        else:
            made = self.batches.made.setdefault(batch, {})
        work = self.works[batch, op]
        source = Source(work.step, work.incarnations, body.get("shown"))
        for kind in outputs.keys() - made.keys():  # what is here already may have been used
            made[kind] = outputs[kind]
            self.sources.setdefault(batch, {})[kind] = source
            self.crew.update(work.step.parts)
        if batch is not None and self.terms.target in made:
            self.batches.arrived.add(batch)
        work.delivered, work.deaths, work.strikes = True, 0, 0
        self._retire(work)

    def _fenced(self, body: dict[str, Any], at: float) -> None:
        self.fences[body["component"]] = Fence(body["reason"], body["place"])

    def _dropped(self, body: dict[str, Any], at: float) -> None:
        """Forget what somebody has had a hand in: pairs of component and service, or nil for all that the component does."""
        guilty = guilty_of(body["guilty"])
        lost, bad, anew, works = self.loss(guilty)
        again = {work.batch for work in works if work.live and not work.delivered and not work.step.checks}
        for work in works:
            work.live.clear()
            self.works.pop(work.name, None)
        if anew:
            again |= self.batches.made.keys()
        self.shots_restarted += sum(self.batches.sizes[batch] for batch in again if batch is not None)
        if anew:
            bad += [
                source.step for batch, level in self.sources.items() if batch is not None for source in level.values()
            ]
            self.summary, self.running, self.batches = None, None, Batches()
            self.reviews = {name: step for name, step in self.reviews.items() if name[0] is None}
            self.sources = {None: self.sources.get(None, {})}
        whole = self.sources[None] = {k: s for k, s in self.sources.get(None, {}).items() if k not in lost}
        self.artifacts = {k: sha for k, sha in self.artifacts.items() if k in whole or k in self.inputs}
        self.reviews = {name: step for name, step in self.reviews.items() if not step.consumes & lost}
        for part in {part for step in bad for part in step.parts}:
            self.facts.pop(part.operation.name, None)
        self.muster()
        self.verified -= lost
        self.unverified = {kind: text for kind, text in self.unverified.items() if kind not in lost}

    def _batches(self, body: dict[str, Any], at: float) -> None:
        """Batches are cut, or some are added."""
        if body["size"]:
            self.batches.cut(body["shots"], body["size"])
        else:
            self.batches.add(body["shots"])

    def _reviewed(self, body: dict[str, Any], at: float) -> None:
        """A check is over: it has ended well, or it cannot be done and the job goes on without it."""
        batch, step = body["batch"], self.steps[body["step"]]
        self.reviews[batch, step.name] = step
        concerned = [kind for kind in step.checks if self.source(batch, kind) is not None]
        if body["passed"]:
            self.verified.update(concerned)
        else:
            why = f": {body['reason']}" if body["reason"] else ""
            for kind in concerned:
                self.unverified.setdefault(kind, f"{kind}: not verified{why}")

    def _degraded(self, body: dict[str, Any], at: float) -> None:
        self.degraded.append(body["text"])

    def _held(self, body: dict[str, Any], at: float) -> None:
        self.held_by = body["cause"]

    def _step(self, body: dict[str, Any], at: float) -> None:
        self.steps.append(Step.of(body["parts"]))


def guilty_of(pairs: Iterable[Iterable[str | None]]) -> Guilty:
    """Whether a part is of one of these components, and of this service where one is named."""
    named = {tuple(pair) for pair in pairs}
    return lambda part: bool({(part.component, None), (part.component, part.operation.service)} & named)


_RULES: dict[RecordType, Callable[[Job, dict[str, Any], float], None]] = {
    RecordType.STEP: Job._step,
    RecordType.LEASE: Job._leased,
    RecordType.LEASE_END: Job._lease_ended,
    RecordType.WORK_BACK: Job._work_back,
    RecordType.AIDE: lent,
    RecordType.AIDE_BACK: returned,
    RecordType.OUTPUT: Job._output,
    RecordType.FENCE: Job._fenced,
    RecordType.DROPPED: Job._dropped,
    RecordType.BATCHES: Job._batches,
    RecordType.REVIEW: Job._reviewed,
    RecordType.DEGRADED: Job._degraded,
    RecordType.HOLD: Job._held,
}
JOB_RULES = frozenset(_RULES)
