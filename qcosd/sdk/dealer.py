# SPDX-License-Identifier: Apache-2.0
"""The sockets that peers of the kernel hold: a DEALER on a bus, a SUB on the events.  None of their calls blocks."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import zmq

from qcosd.frames import readable, receive, send

if TYPE_CHECKING:
    import asyncio

RECONNECT_MS = 20
RECONNECT_MAX_MS = 160  # a daemon that is back is found within this; looking for it costs next to nothing
HIGH_WATER = 1000
_BUDGET = 64
_EVENT = struct.Struct("=H")  # how the first frame of a monitor's message begins


def _socket(context: zmq.Context[zmq.Socket[bytes]], kind: int, user: str, password: str) -> zmq.Socket[bytes]:
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
    socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
    # No MAXMSGSIZE: the kernel may send more than it takes, such as the document of a job with many outcomes.
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    socket.setsockopt_string(zmq.PLAIN_USERNAME, user)
    socket.setsockopt_string(zmq.PLAIN_PASSWORD, password)
    return socket


def subscriber(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, user: str, password: str, prefixes: tuple[str, ...]
) -> zmq.Socket[bytes]:
    """A connected SUB with these subscriptions."""
    socket = _socket(context, zmq.SUB, user, password)
    for prefix in prefixes:
        socket.setsockopt_string(zmq.SUBSCRIBE, prefix)
    socket.connect(endpoint)
    return socket


class Dealer:
    """A DEALER, connected again by libzmq whenever that is possible.

    What libzmq does not take is kept, in order, and sent by a later ``send`` or ``flush``.  ``monitor``: readable when
    ``changed`` may have something to say.  ``immediate``: libzmq takes messages only while somebody is there, so that
    none of them waits for a peer that they are not meant for.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        user: str,
        password: str,
        *,
        immediate: bool = False,
    ) -> None:
        self.socket = _socket(context, zmq.DEALER, user, password)
        self.socket.setsockopt(zmq.IMMEDIATE, int(immediate))
        self.monitor = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self.socket.connect(endpoint)
        self._backlog: deque[list[bytes]] = deque()

    def changed(self) -> bool | None:
        """Whether the peer is there, if that has changed since the last call: True (perhaps another one), False, None."""
        there: bool | None = None
        while readable(self.monitor):
            frames = self.monitor.recv_multipart(zmq.NOBLOCK)
            there = _EVENT.unpack_from(frames[0])[0] == zmq.EVENT_HANDSHAKE_SUCCEEDED
        return there

    def forget(self) -> None:
        """Drop what libzmq has not taken."""
        self._backlog.clear()

    def send(self, messages: list[list[bytes]]) -> None:
        """Queue messages."""
        self._backlog.extend(messages)
        self.flush()

    def flush(self) -> bool:
        """Try what is left again; True if nothing is left."""
        while self._backlog:
            try:
                send(self.socket, self._backlog[0])
            except zmq.Again:
                return False
            self._backlog.popleft()
        return True

    def receive(self) -> list[bytes] | None:
        """The next message, None if there is none yet."""
        return receive(self.socket) if readable(self.socket) else None

    def close(self, linger: float = 0.0) -> None:
        """Close; what is queued has ``linger`` seconds to leave."""
        self.flush()
        self._backlog.clear()
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close(linger=round(linger * 1000))


class Readable:
    """Calls ``drain`` in an asyncio loop whenever a socket may have something to read.

    ``drain`` takes one message and returns False when there was none.  The descriptor of a libzmq socket is
    edge-triggered, and any other call on the socket may swallow the edge: call ``look`` after each of them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: zmq.Socket[bytes], drain: Callable[[], bool]) -> None:
        self._loop = loop
        self._drain = drain
        self._descriptor = socket.fileno()
        self._scheduled: asyncio.Handle | None = None
        self._closed = False
        self._reading = False
        self._again = False  # while reading: the socket was used since the last ``drain`` began
        loop.add_reader(self._descriptor, self._run)
        self.look()

    def look(self) -> None:
        """Read soon, whether the descriptor says so or not."""
        if self._reading:
            self._again = True  # the reading under way will see
        elif self._scheduled is None and not self._closed:
            self._scheduled = self._loop.call_soon(self._run)

    def close(self) -> None:
        """Stop reading; call it before the socket is closed."""
        self._closed = True
        self._loop.remove_reader(self._descriptor)
        if self._scheduled is not None:
            self._scheduled.cancel()

    def _run(self) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self._reading = True
        try:
            for _ in range(_BUDGET):
                self._again = False
                if self._closed or not self._drain():
                    break
            else:
                self._again = True  # let others have their turn
        finally:
            self._reading = False
        if self._again:
            self.look()
