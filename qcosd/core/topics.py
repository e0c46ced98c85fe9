# SPDX-License-Identifier: Apache-2.0
"""Published topics: last state, sequence number, who may hear what. Snapshot first, then events with higher numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qcosd.core.effects import Publish, Subscription
from qcosd.core.events import Address
from qcosd.core.outbox import Outbox
from qcosd.protocol import Message, Type


@dataclass(slots=True)
class Topic:
    """The last event of a topic."""

    seq: int
    state: dict[str, Any]


class Topics:
    """All topics of this boot, and the subscriptions of each identity."""

    def __init__(self, outbox: Outbox, subscriptions: int) -> None:
        self._outbox = outbox
        self._limit = subscriptions
        self._topics: dict[str, Topic] = {}
        self._subscribed: dict[str, int] = {}  # identity -> number
        self.quiet = True  # nobody can have subscribed yet: states are noted and not told

    def publish(self, name: str, state: dict[str, Any]) -> bool:
        """Publish the new state of a topic. False where it has not changed: that is no event."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = Topic(1, state)
        elif topic.state == state:
            return False
        else:
            topic.seq, topic.state = topic.seq + 1, state
        self._emit(name, topic.seq, state)
        return True

    def forget(self, name: str) -> None:
        """Drop a topic that will never change again."""
        self._topics.pop(name, None)

    def snapshot(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Topic -> {seq, state}, of the topics that start with the prefix."""
        return {
            name: {"seq": topic.seq, "state": topic.state}
            for name, topic in self._topics.items()
            if name.startswith(prefix)
        }

    def subscribe(self, address: Address, prefix: str) -> bool:
        """Grant a subscription within the quota of the identity, and tell the subscriber by an event with seq 0."""
        held = self._subscribed.get(address.identity, 0)
        granted = held < self._limit
        self._outbox.put(Subscription(address, prefix, True, granted))
        if granted:
            self._subscribed[address.identity] = held + 1
            self._emit(prefix, 0, {})
        return granted

    def unsubscribe(self, address: Address, prefix: str) -> None:
        """Give a subscription back."""
        held = self._subscribed.get(address.identity, 0)
        self._outbox.put(Subscription(address, prefix, False, held > 0))
        if held > 1:
            self._subscribed[address.identity] = held - 1
        else:
            self._subscribed.pop(address.identity, None)

    def _emit(self, name: str, seq: int, state: dict[str, Any]) -> None:
        if self.quiet:
            return
        body = {"topic": name, "seq": seq, "state": state}
        self._outbox.put(Publish(name, Message(Type.EVENT, body, boot=self._outbox.boot)))
