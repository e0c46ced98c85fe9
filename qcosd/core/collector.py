# SPDX-License-Identifier: Apache-2.0
"""Which artifacts can go: those that no job refers to, nor any that is remembered, and that were not put lately."""

from __future__ import annotations

from collections.abc import Iterator

from qcosd.core.alarms import Alarms
from qcosd.core.blobs import Blobs
from qcosd.core.events import Limits
from qcosd.core.jobs import Jobs
from qcosd.core.outbox import Outbox


class Collector:
    """Looks at all artifacts now and then. Whoever has put one gets ``artifact_grace`` to refer to it."""

    def __init__(self, outbox: Outbox, alarms: Alarms, blobs: Blobs, jobs: Jobs, limits: Limits) -> None:
        self._outbox = outbox
        self._alarms = alarms
        self._blobs = blobs
        self._jobs = jobs
        self._limits = limits
        self._since = 0.0  # what was there at the start counts as put then

    def begin(self, now: float) -> None:
        """The kernel goes on."""
        self._since = now
        self._alarms.set(("collect", None), now + self._limits.collect_every)

    def collect(self, now: float, safe: bool) -> None:
        """Remove what can go. Unless it is ``safe``: what has to wait for the journal would make all others wait for the store."""
        self._alarms.set(("collect", None), now + self._limits.collect_every)
        before = now - self._limits.artifact_grace
        if self._since > before or not safe:
            return
        if unused := self._blobs.unused(set(self._used()), before):
            self._blobs.delete(unused)

    def _used(self) -> Iterator[str]:
        for job in self._jobs.active.values():
            yield from job.inputs.values()
            yield from job.artifacts.values()
            for made in job.batches.made.values():
                yield from made.values()
        for ended in self._jobs.history.values():
            document = ended.document
            yield from document["inputs"].values()
            yield from document["artifacts"].values()
            yield from filter(None, document["outputs"])
