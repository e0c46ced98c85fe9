# SPDX-License-Identifier: Apache-2.0
"""What the tests of the shell share: real sockets in the loop under test, and something to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop
import zmq
import zmq.asyncio

from qcosd.shell.bus import Bus, BusLimits
from qcosd.shell.connections import Connection
from qcosd.shell.zap import CLIENTS_DOMAIN, PLUGINS_DOMAIN, Authenticator, digest_of

PATIENCE = 30.0  # seconds until a test that waits for what never comes is a failure
CLIENT_TOKEN = b"c" * 64
PLUGIN_TOKEN = b"p" * 64
LIMITS = BusLimits(send_queue=64, receive_queue=64, budget=16, heartbeat=1.0)


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test in a loop like the daemon's."""
    uvloop.run(asyncio.wait_for(test, PATIENCE))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something of which there is no event."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


class Inbox:
    """A listener that keeps what a bus reports, in order: ("received", connection, frames) or ("gone", connection)."""

    def __init__(self) -> None:
        self.reports: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()

    def received(self, connection: Connection, frames: list[bytes], /) -> None:
        self.reports.put_nowait(("received", connection, frames))

    def gone(self, connection: Connection, /) -> None:
        self.reports.put_nowait(("gone", connection))

    async def next(self) -> tuple[Any, ...]:
        return await self.reports.get()


def disconnected(peer: Any) -> asyncio.Task[None]:
    """Is done when the connection of an asynchronous peer ends."""
    monitor = peer.get_monitor_socket(zmq.EVENT_DISCONNECTED)

    async def watch() -> None:
        await monitor.recv_multipart()
        peer.disable_monitor()
        monitor.close(0)

    return asyncio.create_task(watch())


class World:
    """A server side (context, ZAP) and peers in a context of their own, as they are in life."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.loop = asyncio.get_running_loop()
        self.now = 0.0
        self._looked = asyncio.Event()
        self.peers = zmq.asyncio.Context()
        self._open: list[Any] = []
        self.serve()

    def serve(self) -> None:
        """Begin a life of the server side."""
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.authenticator = Authenticator(self.context, self.loop, self._clock, CLIENT_TOKEN)

    def _clock(self) -> float:
        self._looked.set()
        return self.now

    def next_look_at_the_clock(self) -> asyncio.Event:
        """Is set when ZAP asks for the time, as it does for a peer in its cool-down."""
        self._looked = asyncio.Event()
        return self._looked

    def end(self, *servers: Any) -> None:
        """End this life of the server side. Its peers go on."""
        for server in servers:
            self.closed(server)
            server.close()
        self.authenticator.close()
        self.context.term()

    def endpoint(self, name: str = "clients") -> str:
        return f"ipc://{self.directory}/{name}.sock"

    def bus(
        self, listener: Any, name: str = "clients", limits: BusLimits = LIMITS, ahead: Callable[[], None] | None = None
    ) -> Bus:
        domain = PLUGINS_DOMAIN if name == "plugins" else CLIENTS_DOMAIN
        bus = Bus(self.context, self.loop, self.endpoint(name), domain, limits, listener, ahead)
        self._open.append(bus)
        return bus

    def closed(self, thing: Any) -> None:
        """The test has closed it by itself."""
        self._open.remove(thing)

    def keep(self, thing: Any) -> Any:
        self._open.append(thing)
        return thing

    def peer(
        self,
        kind: int = zmq.DEALER,
        name: str = "clients",
        user: bytes = b"client",
        token: bytes = CLIENT_TOKEN,
        routing: bytes = b"",
        queue: int = 1000,
        asynchronous: bool = True,
    ) -> Any:
        """A connected socket; asynchronous or plain."""
        factory = zmq.asyncio.Socket if asynchronous else zmq.Socket
        socket = self.keep(factory(self.peers, kind))
        socket.linger = 0
        if user:
            socket.plain_username, socket.plain_password = user, token
        socket.sndhwm = socket.rcvhwm = queue
        if routing:
            socket.routing_id = routing
        socket.connect(self.endpoint(name))
        return socket

    def plugin(self, identity: str = "hello/1", **options: Any) -> Any:
        self.authenticator.admit(identity, digest_of(PLUGIN_TOKEN))
        return self.peer(name="plugins", user=identity.encode(), token=PLUGIN_TOKEN, **options)

    async def __aenter__(self) -> World:
        return self

    async def __aexit__(self, *_: object) -> None:
        for thing in reversed(self._open):
            thing.close()
        self.end()
        self.peers.term()
