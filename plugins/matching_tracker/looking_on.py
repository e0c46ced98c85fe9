# SPDX-License-Identifier: Apache-2.0
"""The shadow's end of a `shadow` stream, see `shadow`: a tracker that is shown a batch, and told what was decided."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from qcos_plugins.matching_tracker.fault import StreamFault
from qcos_plugins.matching_tracker.follow import take
from qcos_plugins.matching_tracker.packed import Bits, width
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.shadow import differing
from qcos_plugins.matching_tracker.tracker import Tracker

Message = Any


class Onlooker:
    """``stream``: a StreamReader."""

    def __init__(self, plans: Plans, shots: int, batch: int, stream: Any, *, decode_missing: bool = True) -> None:
        self._stream = stream
        self._waiting: deque[Message] = deque()  # came before a decision that was waited for
        self._decided: dict[tuple[str, int], bytes] = {}
        self._tracker = Tracker(
            plans.program,
            plans.calibration,
            shots,
            plans=plans,
            batch=batch,
            decode_missing=decode_missing,
            decides=self._given,
        )

    def run(self) -> int:
        """Looks on to the end.  Returns in how many shots, at least, the counts differ.

        Raises StreamFault for what is no part of a batch, StreamClosed when the tracker shows no more.
        """
        while True:
            message = self._waiting.popleft() if self._waiting else self._received()
            kind = message.header.get("type")
            if kind == "shown":
                take(self._tracker, message.header["header"], message.payload)
            elif kind == "counts":
                differ = differing(self._tracker.outcomes().counts, _counts(message.header))
                self._stream.send({"type": "verdict", "differ": differ})
                return differ
            else:
                raise StreamFault(f"a message of type {kind!r} is not due")

    def _received(self) -> Message:
        """The next message that is no decision."""
        while True:
            message = self._stream.recv()
            self._stream.ack()
            if message.header.get("type") != "decided":
                return message
            self._decided[message.header["path"], message.header["k"]] = bytes(message.payload[0])

    def _given(self, path: str, k: int, shots: int) -> Bits:
        """What was decided, whatever this tracker thinks."""
        while (path, k) not in self._decided:
            # It is on its way: the tracker that shows itself has decided before it went on.
            message = self._stream.recv()
            self._stream.ack()
            if message.header.get("type") == "decided":
                self._decided[message.header["path"], message.header["k"]] = bytes(message.payload[0])
            else:
                self._waiting.append(message)
        values = np.frombuffer(self._decided[path, k], np.uint8)
        if values.shape != (width(shots),):
            raise StreamFault(f"decision {k} of path {path!r} is not for {shots} shots", path=path)
        return values


def _counts(header: Mapping[str, Any]) -> dict[str, int]:
    counts = header.get("counts")
    if not isinstance(counts, dict) or not all(type(n) is int for n in counts.values()):
        raise StreamFault("no counts came in the end")
    return counts
