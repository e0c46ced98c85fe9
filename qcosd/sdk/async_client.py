# SPDX-License-Identifier: Apache-2.0
"""The client for programs with an asyncio loop: the same calls as ``BlockingClient``, many at a time.

async with Client() as client:
    job = await client.submit({"shots": 100, "seed": 1}, {"source": await client.put(text)})
    async for event in client.events(["job."]): ...
"""

# ruff: noqa: ASYNC109 - the timeouts are those of the protocol: the kernel answers by then, and says so

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import zmq

from qcosd.frames import readable, receive
from qcosd.protocol import ProtocolError, Type
from qcosd.sdk import calls
from qcosd.sdk.client import CONNECT_GRACE, RECONNECT_AFTER, TIMEOUT, USER, absence
from qcosd.sdk.conversations import Conversation, Conversations
from qcosd.sdk.dealer import Dealer, Readable, subscriber
from qcosd.sdk.errors import DaemonAbsent, RequestFailed, SdkError
from qcosd.sdk.runtime import CLIENTS_SOCKET, EVENTS_SOCKET, client_token, find_runtime_dir, probe
from qcosd.sdk.session import Dismissed, Limits, Request, Session, Welcomed
from qcosd.sdk.subscription import Subscription, TopicEvent

T = TypeVar("T")

_LOOK = 0.1  # seconds between looks at a silent daemon
_LONGEST_SLEEP = 60.0


