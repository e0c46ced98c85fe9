# SPDX-License-Identifier: Apache-2.0
"""Feeds the blocks of a machine into a stream, and the decisions that come back into the machine."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from qcos_plugins.stim_adapter.frames import Packed
from qcos_plugins.stim_adapter.machine import Machine


class Message(Protocol):
    """What a stream delivers: a header as in `qcosd.qec.stream`, and payload frames."""

    header: dict[str, Any]
    payload: list[bytes]


class Writer(Protocol):
    """The producer's end of a stream.  ``send`` waits for credit, ``recv`` for a message, ``drain`` until all is taken."""

    def send(self, header: dict[str, Any], *payload: bytes) -> int: ...

    def recv(self) -> Message: ...

    def poll(self) -> Message | None: ...

    def drain(self) -> None: ...


class ContradictoryDecision(Exception):
    """A decision was reported a second time, with another value."""


def feed(machine: Machine, stream: Writer) -> dict[str, int]:
    """Runs a batch to its end, in virtual time: while nothing is taken or decided, the machine waits.

    Returns what was sent: ``blocks`` and ``records`` (bits a shot, summed over paths).
    """
    decided: dict[str, bytes] = {}
    sent = {"blocks": 0, "records": 0}
    running = machine.run()
    answer: Packed | None = None
    while True:
        try:
            item = running.send(answer)
        except StopIteration:
            break
        answer = None
        if item[0] == "block":
            _, block, bits = item
            stream.send(block.to_map(), bits.tobytes())
            sent["blocks"] += 1
            sent["records"] += len(bits)
            while (message := stream.poll()) is not None:
                _note(message, decided)
        else:
            path = item[1]
            while path not in decided:
                _note(stream.recv(), decided)
            answer = np.frombuffer(decided[path], np.uint8)
    stream.drain()
    return sent


def _note(message: Message, decided: dict[str, bytes]) -> None:
    # Acknowledgements need no answer here: credit is the stream's affair.
    if message.header.get("type") == "decided":
        path, value = message.header["path"], bytes(message.payload[0])
        if decided.setdefault(path, value) != value:
            raise ContradictoryDecision(f"path {path!r}, decision {message.header['k']}")
