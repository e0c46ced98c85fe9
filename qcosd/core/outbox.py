# SPDX-License-Identifier: Apache-2.0
"""The effects of the event in hand, in order, and the position of the journal.

What one event changes is one Append: a cut in the journal never goes through the middle of an event. What the event tells others
waits for it, so that nobody has heard of anything that the kernel could forget (output commit: Elnozahy et al., *A survey of
rollback-recovery protocols in message-passing systems*, 2002).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qcosd.core.effects import Append, Effect, Log, LogRead, Look, Notify, Send, Signal, Subscription
from qcosd.core.events import Address, Channel
from qcosd.core.records import Record, RecordType
from qcosd.protocol import Message, Type, error_table

# Of the effects of an event these do not wait for its records. A process may end at any moment anyway: a signal tells nobody
# anything, and a disk that is full does not keep the daemon from stopping.
NOBODY_HEARS = (Subscription, Log, LogRead, Look, Notify, Signal)
# Nor do these messages: of what is journaled they tell nothing. A plugin that does not get them takes the kernel for dead.
SAYS_NOTHING = frozenset({Type.WELCOME, Type.REHELLO, Type.PONG, Type.STATUS_REPLY, Type.PLUGIN_LISTING})


class Outbox:
    """Collects effects. Registries put theirs here; the kernel hands all of them to the shell at the end of the event."""

    def __init__(self) -> None:
        self.boot = 0
        self.position = 0  # of the record appended last
        self.patient = False  # what the present event does to processes waits for its records
        self.wall = 0.0  # to be added to a monotonic time for seconds since the epoch
        self._effects: list[Effect] = []
        self._records: list[Record] = []

    def put(self, effect: Effect) -> None:
        """Add an effect."""
        self._effects.append(effect)

    def take(self) -> list[Effect]:
        """All effects since the last call."""
        effects, self._effects = self._effects, []
        patient, self.patient = self.patient, False
        if not self._records:
            return effects
        records, self._records = tuple(self._records), []
        held = [e if e.after or _may_go(e, patient) else replace(e, after=self.position) for e in effects]
        return [Append(records, self.position), *held]

    def append(self, kind: RecordType, now: float, **body: Any) -> None:
        """Append a journal record, which all effects of this event wait for."""
        self.position += 1
        self._records.append(Record(kind, body, now + self.wall))

    def send(self, channel: Channel, address: Address, kind: Type, body: dict[str, Any] | None = None, *, id: int = 0, payload: tuple[bytes, ...] = (), after: int = 0, asked: Type | None = None) -> None:  # fmt: skip
        """Send a message of this boot."""
        self.put(Send(channel, address, Message(kind, body or {}, id, self.boot, payload=payload), after, asked))

    def error(self, channel: Channel, address: Address, id: int, name: str, text: str = "", details: dict[str, Any] | None = None, asked: Type | None = None) -> None:  # fmt: skip
        """Send ERROR with a row of the error table."""
        self.send(channel, address, Type.ERROR, {"error": error_table(name, text, details)}, id=id, asked=asked)


def _may_go(effect: Effect, patient: bool) -> bool:
    if isinstance(effect, Send):
        return effect.message.type in SAYS_NOTHING
    return isinstance(effect, NOBODY_HEARS) and not (patient and isinstance(effect, Signal))
