# SPDX-License-Identifier: Apache-2.0
"""What an operation is given: the work, its inputs, the stream, and the means to report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from qcosd.sdk.errors import Refused, Revoked
from qcosd.sdk.pool import Pool
from qcosd.sdk.streams import StreamReader, StreamWriter

T = TypeVar("T")

PROGRESS_INTERVAL = 0.1
"""Seconds between reports of progress; what comes faster is dropped (but not the first, nor a change of text)."""


@dataclass(frozen=True)
class Result:
    """What an operation has made.  ``outputs``: artifact kind -> bytes; ``facts``: a small map for the job document;
    ``summary``: of a batch, {"same", "sum", "min", "max"}, merged over all batches."""

    outputs: Mapping[str, bytes] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] | None = None


class Lease:
    """One piece of work.  Its methods may be called from the thread of the operation and from threads that it starts.

    ``job``, ``service``, ``op``: what this is.  ``batch``: index of the batch, None for an operation of the whole job.
    ``options``: of the job, as submitted.  ``shots``, ``seed``: of this batch, or of the job.  ``budget``: seconds.
    ``summaries``: for a check, what was reported with each artifact that it checks.
    ``pool``: streams to workers, of an operation whose manifest says ``pool``; there may be none, and more as it runs.
    ``number``, ``epoch``: of the lease.  ``cancelled``: set when the work is not wanted any more.
    """

    def __init__(
        self,
        body: Mapping[str, Any],
        fetch: Callable[[str], bytes],
        report: Callable[[float, str], None],
        stream: StreamReader | StreamWriter | None = None,
        clock: Callable[[], float] = time.monotonic,
        pool: Pool | None = None,
    ) -> None:
        self.number: int = body["lease"]
        self.epoch: int = body["epoch"]
        self.job: str = body["job"]
        self.service: str = body["service"]
        self.op: str = body["op"]
        self.batch: int | None = body["batch"]
        self.options: dict[str, Any] = body["options"]
        self.shots: int = body["shots"]
        self.seed: int = body["seed"]
        self.budget: float = body["budget"]
        self.summaries: dict[str, Any] = body.get("summaries", {})
        self.pool = pool if pool is not None else Pool(stream)
        self.cancelled = threading.Event()
        self._inputs: dict[str, dict[str, Any]] = body["inputs"]
        self._fetch = fetch
        self._report = report
        self._stream = stream
        self._clock = clock
        self._reported: tuple[float, str] | None = None
        self._reason = ""
        self._watchers: list[Callable[[], object]] = []

    @property
    def inputs(self) -> dict[str, str]:
        """Artifact kind -> SHA-256."""
        return {kind: row["sha"] for kind, row in self._inputs.items()}

    def input(self, kind: str) -> bytes:
        """The bytes of an input, verified.  Fetched at the first call; blocks meanwhile.

        Raises LookupError for a kind that the manifest does not list as consumed, Revoked when the lease has ended.
        """
        self.check()
        try:
            sha = self._inputs[kind]["sha"]
        except KeyError:
            listed = ", ".join(sorted(self._inputs)) or "none"
            raise LookupError(f"{self.service}.{self.op} has no input {kind!r} (inputs: {listed})") from None
        return self._fetch(sha)

    def read(self, kind: str, reader: Callable[[bytes], T]) -> T:
        """An input as ``reader`` understands it.

        A ValueError of the reader is the fault of whoever made the input: Refused(wrong_input).  Raises as ``input`` besides.
        """
        data = self.input(kind)
        try:
            return reader(data)
        except ValueError as error:
            raise Refused("wrong_input", str(error), {"kind": kind}) from error

    @property
    def stream(self) -> StreamReader | StreamWriter | Any:
        """The stream of this work: a StreamWriter if it produces, a StreamReader if it consumes.

        Belongs to the thread that uses it first; the SDK has opened it in the thread of the operation.
        """
        if self._stream is None:
            raise LookupError(f"{self.service}.{self.op} has no stream")
        return self._stream

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far the work is, 0 to 1.  For show; cheap enough for an inner loop."""
        now = self._clock()
        if self._reported is not None:
            at, last = self._reported
            if text == last and now - at < PROGRESS_INTERVAL:
                return
        self._reported = (now, text)
        self._report(fraction, text)

    def check(self) -> None:
        """Raises Revoked if the work is not wanted any more.  Long loops call it now and then."""
        if self.cancelled.is_set():
            raise Revoked(self._reason)

    def result(
        self,
        outputs: Mapping[str, bytes] | None = None,
        facts: Mapping[str, Any] | None = None,
        summary: Mapping[str, Any] | None = None,
    ) -> Result:
        """What the operation returns."""
        return Result(dict(outputs or {}), dict(facts or {}), summary)

    def on_revoke(self, watcher: Callable[[], object]) -> None:
        """Call ``watcher``, in another thread, when the lease ends before its time; at once if it has already."""
        self._watchers.append(watcher)
        if self.cancelled.is_set():
            watcher()

    def revoke(self, reason: str) -> None:
        """End it: called by whoever runs the operation, from any thread."""
        self._reason = reason
        self.cancelled.set()
        for watcher in self._watchers:
            watcher()
        if self._stream is not None:
            self._stream.wake(Revoked(reason))
        self.pool.wake(Revoked(reason))
