# SPDX-License-Identifier: Apache-2.0
"""The rules of a stream without the socket: frames in, frames out, no waiting.

A stream joins a *producer* (it connects) to a *consumer* (it binds).  Every message is multipart: a msgpack map, then
payload frames.  A map with the key ``stream`` is control and belongs to this file; every other map is the user's.

    {"stream": "open", "grant", "epoch", "secret"}   producer, its first frame: the proof that the kernel granted this
    {"stream": "opened", "credit"}                   consumer's answer to a good proof
    {"stream": "refused", "reason"}                  consumer's answer to anything from a connection without proof
    {"stream": "ack", "upto"} [checkpoint]           consumer: messages 1..upto are taken; the checkpoint is opaque
    {"stream": "close"}                              either: nothing follows

The producer numbers its messages 1, 2, ... and has at most ``credit`` of them unacknowledged.  Messages of the consumer
have no credit; the producer keeps at most INBOX_LIMIT unread ones, which is a fault of the consumer when exceeded.
A connection belongs to one epoch of the grant for its whole life, so its frames carry no epoch of their own.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from qcosd.sdk.errors import StreamFault

CONTROL = "stream"
INBOX_LIMIT = 4096

Frames = list[Any]
"""Frames to send: bytes, or anything with a contiguous buffer."""


class StreamMessage(NamedTuple):
    """``number`` counts the messages of this direction from 1."""

    header: dict[str, Any]
    payload: list[bytes]
    number: int


@dataclass(frozen=True)
class Grant:
    """The kernel's permission to open one stream; ``role`` is "bind" (consumer) or "connect" (producer)."""

    grant: int
    epoch: int
    name: str
    role: str
    endpoint: str
    secret: str
    credit: int = 8

    @classmethod
    def from_map(cls, body: Mapping[str, Any]) -> Grant:
        """Unknown fields are ignored; a missing or wrong one raises ValueError."""
        try:
            grant = cls(
                grant=int(body["grant"]),
                epoch=int(body["epoch"]),
                name=str(body["name"]),
                role=str(body["role"]),
                endpoint=str(body["endpoint"]),
                secret=str(body["secret"]),
                credit=int(body.get("credit", 8)),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a stream grant: {error!r}") from error
        if grant.role not in ("bind", "connect") or grant.credit < 1:
            raise ValueError(f"not a stream grant: role {grant.role!r}, credit {grant.credit}")
        return grant


def _frames(header: Mapping[str, Any], payload: tuple[Any, ...] = ()) -> Frames:
    return [msgpack.packb(header, use_bin_type=True), *payload]


def data_frames(header: Mapping[str, Any], payload: tuple[Any, ...]) -> Frames:
    """A user's message; raises ValueError if its header has the key that is kept for control.

    A buffer travels in C order, whatever the order it has in memory: a socket would send what lies there.
    """
    if CONTROL in header:
        raise ValueError(f"the key {CONTROL!r} of a stream header is reserved")
    return _frames(header, tuple(f if memoryview(f).c_contiguous else memoryview(f).tobytes() for f in payload))


def close_frames() -> Frames:
    return _frames({CONTROL: "close"})


def _header(frames: list[bytes]) -> dict[str, Any]:
    try:
        header = msgpack.unpackb(frames[0], raw=False)
    except (ValueError, IndexError, msgpack.exceptions.UnpackException) as error:
        raise StreamFault("malformed frame on the stream") from error
    if not isinstance(header, dict):
        raise StreamFault("malformed frame on the stream")
    return header


class ProducerSession:
    """The connecting side.  Shapes: ``sent`` and ``acked`` are message numbers, acked <= sent <= acked + credit."""

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.credit = grant.credit
        self.sent = 0
        self.acked = 0
        self.checkpoint = b""
        self.inbox: deque[StreamMessage] = deque()
        self.ended = False
        self._received = 0

    def opening(self) -> Frames:
        g = self.grant
        return _frames({CONTROL: "open", "grant": g.grant, "epoch": g.epoch, "secret": g.secret})

    @property
    def may_send(self) -> bool:
        return self.sent - self.acked < self.credit

    def send(self, header: Mapping[str, Any], payload: tuple[Any, ...]) -> Frames:
        """Spend one credit; the caller has seen ``may_send``."""
        frames = data_frames(header, payload)
        if not self.may_send:
            raise StreamFault("no credit left on the stream")
        self.sent += 1
        return frames

    def feed(self, frames: list[bytes]) -> None:
        """Take one message of the consumer.  Raises StreamFault when it breaks the rules."""
        header = _header(frames)
        kind = header.get(CONTROL)
        if kind is None:
            if len(self.inbox) >= INBOX_LIMIT:
                raise StreamFault(f"more than {INBOX_LIMIT} unread messages from the consumer")
            self._received += 1
            self.inbox.append(StreamMessage(header, frames[1:], self._received))
        elif kind == "ack":
            upto = header.get("upto")
            if not isinstance(upto, int) or not self.acked <= upto <= self.sent:
                raise StreamFault(f"acknowledgement of {upto!r} with {self.acked} acknowledged and {self.sent} sent")
            self.acked = upto
            if len(frames) > 1:
                self.checkpoint = frames[1]
        elif kind == "opened":
            credit = header.get("credit")
            if isinstance(credit, int) and credit >= 1:
                self.credit = min(self.credit, credit)
        elif kind == "refused":
            raise StreamFault(f"the consumer refused the stream: {header.get('reason')}")
        elif kind == "close":
            self.ended = True


class ConsumerSession:
    """The binding side: takes one connection that proves the secret, refuses and counts the frames of all others."""

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.peer: bytes | None = None
        self.received = 0
        self.taken = 0
        self.acked = 0
        self.refused = 0
        self.inbox: deque[StreamMessage] = deque()
        self.ended = False

    def feed(self, peer: bytes, frames: list[bytes]) -> Frames | None:
        """Take one message from connection ``peer``; returns the frames to answer it with.

        Raises StreamFault only for what the proven peer did: a stranger can neither break nor end the stream.
        """
        if peer != self.peer:
            return self._knock(peer, frames)
        header = _header(frames)
        kind = header.get(CONTROL)
        if kind is None:
            if self.received - self.acked >= self.grant.credit:
                raise StreamFault(f"the producer sent more than its credit of {self.grant.credit}")
            self.received += 1
            self.inbox.append(StreamMessage(header, frames[1:], self.received))
        elif kind == "close":
            self.ended = True
        return None

    def _knock(self, peer: bytes, frames: list[bytes]) -> Frames | None:
        try:
            header = _header(frames)
        except StreamFault:
            header = {}
        g, secret = self.grant, header.get("secret")
        if header.get(CONTROL) != "open":
            reason = "not opened"
        elif (header.get("grant"), header.get("epoch")) != (g.grant, g.epoch):
            reason = f"this is epoch {g.epoch} of grant {g.grant}"
        elif not isinstance(secret, str) or not hmac.compare_digest(secret.encode(), g.secret.encode()):
            reason = "wrong secret"
        elif self.peer is not None:
            reason = "already open"
        else:
            self.peer = peer
            return _frames({CONTROL: "opened", "credit": g.credit})
        self.refused += 1
        return _frames({CONTROL: "refused", "reason": reason})

    def take(self) -> StreamMessage:
        message = self.inbox.popleft()
        self.taken = message.number
        return message

    def ack(self, upto: int | None, checkpoint: bytes) -> Frames | None:
        """Acknowledge everything taken, or the messages up to ``upto``; None if that is nothing new."""
        upto = self.taken if upto is None else upto
        if upto > self.taken:
            raise ValueError(f"message {upto} has not been received yet")
        if upto <= self.acked and not checkpoint:
            return None
        self.acked = max(self.acked, upto)
        return _frames({CONTROL: "ack", "upto": self.acked}, (checkpoint,) if checkpoint else ())
