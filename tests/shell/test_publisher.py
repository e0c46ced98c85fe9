# SPDX-License-Identifier: Apache-2.0
"""The events socket."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import zmq
from shell_world import LIMITS, World, run

from qcosd.shell.bus import BusLimits
from qcosd.shell.connections import Connection
from qcosd.shell.publisher import Publisher


class Desk:
    """Grants what starts with `job.`, and remembers what was asked."""

    def __init__(self, world: World, limits: BusLimits = LIMITS) -> None:
        self.asked: asyncio.Queue[tuple[Connection, str, bool]] = asyncio.Queue()
        self.publisher: Publisher = world.keep(
            Publisher(world.context, world.loop, world.endpoint("events"), limits, self._ask)
        )

    def _ask(self, connection: Connection, topic: str, on: bool) -> None:
        self.asked.put_nowait((connection, topic, on))
        if topic.startswith("job."):
            self.publisher.subscribe(topic, on)


def subscriber(world: World, *topics: bytes) -> Any:
    socket = world.peer(zmq.SUB, "events")
    for topic in topics:
        socket.subscribe(topic)
    return socket


def test_only_granted_topics_arrive(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            desk = Desk(world)
            reader = subscriber(world, b"kernel", b"job.1")
            for topic in ("kernel", "job.1"):
                connection, asked, on = await desk.asked.get()
                assert (connection.identity, asked, on) == (f"uid:{os.getuid()}", topic, True)
            desk.publisher.publish("kernel", [b"secret"])
            desk.publisher.publish("job.2", [b"other"])
            desk.publisher.publish("job.1", [b"header", b"body"])
            assert await reader.recv_multipart() == [b"job.1", b"header", b"body"]

    run(test())


def test_a_grant_is_for_the_one_who_asked(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            desk = Desk(world)
            first, second = subscriber(world, b"job.1"), subscriber(world, b"job.2")
            for _ in range(2):
                await desk.asked.get()
            for topic in ("job.1", "job.2"):
                desk.publisher.publish(topic, [topic.encode()])
            assert await first.recv_multipart() == [b"job.1", b"job.1"]
            assert await second.recv_multipart() == [b"job.2", b"job.2"]

    run(test())


def test_unsubscribing_is_told_and_works(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            desk = Desk(world)
            reader = subscriber(world, b"job.1", b"job.2")
            await desk.asked.get()
            await desk.asked.get()
            reader.unsubscribe(b"job.1")
            assert (await desk.asked.get())[1:] == ("job.1", False)
            desk.publisher.publish("job.1", [b"too late"])
            desk.publisher.publish("job.2", [b"on time"])
            assert await reader.recv_multipart() == [b"job.2", b"on time"]

    run(test())


def test_who_asks_again_is_granted_anew_and_counts_once(tmp_path: Path) -> None:
    """It may be the first request of a connection that has the descriptor of an earlier one."""

    async def test() -> None:
        async with World(tmp_path) as world:
            desk = Desk(world)
            reader = subscriber(world, b"job.1", b"job.1")
            asked = [(await desk.asked.get())[1:] for _ in range(3)]
            assert asked == [("job.1", True), ("job.1", False), ("job.1", True)]
            desk.publisher.publish("job.1", [b"body"])
            assert await reader.recv_multipart() == [b"job.1", b"body"]

    run(test())


def test_what_a_subscriber_had_is_given_up_when_it_is_gone(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            desk = Desk(world)
            reader = subscriber(world, b"job.1", b"kernel", b"job.2")
            asked = [await desk.asked.get() for _ in range(3)]
            world.closed(reader)
            reader.close()
            given_up = [await desk.asked.get() for _ in range(3)]
            assert sorted(given_up) == sorted((connection, topic, False) for connection, topic, _ in asked)
            assert desk.asked.empty()

    run(test())


def test_a_slow_subscriber_misses_events_and_holds_up_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            desk = Desk(world)
            slow = world.peer(zmq.SUB, "events", asynchronous=False, queue=1)
            slow.subscribe(b"job.")
            quick = subscriber(world, b"job.")
            await desk.asked.get()
            await desk.asked.get()
            for number in range(500):
                desk.publisher.publish("job.1", [b"%d" % number, bytes(50_000)])
                assert (await quick.recv_multipart())[1] == b"%d" % number
            received = []
            while slow.poll(100):
                received.append(int(slow.recv_multipart()[1]))
            assert received == sorted(received)
            assert 0 < len(received) < 500

    run(test())
