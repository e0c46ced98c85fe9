# SPDX-License-Identifier: Apache-2.0
"""Streams over real ipc sockets between threads, and their in-memory twin."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import zmq

from qcosd.sdk.errors import DeadlineExceeded, Revoked, StreamClosed, StreamFault
from qcosd.sdk.links import memory_pair
from qcosd.sdk.stream_session import Grant, data_frames
from qcosd.sdk.streams import StreamReader, StreamWriter

Pair = Callable[[int], tuple[StreamReader, StreamWriter]]


def grant(endpoint: str, credit: int = 1, role: str = "bind") -> Grant:
    return Grant(grant=1, epoch=1, name="rounds", role=role, endpoint=endpoint, secret="k" * 64, credit=credit)


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/stream.sock"


@pytest.fixture(params=["ipc", "memory"])
def pair(request: pytest.FixtureRequest, endpoint: str) -> Iterator[Pair]:
    made: list[StreamReader | StreamWriter] = []

    def make(credit: int) -> tuple[StreamReader, StreamWriter]:
        ends = memory_pair() if request.param == "memory" else (None, None)
        reader = StreamReader(grant(endpoint, credit), ends[0])
        writer = StreamWriter(grant(endpoint, credit, "connect"), ends[1])
        made.extend((reader, writer))
        return reader, writer

    yield make
    for stream in made:
        stream.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_with_a_credit_of_one_every_message_arrives_in_order_and_decisions_come_back(
    pair: Pair, threads: ThreadPoolExecutor
) -> None:
    reader, writer = pair(1)
    n = 200

    def produce() -> list[int]:
        decisions = []
        with writer:
            for i in range(n):
                writer.send({"round": i}, bytes([i % 256]), b"")
                assert writer.unacknowledged <= 1
                if i % 10 == 9:
                    decisions.append(writer.recv().header["k"])
            writer.drain()
        return decisions

    def consume() -> list[tuple[int, list[bytes]]]:
        got = []
        with reader:
            for message in reader:
                got.append((message.header["round"], message.payload))
                reader.ack()
                if message.header["round"] % 10 == 9:
                    reader.send({"k": message.header["round"]})
        return got

    produced, consumed = threads.submit(produce), threads.submit(consume)
    assert consumed.result(60) == [(i, [bytes([i % 256]), b""]) for i in range(n)]
    assert produced.result(60) == list(range(9, n, 10))


def test_send_blocks_without_credit_and_goes_on_after_an_acknowledgement(
    pair: Pair, threads: ThreadPoolExecutor
) -> None:
    reader, writer = pair(2)

    def produce() -> None:
        writer.send({"n": 1})
        writer.send({"n": 2})
        with pytest.raises(DeadlineExceeded):
            writer.send({"n": 3}, timeout=0.0)
        writer.send({"n": 3})

    produced = threads.submit(produce)

    def consume() -> tuple[list[int], StreamReader]:
        first = reader.recv()
        second = reader.recv()
        with pytest.raises(DeadlineExceeded):
            reader.recv(timeout=0.01)
        reader.ack(upto=1)
        return [first.header["n"], second.header["n"], reader.recv().header["n"]], reader

    assert threads.submit(consume).result(60)[0] == [1, 2, 3]
    produced.result(60)


def test_credit_goes_back_at_half_or_when_nothing_is_left_to_read() -> None:
    ends = memory_pair()
    reader = StreamReader(grant("memory", 8), ends[0])
    writer = StreamWriter(grant("memory", 8, "connect"), ends[1])
    for n in range(8):
        writer.send({"n": n})
    known = []
    for _ in range(7):
        reader.recv()
        reader.ack()
        writer.poll()
        known.append(writer.acked)
    assert known == [0, 0, 0, 4, 4, 4, 4]
    reader.recv()
    assert reader.poll() is None  # what it owes goes out before it waits, acknowledged or not
    writer.poll()
    assert writer.acked == 7
    reader.ack()
    writer.poll()
    assert writer.acked == 8
    for n in range(2):
        writer.send({"n": n})
    reader.recv()
    reader.ack()
    reader.close()
    with pytest.raises(StreamClosed):
        writer.drain()
    assert writer.acked == 9


def test_a_reader_that_floods_decisions_does_not_block_a_writer_without_credit(
    pair: Pair, threads: ThreadPoolExecutor
) -> None:
    reader, writer = pair(1)

    def consume() -> None:
        reader.recv()
        for k in range(300):
            reader.send({"k": k})
        reader.ack()
        assert reader.recv().header["n"] == 2

    def produce() -> list[int]:
        writer.send({"n": 1})
        writer.send({"n": 2})
        return [writer.recv().header["k"] for _ in range(300)]

    consumed, produced = threads.submit(consume), threads.submit(produce)
    assert produced.result(60) == list(range(300))
    consumed.result(60)


@pytest.mark.parametrize("blocked", ["recv", "send", "drain", "reader.recv", "reader.send"])
def test_waking_a_stream_ends_a_blocked_call_and_every_later_one(
    pair: Pair, threads: ThreadPoolExecutor, blocked: str
) -> None:
    reader, writer = pair(1)
    started = threading.Event()

    def run() -> None:
        calls: dict[str, Callable[[], object]] = {
            "recv": writer.recv,
            "send": lambda: [writer.send({}) for _ in range(2)],
            "drain": lambda: (writer.send({}), writer.drain()),
            "reader.recv": reader.recv,
            "reader.send": lambda: reader.send({}),
        }
        started.set()
        for _ in range(2):
            with pytest.raises(Revoked):
                calls[blocked]()

    future: Future[None] = threads.submit(run)
    started.wait(60)
    for stream in (reader, writer):
        stream.wake(Revoked("lease 1 has ended"))
    future.result(60)


def test_no_file_of_an_endpoint_is_left_behind(endpoint: str, threads: ThreadPoolExecutor) -> None:
    reader, writer = StreamReader(grant(endpoint, 1)), StreamWriter(grant(endpoint, 1, "connect"))
    reader.open()
    assert Path(endpoint.removeprefix("ipc://")).is_socket()
    threads.submit(lambda: (writer.send({"n": 1}), writer.close())).result(60)
    assert reader.recv(60).header == {"n": 1}
    reader.close()
    assert not Path(endpoint.removeprefix("ipc://")).exists()


def test_what_was_sent_before_a_close_is_still_read(pair: Pair, threads: ThreadPoolExecutor) -> None:
    reader, writer = pair(8)

    def produce() -> None:
        with writer:
            for i in range(8):
                writer.send({"n": i}, b"x" * 100_000)

    threads.submit(produce).result(60)
    assert [message.header["n"] for message in reader] == list(range(8))
    with pytest.raises(StreamClosed):
        reader.recv()


def test_a_stranger_on_the_endpoint_disturbs_nothing(endpoint: str, threads: ThreadPoolExecutor) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        reader = StreamReader(grant(endpoint, 4))
        reader.open()
        old = StreamWriter(replace(grant(endpoint, 4, "connect"), epoch=0))

        def stale() -> str:
            with pytest.raises(StreamFault) as caught:
                old.send({"n": -1})
                old.recv()
            old.close()
            return str(caught.value)

        stranger.connect(endpoint)
        stranger.send_multipart(data_frames({"n": -2}, ()))
        refused = threads.submit(stale)
        while reader.session.refused < 3:
            reader.poll_link()
        assert "epoch 1 of grant 1" in refused.result(60)

        writer = StreamWriter(grant(endpoint, 4, "connect"))
        sent = threads.submit(lambda: (writer.send({"n": 1}), writer.recv().header, writer.close()))
        assert reader.recv().header == {"n": 1}
        stranger.send_multipart(data_frames({"n": -3}, ()))
        reader.send({"k": 5})
        assert sent.result(60)[1] == {"k": 5}
        with pytest.raises(StreamClosed):
            reader.recv()
        reader.close()


def test_a_socket_belongs_to_one_thread(endpoint: str, threads: ThreadPoolExecutor) -> None:
    reader = StreamReader(grant(endpoint))
    reader.open()
    with pytest.raises(RuntimeError, match="thread that used it first"):
        threads.submit(reader.recv, 0.0).result(60)
    reader.close()


def test_a_closed_stream_refuses_every_call(endpoint: str) -> None:
    reader, writer = StreamReader(grant(endpoint)), StreamWriter(grant(endpoint, role="connect"))
    for stream in (reader, writer):
        stream.close()
        stream.close()
        with pytest.raises(StreamClosed):
            stream.recv()
        with pytest.raises(StreamClosed):
            stream.send({})
    with pytest.raises(StreamClosed):
        reader.ack()


def test_numpy_like_buffers_travel_as_their_bytes(pair: Pair, threads: ThreadPoolExecutor) -> None:
    reader, writer = pair(1)
    sent = threads.submit(lambda: writer.send({}, memoryview(bytearray(range(16))).cast("B", (4, 4))))
    assert reader.recv().payload == [bytes(range(16))]
    assert sent.result(60) == 1
