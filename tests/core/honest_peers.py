# SPDX-License-Identifier: Apache-2.0
"""Those who are connected to a kernel, as sessions of the SDK; and clients, who call it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from qcosd.core.events import Address, Channel
from qcosd.sdk.session import Answer, Failure, Session


@dataclass(eq=False)
class Peer:
    """A process, and its connection."""

    identity: str
    session: Session
    routing: bytes = b""
    inbox: deque[list[bytes]] = field(default_factory=deque)
    outbox: deque[list[bytes]] = field(default_factory=deque)
    alive: bool = True

    channel = Channel.CLIENTS

    @property
    def address(self) -> Address:
        return Address(self.identity, self.routing)


@dataclass(eq=False)
class Client(Peer):
    """A client: calls in hand and what is to be done with their answers."""

    waiting: dict[int, Callable[[Answer | Failure], None]] = field(default_factory=dict)
