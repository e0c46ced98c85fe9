# SPDX-License-Identifier: Apache-2.0
"""When a socket is looked at: in the daemon (Drain) and in its peers (Readable). And messages of several frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zmq

from qcosd import frames
from qcosd.sdk.dealer import Readable
from qcosd.shell.drain import Drain

BUDGET = 4


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    with zmq.Context() as context:
        router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
        router.bind(f"ipc://{tmp_path}/s")
        dealer.connect(f"ipc://{tmp_path}/s")
        yield router, dealer
        router.close(0)
        dealer.close(0)


@pytest.fixture
def quiet() -> Iterator[Any]:
    """A socket whose descriptor says nothing: whoever looks at it has decided to."""
    with zmq.Context() as context:
        socket = context.socket(zmq.DEALER)
        yield socket
        socket.close(0)


def watched(kind: str, socket: Any, receive: Callable[[], bool]) -> tuple[Any, Callable[[], None]]:
    loop = asyncio.get_running_loop()
    if kind == "Drain":
        drain = Drain(loop, socket, receive, BUDGET)
        return drain, drain.look_again
    readable = Readable(loop, socket, receive)
    return readable, readable.look


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("kind", ["Drain", "Readable"])
def test_a_send_while_reading_is_looked_at_by_that_reading(kind: str, quiet: Any) -> None:
    async def life() -> int:
        answers = iter([True, True, False])  # a message with an answer to it, another one, nothing
        looks = 0

        def receive() -> bool:
            nonlocal looks
            looks += 1
            if (there := next(answers)) is True:
                look()
            return there

        reader, look = watched(kind, quiet, receive)
        await turns(10)
        reader.close()
        return looks

    assert asyncio.run(life()) == 3  # a fourth would find no answer


@pytest.mark.parametrize("kind", ["Drain", "Readable"])
def test_a_send_after_the_last_look_leads_to_another_one(kind: str, quiet: Any) -> None:
    """The end of a connection is told when the socket is empty, and what follows from it may be a message."""

    async def life() -> int:
        looks = 0

        def receive() -> bool:
            nonlocal looks
            looks += 1
            if looks == 1:
                look()
            return False

        reader, look = watched(kind, quiet, receive)
        await turns(10)
        reader.close()
        return looks

    assert asyncio.run(life()) == 2


@pytest.mark.parametrize("kind", ["Drain", "Readable"])
def test_a_flood_lets_others_have_their_turn_and_is_read_to_its_end(kind: str, quiet: Any) -> None:
    async def life() -> list[str]:
        told: list[str] = []

        def receive() -> bool:
            told.append("read")
            return told.count("read") <= 200

        reader, _ = watched(kind, quiet, receive)
        asyncio.get_running_loop().call_soon(partial(told.append, "other"))
        await turns(300)
        reader.close()
        return told

    told = asyncio.run(life())
    assert told.count("read") == 201
    assert told.index("other") < 200


def test_frames_come_as_they_went(pair: tuple[Any, Any]) -> None:
    router, dealer = pair
    for sent in ([b"one"], [b"", b"two", b"", b"x" * 100_000], [b"a"] * 6):
        frames.send(dealer, sent)
        assert router.poll(10_000)
        assert frames.readable(router)
        routing, *got = frames.receive(router)
        assert got == sent
        assert not frames.readable(router)
        frames.send(router, [routing, *sent])
        assert dealer.poll(10_000)
        assert frames.receive(dealer) == sent
    with pytest.raises(zmq.Again):
        frames.receive(router)


def test_what_cannot_be_sent_is_not_sent_in_part(pair: tuple[Any, Any]) -> None:
    router, dealer = pair
    router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    with pytest.raises(zmq.ZMQError, match="unreachable"):
        frames.send(router, [b"nobody", b"header", b"body"])
    frames.send(dealer, [b"still", b"whole"])
    assert router.poll(10_000)
    assert frames.receive(router)[1:] == [b"still", b"whole"]
