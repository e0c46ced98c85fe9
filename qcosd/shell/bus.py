# SPDX-License-Identifier: Apache-2.0
"""One ROUTER of the bus. The daemon has two, so that a flood from clients cannot delay the plugins.

What libzmq does not do by itself, and this file does: say who sent a message (User-Id of its first frame, granted by ZAP), tell a
full peer from an absent one, and end a connection.
"""

import asyncio
import enum
import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import zmq

from qcosd.frames import readable, rest, send
from qcosd.protocol import MAX_FRAME
from qcosd.shell.connections import Connection, Connections
from qcosd.shell.drain import Drain

HANDSHAKE_SECONDS = 2.0  # for a new connection to prove who it is
HEARTBEAT_PATIENCE = 1.5  # intervals that a peer has to answer a heartbeat
FAREWELL_SECONDS = 0.05  # for the last message to leave before a connection is shut down


class Sent(enum.Enum):
    """What became of a message that was handed to the bus."""

    QUEUED = "queued"
    ABSENT = "unreachable"  # no such connection now; the peer may come back
    FULL = "over quota"  # the peer does not read, and its queue is at the limit


@dataclass(frozen=True, slots=True)
class BusLimits:
    """send_queue, receive_queue: messages of one peer that wait to be sent, or to be read. budget: messages read before other
    work gets its turn. heartbeat: seconds between ZMTP pings; a peer that does not answer within one and a half of them is cut off.

    libzmq learns of messages that have left in lots of half the send queue, so a peer has room for half of it only.
    """

    send_queue: int
    receive_queue: int
    budget: int
    heartbeat: float


class Listener(Protocol):
    """What a bus tells the daemon: every message in order of arrival, without the routing id; and the end of each connection
    that has sent something, after its last message."""

    def received(self, connection: Connection, frames: list[bytes], /) -> None: ...

    def gone(self, connection: Connection, /) -> None: ...


class Bus:
    """A bound ROUTER that is read in the event loop. `ahead()`, where given, is called before each message is read: it does what
    must not wait behind a flood of them."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        loop: asyncio.AbstractEventLoop,
        endpoint: str,
        domain: str,
        limits: BusLimits,
        listener: Listener,
        ahead: Callable[[], None] | None = None,
    ) -> None:
        self._loop = loop
        self._ahead = ahead
        self._limits = limits
        self._listener = listener
        self._expelled: dict[Connection, asyncio.TimerHandle] = {}  # nothing is read from them any more
        self._socket = server_socket(context, zmq.ROUTER, domain, limits)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # otherwise a send to an absent peer vanishes
        self._connections = Connections(self._socket, loop, self._read_waiting, self._ended)
        self._socket.bind(endpoint)
        self._drain = Drain(loop, self._socket, self._receive, limits.budget)

    def send(self, routing: bytes, frames: Sequence[bytes]) -> Sent:
        """Queue a message for a connection. Never blocks, never drops silently."""
        self._drain.look_again()
        try:
            send(self._socket, [routing, *frames])
        except zmq.Again:
            return Sent.FULL
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                return Sent.ABSENT
            raise
        return Sent.QUEUED

    def disconnect(self, routing: bytes) -> Connection | None:
        """End a connection once what was sent to it had a moment to leave. What it sends from now on is thrown away."""
        connection = self._connections.with_routing(routing)
        if connection is not None and connection not in self._expelled:
            self._expelled[connection] = self._loop.call_later(FAREWELL_SECONDS, connection.shut_down)
        return connection

    def drain_now(self) -> None:
        """Read what is waiting, up to the budget. Called before a deadline is evaluated, so that a message that has arrived in
        time counts as in time."""
        self._drain.now()

    def close(self, linger: float = 0.0) -> None:
        """Unbind and close. Queued messages have `linger` seconds to leave after this call."""
        for timer in self._expelled.values():
            timer.cancel()
        self._connections.close()
        self._drain.close()
        self._socket.close(int(linger * 1000))

    def _receive(self) -> bool:
        if self._ahead is not None:
            self._ahead()
        if not readable(self._socket):
            self._connections.read_empty()
            return False
        first = self._socket.recv(zmq.NOBLOCK, copy=False)
        frames = rest(self._socket, first, [])
        connection = self._connections.of(first, first.bytes)
        if not self._expelled or connection not in self._expelled:
            self._listener.received(connection, frames)
        return True

    def _read_waiting(self) -> None:
        for _ in range(self._limits.receive_queue):  # a connection has no more than this in the queue
            if not self._receive():
                return
        self._drain.look_again()

    def _ended(self, connection: Connection) -> None:
        timer = self._expelled.pop(connection, None)
        if timer is not None:
            timer.cancel()
        self._listener.gone(connection)


def server_socket(
    context: "zmq.Context[zmq.Socket[bytes]]", kind: int, domain: str, limits: BusLimits
) -> "zmq.Socket[bytes]":
    """A socket with the options that each of the daemon's server sockets has; not yet bound."""
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.PLAIN_SERVER, 1)
    socket.setsockopt_string(zmq.ZAP_DOMAIN, domain)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME)
    socket.setsockopt(zmq.SNDHWM, limits.send_queue)
    socket.setsockopt(zmq.RCVHWM, limits.receive_queue)
    # Also how soon a peer in its cool-down tries again: libzmq leaves a handshake that was answered with "later" hanging.
    socket.setsockopt(zmq.HANDSHAKE_IVL, int(HANDSHAKE_SECONDS * 1000))
    # No HEARTBEAT_TTL: a daemon that was frozen finds its peers still connected.
    socket.setsockopt(zmq.HEARTBEAT_IVL, int(limits.heartbeat * 1000))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(limits.heartbeat * HEARTBEAT_PATIENCE * 1000))
    return socket
