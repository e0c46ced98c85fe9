# SPDX-License-Identifier: Apache-2.0
"""Reads a ZeroMQ socket from the event loop's reader callback.

A ZeroMQ descriptor is edge-triggered: it becomes readable once and stays silent until the socket has been read empty. Any
operation on the socket, a send included, may consume that edge while messages wait. Hence two rules, kept here in one place:
read until there is nothing left, and look again after every send. A send while the socket is being read is looked at by that reading
itself, unless it was the last thing that happened.
"""

import asyncio
from collections.abc import Callable

import zmq


class Drain:
    """Calls `receive` until it says the socket is empty, at most `budget` times before other work gets its turn.

    `receive()` reads one message without blocking and returns False when there was none, which it asks the socket itself.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, socket: "zmq.Socket[bytes]", receive: Callable[[], bool], budget: int
    ) -> None:
        self._loop = loop
        self._receive = receive
        self._budget = budget
        self._scheduled: asyncio.Handle | None = None
        self._closed = False
        self._reading = False
        self._again = False  # while reading: the socket was used since the last `receive` began
        self._descriptor = socket.fileno()
        loop.add_reader(self._descriptor, self.now)
        self.look_again()  # the edge may have come before the reader was there

    def look_again(self) -> None:
        """Read the socket at the next turn of the loop, whether or not its descriptor says so. Call at each send."""
        if self._reading:
            self._again = True
        elif self._scheduled is None and not self._closed:
            self._scheduled = self._loop.call_soon(self.now)

    def close(self) -> None:
        """Stop reading. Call before the socket is closed."""
        self._closed = True
        self._loop.remove_reader(self._descriptor)
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None

    def now(self) -> None:
        """Read what is waiting, up to the budget."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self._reading = True
        try:
            for _ in range(self._budget):
                self._again = False
                if self._closed or not self._receive():
                    break
            else:
                self._again = True
        finally:
            self._reading = False
        if self._again:
            self.look_again()
