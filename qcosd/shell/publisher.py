# SPDX-License-Identifier: Apache-2.0
"""The events socket: an XPUB on which only the kernel publishes.

With XPUB_MANUAL a subscription has no effect until the kernel has granted it. A slow subscriber loses events; topics number
them, so it sees the gap and fetches the snapshot on the bus.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence

import zmq

from qcosd.frames import readable, send
from qcosd.shell.bus import BusLimits, server_socket
from qcosd.shell.connections import Connection, Connections
from qcosd.shell.drain import Drain
from qcosd.shell.zap import EVENTS_DOMAIN

MAX_TOPIC = 256  # bytes
_OFF, _ON = b"\x00", b"\x01"


class Publisher:
    """A bound XPUB. `ahead()` is called before each request is read, as a Bus does. `asked(connection, topic prefix, on)` is called for each request and must call `subscribe` before it
    returns if the request is granted; also for what a subscriber still had when its connection ended."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        loop: asyncio.AbstractEventLoop,
        endpoint: str,
        limits: BusLimits,
        asked: Callable[[Connection, str, bool], None],
        ahead: Callable[[], None] | None = None,
    ) -> None:
        self._asked = asked
        self._ahead = ahead
        self._topics: dict[Connection, set[str]] = {}
        self._ending = False
        self._socket = server_socket(context, zmq.XPUB, EVENTS_DOMAIN, limits)
        self._socket.setsockopt(zmq.XPUB_MANUAL, 1)
        self._connections = Connections(self._socket, loop, self._read_waiting, self._ended)
        self._socket.bind(endpoint)
        self._limits = limits
        self._drain = Drain(loop, self._socket, self._receive, limits.budget)

    def publish(self, topic: str, frames: Sequence[bytes]) -> None:
        """Send [topic, *frames] to its subscribers. Never blocks; a subscriber whose queue is full misses the event."""
        self._drain.look_again()
        with contextlib.suppress(zmq.Again):
            send(self._socket, [topic.encode(), *frames])

    def subscribe(self, topic: str, on: bool) -> None:
        """Grant the request that is being asked: libzmq applies this to the connection whose request was read last."""
        if not self._ending:
            self._socket.setsockopt(zmq.SUBSCRIBE if on else zmq.UNSUBSCRIBE, topic.encode())

    def close(self, linger: float = 0.0) -> None:
        """Unbind and close. Queued events have `linger` seconds to leave after this call."""
        self._connections.close()
        self._drain.close()
        self._socket.close(int(linger * 1000))

    def _receive(self) -> bool:
        if self._ahead is not None:
            self._ahead()
        if not readable(self._socket):
            self._connections.read_empty()
            return False
        frame = self._socket.recv(zmq.NOBLOCK, copy=False)
        if frame.more:
            self._socket.recv_multipart(zmq.NOBLOCK)
            return True  # a request has one frame, and nobody but the kernel publishes
        request = frame.bytes
        connection = self._connection_of(frame)
        kind, topic = request[:1], request[1:]
        if connection is None or kind not in (_OFF, _ON) or len(topic) > MAX_TOPIC or not topic.isascii():
            return True
        name, on = topic.decode("ascii"), kind == _ON
        topics = self._topics.setdefault(connection, set())
        if on and name in topics:
            # The last request of a connection that has ended is read as one of the next with its descriptor, where that is there
            # already. So this may be the first of the one that lives: it is granted anew, and counts once.
            self._give_up(connection, [name])
        elif not on and name not in topics:
            return True
        (topics.add if on else topics.remove)(name)
        self._asked(connection, name, on)
        return True

    def _connection_of(self, frame: zmq.Frame) -> Connection | None:
        try:
            return self._connections.of(frame)
        except zmq.ZMQError:
            return None  # libzmq's own note of a subscription that ended with its connection

    def _read_waiting(self) -> None:
        for _ in range(self._limits.budget):
            if not self._receive():
                return
        self._drain.look_again()

    def _ended(self, connection: Connection) -> None:
        self._give_up(connection, sorted(self._topics.pop(connection, ())))

    def _give_up(self, connection: Connection, topics: Iterable[str]) -> None:
        """Tell that these requests are over; libzmq has nothing to undo."""
        self._ending = True
        try:
            for topic in topics:
                self._asked(connection, topic, False)
        finally:
            self._ending = False
