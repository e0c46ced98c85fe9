# SPDX-License-Identifier: Apache-2.0
"""What a tracker shows to a *shadow*: another tracker that decodes the same batch beside it, and whose word never counts.

    {"type": "shown", "header"} frames           a message of the `rounds` stream, as it came
    {"type": "decided", "path", "k"} values      what the tracker decided: the shadow's own opinion changes nothing
    {"type": "counts", "counts"}                 the end, and what the tracker came to
    {"type": "verdict", "differ"}                the answer: in how many shots, at least, the shadow's counts differ

Nothing waits for a shadow but, for a moment, the end of a batch.  One that does not keep up, dies, or comes late is let go.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from qcos_plugins.matching_tracker.tracker import Reply

from qcosd.sdk import DeadlineExceeded, StreamClosed
from qcosd.sdk import StreamFault as BrokenStream

STREAM: Final = "shadow"
"""Name of the stream."""

MOMENT: Final = 3.0
"""Seconds that the end of a batch may wait for the verdict, beyond the time that the batch itself took: a shadow that comes to its
first job has to look for its libraries."""

AGREED, DIFFERED, LOST = "agreed", "differed", "lost"


class Shadow:
    """``granted``: the streams that the lease has got so far.  ``clock``: seconds."""

    def __init__(self, granted: Callable[[], Sequence[Any]], clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = next((stream for stream in granted() if stream.grant.name == STREAM), None)
        self._clock = clock
        self._began = clock()

    def show(self, header: Mapping[str, Any], payload: Sequence[Any], replies: Iterable[Reply]) -> None:
        """A message that the tracker has taken, and what it replied."""
        self._send({"type": "shown", "header": dict(header)}, *payload)
        self.tell(replies)

    def tell(self, replies: Iterable[Reply]) -> None:
        """Decisions among the tracker's replies."""
        for reply in replies:
            if isinstance(reply, tuple):
                decided, values = reply
                self._send({"type": "decided", "path": decided.path, "k": decided.k}, values.tobytes())

    def let_go(self) -> None:
        """It shall look on no longer: it has not seen all."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def verdict(self, counts: Mapping[str, int]) -> dict[str, int]:
        """How the batch compares: one of agreed, differed, lost; and in how many shots, at least, it differs."""
        self._send({"type": "counts", "counts": dict(counts)})
        if self._stream is None:
            return {LOST: 1}
        patience = self._clock() - self._began + MOMENT
        try:
            header = self._stream.recv(timeout=patience).header
            differ = header["differ"] if header.get("type") == "verdict" else None
        except (StreamClosed, BrokenStream, DeadlineExceeded, KeyError):
            differ = None
        self.let_go()
        if type(differ) is not int or differ < 0:
            return {LOST: 1}
        return {DIFFERED: 1, "shots": differ} if differ else {AGREED: 1}

    def _send(self, header: dict[str, Any], *payload: Any) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            # Acknowledgements that have come give credit, and nothing is waited for.
            while not stream.session.may_send and stream.poll() is not None:
                pass
            if stream.ended or not stream.session.may_send:
                self.let_go()
            else:
                stream.send(header, *payload, timeout=0.0)
        except (StreamClosed, BrokenStream, TimeoutError):
            self.let_go()


def differing(mine: Mapping[str, int], theirs: Mapping[str, int]) -> int:
    """In how many shots two tables of counts differ at least."""
    left, right = Counter(dict(mine)), Counter(dict(theirs))
    return max((left - right).total(), (right - left).total())
