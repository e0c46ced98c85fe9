# SPDX-License-Identifier: Apache-2.0
"""The client for programs without an event loop.  Importing it is cheap: no asyncio, no numpy.

    with BlockingClient() as client:
        job = client.submit({"shots": 100, "seed": 1}, {"source": client.put(text)})
        print(client.wait(job)["summary"])

Every call takes a ``timeout`` in seconds and raises DeadlineExceeded, RequestFailed (the kernel's own errors),
DaemonAbsent or DaemonSilent.  A daemon that is restarted meanwhile is waited for, and what was open is sent again with
the same idempotency key: a call has its effect once.  A client belongs to one thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import zmq

from qcosd.protocol import Type
from qcosd.sdk import calls
from qcosd.sdk.conversations import Conversations
from qcosd.sdk.dealer import Dealer, subscriber
from qcosd.sdk.errors import DaemonAbsent, DaemonSilent, RequestFailed
from qcosd.sdk.runtime import CLIENTS_SOCKET, EVENTS_SOCKET, client_token, find_runtime_dir, probe
from qcosd.sdk.session import Answer, Dismissed, Failure, Limits, Request, Session, Welcomed
from qcosd.sdk.subscription import Subscription, TopicEvent

T = TypeVar("T")

USER = "client"
CONNECT_GRACE = 5.0
"""Seconds for which a daemon that is there may stay silent."""

RECONNECT_AFTER = 1.0
"""Seconds of silence after which a new connection is made: the daemon may be another one, with another token."""

TIMEOUT = 30.0
_LOOK = 0.1  # seconds between looks at a silent daemon


def absence(runtime_dir: Path, welcomed: bool) -> DaemonAbsent | DaemonSilent:
    """The error for a daemon that does not answer; ``welcomed``: one was there before, and its end is worth telling."""
    presence = probe(runtime_dir)
    if presence.absent and not welcomed:
        return DaemonAbsent(str(runtime_dir))
    return DaemonSilent(str(runtime_dir), presence.pid, presence.state)


class BlockingClient:
    """See the module.  ``runtime_dir``: of the daemon, else found by ``find_runtime_dir``; ``name``: for its log.

    ``connect_grace``: seconds for which a daemon may stay silent.  ``restart_grace``: the same once it has said welcome,
    however absent it is; None for ``connect_grace``.
    """

    def __init__(
        self,
        runtime_dir: str | os.PathLike[str] | None = None,
        connect_grace: float = CONNECT_GRACE,
        name: str = "client",
        restart_grace: float | None = None,
    ) -> None:
        self.runtime_dir = find_runtime_dir(runtime_dir)
        self.connect_grace = connect_grace
        self.restart_grace = restart_grace
        self._session = Session({"name": name})
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._dealer: Dealer | None = None
        self._connected = False
        self._made = 0.0  # when the connection was made
        self._welcomes = 0
        self._talks = Conversations(self._session)

    # --- connection

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Returns when the kernel has said welcome.  Raises DaemonAbsent at once, DaemonSilent after the grace."""
        if self._connected:
            return
        if probe(self.runtime_dir).absent:
            raise DaemonAbsent(str(self.runtime_dir))
        self._connected = True
        try:
            self._renew()
            while not self._session.welcomed:
                self._step()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give up the connection.  The client may connect again."""
        self._connected = False
        if self._dealer is not None:
            self._dealer.close()
            self._dealer = None
        if self._context is not None:
            self._context.destroy(linger=0)  # with the socket of an `events` that is still held somewhere
            self._context = None
        self._session.disconnected()

    @property
    def boot(self) -> int:
        """Boot number of the kernel, 0 before the first connection."""
        return self._session.boot

    def _renew(self) -> None:
        """A new connection, where there is a token to show."""
        if self._dealer is not None:
            self._dealer.close()
            self._dealer = None
        now = self._made = time.monotonic()
        self._session.hello(now)
        token = client_token(self.runtime_dir)
        if token is not None:
            if self._context is None:
                self._context = zmq.Context()
            self._dealer = Dealer(self._context, f"ipc://{self.runtime_dir / CLIENTS_SOCKET}", USER, token)

    # --- waiting

    def _step(self, other: zmq.Socket[bytes] | None = None, until: float | None = None) -> bool:
        """Send, wait for something, take it in.  True if ``other`` may be read; returns at ``until`` at the latest."""
        now = time.monotonic()
        times = [at for at in (until, self._session.next_deadline()) if at is not None]
        if self._dealer is not None:
            self._dealer.send(self._session.outgoing())
            if not self._dealer.flush():
                times.append(now + _LOOK)
        if self._session.silent_for(now) > 0.0 or self._dealer is None:
            times.append(now + _LOOK)
        poller = zmq.Poller()
        for socket in (*(() if self._dealer is None else (self._dealer.socket, self._dealer.monitor)), other):
            if socket is not None:
                poller.register(socket, zmq.POLLIN)
        wait = None if not times else max(0, round((min(times) - now) * 1000 + 0.5))
        if len(poller.sockets):
            ready = dict(poller.poll(wait))
        else:
            time.sleep(_LOOK)
            ready = {}
        while self._dealer is not None:
            frames = self._dealer.receive()
            if frames is None:
                break
            self._absorb(self._session.receive(frames, time.monotonic()))
        now = time.monotonic()
        if self._dealer is not None and self._dealer.changed() is False and self._session.welcomed:
            self._renew()  # the kernel has died or sent this client away; whoever is next may ask for another token
        self._absorb(self._session.tick(now))
        self._look_at_silence(now)
        if self._dealer is not None:
            self._dealer.send(self._session.outgoing())
        return other is not None and other in ready

    def _look_at_silence(self, now: float) -> None:
        welcomed = self._welcomes > 0
        grace = self.restart_grace if welcomed and self.restart_grace is not None else self.connect_grace
        if self._session.silent_for(now) >= grace:
            self.close()  # the next call begins anew
            raise absence(self.runtime_dir, welcomed)
        if self._session.silent_for(now) >= RECONNECT_AFTER and now - self._made >= RECONNECT_AFTER:
            self._renew()

    def _absorb(self, happenings: Iterable[object]) -> None:
        for happening in happenings:
            match happening:
                case Answer() | Failure():
                    self._talks.take(happening, time.monotonic())
                case Welcomed():
                    self._welcomes += 1
                case Dismissed(error=error):
                    self.close()
                    raise error

    def _drive(self, talk: calls.Talk[T]) -> T:
        self.connect()
        conversation = self._talks.begin(talk, time.monotonic())
        try:
            while not conversation.over:
                self._step()
            return conversation.result()
        finally:
            self._talks.abandon(conversation)

    def _limits(self) -> Limits:
        return self._session.limits

    # --- calls

    def put(self, data: bytes, timeout: float | None = TIMEOUT) -> str:
        """Store an artifact; returns its SHA-256 in hex.  ``timeout`` is of each chunk."""
        return self._drive(calls.put(data, self._limits, timeout))

    def get(self, sha: str, timeout: float | None = TIMEOUT) -> bytes:
        """Fetch an artifact, verified.  ``timeout`` is of each chunk."""
        return self._drive(calls.get(sha, self._limits, timeout))

    def submit(
        self,
        options: Mapping[str, Any],
        inputs: Mapping[str, str],
        key: str | None = None,
        timeout: float | None = TIMEOUT,
    ) -> str:
        """Run a job on stored artifacts (kind -> SHA-256); returns its id.  The same ``key`` gives the same job."""
        return self._drive(calls.submit(options, inputs, key, timeout))

    def job(self, id: str, timeout: float | None = TIMEOUT) -> dict[str, Any]:
        """The job document as it is now."""
        return self._drive(calls.job(id, timeout))

    def jobs(self, limit: int = 100, timeout: float | None = TIMEOUT) -> list[dict[str, Any]]:
        """Rows {job, state, submitted, cause}, newest first."""
        return self._drive(calls.jobs(limit, timeout))

    def wait(
        self, id: str, timeout: float | None = None, on_change: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        """The job document once the job is done, failed or cancelled.

        ``on_change`` gets the state of the job's topic {job, state, cause, stage, fraction, batches} at each change.
        """
        if on_change is None:
            return self._drive(calls.wait(id, timeout))
        self.connect()
        conversation = self._talks.begin(calls.wait(id, timeout), time.monotonic())
        try:
            topic = f"job.{id}"
            for event in self._events([topic], None, lambda: conversation.over):
                if event.topic == topic:  # a subscription is to a prefix: job.1 brings job.10 along
                    on_change(event.state)
            return conversation.result()
        finally:
            self._talks.abandon(conversation)

    def cancel(self, id: str, key: str | None = None, timeout: float | None = TIMEOUT) -> dict[str, Any]:
        """End a job as cancelled; returns its document.  Without effect on a job that has ended."""
        return self._drive(calls.cancel(id, key, timeout))

    def plugins(self, timeout: float | None = TIMEOUT) -> list[dict[str, Any]]:
        """Rows {name, service, state, pid, incarnation, restarts, uptime, cause}."""
        return self._drive(calls.plugins(timeout))

    def plugin(self, action: str, name: str, key: str | None = None, timeout: float | None = TIMEOUT) -> None:
        """``action``: start, stop, restart, kill or reset."""
        self._drive(calls.plugin(action, name, key, timeout))

    def fault(
        self, name: str, kind: str, seconds: float = 0.0, key: str | None = None, timeout: float | None = TIMEOUT
    ) -> None:
        """Make a plugin ``crash``, ``hang`` or be ``slow``; ``freeze`` stops its process (SIGSTOP)."""
        self._drive(calls.fault(name, kind, seconds, key, timeout))

    def status(self, timeout: float | None = TIMEOUT) -> dict[str, Any]:
        """{version, pid, boot, state, jobs, plugins, counters}."""
        return self._drive(calls.status(timeout))

    def ping(self, timeout: float | None = TIMEOUT) -> float:
        """A barrier; returns the seconds that it took."""
        began = time.monotonic()
        self._drive(calls.ping(timeout))
        return time.monotonic() - began

    def drain(self, on: bool = True, key: str | None = None, timeout: float | None = TIMEOUT) -> None:
        """Make the kernel take no new jobs, or take them again."""
        self._drive(calls.drain(on, key, timeout))

    def shutdown(self, key: str | None = None, timeout: float | None = TIMEOUT) -> None:
        """Stop all components in order, then the daemon.  Returns when it has begun."""
        self._drive(calls.shutdown(key, timeout))

    def request(
        self,
        type: str,
        body: Mapping[str, Any] | None = None,
        payload: tuple[bytes, ...] = (),
        timeout: float | None = TIMEOUT,
        key: str | None = None,
    ) -> tuple[dict[str, Any], tuple[bytes, ...]]:
        """Any request of the protocol by its name; returns body and payload of the reply."""
        message = self._drive(calls.ask(Request(Type[type], dict(body or {}), payload, timeout, key)))
        return message.body, message.payload

    def events(self, topics: Iterable[str], timeout: float | None = None) -> Iterator[TopicEvent]:
        """The state of every topic that starts with one of ``topics``, then each change, for ever.

        Where changes were missed the next event is a snapshot.  Ends after ``timeout`` seconds.
        """
        return self._events(topics, None if timeout is None else time.monotonic() + timeout, lambda: False)

    def _events(self, topics: Iterable[str], until: float | None, over: Callable[[], bool]) -> Iterator[TopicEvent]:
        subscription = Subscription(topics)
        self.connect()
        socket: zmq.Socket[bytes] | None = None
        welcomes = -1
        watched, self._session.watch = self._session.watch, True
        try:
            while not over() and (until is None or time.monotonic() < until):
                if welcomes != self._welcomes:
                    welcomes = self._welcomes
                    socket = self._subscribe(subscription, socket)
                    granted_by = time.monotonic() + self.connect_grace
                for prefix in sorted(subscription.wanted):
                    granted_by = float("inf")
                    yield from subscription.snapshot(prefix, self._drive(calls.snapshot(prefix, TIMEOUT)))
                if subscription.wanted or over():
                    continue
                now = time.monotonic()
                if not self._session.welcomed or self._session.silent_for(now) > RECONNECT_AFTER:
                    granted_by = max(granted_by, now + self.connect_grace)  # first somebody has to be there
                elif now >= granted_by:
                    raise RequestFailed(4, "not_allowed", f"no subscription to {', '.join(subscription.prefixes)}")
                self._step(socket, min(at for at in (until, granted_by) if at is not None))
                yield from self._published(subscription, socket)
        finally:
            self._session.watch = watched
            if socket is not None:
                socket.close(linger=0)

    def _subscribe(self, subscription: Subscription, old: zmq.Socket[bytes] | None) -> zmq.Socket[bytes]:
        if old is not None:
            old.close(linger=0)
        token = client_token(self.runtime_dir)
        if token is None or self._context is None:
            raise absence(self.runtime_dir, True)
        endpoint = f"ipc://{self.runtime_dir / EVENTS_SOCKET}"
        return subscriber(self._context, endpoint, USER, token, subscription.prefixes)

    def _published(self, subscription: Subscription, socket: zmq.Socket[bytes] | None) -> Iterator[TopicEvent]:
        while socket is not None and not socket.closed:
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            yield from subscription.event(frames)
