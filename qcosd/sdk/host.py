# SPDX-License-Identifier: Apache-2.0
"""Runs the operations of a plugin: one worker thread for each lease, next to the one thread that owns the session.

The owner calls ``handle`` with what the session reports; workers reach the session only through ``post``.  There is no
socket and no loop here, so the plugin process and the bench of ``sdk.testing`` run operations in the same way.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from qcosd.protocol import ERRORS, Violation, error_table
from qcosd.sdk import calls
from qcosd.sdk.cache import ArtifactCache
from qcosd.sdk.conversations import Conversation, Conversations
from qcosd.sdk.errors import Refused, RequestFailed, Revoked, SdkError, StreamClosed
from qcosd.sdk.lease import Lease, Result
from qcosd.sdk.links import Link
from qcosd.sdk.plugin_session import (
    LeaseGiven,
    LeaseLost,
    PluginHappening,
    PluginSession,
    StreamGranted,
    bug_table,
)
from qcosd.sdk.pool import Pool
from qcosd.sdk.printed import LOG
from qcosd.sdk.stream_session import Grant
from qcosd.sdk.streams import StreamReader, StreamWriter, open_stream
from qcosd.sdk.turns import Turns

T = TypeVar("T")


@dataclass(slots=True)
class Operation:
    """A function that carries out ``service.op``; ``concurrency`` of its leases run at a time."""

    function: Callable[[Lease], Any]
    concurrency: int = 1
    turns: Turns = field(init=False)

    def __post_init__(self) -> None:
        self.turns = Turns(self.concurrency)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a host needs from whoever owns the session.

    ``post``: run a function in the owner's thread, soon; callable from any thread.  ``flush``: send what the session has
    to send.  ``run``: run a coroutine and wait for it, called in a worker thread; it raises Revoked if ``lease`` ends.
    ``link``: carries a granted stream, None for the socket that the grant names.
    """

    post: Callable[[Callable[[], None]], None]
    flush: Callable[[], None]
    clock: Callable[[], float]
    run: Callable[[Coroutine[Any, Any, Any], Lease], Any]
    link: Callable[[Grant], Link | None] = lambda grant: None


@dataclass(slots=True)
class _Running:
    lease: Lease
    stream: StreamReader | StreamWriter | None
    talks: set[Conversation[Any]] = field(default_factory=set)


