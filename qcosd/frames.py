# SPDX-License-Identifier: Apache-2.0
"""Multipart messages in and out of a ZeroMQ socket without blocking, at a third to two thirds of what pyzmq's own functions for them cost.

Those ask an enum for each frame, and libzmq once more whether another one follows; here options are plain numbers, and a frame knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import zmq

_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_LAST = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message is there. Asking costs a third of the exception that a read of nothing raises."""
    return bool(int(socket.getsockopt(_EVENTS)) & _POLLIN)


def send(socket: zmq.Socket[bytes], frames: Sequence[Any]) -> None:
    """Queue all frames of a message (bytes or buffers), or none. Raises what pyzmq does, zmq.Again where there is no room."""
    last = len(frames) - 1
    for number, frame in enumerate(frames):  # once libzmq has taken the first one it takes all of them
        socket.send(frame, _MORE if number < last else _LAST)


def receive(socket: zmq.Socket[bytes]) -> list[bytes]:
    """All frames of the next message; they have arrived when the first one has. Raises zmq.Again where there is none."""
    first = socket.recv(_LAST, copy=False)
    return rest(socket, first, [first.bytes])


def rest(socket: zmq.Socket[bytes], first: zmq.Frame, frames: list[bytes]) -> list[bytes]:
    """``frames`` with those added that follow the first one of a message."""
    more = first.more
    while more:
        frame = socket.recv(_LAST, copy=False)
        frames.append(frame.bytes)
        more = frame.more
    return frames
