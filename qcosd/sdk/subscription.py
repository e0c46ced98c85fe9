# SPDX-License-Identifier: Apache-2.0
"""Events of topics: a snapshot first, then every change, without a gap that goes unnoticed.

The events socket may lose events and says nothing when it connects again.  So each topic numbers its events within a
boot, and whenever that does not add up (a gap, another boot, the kernel saying that the subscription is in force once
more) the state is fetched on the bus.  Frames and snapshots in, changes out; no socket, no waiting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qcosd.protocol import Message, ProtocolError, Side, Type, decode


@dataclass(frozen=True, slots=True)
class TopicEvent:
    """The state of a topic.  ``snapshot``: it was fetched, so states between the last event and this one were missed."""

    topic: str
    seq: int
    state: dict[str, Any]
    snapshot: bool = False


class Subscription:
    """State and numbers of every topic under some prefixes.

    ``wanted``: prefixes whose snapshot is to be fetched now.  Ask the kernel and hand the reply to ``snapshot``.
    """

    def __init__(self, prefixes: Iterable[str]) -> None:
        self.prefixes = tuple(dict.fromkeys(prefixes))
        self.wanted: set[str] = set()
        self.boot = 0
        self._known: dict[str, int] = {}

    def again(self) -> None:
        """The connection is a new one: nothing is known of what was published meanwhile."""
        self.wanted.update(self.prefixes)

    def event(self, frames: list[bytes]) -> list[TopicEvent]:
        """Take the frames [topic, header, body] of one event.  Returns what has changed by it."""
        try:
            message = decode(frames[1:], Side.KERNEL)
        except ProtocolError:
            return []  # a newer kernel may publish more than this version knows
        if message.type is not Type.EVENT:
            return []
        topic, seq = message.body["topic"], message.body["seq"]
        if message.boot < self.boot and seq:
            return []
        if message.boot != self.boot:
            # The numbers begin anew.
            self.boot = message.boot
            self._known.clear()
            self.wanted.update(self.prefixes)
        if seq == 0:
            self.wanted.update(prefix for prefix in self.prefixes if prefix == topic)
            return []
        owner = next((prefix for prefix in self.prefixes if topic.startswith(prefix)), None)
        if owner is None or owner in self.wanted:
            return []  # the snapshot will have it
        known = self._known.get(topic, 0)
        if seq <= known:
            return []
        if seq != known + 1:
            self.wanted.add(owner)
            return []
        self._known[topic] = seq
        return [TopicEvent(topic, seq, message.body["state"])]

    def snapshot(self, prefix: str, reply: Message) -> list[TopicEvent]:
        """Take a SNAPSHOT_REPLY.  Returns the topics that have changed since they were last seen."""
        self.wanted.discard(prefix)
        if reply.boot != self.boot:
            self.boot = reply.boot
            self._known.clear()
            self.wanted.update(each for each in self.prefixes if each != prefix)
        rows: Mapping[str, Mapping[str, Any]] = reply.body["topics"]
        changed = []
        for topic, row in sorted(rows.items()):
            if row["seq"] > self._known.get(topic, -1):
                self._known[topic] = row["seq"]
                changed.append(TopicEvent(topic, row["seq"], row["state"], snapshot=True))
        return changed
