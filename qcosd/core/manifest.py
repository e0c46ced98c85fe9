# SPDX-License-Identifier: Apache-2.0
"""A component as its plugin.toml describes it: the field names are the keys of the file. Times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from qcosd.schema import NAME, Violation

MOST = 1e9  # of any number in a manifest: what the wire takes as seconds
MOST_INSTANCES = 256  # processes of one component
LONGEST_NAME = 64  # it becomes the name of a file and part of an identity


class ManifestError(ValueError):
    """A manifest says something impossible. The message names the key."""


@dataclass(frozen=True, slots=True)
class Restart:
    """When a component that died is started again. The first restart is after ``backoff_first``; the n-th after
    ``backoff_base * 2**(n-2)``, at most ``backoff_max``. Being ready for ``stable_after`` starts the count anew.
    ``max_deaths`` within ``within`` make it `failed` until it is reset."""

    policy: str = "always"  # always | never
    backoff_first: float = 0.0
    backoff_base: float = 0.25
    backoff_max: float = 8.0
    stable_after: float = 5.0
    max_deaths: int = 5
    within: float = 60.0


@dataclass(frozen=True, slots=True)
class StopLadder:
    """Rungs: STOP message, ``ask`` later SIGTERM, ``term`` later SIGKILL."""

    ask: float = 2.0
    term: float = 2.0


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """Resource limits of the process; 0 = unlimited."""

    memory_mb: int = 0
    open_files: int = 0
    cpu_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that a component can do: the node of the demand graph."""

    service: str
    op: str
    consumes: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()  # kinds that nobody else gets before this operation has ended well
    each: str = "job"  # job | batch
    stream_in: str | None = None
    stream_out: str | None = None
    ahead: bool = False  # the next batch may be leased to it before the present one has ended
    resumes: bool = False  # of a producer: it can go on with another consumer where the last one had come to
    pool: str | None = None  # name of streams on which it gives work away to whoever there is, besides its own stream
    shadow: str | None = None  # name of the stream on which it shows what it does to one who looks on
    preempt: str = "never"  # never | boundary | kill
    budget: float = 3600.0

    @classmethod
    def of(cls, table: dict[str, Any]) -> Operation:
        """The operation that ``table`` was made of; what later versions add is left out."""
        known: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in table.items() if name in cls.__slots__
        }
        return cls(**known)

    def table(self) -> dict[str, Any]:
        """What differs from the defaults, as the journal has it."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            n: list(v) if isinstance(v, tuple) else v
            for n, v in values.items()
            if v != Operation.__dataclass_fields__[n].default
        }

    @property
    def name(self) -> str:
        """``service.op``."""
        return f"{self.service}.{self.op}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A component. ``argv``: command; the shell replaces ``{python}`` and such."""

    name: str
    version: str
    argv: tuple[str, ...]
    protocol: int = 1
    description: str = ""
    rank: int = 0  # higher is preferred among providers of the same operation
    needs: tuple[str, ...] = ()  # services that must be ready before
    rights: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()  # keys of the option `set` that its operations read
    readiness_timeout: float = 30.0
    replicas: int = 1  # processes that take leases
    max_replicas: int = 0  # so many at the most while all are busy and work waits; 0 = as many as `replicas`
    spares: int = 0  # further processes that stand ready to take the place of one that ends
    launcher: str = "local"
    restart: Restart = field(default_factory=Restart)
    stop: StopLadder = field(default_factory=StopLadder)
    limits: ProcessLimits = field(default_factory=ProcessLimits)
    operations: tuple[Operation, ...] = ()
    folder: str = ""  # where the manifest was found; working directory of the process

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= LONGEST_NAME or not set(self.name) <= set(
            "abcdefghijklmnopqrstuvwxyz0123456789_-"
        ):
            raise ManifestError(f"name: {self.name!r} is not made of a-z, 0-9, _ and -")
        if not self.argv:
            raise ManifestError("argv: is empty")
        if self.restart.policy not in ("always", "never"):
            raise ManifestError(f"restart.policy: {self.restart.policy!r} is not always or never")
        if self.replicas < 1:
            raise ManifestError("replicas: is less than 1")
        if self.max_replicas and self.max_replicas < self.replicas:
            raise ManifestError(f"max_replicas: {self.max_replicas} is less than `replicas`, which is {self.replicas}")
        for table, prefix in ((self, ""), (self.restart, "restart."), (self.stop, "stop."), (self.limits, "limits.")):
            _check_numbers(table, prefix)
        if max(self.replicas, self.max_replicas) + self.spares > MOST_INSTANCES:
            raise ManifestError(f"replicas, max_replicas, spares: more than {MOST_INSTANCES} processes in all")
        for operation in self.operations:
            _check_operation(operation)

    @property
    def services(self) -> frozenset[str]:
        """Names of the services provided."""
        return frozenset(operation.service for operation in self.operations)

    @property
    def most_replicas(self) -> int:
        """Processes that may take leases at a time."""
        return max(self.replicas, self.max_replicas)


def _check_numbers(table: Any, prefix: str) -> None:
    """Whatever counts or takes time is finite and not negative: it becomes a timer, a resource limit or a field on the wire."""
    for each in fields(table):
        value = getattr(table, each.name)
        if each.name != "rank" and type(value) in (int, float) and not 0 <= value <= MOST:
            raise ManifestError(f"{prefix}{each.name}: {value} is not between 0 and {MOST:g}")


def _check_operation(operation: Operation) -> None:
    for key in ("service", "op", "stream_in", "stream_out", "pool", "shadow"):
        name = getattr(operation, key)
        try:
            NAME.check("x" if name is None else name, key)
        except Violation:
            raise ManifestError(f"operation.{key}: {name!r} is not made of letters, digits, _, . and -") from None
    _check_numbers(operation, "operation.")
    if operation.each not in ("job", "batch"):
        raise ManifestError(f"operation.each: {operation.each!r} is not job or batch")
    if operation.preempt not in ("never", "boundary", "kill"):
        raise ManifestError(f"operation.preempt: {operation.preempt!r} is not never, boundary or kill")
    if operation.budget <= 0:
        raise ManifestError("operation.budget: is not positive")
    if (operation.stream_in or operation.stream_out) and operation.each != "batch":
        raise ManifestError("operation.each: only operations of a batch have streams")
    if operation.pool and (operation.each != "batch" or operation.pool in (operation.stream_in, operation.stream_out)):
        raise ManifestError("operation.pool: only operations of a batch give work away, and not on their own stream")
    taken = (operation.stream_in, operation.stream_out, operation.pool)
    if operation.shadow and (operation.each != "batch" or operation.shadow in taken):
        raise ManifestError("operation.shadow: only operations of a batch have shadows, and on a stream for them alone")
    if operation.checks and (operation.produces or operation.stream_in or operation.stream_out):
        raise ManifestError("operation.checks: an operation that checks produces nothing and has no stream")
    if strangers := [kind for kind in operation.checks if kind not in operation.consumes]:
        raise ManifestError(f"operation.checks: {strangers[0]!r} is not among `consumes`")
    if operation.resumes and not operation.stream_out:
        raise ManifestError("operation.resumes: only producers of a stream go on with another consumer")
    if operation.stream_in and operation.stream_out:
        raise ManifestError("operation.stream_out: an operation has one stream at most")
