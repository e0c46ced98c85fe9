# SPDX-License-Identifier: Apache-2.0
"""The streams on which an operation gives work away, to however many there are to take it.

They come and go while the operation runs, and it may never get one: whatever it gives away it must be able to do itself.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable

from qcosd.sdk.errors import StreamClosed
from qcosd.sdk.links import Link
from qcosd.sdk.stream_session import Grant
from qcosd.sdk.streams import StreamReader, StreamWriter


class Pool:
    """Streams to the workers of a lease.  ``main``: the stream of the lease itself; ``links``: see `StreamWriter`.

    Each worker holds the other end of one of them.  When it dies another one may take its place: the same `StreamWriter` goes on
    with it, and sends it again what no checkpoint covers.  So an answer may come twice, and must be the same then.
    """

    def __init__(
        self,
        main: StreamReader | StreamWriter | None = None,
        links: Callable[[Grant], Link | None] = lambda grant: None,
    ) -> None:
        self._main = main
        self._links = links
        self._lock = threading.Lock()
        self._writers: dict[int, StreamWriter] = {}  # by the number of the grant
        self._grown = False
        self._over: Exception | None = None
        if main is not None:
            main.news = self.grown

    def streams(self) -> list[StreamWriter]:
        """Those granted so far that have not ended, in the order in which they came.

        What was given to one that is not named any more, and has not been answered, is not going to be.
        """
        with self._lock:
            self._grown = False
            return [writer for writer in self._writers.values() if not writer.ended]

    def grown(self) -> bool:
        """Whether there is a stream that ``streams`` has not named yet."""
        return self._grown

    def grant(self, grant: Grant) -> None:
        """A further stream, or another worker at the end of a known one.  May be called from any thread.

        Raises ValueError for the grant of anything else.
        """
        with self._lock:
            if self._over is not None:
                return
            writer = self._writers.get(grant.grant)
            if writer is None:
                if grant.role != "connect":
                    raise ValueError(f"grant {grant.grant} to {grant.role}: an aide's stream is one to connect")
                writer = self._writers[grant.grant] = StreamWriter(grant, self._links(grant), self._links)
                writer.news = self.grown
                self._grown = True
                for stream in self._all():
                    stream.nudge()
                return
        writer.regrant(grant)

    def wake(self, error: Exception) -> None:
        """Make this and every later call on any of them raise ``error``.  May be called from any thread."""
        with self._lock:
            self._over = self._over or error
            for writer in self._writers.values():
                writer.wake(error)

    def close(self, *, final: bool = False) -> None:
        """Tell all workers that nothing follows.  In the thread that uses the streams."""
        with self._lock:
            self._over = self._over or StreamClosed("the pool is closed")
            writers = list(self._writers.values())
        for writer in writers:
            with contextlib.suppress(
                Exception
            ):  # as for `close`: whatever it is, it must not keep a lease from its end
                writer.open()  # one that was never used has a worker all the same, who waits
            writer.close(final=final)

    def _all(self) -> Iterable[StreamReader | StreamWriter]:
        return [*([self._main] if self._main is not None else []), *self._writers.values()]
