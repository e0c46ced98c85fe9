# SPDX-License-Identifier: Apache-2.0
"""The way of each job to its target, found anew whenever something has changed."""

from __future__ import annotations

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
        have = frozenset(job.artifacts)
        plan = resolve(self._manifests, lambda name: True, {}, have, job.terms.target, job.terms.use, job.fences)
        return bool(plan.cause)

    def _way(self, job: Job, have: frozenset[str]) -> Plan:
        terms = job.terms
        key = (have, terms.target, frozenset(job.chosen.items()), frozenset(terms.use.items()), frozenset(job.fences))
        if key not in self._plans:
            if len(self._plans) >= PLANS_KEPT:  # clients choose kinds and targets
                self._plans.clear()
            self._plans[key] = resolve(
                self._manifests, self._serviceable, job.chosen, have, terms.target, terms.use, job.fences
            )
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