class Client:
    """See the module and ``BlockingClient``.  Belongs to the loop in which it is connected."""

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
        self._talks = Conversations(self._session)
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._dealer: Dealer | None = None
        self._readables: list[Readable] = []
        self._timer: asyncio.TimerHandle | None = None
        self._made = 0.0
        self._failed: SdkError | None = None
        self._welcomed = False  # at any time
        self._welcome = asyncio.Event()
        self._waiting: set[Conversation[Any]] = set()
        self._subscribers: set[_Feed] = set()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def boot(self) -> int:
        """Boot number of the kernel, 0 before the first connection."""
        return self._session.boot

    async def connect(self) -> None:
        """Returns when the kernel has said welcome.  Raises DaemonAbsent at once, DaemonSilent after the grace."""
        if self._failed is not None:
            self.close()  # begin anew
        if self._context is not None:
            return
        if probe(self.runtime_dir).absent:
            raise DaemonAbsent(str(self.runtime_dir))
        self._loop = asyncio.get_running_loop()
        self._failed = None
        self._welcome.clear()
        self._context = zmq.Context()
        try:
            self._renew()
            self._go_on()
            await self._welcome.wait()
            if self._failed is not None:
                raise self._failed
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give up the connection; calls that wait for an answer fail.  The client may connect again."""
        self._hang_up()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._session.disconnected()
        for conversation in list(self._waiting):
            self._talks.abandon(conversation, self._failed or SdkError("the client was closed"))
        for feed in list(self._subscribers):
            feed.close()
        if self._context is not None:
            self._context.term()
            self._context = None

    def _hang_up(self) -> None:
        for each in self._readables:
            each.close()
        if self._dealer is not None:
            self._dealer.close()
        self._readables, self._dealer = [], None

    def _renew(self) -> None:
        self._hang_up()
        self._made = self._loop.time()
        self._session.hello(self._made)
        token = client_token(self.runtime_dir)
        if token is not None and self._context is not None:
            self._dealer = Dealer(self._context, f"ipc://{self.runtime_dir / CLIENTS_SOCKET}", USER, token)
            self._readables = [
                Readable(self._loop, self._dealer.socket, self._receive),
                Readable(self._loop, self._dealer.monitor, self._notice),
            ]

    def _receive(self) -> bool:
        if self._dealer is None:
            return False
        frames = self._dealer.receive()
        if frames is None:
            return False
        try:
            self._absorb(self._session.receive(frames, self._loop.time()))
        except ProtocolError as error:
            self._fail(SdkError(f"the kernel broke the protocol: {error}"))
            return False
        self._go_on()
        return True

    def _notice(self) -> bool:
        """Whether the kernel is there has changed, perhaps. What it has said before comes first."""
        while self._receive():
            pass
        if self._dealer is not None and self._dealer.changed() is False and self._session.welcomed:
            self._reconnect()
            self._go_on()
        return False

    def _absorb(self, happenings: Iterable[object]) -> None:
        for happening in happenings:
            match happening:
                case Welcomed():
                    self._welcomed = True
                    self._welcome.set()
                    for feed in self._subscribers:
                        feed.renew()
                case Dismissed(error=error):
                    self._fail(error)
                case _:
                    self._talks.take(happening, self._loop.time())

    def _fail(self, error: SdkError) -> None:
        """The connection is of no use: everybody who waits hears of it."""
        if self._failed is None:
            self._failed = error
            self._welcome.set()
            for conversation in list(self._waiting):
                self._talks.abandon(conversation, error)
            for feed in self._subscribers:
                feed.awake.set()

    def _go_on(self) -> None:
        """Send what there is to send, and set the timer."""
        if self._context is None or self._failed is not None:
            return
        now = self._loop.time()
        times = [now + _LONGEST_SLEEP]
        at = self._session.next_deadline()
        if at is not None:
            times.append(at)
        if self._session.silent_for(now) > 0.0 or self._dealer is None:
            times.append(now + _LOOK)
        if self._dealer is not None:
            self._dealer.send(self._session.outgoing())
            self._readables[0].look()
            if not self._dealer.flush():
                times.append(now + _LOOK)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(times), self._on_timer)

    def _on_timer(self) -> None:
        while self._receive():
            pass  # what has arrived in time counts as in time
        now = self._loop.time()
        self._absorb(self._session.tick(now))
        silent = self._session.silent_for(now)
        grace = self.restart_grace if self._welcomed and self.restart_grace is not None else self.connect_grace
        if silent >= grace:
            self._fail(absence(self.runtime_dir, self._welcomed))
        elif silent >= RECONNECT_AFTER and now - self._made >= RECONNECT_AFTER:
            self._reconnect()
        self._go_on()

    def _reconnect(self) -> None:
        try:
            self._renew()
        except SdkError as error:
            self._fail(error)

    async def _drive(self, talk: calls.Talk[T]) -> T:
        await self.connect()
        done = asyncio.Event()
        conversation = self._talks.begin(talk, self._loop.time(), lambda _: done.set())
        self._waiting.add(conversation)
        try:
            self._go_on()
            await done.wait()
            return conversation.result()
        finally:
            self._waiting.discard(conversation)
            self._talks.abandon(conversation)

    def _limits(self) -> Limits:
        return self._session.limits

    # --- calls, as BlockingClient has them

    async def put(self, data: bytes, timeout: float | None = TIMEOUT) -> str:
        """Store an artifact; returns its SHA-256 in hex."""
        return await self._drive(calls.put(data, self._limits, timeout))

    async def get(self, sha: str, timeout: float | None = TIMEOUT) -> bytes:
        """Fetch an artifact, verified."""
        return await self._drive(calls.get(sha, self._limits, timeout))

    async def submit(
        self,
        options: Mapping[str, Any],
        inputs: Mapping[str, str],
        key: str | None = None,
        timeout: float | None = TIMEOUT,
    ) -> str:
        """Run a job; returns its id.  The same ``key`` gives the same job."""
        return await self._drive(calls.submit(options, inputs, key, timeout))

    async def job(self, id: str, timeout: float | None = TIMEOUT) -> dict[str, Any]:
        """The job document as it is now."""
        return await self._drive(calls.job(id, timeout))

    async def jobs(self, limit: int = 100, timeout: float | None = TIMEOUT) -> list[dict[str, Any]]:
        """Rows {job, state, submitted, cause}, newest first."""
        return await self._drive(calls.jobs(limit, timeout))

    async def wait(self, id: str, timeout: float | None = None) -> dict[str, Any]:
        """The job document once the job has ended."""
        return await self._drive(calls.wait(id, timeout))

    async def cancel(self, id: str, key: str | None = None, timeout: float | None = TIMEOUT) -> dict[str, Any]:
        """End a job as cancelled; returns its document."""
        return await self._drive(calls.cancel(id, key, timeout))

    async def plugins(self, timeout: float | None = TIMEOUT) -> list[dict[str, Any]]:
        """Rows {name, service, state, pid, incarnation, restarts, uptime, cause}."""
        return await self._drive(calls.plugins(timeout))

    async def plugin(self, action: str, name: str, key: str | None = None, timeout: float | None = TIMEOUT) -> None:
        """``action``: start, stop, restart, kill or reset."""
        await self._drive(calls.plugin(action, name, key, timeout))

    async def fault(
        self, name: str, kind: str, seconds: float = 0.0, key: str | None = None, timeout: float | None = TIMEOUT
    ) -> None:
        """Make a plugin ``crash``, ``hang`` or be ``slow``; ``freeze`` stops its process (SIGSTOP)."""
        await self._drive(calls.fault(name, kind, seconds, key, timeout))

    async def status(self, timeout: float | None = TIMEOUT) -> dict[str, Any]:
        """{version, pid, boot, state, jobs, plugins, counters}."""
        return await self._drive(calls.status(timeout))

    async def ping(self, timeout: float | None = TIMEOUT) -> None:
        """A barrier."""
        await self._drive(calls.ping(timeout))

    async def request(
        self, type: str, body: Mapping[str, Any] | None = None, payload: tuple[bytes, ...] = (),
        timeout: float | None = TIMEOUT, key: str | None = None,
    ) -> tuple[dict[str, Any], tuple[bytes, ...]]:  # fmt: skip
        """Any request of the protocol by its name; returns body and payload of the reply."""
        message = await self._drive(calls.ask(Request(Type[type], dict(body or {}), payload, timeout, key)))
        return message.body, message.payload

    async def events(self, topics: Iterable[str]) -> AsyncIterator[TopicEvent]:
        """The state of every topic that starts with one of ``topics``, then each change, for ever."""
        await self.connect()
        feed = _Feed(self, Subscription(topics))
        self._subscribers.add(feed)
        self._session.watch = True
        try:
            feed.renew()
            while True:
                for prefix in sorted(feed.subscription.wanted):
                    reply = await self._drive(calls.snapshot(prefix, TIMEOUT))
                    for event in feed.subscription.snapshot(prefix, reply):
                        yield event
                if feed.subscription.wanted:
                    continue
                feed.awake.clear()
                while frames := feed.receive():
                    for event in feed.subscription.event(frames):
                        yield event
                if self._failed is not None:
                    raise self._failed
                if self._context is None:
                    return
                if not feed.subscription.wanted:
                    await feed.wait(self.connect_grace)
        finally:
            feed.close()
            self._subscribers.discard(feed)
            self._session.watch = bool(self._subscribers)


class _Feed:
    """The SUB of one ``events``; made anew whenever the kernel has said welcome, since the token may have changed."""

    def __init__(self, client: Client, subscription: Subscription) -> None:
        self.subscription = subscription
        self.awake = asyncio.Event()
        self._client = client
        self._socket: zmq.Socket[bytes] | None = None
        self._readable: Readable | None = None

    def renew(self) -> None:
        client = self._client
        self.close()
        token = client_token(client.runtime_dir)
        if token is None or client._context is None:
            return
        endpoint = f"ipc://{client.runtime_dir / EVENTS_SOCKET}"
        self._socket = subscriber(client._context, endpoint, USER, token, self.subscription.prefixes)
        self._readable = Readable(client._loop, self._socket, self._wake)

    def _wake(self) -> bool:
        self.awake.set()
        return False

    def receive(self) -> list[bytes] | None:
        if self._socket is None:
            return None
        return receive(self._socket) if readable(self._socket) else None

    async def wait(self, grace: float) -> None:
        """Until there may be an event.  Raises RequestFailed if the subscription is not granted within ``grace``."""
        if self.subscription.boot:
            await self.awake.wait()
            return
        session = self._client._session
        try:
            await asyncio.wait_for(self.awake.wait(), grace)
        except TimeoutError:
            if not session.welcomed or session.silent_for(self._client._loop.time()) > 0.0:
                return  # first somebody has to be there
            text = f"no subscription to {', '.join(self.subscription.prefixes)}"
            raise RequestFailed(4, "not_allowed", text) from None

    def close(self) -> None:
        if self._readable is not None and self._socket is not None:
            self._readable.close()
            self._socket.close(linger=0)
        self._readable = self._socket = None
        self.awake.set()
