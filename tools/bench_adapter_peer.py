# SPDX-License-Identifier: Apache-2.0
"""The reading end of the streams of `bench_adapter.py`, in a process of its own that starts quickly.

It prints the processor time, in seconds, that reading took.
"""

from __future__ import annotations

import sys
import time

import zmq

from qcosd.qec.stream import Acknowledgement, Block
from qcosd.sdk.stream_session import Grant
from qcosd.sdk.streams import StreamReader

MESSAGES = 2000
CREDIT = 8


def grant(endpoint: str, role: str) -> Grant:
    return Grant(1, 1, "rounds", role, endpoint, "k" * 64, CREDIT, resumes=True)


class _Undecoded:
    """As much of a tracker as `follow` needs."""

    progress = 0.0
    finished = False

    def receive(self, block: Block, *frames: object) -> list[Acknowledgement]:
        self.finished = block.last
        return [Acknowledgement(block.path, block.round + len(block.m), block.round)]

    def checkpoint(self) -> list[bytes]:
        return [b"\x01"]


def _bare(endpoint: str, answers: bool) -> None:
    with zmq.Context() as context, context.socket(zmq.PAIR) as socket:
        socket.bind(endpoint)
        socket.send(b"")
        began = time.process_time()
        for _ in range(MESSAGES):
            socket.recv_multipart()
            if answers:
                socket.send(b"")
        socket.send(b"")
        print(time.process_time() - began, flush=True)


def _reader(endpoint: str, follows: bool) -> None:
    if follows:
        from qcos_plugins.matching_tracker.follow import follow
    with StreamReader(grant(endpoint, "bind")) as reader:
        reader.send({"type": "ready"})
        began = time.process_time()
        if follows:
            follow(_Undecoded(), reader, lambda fraction, text: None)
        else:
            for _ in range(MESSAGES):
                reader.recv()
                reader.ack()
        print(time.process_time() - began, flush=True)


if __name__ == "__main__":
    role, at = sys.argv[1:]
    if role.startswith("bare"):
        _bare(at, role == "bare answering")
    else:
        _reader(at, role == "follower")
