# SPDX-License-Identifier: Apache-2.0
"""Holds effects back until the journal has what they wait for, and keeps the order of those that go to one destination."""

from collections import deque
from collections.abc import Callable, Hashable

from qcosd.core.effects import (
    BlobDelete,
    BlobDrop,
    BlobRead,
    BlobWrite,
    Disconnect,
    Effect,
    Publish,
    Send,
    Signal,
    Spawn,
)


class Gate:
    """Runs actions when what they wait for is durable. One that waits makes those behind it to the same destination wait.

    ``position``: what is durable to begin with.
    """

    def __init__(self, position: int = 0) -> None:
        self._durable = position
        self._held: dict[Hashable, deque[tuple[int, Callable[[], None]]]] = {}

    def submit(self, destination: Hashable, after: int, action: Callable[[], None]) -> None:
        """Run the action once position `after` is durable, at once where it is already."""
        if destination in self._held or after > self._durable:
            self._held.setdefault(destination, deque()).append((after, action))
        else:
            action()

    def abandon(self, destination: Hashable) -> None:
        """Forget what is held for a destination."""
        self._held.pop(destination, None)

    def durable(self, position: int) -> None:
        """Every record up to `position` is safe: let go what waited for no more than that."""
        self._durable = max(self._durable, position)
        for destination in list(self._held):
            held = self._held[destination]
            while held and held[0][0] <= self._durable:
                _, action = held.popleft()
                action()
            if not held:
                del self._held[destination]


def destination_of(effect: Effect) -> Hashable:
    """What the order of effects is kept for."""
    match effect:
        case Send() | Disconnect():
            return effect.channel, effect.address.routing
        case Publish() if not effect.message.body["seq"]:
            return "granted", effect.topic  # comes before whatever is published from then on, and waits for nothing
        case Publish():
            return "topic", effect.topic
        case Spawn() | Signal():
            return "incarnation", effect.incarnation
        case BlobWrite() | BlobDrop() | BlobRead() | BlobDelete():
            return "artifacts"  # as in the store: a file that is removed may be written again behind that
        case _:
            return type(effect).__name__
