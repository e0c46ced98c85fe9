# SPDX-License-Identifier: Apache-2.0
"""What carries the messages of a stream: a socket between processes, or a pair of queues inside one (for tests).

The thread that does the work uses the socket itself, with no event loop and no second thread between: each hand-over
between threads costs more than sending the message, and a loop that is busy with the bus would hold the rounds up.
What libzmq queues is sent by its own I/O thread meanwhile.

A link belongs to the thread that uses it first; only ``wake`` may be called from another one.  After ``wake`` every
call raises the exception that was given to it, at once and for ever: that is how a revoked lease ends a blocked thread.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import queue
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

import zmq

from qcosd.frames import readable, receive, send
from qcosd.sdk.errors import StreamClosed
from qcosd.sdk.stream_session import Grant

MAX_MESSAGE = 64 << 20
"""Largest frame of a stream, bytes."""

_NUDGES = 4096  # bytes: more than are ever waiting

HIGH_WATER = 4096
"""Messages that libzmq queues in each direction; credit keeps the stream far below."""


class Link(Protocol):
    """The two implementations are ZmqLink and MemoryLink."""

    def send(self, peer: bytes, frames: Sequence[Any]) -> None:
        """Send to ``peer`` (ignored where there is only one).  Raises StreamClosed if it is gone."""

    def receive(self, timeout: float | None) -> tuple[bytes, list[bytes]] | None:
        """The next message and who sent it; None after ``timeout`` seconds (None waits for ever)."""

    def wake(self, error: Exception) -> None:
        """Make this and every later call raise ``error``.  May be called from any thread."""

    def nudge(self) -> None:
        """End a `wait_any` on it, and nothing else.  May be called from any thread."""

    def close(self, linger: float) -> None:
        """Give up to ``linger`` seconds to what is not sent yet, in the background."""


class ZmqLink:
    """ROUTER (bind) or DEALER (connect) on the endpoint of a grant.

    The consumer binds a ROUTER and not a DEALER, because a bound DEALER deals its messages to whoever connects.
    """

    def __init__(self, grant: Grant, context: zmq.Context[zmq.Socket[bytes]] | None = None) -> None:
        self._grant = grant
        self._context = context if context is not None else zmq.Context.instance()
        self._socket: zmq.Socket[bytes] | None = None
        self._owner = 0
        self._error: Exception | None = None
        self._wake_read, self._wake_write = os.pipe()
        self._lock = threading.Lock()
        self._closed = False

    def _open(self) -> zmq.Socket[bytes]:
        if self._socket is not None:
            if threading.get_ident() != self._owner:
                raise RuntimeError("a stream belongs to the thread that used it first")
            return self._socket
        if self._closed:
            raise StreamClosed("the stream is closed")
        binds = self._grant.role == "bind"
        socket = self._context.socket(zmq.ROUTER if binds else zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER)
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE)
        try:
            if binds:
                socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
                socket.bind(self._grant.endpoint)
            else:
                # The consumer often binds a moment later than the producer connects: a short batch has no time to wait.
                socket.setsockopt(zmq.RECONNECT_IVL, 1)
                socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
                socket.connect(self._grant.endpoint)
        except zmq.ZMQError:
            socket.close()
            raise
        self._socket, self._owner = socket, threading.get_ident()
        return socket

    def send(self, peer: bytes, frames: Sequence[Any]) -> None:
        socket = self._open()
        parts = [peer, *frames] if self._grant.role == "bind" else list(frames)
        while True:
            if self._error is not None:
                raise self._error
            try:
                send(socket, parts)
                return
            except zmq.Again:
                self._wait(socket, zmq.POLLOUT, None)
            except zmq.ZMQError as error:
                if error.errno == errno.EHOSTUNREACH:
                    raise StreamClosed("the other end of the stream is gone") from None
                raise

    def receive(self, timeout: float | None) -> tuple[bytes, list[bytes]] | None:
        socket = self._open()
        waited = timeout == 0.0
        while True:
            if self._error is not None:
                raise self._error
            # Asking first: an exception of a socket that has nothing costs as much as a message.
            if readable(socket):
                frames = receive(socket)
                return (frames[0], frames[1:]) if self._grant.role == "bind" else (b"", frames)
            if waited:
                return None
            waited = not self._wait(socket, zmq.POLLIN, timeout)

    def _wait(self, socket: zmq.Socket[bytes], events: int, timeout: float | None) -> bool:
        """True if there is something to look at, False after the timeout."""
        milliseconds = -1 if timeout is None else int(timeout * 1000)
        if timeout is not None and milliseconds == 0:
            time.sleep(timeout)  # libzmq's poll knows nothing shorter than a millisecond
            return False
        ready = zmq.zmq_poll([(socket, events), (self._wake_read, zmq.POLLIN)], milliseconds)
        self._hush(ready)
        return bool(ready)

    def _hush(self, ready: list[tuple[Any, int]]) -> None:
        """A nudge has been felt.  What was written by ``wake`` may go too: its error is there before it, and is looked at first."""
        if self._error is None and any(source == self._wake_read for source, _ in ready):
            os.read(self._wake_read, _NUDGES)

    @staticmethod
    def _wait_any(links: Sequence[ZmqLink], timeout: float | None) -> None:
        sources: list[tuple[Any, int]] = [(link._open(), int(zmq.POLLIN)) for link in links]
        sources += [(link._wake_read, int(zmq.POLLIN)) for link in links]
        # Rounded up: libzmq's poll knows nothing shorter than a millisecond, and the caller looks at the clock.
        ready = zmq.zmq_poll(sources, -1 if timeout is None else math.ceil(timeout * 1000))
        for link in links:
            link._hush(ready)

    def wake(self, error: Exception) -> None:
        with self._lock:
            if self._error is None and not self._closed:
                self._error = error
                os.write(self._wake_write, b"!")

    def nudge(self) -> None:
        with self._lock:
            if self._error is None and not self._closed:
                os.write(self._wake_write, b".")

    def close(self, linger: float) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._wake_read)
            os.close(self._wake_write)
        if self._socket is not None:
            self._socket.close(linger=round(linger * 1000))
            self._socket = None
            scheme, _, path = self._grant.endpoint.partition("://")
            if self._grant.role == "bind" and scheme == "ipc":
                # libzmq leaves the file of an ipc endpoint behind. Endpoints are never used twice, so it is ours.
                with contextlib.suppress(OSError):
                    os.unlink(path)


class _Channel:
    """Messages in one direction; None wakes whoever waits for one."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self.watchers: set[threading.Event] = set()
        self.nudged = False

    @property
    def idle(self) -> bool:
        return self.queue.empty() and not self.nudged

    def put(self, frames: list[bytes] | None) -> None:
        self.queue.put(frames)
        self.stir()

    def stir(self) -> None:
        for watcher in tuple(self.watchers):
            watcher.set()


