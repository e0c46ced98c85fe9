# SPDX-License-Identifier: Apache-2.0
"""A pool of workers: streams that come, and change hands, while their operation waits for all of them at once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qcosd.sdk import Pool, Revoked, StreamClosed, StreamReader, StreamWriter, wait
from qcosd.sdk.stream_session import KEPT, Grant
from qcosd.sdk.testing import Workers, stream_pair

PATIENCE = 30.0  # seconds: nothing here takes as long


def double(reader: StreamReader) -> None:
    """A worker without a state of its own: whatever it has answered needs nobody any more."""
    for message in reader:
        reader.send({"twice": 2 * message.header["value"]})
        reader.ack(checkpoint=b"-")


def quits_after(count: int) -> Callable[[StreamReader], None]:
    """One that takes as many, answers all but the last, and is gone."""

    def work(reader: StreamReader) -> None:
        for number in range(count):
            message = reader.recv()
            if number == count - 1:
                raise Revoked("gone")
            reader.send({"twice": 2 * message.header["value"]})
            reader.ack(checkpoint=b"-")

    return work


def answers(pool: Pool, count: int) -> list[int]:
    """Answers of whoever answers."""
    found: list[int] = []
    while len(found) < count:
        assert wait(pool.streams(), PATIENCE)
        for stream in pool.streams():
            while (message := stream.poll()) is not None:
                found.append(message.header["twice"])
    return found


def test_several_workers_share_the_work() -> None:
    workers = Workers()
    for _ in range(3):
        workers.hire(double)
    assert len(workers.pool.streams()) == 3
    for value, stream in zip(range(9), itertools.cycle(workers.pool.streams()), strict=False):
        stream.send({"value": value}, timeout=PATIENCE)
    assert sorted(answers(workers.pool, 9)) == [2 * value for value in range(9)]
    workers.pool.close(final=True)
    assert workers.pool.streams() == []


def test_a_worker_that_is_gone_has_a_successor_on_the_same_stream() -> None:
    workers = Workers()
    place = workers.hire(quits_after(3))
    (stream,) = workers.pool.streams()
    for value in range(5):
        stream.send({"value": value}, timeout=PATIENCE)
    assert sorted(answers(workers.pool, 2)) == [0, 2]
    workers.hire(double, place)
    assert workers.pool.streams() == [stream]
    assert sorted(answers(workers.pool, 3)) == [4, 6, 8]


def test_a_stateless_worker_can_be_replaced_after_any_number_of_messages() -> None:
    workers = Workers()
    place = workers.hire(quits_after(3 * KEPT))
    (stream,) = workers.pool.streams()
    for value in range(3 * KEPT - 1):
        stream.send({"value": value}, timeout=PATIENCE)
        assert answers(workers.pool, 1) == [2 * value]
    stream.send({"value": 7}, timeout=PATIENCE)
    workers.hire(double, place)
    assert answers(workers.pool, 1) == [14]


def test_a_further_worker_ends_a_wait_until_it_has_been_named() -> None:
    reader, writer = stream_pair()
    workers = Workers(main=reader)
    assert not wait([reader], 0.0)
    waiting = threading.Timer(0.0, lambda: workers.hire(double))
    waiting.start()
    assert wait([reader], PATIENCE)
    assert wait([reader], PATIENCE)
    assert len(workers.pool.streams()) == 1
    assert not wait([reader, *workers.pool.streams()], 0.0)
    writer.send({"round": 1})
    assert wait([reader, *workers.pool.streams()], PATIENCE)
    message = reader.poll()
    assert message is not None and message.header == {"round": 1}


def test_an_end_that_was_read_ends_no_wait_but_a_further_worker_does() -> None:
    reader, writer = stream_pair()
    workers = Workers(main=reader)
    writer.open()
    writer.close(final=True)
    assert wait([reader], PATIENCE) and wait([reader], PATIENCE)
    while not reader.ended:
        reader.poll()
    assert reader.poll() is None
    assert not wait([reader], 0.0)
    threading.Timer(0.0, lambda: workers.hire(double)).start()
    assert wait([reader], PATIENCE)
    assert len(workers.pool.streams()) == 1
    with pytest.raises(ValueError, match="no stream to wait for"):
        wait([])


def test_the_end_of_the_lease_ends_every_wait() -> None:
    workers = Workers()
    workers.hire(lambda reader: reader.recv())
    (stream,) = workers.pool.streams()
    assert not wait([stream], 0.0)
    threading.Timer(0.0, lambda: workers.pool.wake(Revoked("enough"))).start()
    assert wait([stream], PATIENCE)
    with pytest.raises(Revoked, match="enough"):
        stream.poll()
    workers.hire(double)
    assert len(workers.pool.streams()) == 0, "nobody comes any more"


def test_a_worker_that_has_ended_is_named_no_more() -> None:
    workers = Workers()
    workers.hire(lambda reader: reader.recv())  # one message, and it is done
    (stream,) = workers.pool.streams()
    stream.send({"value": 1}, timeout=PATIENCE)
    while workers.pool.streams():
        wait([stream], PATIENCE)
    with pytest.raises(StreamClosed):
        stream.recv(PATIENCE)


def test_workers_whose_streams_were_never_used_hear_the_end() -> None:
    ended = threading.Event()

    def work(reader: StreamReader) -> None:
        assert list(reader) == []
        ended.set()

    workers = Workers()
    workers.hire(work)
    workers.pool.close(final=True)
    assert ended.wait(PATIENCE)


def test_the_grant_of_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="an aide's stream is one to connect"):
        Pool().grant(Grant(1, 1, "windows", "bind", "memory://", "0" * 64))


@pytest.fixture
def endpoints(tmp_path: Path) -> Iterator[str]:
    return (f"ipc://{tmp_path}/{number}" for number in itertools.count())


def hire(endpoint: str, grant: int, epoch: int, work: Callable[[StreamReader], object]) -> Grant:
    """A worker on a socket; the grant for the other end."""
    terms = ("windows", "bind", endpoint, "5" * 64, 8)
    reader = StreamReader(Grant(grant, epoch, *terms))

    def run() -> None:
        with reader:
            work(reader)

    threading.Thread(target=run, daemon=True).start()
    return Grant(grant, epoch, terms[0], "connect", *terms[2:], resumes=True)


def vanishes(reader: StreamReader) -> None:
    """One that takes two messages, answers the first, and is gone."""
    message = reader.recv()
    reader.send({"twice": 2 * message.header["value"]})
    reader.ack(checkpoint=b"-")
    reader.recv()


def test_workers_on_sockets_come_die_and_are_replaced(endpoints: Iterator[str]) -> None:
    main_end = next(endpoints)
    reader = StreamReader(Grant(9, 1, "rounds", "bind", main_end, "6" * 64))
    writer = StreamWriter(Grant(9, 1, "rounds", "connect", main_end, "6" * 64))
    pool = Pool(reader)
    assert not wait([reader], 0.001)
    pool.grant(hire(next(endpoints), 1, 1, vanishes))
    assert wait([reader], PATIENCE)
    (stream,) = pool.streams()
    for value in range(4):
        stream.send({"value": value}, timeout=PATIENCE)
    assert answers(pool, 1) == [0]
    threading.Timer(0.0, lambda: pool.grant(hire(next(endpoints), 1, 2, double))).start()
    assert answers(pool, 3) == [2, 4, 6]
    assert pool.streams() == [stream]
    writer.send({"round": 1})
    while reader.poll() is None:
        assert wait([reader, stream], PATIENCE)
    threading.Timer(0.0, lambda: reader.wake(Revoked("enough"))).start()
    assert wait([reader], PATIENCE)
    with pytest.raises(Revoked):
        reader.poll()
    pool.close(final=True)
    reader.close()
    writer.close()


def test_sockets_and_memory_are_not_mixed(endpoints: Iterator[str]) -> None:
    reader, _ = stream_pair()
    with (
        StreamReader(Grant(9, 1, "rounds", "bind", next(endpoints), "6" * 64)) as other,
        pytest.raises(TypeError, match="cannot be waited for together"),
    ):
        wait([reader, other], PATIENCE)
