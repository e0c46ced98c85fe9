# SPDX-License-Identifier: Apache-2.0
"""Holds effects back until the journal has what they wait for, and keeps the order of those that go to one destination."""

from collections import deque
from collections.abc import Callable, Hashable
from operator import attrgetter, itemgetter
from typing import NamedTuple

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
from qcosd.protocol import Type

Action = Callable[[], None]
Instead = Callable[[str], Action | None]


class _Held(NamedTuple):
    after: int
    number: int  # in the order in which all were submitted
    action: Action
    instead: Instead | None


class Gate:
    """Runs actions when what they wait for is durable. One that waits makes those behind it to the same destination wait.

    ``position``: what is durable to begin with. ``fault``: why nothing becomes durable at present; empty: it does.
    """

    def __init__(self, position: int = 0) -> None:
        self._durable = position
        self._fault = ""
        self._submitted = 0
        self._held: dict[Hashable, deque[_Held]] = {}

    def submit(self, destination: Hashable, after: int, action: Action, instead: Instead | None = None) -> None:
        """Run the action once position `after` is durable, at once where it is already. `instead(fault)`: what may be done in its
        place while there is a fault, or None."""
        if destination not in self._held and after <= self._durable:
            action()
        elif self._fault and instead is not None and (other := instead(self._fault)) is not None:
            other()
        else:
            self._submitted += 1
            self._held.setdefault(destination, deque()).append(_Held(after, self._submitted, action, instead))

    def health(self, fault: str) -> None:
        """Nothing becomes durable from now on, or (empty) it does again."""
        self._fault = fault
        held, self._held = self._held, {}
        waiting = [(each.number, destination, each) for destination, queue in held.items() for each in queue]
        for _, destination, each in sorted(waiting, key=itemgetter(0)):
            self.submit(destination, each.after, each.action, each.instead)

    def abandon(self, destination: Hashable) -> None:
        """Forget what is held for a destination."""
        self._held.pop(destination, None)

    def durable(self, position: int) -> None:
        """Every record up to `position` is safe: let go what waited for no more than that."""
        self._durable = max(self._durable, position)
        going = []
        for destination in list(self._held):
            held = self._held[destination]
            while held and held[0].after <= self._durable:
                going.append(held.popleft())
            if not held:
                del self._held[destination]
        for each in sorted(going, key=attrgetter("number")):
            each.action()


def destination_of(effect: Effect) -> Hashable:
    """What the order of effects is kept for."""
    match effect:
        case Send(message=message) if message.id and message.type is not Type.GOODBYE:
            # An answer names its question. Whoever waits for another one must not be taken for dead meanwhile.
            return "answer", effect.address.routing, message.id
        case Send() | Disconnect():
            return effect.channel, effect.address.routing
        case Publish() if not effect.message.body["seq"]:
            return "granted", effect.topic  # comes before whatever is published from then on, and waits for nothing
        case Publish():
            return "topic", effect.topic
        case Signal() if effect.after:
            return "signal", effect.incarnation  # somebody's wish: those that stop the daemon do not wait behind it
        case Spawn() | Signal():
            return "incarnation", effect.incarnation
        case BlobWrite() | BlobDrop() | BlobRead() | BlobDelete():
            return "artifacts"  # as in the store: a file that is removed may be written again behind that
        case _:
            return type(effect).__name__
