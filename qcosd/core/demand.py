# SPDX-License-Identifier: Apache-2.0
"""The demand graph: from what is wanted back to what exists. No order of stages is written anywhere; it follows from the manifests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from qcosd.core.manifest import Manifest, Operation


@dataclass(frozen=True, slots=True)
class Provider:
    """An operation of a component."""

    component: str
    operation: Operation


@dataclass(frozen=True)
class Step:
    """Work to be done: one operation, or two that share a stream. ``parts[0]`` delivers the outputs."""

    parts: tuple[Provider, ...]

    @cached_property
    def load(self) -> Counter[str]:
        """Component -> leases that the step takes."""
        return Counter(part.component for part in self.parts)

    @property
    def name(self) -> str:
        """``service.op`` of the part that delivers."""
        return self.parts[0].operation.name

    @property
    def per_batch(self) -> bool:
        """Whether the step is done once for each batch."""
        return self.parts[0].operation.each == "batch"

    @cached_property
    def produces(self) -> frozenset[str]:
        """Kinds of artifact delivered."""
        return frozenset(self.parts[0].operation.produces)

    @cached_property
    def consumes(self) -> frozenset[str]:
        """Kinds of artifact that must exist before any part can start."""
        return frozenset(kind for part in self.parts for kind in part.operation.consumes)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in an order in which they can be done; or none and the reason why the target is out of reach."""

    steps: tuple[Step, ...]
    cause: str = ""
    frontier: tuple[
        Step, ...
    ] = ()  # steps that can start now; those of batches once nothing is left to do for the whole job

    @classmethod
    def of(cls, steps: list[Step], have: frozenset[str]) -> Plan:
        """The plan with these steps, from the kinds at hand."""
        whole = [step for step in steps if not step.per_batch]
        frontier = [step for step in whole if step.consumes <= have] if whole else steps
        return cls(tuple(steps), "", tuple(frontier))


class _Blocked(Exception):
    """A kind cannot be produced."""


def resolve(
    manifests: Mapping[str, Manifest],
    serviceable: Callable[[str], bool],
    pinned: Mapping[str, str],
    have: frozenset[str],
    target: str,
) -> Plan:
    """Steps that lead from the kinds at hand to the target.

    ``serviceable`` tells of a component whether it can be counted on; ``pinned`` maps ``service.op`` to the component that has
    been chosen for it already. Among several, the highest rank wins, then the first name.
    """
    walk = _Walk(manifests, serviceable, pinned)
    try:
        return Plan.of(walk.steps_to(target, have, frozenset()), have)
    except _Blocked as blocked:
        return Plan((), str(blocked))


class _Walk:
    """One walk back over the graph."""

    def __init__(self, manifests: Mapping[str, Manifest], serviceable: Callable[[str], bool], pinned: Mapping[str, str]) -> None:  # fmt: skip
        ranked = sorted(manifests.values(), key=lambda m: (-m.rank, m.name))
        self._all = [Provider(m.name, operation) for m in ranked for operation in m.operations]
        self._serviceable = serviceable
        self._pinned = pinned

    def steps_to(self, kind: str, have: frozenset[str], pending: frozenset[str]) -> list[Step]:
        """Steps that make a kind. ``pending``: kinds whose making has led here."""
        if kind in have:
            return []
        makers = [p for p in self._all if kind in p.operation.produces]
        return self._first(makers, f"nothing produces `{kind}`", lambda p: self._steps_of(p, have, pending | {kind}))

    def _steps_of(self, provider: Provider, have: frozenset[str], pending: frozenset[str]) -> list[Step]:
        """The step of a provider, after all that it needs."""
        operation = provider.operation
        if operation.stream_in is None:
            return self._after_inputs(Step((provider,)), have, pending)
        sources = [p for p in self._all if p.operation.stream_out == operation.stream_in]
        lacking = f"nothing feeds the stream `{operation.stream_in}`"
        return self._first(sources, lacking, lambda p: self._after_inputs(Step((provider, p)), have, pending))

    def _after_inputs(self, step: Step, have: frozenset[str], pending: frozenset[str]) -> list[Step]:
        steps: list[Step] = []
        for kind in sorted(step.consumes):
            if kind in pending:
                raise _Blocked(f"`{kind}` would be made from itself")
            made = have.union(*(s.produces for s in steps))
            more = self.steps_to(kind, made, pending)
            if not step.per_batch and any(s.per_batch for s in more):
                raise _Blocked(f"{step.name} is done once a job and cannot use `{kind}`, which is made for each batch")
            steps += more
        return [*steps, step]

    def _first(self, candidates: list[Provider], lacking: str, expand: Callable[[Provider], list[Step]]) -> list[Step]:
        """Steps through the first candidate that works; the reason of the first one if none does."""
        reason = lacking
        chosen = [p for p in candidates if self._pinned.get(p.operation.name) == p.component]
        for number, provider in enumerate(chosen + [p for p in candidates if p not in chosen]):
            try:
                if not self._serviceable(provider.component):
                    raise _Blocked(_unavailable(provider))
                return expand(provider)
            except _Blocked as blocked:
                reason = str(blocked) if number == 0 else reason
        raise _Blocked(reason)


def _unavailable(provider: Provider) -> str:
    """Cause and remedy, for people."""
    return (
        f"{provider.operation.name} needs {provider.component}, which is not available: `qcosctl plugin list` says why, "
        f"`qcosctl plugin restart {provider.component}` starts it again"
    )