class Host:
    """See the module.  ``slow``: seconds of pause before each operation (fault injection)."""

    def __init__(self, operations: Mapping[str, Operation], session: PluginSession, surroundings: Surroundings) -> None:
        self.slow = 0.0
        self._operations = operations
        self._session = session
        self._around = surroundings
        self._talks = Conversations(session)
        self._cache = ArtifactCache()
        self._running: dict[tuple[int, int], _Running] = {}
        self._on_idle: Callable[[], object] | None = None

    @property
    def busy(self) -> int:
        """Leases for which something still runs, revoked ones included."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Leases among those whose operation waits for an answer of the kernel."""
        return sum(bool(running.talks) for running in self._running.values())

    def handle(self, happenings: Iterable[PluginHappening]) -> list[PluginHappening]:
        """Take what the session reports; returns what is left for the owner."""
        left: list[PluginHappening] = []
        for happening in happenings:
            match happening:
                case LeaseGiven():
                    self._start(happening)
                case LeaseLost(lease=lease, epoch=epoch, reason=reason):
                    self._revoke(lease, epoch, reason)
                case StreamGranted():
                    self._regrant(happening)
                case _ if not self._talks.take(happening, self._around.clock()):
                    left.append(happening)
        return left

    def when_idle(self, callback: Callable[[], object]) -> None:
        """Call it in the owner's thread as soon as nothing runs."""
        self._on_idle = callback
        if not self._running:
            callback()

    def revoke_all(self, reason: str) -> None:
        """Make every operation stop as soon as it can."""
        for lease, epoch in list(self._running):
            self._revoke(lease, epoch, reason)

    # --- in the owner's thread

    def _start(self, given: LeaseGiven) -> None:
        name = f"{given.body['service']}.{given.body['op']}"
        now = self._around.clock()
        operation = self._operations.get(name)
        if operation is None:
            unknown = error_table("unsupported", f"this plugin has no operation {name}")
            self._session.failed(given.lease, given.epoch, unknown, now)
            return
        stream = None
        try:
            if given.body["stream"] is not None:
                stream = open_stream(Grant.from_map(given.body["stream"]), self._around.link)
            pool = Pool(stream, self._around.link)
            for table in given.body.get("aides", ()):
                pool.grant(Grant.from_map(table))
        except ValueError as error:
            self._session.failed(given.lease, given.epoch, bug_table(error), now)
            return
        key = (given.lease, given.epoch)
        lease = Lease(
            given.body,
            fetch=lambda sha: self._fetch(running, sha),
            report=lambda fraction, text: self._report(given.lease, given.epoch, fraction, text),
            stream=stream,
            pool=pool,
        )
        running = self._running[key] = _Running(lease, stream)
        operation.turns.join(running)
        lease.on_revoke(operation.turns.stir)
        # A daemon thread: one that is stuck in foreign code must not keep the process from leaving.
        threading.Thread(
            target=self._work, args=(operation, running), name=f"{name}/{lease.number}", daemon=True
        ).start()

    def _revoke(self, lease: int, epoch: int, reason: str) -> None:
        running = self._running.get((lease, epoch))
        if running is None:
            self._session.revoked(lease, epoch)  # it has reported already
            return
        running.lease.revoke(reason)
        for talk in list(running.talks):
            self._talks.abandon(talk, Revoked(reason))

    def _regrant(self, granted: StreamGranted) -> None:
        running = self._running.get((granted.lease, granted.epoch))
        if running is None or running.stream is None:
            return  # it has reported already
        try:
            grant = Grant.from_map(granted.grant)
            if grant.grant != running.stream.grant.grant:
                running.lease.pool.grant(grant)
                return
            # Not every end of a stream can go on with somebody else; the kernel does the work of one that cannot again.
            regrant = getattr(running.stream, "regrant", None)
            if regrant is None:
                raise StreamClosed(f"the other end of stream {grant.name!r} was replaced")
            regrant(grant)
        except (ValueError, StreamClosed) as error:
            running.stream.wake(error)

    def _finish(self, running: _Running, outcome: Callable[[int, int], None]) -> None:
        lease = running.lease
        del self._running[(lease.number, lease.epoch)]
        if lease.cancelled.is_set():
            self._session.revoked(lease.number, lease.epoch)
        else:
            try:
                outcome(lease.number, lease.epoch)
            except (Violation, TypeError, ValueError, OverflowError) as error:
                # facts or summary hold what msgpack or the protocol does not take
                self._session.failed(lease.number, lease.epoch, bug_table(error), self._around.clock())
        self._around.flush()
        if self._on_idle is not None and not self._running:
            self._on_idle()

    # --- in worker threads

    def _work(self, operation: Operation, running: _Running) -> None:
        lease, error = running.lease, error_table("internal", "the operation left without a result")
        outcome: Callable[[int, int], None] = lambda n, e: self._session.failed(n, e, error, self._around.clock())  # noqa: E731
        finished = False
        try:
            if self.slow:
                lease.cancelled.wait(self.slow)
            operation.turns.wait(running, lease.cancelled)
            try:
                lease.check()
                result = self._carry_out(operation, running)
            finally:
                operation.turns.leave(running)
            outputs = {
                kind: self._call(running, calls.put(bytes(data), self._limits, None))
                for kind, data in result.outputs.items()
            }
            # The one that it came to its end with: a GRANT that comes now finds nobody.
            stream = None if running.stream is None else running.stream.grant.epoch
            facts, summary = dict(result.facts), None if result.summary is None else dict(result.summary)
            outcome = lambda n, e: self._session.done(n, e, outputs, facts, summary, self._around.clock(), stream)  # noqa: E731
            finished = True
        except Revoked:
            error = error_table("cancelled")
        except Refused as refusal:
            code = refusal.code if refusal.code in ERRORS else "internal"
            error = error_table(code, refusal.message, refusal.details)
        except RequestFailed as refusal:  # by the kernel: an artifact that is not there, or no room for one
            error = error_table(refusal.name if refusal.name in ERRORS else "internal", str(refusal), refusal.details)
        except StreamClosed as closed:
            # The other end is gone.  The kernel may not know yet; it will do both ends again.
            error = error_table("retry_later", str(closed))
        except Exception as bug:  # noqa: BLE001 - a plugin outlives the bugs of its operations, and reports them
            if not lease.cancelled.is_set():
                LOG.exception("a bug ends lease %d of job %s", lease.number, lease.job)
            error = bug_table(bug)
        finally:
            if running.stream is not None:
                running.stream.close(final=finished)
            running.lease.pool.close(final=finished)
            self._around.post(lambda: self._finish(running, outcome))

    def _carry_out(self, operation: Operation, running: _Running) -> Result:
        lease = running.lease
        if running.stream is not None:
            running.stream.open()
        if inspect.iscoroutinefunction(operation.function):
            for kind in lease.inputs:
                lease.input(kind)  # so that the coroutine never blocks the loop
            value = self._around.run(operation.function(lease), lease)
        else:
            value = operation.function(lease)
        if value is None:
            return Result()
        if not isinstance(value, Result):
            raise TypeError(f"{lease.service}.{lease.op} returned {type(value).__name__}, not lease.result(...)")
        return value

    def _limits(self) -> Any:
        return self._session.limits

    def _fetch(self, running: _Running, sha: str) -> bytes:
        data = self._cache.get(sha)
        if data is None:
            data = self._call(running, calls.get(sha, self._limits, None))
            self._cache.keep(sha, data)
        return data

    def _report(self, lease: int, epoch: int, fraction: float, text: str) -> None:
        def report() -> None:
            self._session.progress(lease, epoch, fraction, text)
            self._around.flush()

        self._around.post(report)

    def _call(self, running: _Running, talk: calls.Talk[T]) -> T:
        """Hold a conversation with the kernel and wait for its end."""
        future: Future[T] = Future()

        def ended(conversation: Conversation[T]) -> None:
            running.talks.discard(conversation)
            try:
                future.set_result(conversation.result())
            except Exception as error:  # noqa: BLE001 - it is raised where the result is waited for
                future.set_exception(error)

        def begin() -> None:
            if running.lease.cancelled.is_set():
                future.set_exception(SdkError("revoked"))
                return
            conversation = self._talks.begin(talk, self._around.clock(), ended)
            if not conversation.over:
                running.talks.add(conversation)
            self._around.flush()

        self._around.post(begin)
        try:
            return future.result()
        finally:
            running.lease.check()
