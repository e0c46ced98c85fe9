# SPDX-License-Identifier: Apache-2.0
"""Work items and the leases given out for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qcosd.core.batches import seed_of
from qcosd.core.demand import Provider, Step
from qcosd.core.events import Address
from qcosd.core.jobs import Job
from qcosd.core.requests import Refused

SETTLED_KEPT = 4096  # leases whose end is remembered, to acknowledge repeats


@dataclass(eq=False, slots=True)
class Work:
    """A step of a job, or of one of its batches. It keeps its lease and grant numbers for life; each attempt has the next epoch."""

    job: Job
    step: Step
    batch: int | None
    numbers: tuple[int, ...]  # lease number of each part
    grant: int
    epoch: int = 0
    incarnations: tuple[int, ...] = ()  # who has each part of this epoch
    deaths: int = 0  # in a row
    deferrals: int = 0  # `retry_later` in a row
    not_before: float = 0.0
    deferred: bool = False  # this epoch has ended in `retry_later`
    delivered: bool = False
    live: list[Lease] = field(default_factory=list)  # leases of this epoch that have not ended

    @property
    def place(self) -> str:
        """Where it stands, for people: ``track.run`` or ``track.run of batch 3``."""
        return self.step.name + self.suffix

    @property
    def name(self) -> tuple[int | None, str]:
        """What it is among the work of its job."""
        return self.batch, self.step.name

    @property
    def suffix(self) -> str:
        """What follows the name of an operation in `place`."""
        return "" if self.batch is None else f" of batch {self.batch}"


@dataclass(eq=False, slots=True)
class Lease:
    """The right of an incarnation to do one part of a work item."""

    number: int
    epoch: int
    work: Work
    part: Provider
    incarnation: int
    address: Address
    issued: float
    revoked: bool = False
    fraction: float = 0.0

    @property
    def place(self) -> str:
        """Which part this is and who does it, for people: ``hardware.run of batch 3 by stim_adapter``."""
        return f"{self.part.operation.name}{self.work.suffix} by {self.part.component}"

    @property
    def delivers(self) -> bool:
        """Whether this part delivers the outputs of the work."""
        return self.part is self.work.step.parts[0]

    @property
    def overtaken(self) -> bool:
        """Whether it was taken back only because the other side of its stream gave up first, perhaps as a consequence."""
        return self.work.deferred and self.epoch == self.work.epoch

    def cut_short(self, error: dict[str, Any]) -> bool:
        """Whether it lacks the rest of a stream whose other side has said that it is done."""
        alone = len(self.work.step.parts) > 1 and not self.work.live
        return alone and error["name"] == "retry_later" and "stream" in error.get("details", {})

    def check(self, outputs: dict[str, str], stored: Callable[[str], bool]) -> None:
        """Whether the outputs are what the manifest promises. Raises Refused(wrong_output)."""
        operation = self.part.operation
        if outputs.keys() != set(operation.produces):
            text = f"{operation.name} delivered {sorted(outputs)}, not {sorted(operation.produces)}"
            raise Refused("wrong_output", text)
        for kind, digest in outputs.items():
            if not stored(digest):
                raise Refused("wrong_output", f"the artifact `{kind}` was not stored before DONE")

    def body(self, streams: str, secret: str, size: Callable[[str], int]) -> dict[str, Any]:
        """Body of LEASE. ``streams``: prefix of endpoints; ``secret`` of the stream, empty without one; ``size`` of a digest."""
        work, job, operation = self.work, self.work.job, self.part.operation
        has = job.has(work.batch)
        stream = None
        if secret:
            stream = {
                "grant": work.grant,
                "epoch": work.epoch,
                "name": operation.stream_in or operation.stream_out,
                "role": "bind" if operation.stream_in else "connect",
                "endpoint": f"{streams}{work.grant}.{work.epoch}",
                "secret": secret,
                "credit": job.terms.credit,
                "resumes": operation.resumes,
            }
        sources = {kind: job.source(work.batch, kind) for kind in operation.checks}
        summaries = {kind: source.summary for kind, source in sources.items() if source and source.summary is not None}
        return {
            **({"summaries": summaries} if summaries else {}),
            "lease": self.number,
            "epoch": self.epoch,
            "job": job.id,
            "service": operation.service,
            "op": operation.op,
            "batch": work.batch,
            "options": job.options,
            "shots": job.shots_of(work.batch),
            "seed": seed_of(job.terms.seed, work.batch),
            "inputs": {kind: {"sha": has[kind], "size": size(has[kind])} for kind in operation.consumes},
            "stream": stream,
            "budget": operation.budget,
        }


class Leases:
    """All leases that occupy a plugin: those in force, and those revoked that the plugin has not given up yet."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], Lease] = {}
        self._load: dict[int, int] = {}  # incarnation -> leases
        self._settled: dict[tuple[int, int], int] = {}  # (lease, epoch) -> incarnation that ended it
        self._number = 0

    def number(self) -> int:
        """A fresh number, for a lease or a grant."""
        self._number += 1
        return self._number

    def add(self, lease: Lease) -> None:
        """A lease has been given out."""
        self._held[lease.number, lease.epoch] = lease
        self._load[lease.incarnation] = self.load(lease.incarnation) + 1

    def remove(self, lease: Lease, *, settled: bool) -> None:
        """A lease occupies its plugin no more. ``settled``: by DONE or FAILED, which may be repeated."""
        del self._held[lease.number, lease.epoch]
        self._load[lease.incarnation] -= 1
        if not self._load[lease.incarnation]:
            del self._load[lease.incarnation]
        if settled:
            self._settled[lease.number, lease.epoch] = lease.incarnation
            if len(self._settled) > SETTLED_KEPT:
                del self._settled[next(iter(self._settled))]

    def get(self, number: int, epoch: int, incarnation: int) -> Lease | None:
        """The lease that the incarnation holds under these numbers."""
        lease = self._held.get((number, epoch))
        return lease if lease is not None and lease.incarnation == incarnation else None

    def was_settled(self, number: int, epoch: int, incarnation: int) -> bool:
        """Whether that incarnation has ended that lease before."""
        return self._settled.get((number, epoch)) == incarnation

    def load(self, incarnation: int) -> int:
        """Leases that occupy an incarnation."""
        return self._load.get(incarnation, 0)

    def of_incarnation(self, incarnation: int) -> list[Lease]:
        """Leases that occupy an incarnation."""
        return [lease for lease in self._held.values() if lease.incarnation == incarnation]

    def inputs(self, incarnation: int) -> frozenset[str]:
        """Digests that an incarnation may fetch: the inputs of the leases that it holds."""
        return frozenset(
            digest
            for lease in self.of_incarnation(incarnation)
            for kind, digest in lease.work.job.has(lease.work.batch).items()
            if kind in lease.part.operation.consumes
        )

    def __len__(self) -> int:
        return len(self._held)
