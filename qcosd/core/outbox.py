# SPDX-License-Identifier: Apache-2.0
"""The effects of the event in hand, in order, and the position of the journal."""

from __future__ import annotations

from typing import Any

from qcosd.core.effects import Append, Effect, Send
from qcosd.core.events import Address, Channel
from qcosd.core.records import Record, RecordType
from qcosd.protocol import Message, Type, error_table


class Outbox:
    """Collects effects. Registries put theirs here; the kernel hands all of them to the shell at the end of the event."""

    def __init__(self) -> None:
        self.boot = 0
        self.position = 0  # of the record appended last
        self._effects: list[Effect] = []

    def put(self, effect: Effect) -> None:
        """Add an effect."""
        self._effects.append(effect)

    def take(self) -> list[Effect]:
        """All effects since the last call."""
        effects, self._effects = self._effects, []
        return effects

    def append(self, kind: RecordType, now: float, **body: Any) -> int:
        """Append a journal record; the position for effects that must wait for it."""
        self.position += 1
        self.put(Append(Record(kind, body, now), self.position))
        return self.position

    def send(self, channel: Channel, address: Address, kind: Type, body: dict[str, Any] | None = None, *, id: int = 0, payload: tuple[bytes, ...] = (), after: int = 0) -> None:  # fmt: skip
        """Send a message of this boot."""
        self.put(Send(channel, address, Message(kind, body or {}, id, self.boot, payload=payload), after))

    def error(self, channel: Channel, address: Address, id: int, name: str, text: str = "", details: dict[str, Any] | None = None) -> None:  # fmt: skip
        """Send ERROR with a row of the error table."""
        self.send(channel, address, Type.ERROR, {"error": error_table(name, text, details)}, id=id)
