# SPDX-License-Identifier: Apache-2.0
"""Streams between two plugins, with blocking calls for worker threads.

The producer holds a ``StreamWriter``, the consumer a ``StreamReader``; both can send and receive.  Only the messages of
the writer are subject to credit: its ``send`` blocks while ``credit`` messages are unacknowledged, and goes on taking
in what the reader sends meanwhile, so the two can never block each other.  Nothing is ever dropped.

A stream belongs to the thread that uses it first.  A revoked lease ends every blocked call with ``Revoked``.

The consumer of a stream that ``resumes`` may die: the writer then waits, at its next call that needs the consumer, until
the kernel grants another one (``regrant``), hands it the last checkpoint and every message that it does not cover, and goes
on as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

from qcosd.sdk.errors import DeadlineExceeded, Revoked, StreamClosed, StreamFault
from qcosd.sdk.links import Link, ZmqLink, wait_any
from qcosd.sdk.stream_session import (
    ConsumerSession,
    Frames,
    Grant,
    ProducerSession,
    StreamMessage,
    close_frames,
    data_frames,
)

Links = Callable[[Grant], Link | None]  # what makes the link of a grant; None for the socket that the grant names

LINGER = 1.0
"""Seconds that a closed stream goes on sending in the background."""


class _Regranted(Exception):
    """Ends whatever waits on a link that has been replaced."""


class _Stream:
    """What both ends share: waiting, closing, being woken."""

    session: ProducerSession | ConsumerSession

    def __init__(self, grant: Grant, link: Link | None = None) -> None:
        self.grant = grant
        self._link: Link = link if link is not None else ZmqLink(grant)
        self._closed = False
        self._failed: Exception | None = None
        self._end_seen = False  # somebody was told that the other end has closed
        self.news: Callable[[], bool] = lambda: (
            False
        )  # of the pool that it belongs to: whether there is a further stream

    @property
    def ended(self) -> bool:
        """Whether the other end has closed and everything is read, or nothing comes from it any more for another reason."""
        return self._failed is not None or (self.session.ended and not self.session.inbox)

    def _absorb(self, timeout: float | None) -> bool:
        raise NotImplementedError

    def _take(self) -> StreamMessage:
        return self.session.inbox.popleft()

    def _step(self, deadline: float | None) -> None:
        """Take in one message or raise DeadlineExceeded; faults are final."""
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._arrived(timeout) and deadline is not None and time.monotonic() >= deadline:
            raise DeadlineExceeded(f"nothing on stream {self.grant.name!r} in time")

    def _arrived(self, timeout: float | None) -> bool:
        """Take in one message if one comes in time; faults are final."""
        if self._failed is not None:
            raise self._failed
        try:
            return self._absorb(timeout)
        except Exception as error:
            self._failed = error
            raise

    def recv(self, timeout: float | None = None) -> StreamMessage:
        """The next message of the other end.

        Raises StreamClosed when it has closed and everything is read, DeadlineExceeded after ``timeout`` seconds,
        Revoked when the lease has ended, StreamFault when the other end breaks the rules.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.session.inbox:
            if self.session.ended:
                self._end_seen = True
                raise StreamClosed(f"stream {self.grant.name!r} was closed by the other end")
            self._step(deadline)
        return self._take()

    def poll(self) -> StreamMessage | None:
        """The next message if there is one already; also takes in acknowledgements."""
        while not self.session.inbox and not self.session.ended:
            if not self._arrived(0.0):
                return None
        self._end_seen = not self.session.inbox
        return self._take() if self.session.inbox else None

    def __iter__(self) -> Iterator[StreamMessage]:
        """Messages until the other end closes."""
        while True:
            try:
                message = self.recv()
            except StreamClosed:
                return
            yield message

    def look(self) -> bool:
        """Take in what has come; whether there is anything to look at.  See `wait`."""
        if self.session.inbox or self._failed is not None:
            return True
        try:
            self._settle()  # the other end may be waiting for just this
            arrived = self._arrived(0.0)
            return not self._end_seen if self.session.ended else arrived
        except (Revoked, StreamClosed, StreamFault) as error:
            self._failed = self._failed or error  # which the next call raises
            return True

    def wake(self, error: Exception) -> None:
        """Make this and every later call raise ``error``.  May be called from any thread."""
        self._link.wake(error)

    def nudge(self) -> None:
        """Let a `wait` on it look again.  May be called from any thread."""
        self._link.nudge()

    def _peer(self) -> bytes | None:
        return b""

    def _settle(self) -> None:
        """Send what has been held back."""

    def close(self, *, final: bool = False) -> None:
        """Tell the other end that nothing follows, and give up the socket.  Does nothing the second time.

        ``final``: the work is done, nobody will take this end's place.
        """
        if self._closed:
            return
        self._closed = True
        try:
            peer = self._peer()
            if self._failed is None and peer is not None:
                self._settle()
                self._link.send(peer, close_frames(final=final))
        except Exception:  # noqa: BLE001 - the other end may be gone, the lease revoked: closing must still close
            self._link.close(0.0)
        else:
            self._link.close(LINGER)
        self._failed = self._failed or StreamClosed(f"stream {self.grant.name!r} is closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class StreamWriter(_Stream):
    """The producer's end.  ``links`` makes the link of a later grant, None for the socket that the grant names."""

    session: ProducerSession

    def __init__(self, grant: Grant, link: Link | None = None, links: Links = lambda grant: None) -> None:
        super().__init__(grant, link)
        self.session = ProducerSession(grant)
        self._links = links
        self._opened = False
        self._lock = threading.Lock()
        self._granted: Grant | None = None  # not taken up yet
        self._woken: Exception | None = None

    def open(self) -> None:
        """Connect and prove the secret; ``send`` and ``recv`` do it by themselves."""
        while True:
            if self._failed is not None:
                raise self._failed
            try:
                if self._granted is not None:
                    self._switch()
                if not self._opened:
                    self._link.send(b"", self.session.opening())
                    self._opened = True
                while (frames := self.session.again()) is not None:
                    self._link.send(b"", frames)
                return
            except _Regranted:
                continue

    def regrant(self, grant: Grant) -> None:
        """Go on with another consumer.  May be called from any thread, whatever this stream is doing.

        Grants that are not newer than the one in force are ignored.  Raises ValueError for the grant of another stream.
        """
        if (grant.grant, grant.role) != (self.grant.grant, "connect"):
            raise ValueError(f"grant {grant.grant} to {grant.role} in place of grant {self.grant.grant} to connect")
        with self._lock:
            if grant.epoch > (self._granted or self.grant).epoch:
                self._granted = grant
                self._link.wake(_Regranted())

    def look(self) -> bool:
        regranted = self._granted is not None
        return super().look() or regranted

    def wake(self, error: Exception) -> None:
        with self._lock:
            self._woken = self._woken or error
            self._link.wake(error)

    def _switch(self) -> None:
        with self._lock:
            grant, self._granted = self._granted, None
            assert grant is not None, "a link is given up for another one only"
            if self._woken is not None:
                self._failed = self._woken
                raise self._failed
            old, self._link, self.grant = self._link, self._links(grant) or ZmqLink(grant), grant
        old.close(0.0)
        self._opened = False
        try:
            self.session.resume(grant)
        except StreamClosed as error:
            self._failed = error
            raise

    def _absorb(self, timeout: float | None) -> bool:
        self.open()
        try:
            arrived = self._link.receive(timeout)
        except _Regranted:
            return True
        if arrived is not None:
            self.session.feed(arrived[1])
        return arrived is not None

    def send(self, header: Mapping[str, Any], *payload: Any, timeout: float | None = None) -> int:
        """Send one message and return its number; blocks while there is no credit.

        ``payload``: bytes or buffers, sent in C order and copied before the call returns.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        self.open()
        while not self.session.may_send:
            if self.session.ended:
                raise StreamClosed(f"stream {self.grant.name!r} was closed by the other end")
            self._step(deadline)
        frames = self.session.send(header, payload)
        with contextlib.suppress(_Regranted):  # it is kept, and goes to the next consumer
            self._link.send(b"", frames)
        return self.session.made

    def drain(self, timeout: float | None = None) -> None:
        """Block until every message is acknowledged."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.session.acked < self.session.made:
            if self.session.ended:
                raise StreamClosed(f"stream {self.grant.name!r} was closed with messages unacknowledged")
            self._step(deadline)

    @property
    def unacknowledged(self) -> int:
        """Messages sent and not acknowledged by the present consumer, as far as taken in yet."""
        return self.session.made - self.session.acked

    @property
    def acked(self) -> int:
        """Number of the last acknowledged message."""
        return self.session.acked

    @property
    def checkpoint(self) -> bytes:
        """The checkpoint of the latest acknowledgement that had one."""
        return self.session.checkpoint


class StreamReader(_Stream):
    """The consumer's end."""

    session: ConsumerSession

    def __init__(self, grant: Grant, link: Link | None = None) -> None:
        super().__init__(grant, link)
        self.session = ConsumerSession(grant)
        self._owed: Frames | None = None  # an acknowledgement that the writer can do without for now
        self._settled = 0  # number of the last message that the writer knows to be acknowledged

    def open(self) -> None:
        """Bind the endpoint; ``recv`` and ``send`` do it by themselves."""
        self.poll_link()

    def poll_link(self) -> bool:
        """Take in one message if it is there already, without reading it."""
        return self._absorb(0.0)

    def _absorb(self, timeout: float | None) -> bool:
        arrived = self._link.receive(0.0 if self._owed is not None else timeout)
        if arrived is None and self._owed is not None:
            self._settle()  # the writer may be waiting for just this
            arrived = self._link.receive(timeout) if timeout != 0.0 else None
        if arrived is None:
            return False
        peer, frames = arrived
        reply = self.session.feed(peer, frames)
        if reply is not None:
            # Who knocked may have sent all it had, closed and gone: what it sent is still here to be read.
            with contextlib.suppress(StreamClosed):
                self._link.send(peer, reply)
        return True

    def _take(self) -> StreamMessage:
        return self.session.take()

    def _peer(self) -> bytes | None:
        return self.session.peer

    def send(self, header: Mapping[str, Any], *payload: Any, timeout: float | None = None) -> None:
        """Send one message to the writer; waits for it to connect first."""
        deadline = None if timeout is None else time.monotonic() + timeout
        frames = data_frames(header, payload)
        if self._failed is not None:
            raise self._failed
        while self.session.peer is None:
            self._step(deadline)
        self._link.send(self.session.peer, frames)

    def resumed(self, timeout: float | None = None) -> list[bytes]:
        """What the reader's predecessor left: its last checkpoint, then all pieces; empty for a fresh start.

        Waits for the writer to connect.  Messages follow from the first one that the checkpoint does not cover.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.session.peer is None:
            self._step(deadline)
        return self.session.resumed

    def ack(self, upto: int | None = None, checkpoint: bytes = b"", *pieces: bytes) -> None:
        """Give credit back for the messages up to number ``upto`` (default: everything received by ``recv``).

        ``checkpoint``: all that the reader is after these messages, replacing the one before; ``pieces``: what is only ever
        appended, added to those of before.  A successor gets them from ``resumed``.  A reader that has begun to give
        checkpoints must give one for every KEPT messages (ValueError).

        Credit alone goes back when half of it is spent, or when there is nothing more to read: a message for each would
        cost both ends as much as what it acknowledges.
        """
        if self._failed is not None:
            raise self._failed
        frames = self.session.ack(upto, checkpoint, pieces)
        if frames is None:
            return
        self._owed = frames
        enough = 2 * (self.session.acked - self._settled) >= self.grant.credit
        if checkpoint or enough or not (self.session.inbox or self._arrived(0.0)):
            self._settle()

    def _settle(self) -> None:
        owed, self._owed = self._owed, None
        if owed is not None and self.session.peer is not None and not self.session.ended:
            self._link.send(self.session.peer, owed)
            self._settled = self.session.acked


def open_stream(grant: Grant, links: Links = lambda grant: None) -> StreamReader | StreamWriter:
    """The end of the stream that the grant's role says.  ``links``: see `StreamWriter`."""
    link = links(grant)
    return StreamReader(grant, link) if grant.role == "bind" else StreamWriter(grant, link, links)


def wait(streams: Iterable[StreamReader | StreamWriter], timeout: float | None = None) -> bool:
    """Block until there is something to look at on one of these streams, all of this thread; False after ``timeout`` seconds.

    That is a message to read, an acknowledgement that has come, the end of the other side (until it was read) or of the lease,
    another consumer in the place of one that is gone; or a further stream of the pool that they belong to, until
    ``Pool.streams`` has named it.  So the stream of the lease itself stays among them after its end.
    """
    among = list(streams)
    if not among:
        raise ValueError("there is no stream to wait for")
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        found = [stream.look() for stream in among]
        links = [stream._link for stream in among]  # as they are after the look; whoever grants a stream nudges these
        if any(found) or any(stream.news() for stream in among):
            return True
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0.0:
            return False
        wait_any(links, left)
