# SPDX-License-Identifier: Apache-2.0
"""The rules of a stream without the socket: frames in, frames out, no waiting.

A stream joins a *producer* (it connects) to a *consumer* (it binds).  Every message is multipart: a msgpack map, then
payload frames.  A map with the key ``stream`` is control and belongs to this file; every other map is the user's.

    {"stream": "open", "grant", "epoch", "secret", "resume"} [checkpoint [piece...]]
                                                     producer, its first frame: the proof that the kernel granted this;
                                                     messages follow from number ``resume`` on
    {"stream": "opened", "credit"}                   consumer's answer to a good proof
    {"stream": "refused", "reason"}                  consumer's answer to anything from a connection without proof
    {"stream": "ack", "upto"} [checkpoint [piece...]]
                                                     consumer: messages 1..upto are taken
    {"stream": "close", "final"}                     either: nothing follows; ``final``: because the work is done

The producer numbers its messages 1, 2, ... and has at most ``credit`` of them unacknowledged.  Messages of the consumer
have no credit; the producer keeps at most INBOX_LIMIT unread ones, which is a fault of the consumer when exceeded.
A connection belongs to one epoch of the grant for its whole life, so its frames carry no epoch of their own.

**Another consumer.**  A checkpoint is all that the consumer is after messages 1..upto, as opaque bytes; it replaces the
one before.  Pieces are added to those of before: what a consumer only ever appends to need not be in every checkpoint.
The producer of a stream that ``resumes`` keeps what a successor needs: the checkpoint, all pieces, and the messages that
the checkpoint does not cover.  An acknowledgement without checkpoint frees credit and no message.  The first KEPT messages
are kept anyhow.  From then on a consumer that has given checkpoints is waited for, and one that never gave any has no
successor any more.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from qcosd.sdk.errors import StreamClosed, StreamFault

CONTROL = "stream"
INBOX_LIMIT = 4096

KEPT = 32
"""Messages that a producer keeps beyond the last checkpoint, at most: a consumer must give the next one before."""

Frames = list[Any]
"""Frames to send: bytes, or anything with a contiguous buffer."""


class StreamMessage(NamedTuple):
    """``number`` counts the messages of this direction from 1."""

    header: dict[str, Any]
    payload: list[bytes]
    number: int


@dataclass(frozen=True)
class Grant:
    """The kernel's permission to open one stream; ``role`` is "bind" (consumer) or "connect" (producer).

    ``resumes``: when the consumer dies, the producer gets a grant of a higher epoch and goes on with another one.
    """

    grant: int
    epoch: int
    name: str
    role: str
    endpoint: str
    secret: str
    credit: int = 8
    resumes: bool = False

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
                resumes=bool(body.get("resumes", False)),
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
    return _frames(
        header, tuple(f if type(f) is bytes or memoryview(f).c_contiguous else memoryview(f).tobytes() for f in payload)
    )


def close_frames(*, final: bool = False) -> Frames:
    return _frames({CONTROL: "close", "final": final})


def _header(frames: list[bytes]) -> dict[str, Any]:
    try:
        header = msgpack.unpackb(frames[0], raw=False)
    except (ValueError, IndexError, msgpack.exceptions.UnpackException) as error:
        raise StreamFault("malformed frame on the stream") from error
    if not isinstance(header, dict):
        raise StreamFault("malformed frame on the stream")
    return header


class ProducerSession:
    """The connecting side.

    Numbers of messages: ``made`` so far; ``sent`` on this connection; ``acked`` by this consumer; ``covered`` by the
    checkpoint.  covered <= acked <= sent <= made, and sent <= acked + credit; all but ``made`` fall back to ``covered`` when
    another consumer takes over.  ``pieces``: those of all checkpoints, in order.
    """

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.credit = grant.credit
        self.made = 0
        self.sent = 0
        self.acked = 0
        self.covered = 0
        self.checkpoint = b""
        self.pieces: list[bytes] = []
        self.inbox: deque[StreamMessage] = deque()
        self.ended = False
        self._received = 0
        self._kept: deque[Frames] = deque()
        self._gone = 0  # messages that are not kept any more

    def opening(self) -> Frames:
        g = self.grant
        header = {CONTROL: "open", "grant": g.grant, "epoch": g.epoch, "secret": g.secret, "resume": self.covered + 1}
        return _frames(header, (self.checkpoint, *self.pieces) if self.checkpoint else ())

    @property
    def may_send(self) -> bool:
        """Whether a new message may go out: everything before it has, and there is credit and room for it."""
        full = bool(self.checkpoint) and self.made - self.covered >= KEPT and self.grant.resumes
        return self.sent == self.made and self.sent - self.acked < self.credit and not full

    def send(self, header: Mapping[str, Any], payload: tuple[Any, ...]) -> Frames:
        """Spend one credit; the caller has seen ``may_send``."""
        frames = data_frames(header, payload)
        if not self.may_send:
            raise StreamFault("no credit left on the stream")
        if self.grant.resumes:
            frames = [bytes(frame) for frame in frames]  # no copy of what is bytes already
            self._kept.append(frames)
            self._forget()
        else:
            self._gone += 1
        self.made += 1
        self.sent += 1
        return frames

    def again(self) -> Frames | None:
        """The next message that another consumer had and this one has not, if there is credit for it."""
        if self.sent == self.made or self.sent - self.acked >= self.credit:
            return None
        self.sent += 1
        return self._kept[self.sent - 1 - self._gone]

    def resume(self, grant: Grant) -> None:
        """Begin with another consumer.  Raises StreamClosed if what it would need is not there any more."""
        if self._gone > self.covered:
            raise StreamClosed(
                f"stream {grant.name!r} cannot be resumed: messages from {self.covered + 1} on are not kept"
            )
        self.grant, self.credit = grant, grant.credit
        self.sent = self.acked = self.covered

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
                self.covered, self.checkpoint = upto, frames[1]
                self.pieces += frames[2:]
            self._forget()
        elif kind == "opened":
            credit = header.get("credit")
            if isinstance(credit, int) and credit >= 1:
                self.credit = min(self.credit, credit)
        elif kind == "refused":
            raise StreamFault(f"the consumer refused the stream: {header.get('reason')}")
        elif kind == "close":
            # A consumer that failed has a successor, or the lease ends: the kernel says which.
            self.ended = bool(header.get("final")) or not self.grant.resumes

    def _forget(self) -> None:
        """Messages that no successor needs, or, without checkpoints, can expect."""
        while self._kept and (
            self._gone < self.covered or (not self.checkpoint and len(self._kept) > KEPT and self._gone < self.acked)
        ):
            self._kept.popleft()
            self._gone += 1


class ConsumerSession:
    """The binding side: takes one connection that proves the secret, refuses and counts the frames of all others.

    ``resumed``: the checkpoint and the pieces that the producer kept, empty for a fresh start; known with ``peer``.
    """

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.peer: bytes | None = None
        self.received = 0
        self.taken = 0
        self.acked = 0
        self.covered = 0
        self.resumed: list[bytes] = []
        self._checkpoints = False
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
        g, secret, resume = self.grant, header.get("secret"), header.get("resume", 1)
        if header.get(CONTROL) != "open":
            reason = "not opened"
        elif (header.get("grant"), header.get("epoch")) != (g.grant, g.epoch):
            reason = f"this is epoch {g.epoch} of grant {g.grant}"
        elif not isinstance(secret, str) or not hmac.compare_digest(secret.encode(), g.secret.encode()):
            reason = "wrong secret"
        elif self.peer is not None:
            reason = "already open"
        elif not isinstance(resume, int) or resume < 1:
            reason = f"no message has the number {resume!r}"
        else:
            self.peer = peer
            self.received = self.taken = self.acked = self.covered = resume - 1
            self.resumed = frames[1:]
            self._checkpoints = bool(self.resumed)
            return _frames({CONTROL: "opened", "credit": g.credit})
        self.refused += 1
        return _frames({CONTROL: "refused", "reason": reason})

    def take(self) -> StreamMessage:
        message = self.inbox.popleft()
        self.taken = message.number
        return message

    def ack(self, upto: int | None, checkpoint: bytes, pieces: tuple[bytes, ...] = ()) -> Frames | None:
        """Acknowledge everything taken, or the messages up to ``upto``; None if that is nothing new.

        Raises ValueError for what was not taken yet, for a checkpoint of the past, and where one was due: a consumer that
        has begun to give checkpoints gives one at least for every KEPT messages, or the producer waits for ever.
        """
        upto = self.taken if upto is None else upto
        if upto > self.taken:
            raise ValueError(f"message {upto} has not been received yet")
        if checkpoint and upto < self.acked:
            raise ValueError(f"a checkpoint of message {upto} after {self.acked} was acknowledged")
        if pieces and not checkpoint:
            raise ValueError("pieces without a checkpoint")
        if not checkpoint and self._checkpoints and self.taken - self.covered >= KEPT:
            raise ValueError(f"a checkpoint was due: the last one is of message {self.covered}, {self.taken} are taken")
        if upto <= self.acked and not checkpoint:
            return None
        self.acked = max(self.acked, upto)
        if checkpoint:
            self.covered, self._checkpoints = upto, True
        return _frames({CONTROL: "ack", "upto": self.acked}, (checkpoint, *pieces) if checkpoint else ())
