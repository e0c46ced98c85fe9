# SPDX-License-Identifier: Apache-2.0
"""The live connections of a server socket, known from their frames and from the socket monitor.

libzmq reports the end of a connection by descriptor number only, and a number is given to the next connection at once. The
inode of the descriptor tells one connection from the next.
"""

import asyncio
import contextlib
import os
import socket as sockets
from collections.abc import Callable
from dataclasses import dataclass

import zmq
from zmq.utils.monitor import parse_monitor_message

from qcosd.shell.drain import Drain

_BUDGET = 64
_CLOSED = -1  # no inode


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection of one peer. `routing` is the ROUTER's routing id, or empty on a socket that has none."""

    routing: bytes
    identity: str  # granted by ZAP
    peer: str  # libzmq's peer address, host:uid:gid:pid for ipc
    descriptor: int
    inode: int

    @property
    def open(self) -> bool:
        """Whether the descriptor still belongs to this connection."""
        return _inode_of(self.descriptor) == self.inode

    def shut_down(self) -> None:
        """End the connection: libzmq sees end of file and cleans up. Nothing happens where it has ended already."""
        with contextlib.suppress(OSError):
            duplicate = os.dup(self.descriptor)  # from here on the number cannot pass to another connection
            with sockets.socket(fileno=duplicate) as ours:
                if _inode_of(duplicate) == self.inode:
                    ours.shutdown(sockets.SHUT_RDWR)


class Connections:
    """Create before the socket is bound. `read_waiting()` is called before an end is reported, so that the last messages of a
    connection come before the news of its end; `ended(connection)` is called once for each connection that had sent something.
    """

    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        loop: asyncio.AbstractEventLoop,
        read_waiting: Callable[[], None],
        ended: Callable[[Connection], None],
    ) -> None:
        self._socket = socket
        self._read_waiting = read_waiting
        self._ended = ended
        self._by_descriptor: dict[int, Connection] = {}
        self._by_routing: dict[bytes, Connection] = {}
        self._posthumous: list[Connection] = []  # have ended, but may have more messages in the socket
        self._monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._drain = Drain(loop, self._monitor, self._receive, _BUDGET)

    def of(self, frame: zmq.Frame, routing: bytes = b"") -> Connection:
        """The connection that the frame came through. The frame must have been received with copy=False."""
        descriptor = int(frame.get(zmq.SRCFD))
        identity = str(frame.get("User-Id"))
        known = self._by_descriptor.get(descriptor)
        if known is not None and known.routing == routing and known.identity == identity:
            return known
        # The news that the previous holder of this descriptor or routing id is gone has not come yet.
        for stale in (known, self._by_routing.get(routing) if routing else None):
            if stale is not None:
                self._forget(stale)
        connection = Connection(routing, identity, str(frame.get("Peer-Address")), descriptor, _inode_of(descriptor))
        self._by_descriptor[descriptor] = connection
        if routing:
            self._by_routing[routing] = connection
        if connection.inode == _CLOSED:  # its end came before its messages were read, and is not reported again
            self._posthumous.append(connection)
        return connection

    def with_routing(self, routing: bytes) -> Connection | None:
        """The live connection with this routing id, if it has sent anything."""
        return self._by_routing.get(routing)

    def read_empty(self) -> None:
        """To be called when the socket has been read empty."""
        while self._posthumous:
            self._forget(self._posthumous.pop())

    def close(self) -> None:
        """Stop watching. Call before the watched socket is closed."""
        self._drain.close()
        self._socket.disable_monitor()
        self._monitor.close(0)

    def _receive(self) -> bool:
        try:
            frames = self._monitor.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._read_waiting()
        connection = self._by_descriptor.get(parse_monitor_message(frames)["value"])
        # Without a record it never sent anything; if open, the news is about an older connection with this number.
        if connection is not None and not connection.open:
            self._forget(connection)
        return True

    def _forget(self, connection: Connection) -> None:
        if self._by_descriptor.get(connection.descriptor) is not connection:
            return
        del self._by_descriptor[connection.descriptor]
        if self._by_routing.get(connection.routing) is connection:
            del self._by_routing[connection.routing]
        self._ended(connection)


def _inode_of(descriptor: int) -> int:
    """The inode behind a descriptor, or _CLOSED."""
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return _CLOSED
