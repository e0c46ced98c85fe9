# SPDX-License-Identifier: Apache-2.0
"""The demand graph: from what is wanted back to what exists. No order of stages is written anywhere; it follows from the manifests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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

    @classmethod
    def of(cls, table: Iterable[Sequence[Any]]) -> Step:
        """The step that ``table`` was made of."""
        return cls(tuple(Provider(component, Operation.of(operation)) for component, operation in table))

    def table(self) -> list[list[Any]]:
        """The step as the journal has it: it must be known when the manifests are others."""
        return [[part.component, part.operation.table()] for part in self.parts]

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

    @property
    def checks(self) -> tuple[str, ...]:
        """Kinds that the step looks at, so that others may use them."""
        return self.parts[0].operation.checks

    @cached_property
    def consumes(self) -> frozenset[str]:
        """Kinds of artifact that must exist before any part can start."""
        return frozenset(kind for part in self.parts for kind in part.operation.consumes)


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in an order in which they can be done; or none and the reason why the target is out of reach."""

    steps: tuple[Step, ...]
    cause: str = ""


class _Blocked(Exception):
    """A kind cannot be produced. ``weight``: how much the reason helps whoever reads it."""

    def __init__(self, reason: str, weight: int = 0) -> None:
        super().__init__(reason)
        self.weight = weight


def resolve(manifests: Mapping[str, Manifest], serviceable: Callable[[str], bool], pinned: Mapping[str, str], have: frozenset[str], target: str, use: Mapping[str, str] | None = None, fenced: Collection[str] = ()) -> Plan:  # fmt: skip
    """Steps that lead from the kinds at hand to the target.

    ``serviceable`` tells of a component whether it can be counted on; ``pinned`` maps ``service.op`` to the component that has
    been chosen for it already; ``use`` maps a service to the only component that may offer it; components in ``fenced`` may offer
    nothing. Among several, those come first that do something else of the same service, then the highest rank, then the first name.
    """
    walk = _Walk(manifests, serviceable, pinned, use or {}, fenced)
    try:
        return Plan(tuple(walk.steps_to(target, have, frozenset())))
    except _Blocked as blocked:
        return Plan((), str(blocked))


def offers(manifests: Iterable[Manifest]) -> list[Provider]:
    """All operations of all components: the highest rank first, then the first name."""
    ranked = sorted(manifests, key=lambda m: (-m.rank, m.name))
    return [Provider(m.name, operation) for m in ranked for operation in m.operations]


class _Walk:
    """One walk back over the graph."""

    def __init__(self, manifests: Mapping[str, Manifest], serviceable: Callable[[str], bool], pinned: Mapping[str, str], use: Mapping[str, str], fenced: Collection[str]) -> None:  # fmt: skip
        self._all = [p for p in offers(manifests.values()) if use.get(p.operation.service, p.component) == p.component]
        self._serviceable = serviceable
        self._pinned = pinned
        self._fenced = fenced
        self._crew: dict[str, str] = {}  # service -> component that does something of it
        for provider in self._all:
            if pinned.get(provider.operation.name) == provider.component and provider.component not in fenced:
                self._crew.setdefault(provider.operation.service, provider.component)

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
        """Steps through the first candidate that works; if none does, the first of the reasons that help most."""

        def strangeness(provider: Provider) -> tuple[bool, bool]:
            operation, component = provider.operation, provider.component
            return self._pinned.get(operation.name) != component, self._crew.get(operation.service) != component

        obstacle: _Blocked | None = None
        for provider in sorted(candidates, key=strangeness):
            crew = dict(self._crew)
            try:
                self._admit(provider)
                self._crew.setdefault(provider.operation.service, provider.component)
                return expand(provider)
            except _Blocked as blocked:
                self._crew = crew
                obstacle = blocked if obstacle is None or blocked.weight > obstacle.weight else obstacle
        raise obstacle or _Blocked(lacking)

    def _admit(self, provider: Provider) -> None:
        """Raises _Blocked where the component can do nothing for the job; text with cause and remedy, for people."""
        name, component = provider.operation.name, provider.component
        if component in self._fenced:
            raise _Blocked(f"{name} by {component} is not taken any more", 1)
        if not self._serviceable(component):
            remedy = f"`qcosctl plugin restart {component}` starts it again"
            text = f"{name} needs {component}, which is not available: `qcosctl plugin list` says why, {remedy}"
            raise _Blocked(text, 2)
