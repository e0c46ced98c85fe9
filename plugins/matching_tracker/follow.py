# SPDX-License-Identifier: Apache-2.0
"""The tracker's end of a `rounds` stream: messages in, messages out, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qcos_plugins.matching_tracker.fault import StreamFault, WrongCheckpoint
from qcos_plugins.matching_tracker.messages import read
from qcos_plugins.matching_tracker.pool import Pool
from qcos_plugins.matching_tracker.shadow import Shadow
from qcos_plugins.matching_tracker.tracker import Reply, Tracker

from qcosd.qec.stream import Acknowledgement, Block, Calibrated
from qcosd.sdk.stream_session import StreamMessage
from qcosd.sdk.streams import wait

EVERY = 16
"""Messages from one checkpoint to the next, at most; less than `qcosd.sdk.stream_session.KEPT`."""


def follow(
    tracker: Any,
    stream: Any,
    progress: Callable[[float, str], None],
    *,
    checkpoints: bool = True,
    pool: Pool | None = None,
    shadow: Shadow | None = None,
) -> None:
    """Feeds the tracker until every path has ended; goes on where a predecessor died.

    ``tracker``: a `Tracker`; or, without ``checkpoints``, an `ExperimentTracker`, which can only begin at the beginning.
    ``stream``: a StreamReader.  ``pool``: the tracker's helpers.  ``shadow``: who looks on.  Raises StreamFault for a message that is not due, Aborted if
    hardware gives up, WrongCheckpoint if what the predecessor left is of no use.
    """
    kept = stream.resumed()
    if kept:
        if not checkpoints:
            raise WrongCheckpoint("a checkpoint of something else that tracks")
        _answer(stream, tracker.restore(*kept))
        if shadow is not None:
            shadow.let_go()  # it has not seen the beginning, or two of them
    since = 0
    while not tracker.finished:
        replies: list[Reply] = []
        message = stream.recv() if pool is None else _next(tracker, stream, pool, replies)
        if shadow is not None:
            shadow.tell(replies)
        if message is not None:
            made = take(tracker, message.header, message.payload)
            if shadow is not None:
                shadow.show(message.header, message.payload, made)
            replies += made
            since += 1
        decides = any(isinstance(reply, tuple) for reply in replies)
        if tracker.finished:
            # With its last message acknowledged the producer leaves, and there is nobody to answer.
            _answer(stream, replies)
            stream.ack()
        elif pool is not None and not tracker.hungry:
            continue  # the producer would leave, and a successor with it: nothing is acknowledged before all is decoded
        elif since >= EVERY or decides:
            # What was decided is in the checkpoint before anybody acts on it.
            stream.ack(None, *(tracker.checkpoint() if checkpoints else ()))
            _answer(stream, replies)
            since = 0
        elif message is not None:
            stream.ack()  # credit is all that hardware needs for each block
        progress(tracker.progress, "decoding")
    if stream.poll() is not None:
        raise StreamFault("something follows the last block")


def _next(tracker: Tracker, stream: Any, pool: Pool, replies: list[Reply]) -> StreamMessage | None:
    """The next message, if there is one; what workers have decoded meanwhile, or the tracker in their place, has its replies."""
    for found in pool.answers():
        replies += tracker.answered(*found)
    message: StreamMessage | None = None if tracker.finished else stream.poll()
    if message is None and stream.session.ended and not tracker.finished:
        stream.recv()  # says so
    if message is None and not replies and not tracker.finished and not wait([stream, *pool.streams()], pool.patience):
        replies += tracker.help_out() or []
    return message


def _answer(stream: Any, replies: Sequence[Reply]) -> None:
    for reply in replies:
        if isinstance(reply, Acknowledgement):
            stream.send(reply.to_map())
        else:
            decided, values = reply
            stream.send(decided.to_map(), values.tobytes())


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
