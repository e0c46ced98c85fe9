# SPDX-License-Identifier: Apache-2.0
"""The tracker's end of a `rounds` stream: messages in, messages out, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qcos_plugins.matching_tracker.fault import StreamFault
from qcos_plugins.matching_tracker.messages import read
from qcos_plugins.matching_tracker.tracker import Reply, Tracker

from qcosd.qec.stream import Acknowledgement, Block, Calibrated


def follow(tracker: Tracker, stream: Any, progress: Callable[[float, str], None]) -> None:
    """Feeds the tracker until every path has ended.

    ``stream``: a reader with ``recv() -> message (header, payload)``, ``poll()``, the same or None, ``send(header, *payload)``
    and ``ack()``.  Raises StreamFault for a message that is not due, Aborted if hardware gives up.
    """
    while not tracker.finished:
        message = stream.recv()
        for reply in take(tracker, message.header, message.payload):
            if isinstance(reply, Acknowledgement):
                stream.send(reply.to_map())
            else:
                decided, values = reply
                stream.send(decided.to_map(), values.tobytes())
        stream.ack()
        progress(tracker.progress, "decoding")
    if stream.poll() is not None:
        raise StreamFault("something follows the last block")


def take(tracker: Tracker, header: Mapping[str, Any], payload: Sequence[bytes]) -> list[Reply]:
    """Gives the tracker one message, as it comes from the wire."""
    head, data = read(header, payload)
    if isinstance(head, Block):
        return tracker.receive(head, *data)
    if isinstance(head, Calibrated):
        tracker.calibrate(head, data)
    else:
        tracker.discard(head, data)
    return []
