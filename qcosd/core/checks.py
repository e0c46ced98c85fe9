# SPDX-License-Identifier: Apache-2.0
"""Who looks at artifacts before others use them. An operation whose manifest names kinds that it `checks` holds those back.

Of what is made for each batch only a sample is checked. A check that cannot be done is waived, and the job says so: it is
worth waiting for a component that is being restarted, not for one that is gone.
"""

from __future__ import annotations

from qcosd.core.demand import Provider, Step, offers
from qcosd.core.job import Job
from qcosd.core.jobs import Jobs
from qcosd.core.records import RecordType
from qcosd.core.supervisor import Supervisor


class Checks:
    """The checks that are due in each job: ``job.pending``."""

    def __init__(self, supervisor: Supervisor, jobs: Jobs) -> None:
        self._supervisor = supervisor
        self._jobs = jobs
        self._offers: dict[str, list[Provider]] = {}  # service.op -> who offers this check, best first
        for provider in offers(component.manifest for component in supervisor.components.values()):
            if provider.operation.checks:
                self._offers.setdefault(provider.operation.name, []).append(provider)

    def look(self, job: Job, now: float) -> None:
        """Bring the checks of a job up to date, and finish the batches that wait for none."""
        job.pending = {}
        if self._offers and job.terms.verify:
            self._look_at(job, None, now)
            for batch in job.batches.sampled():
                self._look_at(job, batch, now)
        done = [batch for batch in job.batches.arrived if not job.pending.get(batch)]
        job.batches.finished.update(done)
        job.batches.arrived.difference_update(done)

    def passed(self, job: Job, batch: int | None, step: Step, now: float) -> None:
        """A check has ended well."""
        place = self._jobs.place(job, step, now)
        self._jobs.record(job, RecordType.REVIEW, now, batch=batch, step=place, passed=True, reason="")

    def waive(self, job: Job, batch: int | None, step: Step, now: float, reason: str = "") -> None:
        """A check cannot be done: the job goes on without it."""
        place = self._jobs.place(job, step, now)
        self._jobs.record(job, RecordType.REVIEW, now, batch=batch, step=place, passed=False, reason=reason)

    def _look_at(self, job: Job, batch: int | None, now: float) -> None:
        """Find the checks of a batch, or of the whole job."""
        due = self._within_reach(job, batch, [step for name in self._offers if (step := self._due(job, batch, name))])
        for step in due:
            if self._able(job, step.parts[0]):
                job.pending.setdefault(batch, []).append(step)
            else:
                self.waive(job, batch, step, now)

    def _due(self, job: Job, batch: int | None, name: str) -> Step | None:
        """A check that is neither over nor out of place here, by the best of those who offer it."""
        if (batch, name) in job.reviews:
            return None
        each, made = "job" if batch is None else "batch", job.sources.get(batch, {})
        candidates = []
        for provider in self._offers[name]:
            makers = {part.component for k in provider.operation.checks if k in made for part in made[k].step.parts}
            asked = {job.terms.use.get(provider.operation.service, provider.component)}
            if makers and provider.component in asked - makers and provider.operation.each == each:
                candidates.append(provider)
        candidates.sort(key=lambda p: (not self._able(job, p), job.chosen.get(name) != p.component))
        return Step((candidates[0],)) if candidates else None

    def _able(self, job: Job, provider: Provider) -> bool:
        component = self._supervisor.components[provider.component]
        return provider.component not in job.fences and self._supervisor.serviceable(component)

    def _within_reach(self, job: Job, batch: int | None, due: list[Step]) -> list[Step]:
        """Those checks whose inputs are here, or will be while what they check is held back; the others hold nothing back."""
        have = frozenset(job.has(batch))
        steps = [step for step in job.plan.steps if batch is not None or not step.per_batch]
        while due:
            reach = have - {kind for step in due for kind in step.checks}
            while more := [s for s in steps if s.consumes <= reach and not s.produces <= reach | have]:
                reach = reach.union(*(step.produces for step in more))
            near = [step for step in due if step.consumes <= reach | have]
            if len(near) == len(due):
                break
            due = near
        return due
