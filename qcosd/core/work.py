# SPDX-License-Identifier: Apache-2.0
"""Work items and the leases given out for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qcosd.core.batches import seed_of
from qcosd.core.demand import Provider, Step
from qcosd.core.requests import Refused

if TYPE_CHECKING:
    from qcosd.core.aide import Aide
    from qcosd.core.job import Job


@dataclass(eq=False, slots=True)
class Work:
    """A step of a job, or of one of its batches. It keeps its lease and grant numbers for life; each attempt has the next epoch.

    The journal has all of it but what is marked as volatile. It changes by records only, in ``Job.apply``.
    """

    job: Job
    step: Step
    batch: int | None
    numbers: tuple[int, ...] = ()  # lease number of each part
    grant: int = 0
    epoch: int = 0
    incarnations: tuple[int, ...] = ()  # who has, or had, each part last
    deaths: int = 0  # in a row, of plugins that died over it
    strikes: int = 0  # in a row, of plugins that were killed from outside meanwhile
    preemptions: int = 0
    delivered: bool = False
    live: list[Lease] = field(default_factory=list)  # leases that have not ended
    aides: dict[tuple[int, int], Aide] = field(default_factory=dict)  # (part that is helped, place) -> who helps
    # volatile
    others: int | None = None  # what others had got done of this service at the first of these deaths
    deferrals: int = 0  # `retry_later` in a row
    not_before: float = 0.0
    deferred: bool = False  # this epoch has ended in `retry_later`

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

    @property
    def orphaned(self) -> bool:
        """Whether the consumer of a stream is gone and its producer can go on with another one."""
        if self.delivered or len(self.live) != 1 or self.live[0].delivers:
            return False
        return self.live[0].part.operation.resumes

    @property
    def leases(self) -> list[Lease]:
        """Leases that have not ended, those of its aides too."""
        return [*self.live, *(lease for aide in self.aides.values() for lease in aide.live)]

    @property
    def helps(self) -> bool:
        """Whether it is the part of an aide, and never needed."""
        return False

    @property
    def missing(self) -> tuple[int, ...]:
        """Parts that the next attempt has to lease."""
        return (0,) if self.orphaned else tuple(range(len(self.step.parts)))


@dataclass(eq=False, slots=True)
class Lease:
    """The right of an incarnation to do one part of a work item."""

    number: int
    epoch: int
    work: Work
    index: int  # of the part
    incarnation: int
    # volatile
    revoked: bool = False
    since: float = 0.0  # monotonic: when it was given, or taken up in this boot
    fraction: float = 0.0

    @property
    def part(self) -> Provider:
        """What is to be done, and by which component."""
        return self.work.step.parts[self.index]

    @property
    def place(self) -> str:
        """Which part this is and who does it, for people: ``hardware.run of batch 3 by stim_adapter``."""
        return f"{self.part.operation.name}{self.work.suffix} by {self.part.component}"

    @property
    def streams(self) -> bool:
        """Whether it goes with a stream: what it does is part of an execution phase."""
        return len(self.work.step.parts) > 1 or self.work.helps

    @property
    def delivers(self) -> bool:
        """Whether this part delivers the outputs of the work."""
        return self.index == 0 and not self.work.helps

    @property
    def overtaken(self) -> bool:
        """Whether it was taken back only because the other side of its stream gave up first, perhaps as a consequence."""
        return self.work.deferred and self.epoch == self.work.epoch

    def cut_short(self, error: dict[str, Any]) -> bool:
        """Whether it lacks the rest of a stream whose other side has said that it is done."""
        alone = self.streams and not self.work.live
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

    def stream(self, streams: str, secret: str) -> dict[str, Any]:
        """The stream table of the work's present epoch, for this side. ``streams``: prefix of endpoints."""
        work, operation = self.work, self.part.operation
        return {
            "grant": work.grant,
            "epoch": work.epoch,
            "name": operation.stream_in or operation.stream_out,
            "role": "bind" if operation.stream_in else "connect",
            "endpoint": f"{streams}{work.grant}.{work.epoch}",
            "secret": secret,
            "credit": work.job.terms.credit,
            "resumes": operation.resumes,
        }

    def body(self, stream: dict[str, Any] | None, size: Callable[[str], int]) -> dict[str, Any]:
        """Body of LEASE. ``size`` of a digest."""
        work, job, operation = self.work, self.work.job, self.part.operation
        has = job.has(work.batch)
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
            "options": {name: value for name, value in job.options.items() if name != "plan"},
            "shots": job.shots_of(work.batch),
            "seed": seed_of(job.terms.seed, work.batch),
            "inputs": {kind: {"sha": has[kind], "size": size(has[kind])} for kind in operation.consumes},
            "stream": stream,
            "budget": operation.budget,
        }