class MemoryLink:
    """One end of a pair of queues; see ``memory_pair``."""

    def __init__(self, outgoing: _Channel, incoming: _Channel) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._error: Exception | None = None
        self._closed = False

    def send(self, peer: bytes, frames: Sequence[Any]) -> None:
        self._check()
        self._outgoing.put([bytes(frame) for frame in frames])

    def receive(self, timeout: float | None) -> tuple[bytes, list[bytes]] | None:
        self._check()
        incoming = self._incoming.queue
        with contextlib.suppress(queue.Empty):
            frames = incoming.get(timeout=timeout) if timeout != 0 else incoming.get_nowait()
            self._check()
            return (b"memory", frames) if frames is not None else None
        return None

    def _check(self) -> None:
        if self._error is not None:
            raise self._error
        if self._closed:
            raise StreamClosed("the stream is closed")

    @staticmethod
    def _wait_any(links: Sequence[MemoryLink], timeout: float | None) -> None:
        stirred = threading.Event()
        for link in links:
            link._incoming.watchers.add(stirred)
        try:
            if all(link._incoming.idle for link in links):
                stirred.wait(timeout)
        finally:
            for link in links:
                link._incoming.watchers.discard(stirred)
                link._incoming.nudged = False

    def wake(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
            self._incoming.put(None)

    def nudge(self) -> None:
        self._incoming.nudged = True
        self._incoming.stir()

    def close(self, linger: float) -> None:
        self._closed = True


def memory_pair() -> tuple[MemoryLink, MemoryLink]:
    """Two joined ends, for streams inside one process."""
    there, back = _Channel(), _Channel()
    return MemoryLink(there, back), MemoryLink(back, there)


def wait_any(links: Sequence[Link], timeout: float | None) -> None:
    """Block until something has come on one of these links, one is woken or nudged, or ``timeout`` seconds are over.

    All are of one kind.  Raises TypeError for a mixture: nothing waits for a socket and for a queue at once.
    """
    zmq_links = [link for link in links if isinstance(link, ZmqLink)]
    memory_links = [link for link in links if isinstance(link, MemoryLink)]
    if len(zmq_links) == len(links):
        ZmqLink._wait_any(zmq_links, timeout)
    elif len(memory_links) == len(links):
        MemoryLink._wait_any(memory_links, timeout)
    else:
        raise TypeError("sockets and links in memory cannot be waited for together")
