# SPDX-License-Identifier: Apache-2.0
"""Reads a ZeroMQ socket from the event loop's reader callback.

A ZeroMQ descriptor is edge-triggered: it becomes readable once and stays silent until the socket has been read empty. Any
operation on the socket, a send included, may consume that edge while messages wait. Hence two rules, kept here in one place:
read until there is nothing left, and look again after every send.
"""

import asyncio
from collections.abc import Callable

import zmq


class Drain:
    """Calls `receive` until it says the socket is empty, at most `budget` times before other work gets its turn.

    `receive()` reads one message without blocking and returns False when there was none.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, socket: "zmq.Socket[bytes]", receive: Callable[[], bool], budget: int
    ) -> None:
        self._loop = loop
        self._receive = receive
        self._budget = budget
        self._scheduled: asyncio.Handle | None = None
        self._closed = False
        self._descriptor = socket.fileno()
        loop.add_reader(self._descriptor, self._wake)
        self.look_again()  # the edge may have come before the reader was there

    def look_again(self) -> None:
        """Read the socket at the next turn of the loop, whether or not its descriptor says so. Call after each send."""
        if self._scheduled is None and not self._closed:
            self._scheduled = self._loop.call_soon(self._wake)

    def close(self) -> None:
        """Stop reading. Call before the socket is closed."""
        self._closed = True
        self._loop.remove_reader(self._descriptor)
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None

    def _wake(self) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        for _ in range(self._budget):
            if self._closed or not self._receive():
                return
        self.look_again()
