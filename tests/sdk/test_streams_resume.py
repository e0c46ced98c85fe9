# SPDX-License-Identifier: Apache-2.0
"""A stream whose consumer dies goes on with another one, and nobody can tell from what it gets."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcosd.sdk.errors import DeadlineExceeded, Revoked, StreamClosed, StreamFault
from qcosd.sdk.links import MemoryLink, memory_pair
from qcosd.sdk.stream_session import KEPT, ConsumerSession, Grant, ProducerSession, StreamMessage
from qcosd.sdk.streams import StreamReader, StreamWriter

FIRST = Grant(grant=5, epoch=1, name="rounds", role="connect", endpoint="", secret="1" * 64, credit=2, resumes=True)


class Kernel:
    """Hands out the grants of one stream: `reader` is the consumer of the next epoch."""

    def __init__(self, kind: str, folder: Path, credit: int) -> None:
        self._kind = kind
        self._folder = folder
        self._credit = credit
        self._links: dict[int, tuple[MemoryLink, MemoryLink]] = {}
        self.open: list[StreamReader | StreamWriter] = []
        self.writer = self.kept(StreamWriter(self.grant(1), self._link(self.grant(1)), self._link))

    def kept(self, stream: StreamReader | StreamWriter) -> StreamReader | StreamWriter:
        self.open.append(stream)
        return stream

    def grant(self, epoch: int, role: str = "connect") -> Grant:
        endpoint = f"ipc://{self._folder}/5.{epoch}"
        return replace(FIRST, epoch=epoch, role=role, endpoint=endpoint, secret=f"{epoch}" * 64, credit=self._credit)

    def _link(self, grant: Grant) -> MemoryLink | None:
        if self._kind == "ipc":
            return None
        ends = self._links.setdefault(grant.epoch, memory_pair())
        return ends[grant.role == "connect"]

    def reader(self, epoch: int) -> StreamReader:
        grant = self.grant(epoch, "bind")
        return self.kept(StreamReader(grant, self._link(grant)))  # type: ignore[return-value]

    def take_over(self, epoch: int) -> StreamReader:
        reader = self.reader(epoch)
        self.writer.regrant(self.grant(epoch))
        return reader


Start = Callable[[int], Kernel]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture(params=["ipc", "memory"])
def start(request: pytest.FixtureRequest, tmp_path: Path, threads: ThreadPoolExecutor) -> Iterator[Start]:
    made: list[Kernel] = []

    def begin(credit: int) -> Kernel:
        made.append(Kernel(request.param, tmp_path, credit))
        return made[-1]

    yield begin
    for kernel in made:
        for stream in kernel.open:
            stream.wake(Revoked("the test is over"))
    threads.shutdown()
    for kernel in made:
        for stream in kernel.open:
            stream.close()


def numbers(reader: StreamReader, count: int) -> list[int]:
    return [reader.recv(60).header["n"] for _ in range(count)]


def produce(writer: StreamWriter, count: int) -> list[int]:
    """Sends 1 to ``count``, waits until all is taken, and returns what came back meanwhile."""
    for n in range(1, count + 1):
        writer.send({"n": n}, bytes([n]) * 3)
    writer.drain()
    back = []
    while (message := writer.poll()) is not None:
        back.append(message.header["k"])
    writer.close()
    return back


def test_another_consumer_goes_on_from_the_checkpoint(start: Start, threads: ThreadPoolExecutor) -> None:
    kernel = start(3)
    produced = threads.submit(produce, kernel.writer, 9)
    first = kernel.reader(1)
    assert first.resumed(60) == []
    assert numbers(first, 2) == [1, 2]
    first.ack(None, b"state 2", b"one")
    first.send({"k": 1})
    assert numbers(first, 3) == [3, 4, 5]
    first.ack()
    assert numbers(first, 1) == [6]  # so the producer has heard of 3, and with that of all before

    second = kernel.take_over(2)
    assert second.resumed(60) == [b"state 2", b"one"]
    again = second.recv(60)
    assert again == StreamMessage({"n": 3}, [b"\3\3\3"], 3)
    second.ack(None, b"state 3", b"two", b"three")
    assert numbers(second, 3) == [4, 5, 6]
    second.ack()
    second.send({"k": 1})
    assert numbers(second, 1) == [7]

    third = kernel.take_over(3)
    assert third.resumed(60) == [b"state 3", b"one", b"two", b"three"]
    seen = []
    for message in third:
        seen.append(message.header["n"])
        third.ack()
    assert seen == [4, 5, 6, 7, 8, 9]
    assert set(produced.result(60)) == {1}


def test_one_that_has_no_checkpoint_begins_at_the_beginning(start: Start, threads: ThreadPoolExecutor) -> None:
    kernel = start(8)
    produced = threads.submit(produce, kernel.writer, KEPT)
    first = kernel.reader(1)
    for n in range(1, KEPT - 4):
        assert numbers(first, 1) == [n]
        first.ack()
    second = kernel.take_over(2)
    assert second.resumed(60) == []
    for n in range(1, KEPT + 1):
        assert numbers(second, 1) == [n]
        second.ack()
    produced.result(60)


def test_what_is_not_kept_any_more_cannot_be_resumed(start: Start, threads: ThreadPoolExecutor) -> None:
    kernel = start(1)
    produced = threads.submit(produce, kernel.writer, KEPT + 9)
    first = kernel.reader(1)
    for _ in range(KEPT + 4):
        first.recv(60)
        first.ack()
    first.recv(60)
    kernel.take_over(2)
    with pytest.raises(StreamClosed, match="messages from 1 on are not kept"):
        produced.result(60)
    with pytest.raises(StreamClosed, match="not kept"):
        kernel.writer.send({})


@pytest.mark.parametrize("call", ["open", "send", "recv", "poll", "drain"])
def test_a_grant_is_no_help_to_a_lease_that_has_ended(start: Start, call: str) -> None:
    kernel = start(1)
    writer = kernel.writer
    if call != "open":
        writer.send({"n": 1})
    kernel.take_over(2)
    writer.wake(Revoked("given up"))
    for name in (call, call, "send", "recv"):
        with pytest.raises(Revoked, match="given up"):
            getattr(writer, name)(*([{}] if name == "send" else []))


@pytest.mark.parametrize("blocked", ["send", "drain", "recv"])
def test_whoever_is_blocked_by_a_dead_consumer_is_freed_by_the_next(
    start: Start, threads: ThreadPoolExecutor, blocked: str
) -> None:
    kernel = start(1)
    writer = kernel.writer
    calls: dict[str, Callable[[], object]] = {
        "send": lambda: writer.send({"n": 2}),
        "drain": writer.drain,
        "recv": lambda: writer.recv().header["k"],
    }
    waits = threading.Event()

    def run() -> object:
        writer.send({"n": 1})
        waits.set()
        value = calls[blocked]()
        writer.close()
        return value

    future: Future[object] = threads.submit(run)
    assert kernel.reader(1).recv(60).header == {"n": 1}
    assert waits.wait(60)
    second = kernel.take_over(2)
    assert numbers(second, 1) == [1]
    second.send({"k": 7})
    second.ack()
    if blocked == "send":
        assert numbers(second, 1) == [2]
    assert future.result(60) == {"send": 2, "drain": None, "recv": 7}[blocked]


def test_a_grant_before_the_first_message_is_as_good_as_the_first_one(
    start: Start, threads: ThreadPoolExecutor
) -> None:
    kernel = start(2)
    second = kernel.take_over(2)
    produced = threads.submit(produce, kernel.writer, 2)
    assert second.resumed(60) == []
    assert numbers(second, 2) == [1, 2]
    second.ack()
    produced.result(60)


def test_two_deaths_in_a_row_and_only_the_last_grant_counts(start: Start, threads: ThreadPoolExecutor) -> None:
    kernel = start(2)
    produced = threads.submit(produce, kernel.writer, 3)
    first = kernel.reader(1)
    assert numbers(first, 2) == [1, 2]
    first.ack(None, b"two")
    assert numbers(first, 1) == [3]
    kernel.take_over(2)
    last = kernel.take_over(4)
    kernel.writer.regrant(kernel.grant(3))  # late: a newer one is in force
    assert last.resumed(60) == [b"two"]
    assert numbers(last, 1) == [3]
    last.ack()
    produced.result(60)
    assert kernel.writer.grant.epoch == 4


def test_a_consumer_that_fails_is_waited_for_and_one_that_is_done_is_not(
    start: Start, threads: ThreadPoolExecutor
) -> None:
    kernel = start(2)
    produced = threads.submit(produce, kernel.writer, 3)
    first = kernel.reader(1)
    assert numbers(first, 2) == [1, 2]
    first.close()
    second = kernel.take_over(2)
    assert numbers(second, 1) == [1]
    second.close(final=True)
    with pytest.raises(StreamClosed, match=r"by the other end|unacknowledged"):
        produced.result(60)


def test_a_producer_that_does_not_resume_ends_with_its_consumer(threads: ThreadPoolExecutor) -> None:
    ends = memory_pair()
    old = replace(FIRST, resumes=False)
    reader, writer = StreamReader(replace(old, role="bind"), ends[0]), StreamWriter(old, ends[1])
    writer.send({"n": 1})
    assert numbers(reader, 1) == [1]
    reader.close()
    with pytest.raises(StreamClosed):
        writer.recv(60)
    writer.regrant(replace(old, epoch=2))
    with pytest.raises(StreamClosed, match="not kept"):
        writer.send({"n": 2})


def test_a_lease_that_ends_while_its_producer_waits_for_a_grant_ends_the_wait(
    start: Start, threads: ThreadPoolExecutor
) -> None:
    kernel = start(1)
    produced = threads.submit(produce, kernel.writer, 3)
    kernel.reader(1).recv(60)
    kernel.take_over(2)
    kernel.writer.wake(Revoked("given up"))
    with pytest.raises(Revoked, match="given up"):
        produced.result(60)


def test_the_grant_of_another_stream_is_no_grant(start: Start) -> None:
    writer = start(1).writer
    for wrong in (replace(FIRST, grant=6, epoch=2), replace(FIRST, role="bind", epoch=2)):
        with pytest.raises(ValueError, match="in place of grant 5"):
            writer.regrant(wrong)


def test_a_consumer_that_was_replaced_gets_nothing_more(start: Start, threads: ThreadPoolExecutor) -> None:
    kernel = start(2)
    produced = threads.submit(produce, kernel.writer, 6)
    first = kernel.reader(1)
    assert numbers(first, 2) == [1, 2]
    second = kernel.take_over(2)
    for n in range(1, 7):
        assert numbers(second, 1) == [n]
        second.ack()
    with contextlib.suppress(StreamClosed):  # as soon as the reader notices that it is alone
        first.ack(None, b"of a stranger")
    with pytest.raises(DeadlineExceeded):
        first.recv(0.0)
    produced.result(60)
    assert kernel.writer.checkpoint == b""


# ---- the rules, without waiting


def joined(writer: ProducerSession, grant: Grant) -> ConsumerSession:
    reader = ConsumerSession(replace(grant, role="bind"))
    reply = reader.feed(b"peer", writer.opening())
    assert reply is not None
    writer.feed(reply)
    return reader


def test_without_a_checkpoint_in_time_the_consumer_hears_it_and_the_producer_waits() -> None:
    writer = ProducerSession(FIRST)
    reader = joined(writer, FIRST)
    ack = reader.ack(None, b"0")
    assert ack is not None
    writer.feed(ack)
    for n in range(KEPT):
        assert reader.feed(b"peer", writer.send({"n": n}, ())) is None
        reader.take()
        if n < KEPT - 1:
            writer.feed(reader.ack(None, b""))  # type: ignore[arg-type]
    assert not writer.may_send
    with pytest.raises(ValueError, match="a checkpoint was due: the last one is of message 0"):
        reader.ack(None, b"")
    writer.feed(reader.ack(None, b"1"))  # type: ignore[arg-type]
    assert writer.may_send


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_proof_of_another_epoch_is_refused(epoch: int) -> None:
    writer = ProducerSession(replace(FIRST, epoch=epoch))
    reader = ConsumerSession(replace(FIRST, epoch=2, role="bind"))
    reply = reader.feed(b"peer", writer.opening())
    assert reply is not None and reader.peer is None
    with pytest.raises(StreamFault, match="epoch 2 of grant 5"):
        writer.feed(reply)


def test_checkpoints_go_forward() -> None:
    writer = ProducerSession(FIRST)
    reader = joined(writer, FIRST)
    for n in range(2):
        reader.feed(b"peer", writer.send({"n": n}, ()))
        reader.take()
    reader.ack(None, b"")
    with pytest.raises(ValueError, match="checkpoint of message 1 after 2"):
        reader.ack(1, b"late")
    with pytest.raises(ValueError, match="without a checkpoint"):
        reader.ack(2, b"", (b"piece",))


@given(
    st.integers(1, 8),
    st.lists(st.sampled_from(["make", "again", "take", "ack", "checkpoint", "lose acks", "die"]), max_size=300),
)
def test_whatever_dies_and_when_every_consumer_sees_what_the_one_that_never_dies_sees(
    credit: int, steps: list[str]
) -> None:
    """The consumer's state is the list of what it has taken; its checkpoint says how long that list is."""
    grant = replace(FIRST, credit=credit)
    writer = ProducerSession(grant)
    reader = joined(writer, grant)
    taken: list[int] = []
    lossy = False

    def acknowledge(checkpoint: bytes, *pieces: bytes) -> None:
        frames = reader.ack(None, checkpoint, pieces)
        if frames is not None and not lossy:
            writer.feed([bytes(frame) for frame in frames])

    told = 0
    for step in steps:
        if step == "make" and writer.may_send:
            reader.feed(b"peer", writer.send({"n": writer.made + 1}, ()))
        elif step == "again" and (frames := writer.again()) is not None:
            reader.feed(b"peer", frames)
        elif step == "take" and reader.inbox and reader.taken - reader.covered < KEPT:
            message = reader.take()
            assert message.number == message.header["n"]
            taken.append(message.header["n"])
        elif step == "ack" and reader.taken - reader.covered < KEPT:
            acknowledge(b"")
        elif step == "checkpoint":
            acknowledge(b"%d" % len(taken), *(b"%d" % n for n in taken[told:]))
            told = len(taken)
        elif step == "lose acks":  # what a dying consumer says last does not arrive, or not all of it
            lossy = True
        elif step == "die":
            grant = replace(grant, epoch=grant.epoch + 1)
            writer.resume(grant)
            reader, lossy = joined(writer, grant), False
            taken = [int(piece) for piece in reader.resumed[1:]]
            assert len(taken) == int((reader.resumed or [b"0"])[0])
            told = len(taken)
        assert taken == list(range(1, len(taken) + 1))
        assert len(writer._kept) <= KEPT + credit
