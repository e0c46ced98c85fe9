# SPDX-License-Identifier: Apache-2.0
"""The tracker's end of a `rounds` stream: messages in, messages out, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qcos_plugins.matching_tracker.packed import width
from qcos_plugins.matching_tracker.tracker import StreamFault, Tracker

from qcosd.qec.stream import Acknowledgement, Block


def follow(tracker: Tracker, stream: Any, progress: Callable[[float, str], None]) -> None:
    """Feeds the tracker until every path has ended.

    ``stream``: a reader with ``recv() -> message (header, payload)``, ``send(header, *payload)`` and ``ack()``.  Raises
    StreamFault for what is no block that is due.
    """
    while not tracker.finished:
        message = stream.recv()
        try:
            block = Block.from_map(message.header)
            (payload,) = message.payload
            bits = np.frombuffer(payload, np.uint8).reshape(sum(block.m), width(block.shots))
        except ValueError as error:
            raise StreamFault(f"not a block of rounds: {error}") from error
        for reply in tracker.receive(block, bits):
            if isinstance(reply, Acknowledgement):
                stream.send(reply.to_map())
            else:
                decided, values = reply
                stream.send(decided.to_map(), values.tobytes())
        stream.ack()
        progress(tracker.progress, "decoding")
