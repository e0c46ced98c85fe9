# SPDX-License-Identifier: Apache-2.0
"""The way of each job to its target, found anew whenever something has changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from qcosd.core.demand import Plan, Provider, resolve
from qcosd.core.job import Job
from qcosd.core.supervisor import Supervisor

PLANS_KEPT = 256  # ways to a target that are remembered; any of them can be found again


class Planner:
    """Plans that hold for the components as they are now."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._manifests = {name: component.manifest for name, component in supervisor.components.items()}
        self._plans: dict[Any, Plan] = {}
        self._seen = -1  # version of the supervisor for which the plans hold

    def outdated(self) -> bool:
        """Whether components have changed since the last call, so that all plans have to be made anew."""
        if self._seen == self._supervisor.version:
            return False
        self._seen = self._supervisor.version
        self._plans.clear()
        return True

    def plan(self, job: Job) -> tuple[Plan, frozenset[tuple[str, str]]]:
        """The way to the target; and (component, service) of those whose work has to go because another one takes over.

        All of a service is done by one component: a machine must not run what was prepared for another one.
        """
        have = frozenset(job.artifacts)
        plan = self._way(job, have)
        replaced = self._replaced(job, plan)
        if replaced:
            lost, _ = job.tainted(lambda part: (part.component, part.operation.service) in replaced)
            anew = self._way(job, have - lost)
            if anew.cause:
                return anew, frozenset()
        return plan, replaced

    def hopeless(self, job: Job) -> bool:
        """Whether nobody is left for the job, not even among those that do not run."""
        return bool(self.obstacle(frozenset(job.artifacts), job.terms.target, job.terms.use, job.fences))

    def obstacle(self, have: frozenset[str], target: str, use: Mapping[str, str] | None = None, fenced: Collection[str] = ()) -> str:  # fmt: skip
        """Why no way would lead to the target even if every component ran; empty where one would."""
        return self._found(have, target, {}, use or {}, fenced, anybody=True).cause

    def _way(self, job: Job, have: frozenset[str]) -> Plan:
        return self._found(have, job.terms.target, job.chosen, job.terms.use, job.fences, anybody=False)

    def _found(self, have: frozenset[str], target: str, chosen: Mapping[str, str], use: Mapping[str, str], fenced: Collection[str], *, anybody: bool) -> Plan:  # fmt: skip
        """The way, remembered; of ``anybody`` or of those who are there."""
        key = (have, target, frozenset(chosen.items()), frozenset(use.items()), frozenset(fenced), anybody)
        if key not in self._plans:
            if len(self._plans) >= PLANS_KEPT:  # clients choose kinds and targets
                self._plans.clear()
            serviceable = (lambda name: True) if anybody else self._serviceable
            plan = resolve(self._manifests, serviceable, chosen, have, target, use, fenced)
            if plan.cause and (gone := self._supervisor.without_manifest(chosen.values())):
                plan = Plan((), f"{plan.cause}; {gone}")
            self._plans[key] = plan
        return self._plans[key]

    def _serviceable(self, name: str) -> bool:
        return self._supervisor.serviceable(self._supervisor.components[name])

    def _replaced(self, job: Job, plan: Plan) -> frozenset[tuple[str, str]]:
        """Who has made something that the job has, and would have to do what the plan gives to another one."""
        crew = {(part.component, part.operation.service) for part in job.crew}
        planned = {part for step in plan.steps for part in step.parts}
        return frozenset(
            (component, service)
            for component, service in crew
            for part in planned
            if part.operation.service == service and part.component != component and self._offers(component, part)
        )

    def _offers(self, component: str, part: Provider) -> bool:
        """Whether a component could do what another one is to do. One that is not installed any more could have."""
        manifest = self._manifests.get(component)
        return manifest is None or any(operation.name == part.operation.name for operation in manifest.operations)
