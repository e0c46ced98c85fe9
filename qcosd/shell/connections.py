# SPDX-License-Identifier: Apache-2.0
"""The live connections of a server socket, known from their frames and from the socket monitor.

libzmq reports the end of a connection by descriptor number only, sometimes before the descriptor is closed, and a number is
given to the next connection at once. The order of the monitor's events tells one connection from the next; where a descriptor
is touched, its inode does.
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


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection of one peer. `routing` is the ROUTER's routing id, or empty on a socket that has none."""

    routing: bytes
    identity: str  # granted by ZAP
    peer: str  # libzmq's peer address, host:uid:gid:pid for ipc
    descriptor: int
    inode: int

    def shut_down(self) -> None:
        """End the connection: libzmq sees end of file and cleans up. Nothing happens where it has ended already."""
        with contextlib.suppress(OSError):
            duplicate = os.dup(self.descriptor)  # from here on the number cannot pass to another connection
            with sockets.socket(fileno=duplicate) as ours:
                if _inode_of(duplicate) == self.inode:
                    ours.shutdown(sockets.SHUT_RDWR)


class Connections:
    """Create before the socket is bound. `read_waiting()` must read messages, up to some bound, and call `read_empty` if there
    are no more; `ended(connection)` is called once for each connection that had sent something, after its last message.
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
        self._live: set[int] = set()  # descriptors of open connections, as far as the monitor has told
        self._by_descriptor: dict[int, Connection] = {}
        self._by_routing: dict[bytes, Connection] = {}
        self._posthumous: list[Connection] = []  # have ended, but may have messages in the socket
        self._monitor = socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._drain = Drain(loop, self._monitor, self._receive, _BUDGET)

    def of(self, frame: zmq.Frame, routing: bytes = b"") -> Connection:
        """The connection that the frame came through. The frame must have been received with copy=False."""
        descriptor = int(frame.get(zmq.SRCFD))
        identity = str(frame.get("User-Id"))
        while not routing and self._take_event():
            pass  # only the descriptor tells one from another, and its number may have passed to the next one already
        known = self._by_routing.get(routing) if routing else self._by_descriptor.get(descriptor)
        if known is not None and known.descriptor == descriptor and known.identity == identity:
            return known
        # libzmq tells of a connection before its first message is there, and of the previous one's end before that.
        while self._take_event():
            pass
        for stale in (self._by_routing.get(routing) if routing else None, self._by_descriptor.get(descriptor)):
            if stale is not None:
                self._forget(stale)
        connection = Connection(routing, identity, str(frame.get("Peer-Address")), descriptor, _inode_of(descriptor))
        if routing:
            self._by_routing[routing] = connection
        if descriptor in self._live:
            self._by_descriptor[descriptor] = connection
        else:  # it ended before its messages were read
            self._posthumous.append(connection)
        return connection

    def with_routing(self, routing: bytes) -> Connection | None:
        """The connection with this routing id, if it has sent anything."""
        return self._by_routing.get(routing)

    def read_empty(self) -> None:
        """To be called when the socket has been read empty: those that have ended have said their last."""
        while self._posthumous:
            self._forget(self._posthumous[0])

    def close(self) -> None:
        """Stop watching. Call before the watched socket is closed."""
        self._drain.close()
        self._socket.disable_monitor()
        self._monitor.close(0)

    def _receive(self) -> bool:
        if not self._take_event():
            return False
        if self._posthumous:
            self._read_waiting()
            self.read_empty()  # also where a flood of others left no end: the news does not wait for ever
        return True

    def _take_event(self) -> bool:
        """Note one event of the monitor. False where there is none."""
        try:
            event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
        except zmq.Again:
            return False
        descriptor = event["value"]
        if event["event"] == zmq.EVENT_ACCEPTED:
            self._live.add(descriptor)
        else:
            self._live.discard(descriptor)
            connection = self._by_descriptor.pop(descriptor, None)
            if connection is not None:
                self._posthumous.append(connection)
        return True

    def _forget(self, connection: Connection) -> None:
        if self._by_descriptor.get(connection.descriptor) is connection:
            del self._by_descriptor[connection.descriptor]
        if self._by_routing.get(connection.routing) is connection:
            del self._by_routing[connection.routing]
        if connection in self._posthumous:
            self._posthumous.remove(connection)
        self._ended(connection)


def _inode_of(descriptor: int) -> int:
    """The inode behind a descriptor; -1 where it is closed."""
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return -1
