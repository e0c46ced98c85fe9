# SPDX-License-Identifier: Apache-2.0
"""Case `bus` of `tools/bench`: a question that goes through the broker to another process, whose answer of 64 B to 64 KiB comes back
the same way; and events of that size in a row. The same on qcosd, NATS, D-Bus and pyleco, in turns.

On qcosd: client -> qcosd -> plugin is PLUGIN_FAULT, which is passed on as FAULT; plugin -> qcosd -> client is PROGRESS of a lease, which
becomes an EVENT of the job. A plugin sees no client, so these are the only messages that the kernel brokers without writing a record.
FAULT has room for a number only: questions are small everywhere, and it is the answer that has the size.

`bus ping` is what the broker answers itself, where that can be asked: half as many ways.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import bench_bus_peers as peers
import uvloop
import zmq
from chaos_world import World, only

from qcosd.protocol import Message, Side, Type, decode, encode
from qcosd.sdk.async_client import Client
from qcosd.sdk.client import USER
from qcosd.sdk.runtime import CLIENTS_SOCKET, EVENTS_SOCKET, client_token
from qcosd.sdk.session import Request
from qcosd.sdk.subscription import TopicEvent

SIZES = (64, 1024, 16_384, 65_536)
ROUNDS = 8  # turns of each contender: what else the machine does hits all alike
ASKED = 200  # questions of a turn
BURST = 200  # events in a row, a bound that no queue loses any below
STALL = 5.0  # seconds after which a burst counts as stuck
SCALE = 100_000  # of the number that qcosd's question is: how many answers, times this, plus their size

MANIFEST = """
name = "echo"
version = "1"
argv = ["{python}", "{folder}/main.py"]

[[operation]]
service = "echo"
op = "echo"
consumes = ["call"]
produces = ["answer"]
budget = 3600.0
"""
ECHO = f"""
import sys, zmq
from qcosd import protocol
from qcosd.protocol import Message, Side, Type
from qcosd.sdk.boot import read_boot_map

boot = read_boot_map()
bus = zmq.Context().socket(zmq.DEALER)
bus.linger, bus.plain_username, bus.plain_password = 0, boot.identity.encode(), boot.token.encode()
bus.connect(boot.endpoint)

def say(kind, body, id=0):
    bus.send_multipart(protocol.encode(Message(kind, body, id=id)))

say(Type.HELLO, {{"name": "echo", "versions": [1, 1], "services": ["echo.echo"], "ready": True}}, 1)
lease, number = {{}}, 0
while True:
    while not bus.poll(1000):
        say(Type.HEARTBEAT, {{}})
    message = protocol.decode(bus.recv_multipart(), Side.KERNEL)
    if message.type is Type.STOP:
        sys.exit()
    if message.type is Type.LEASE:
        lease = {{key: message.body[key] for key in ("lease", "epoch")}}
    if message.type is Type.FAULT:
        count, size = divmod(round(message.body["seconds"]), {SCALE})
        for _ in range(count):
            number += 1
            say(Type.PROGRESS, {{**lease, "fraction": 0.0, "text": str(number).ljust(size)}})
"""

Row = dict[str, Any]


def rows(row: Callable[..., Row]) -> list[Row]:
    """All rows of the case; ``row`` makes one."""
    return uvloop.run(_rows(row))


async def _rows(row: Callable[..., Row]) -> list[Row]:
    async with AsyncExitStack() as stack:
        present: list[peers.Contender] = []
        absent: list[Row] = []
        for name, way in {
            "qcosd": _qcosd,
            "qcosd, plain": partial(_qcosd, True),
            "bare ZeroMQ": peers.bare_zeromq,
            "bare ZeroMQ, loop": partial(peers.bare_zeromq, peers.LOOP),
            "bare ZeroMQ, zmq_proxy": partial(peers.bare_zeromq, peers.PROXY, peers.PROXY_ECHO),
            "NATS": peers.nats,
            "D-Bus": peers.dbus,
            "pyleco": peers.pyleco,
        }.items():
            try:
                present.append(await stack.enter_async_context(way()))
            except peers.NotHere as reason:
                absent.append(_absent(f"bus {name}", str(reason)))
        found: list[Row] = []
        for size in SIZES:
            found += _compared(row, f"bus {size} B", present, await _trips(present, lambda each: each.ask(size)))  # noqa: B023 - called at once
        asked = [each for each in present if each.broker_answers]
        found += _compared(row, "bus ping", asked, await _trips(asked, lambda each: each.ping()))
        streaming = list(present)
        for size in SIZES:  # last, because dbus-fast 5.2 does not get through a burst of 16 KiB
            rates: dict[str, list[float]] = {each.name: [] for each in streaming}
            for _ in range(ROUNDS):
                for each in list(streaming):
                    if (rate := await _rate(each, size)) is None:
                        streaming.remove(each)
                        absent.append(
                            _absent(f"bus {size} B events {each.name}", f"{BURST} did not come in {STALL:g} s")
                        )
                    else:
                        rates[each.name].append(rate)
            found += _compared(row, f"bus {size} B events", streaming, rates)
        return found + absent


async def _trips(
    present: list[peers.Contender], ask: Callable[[peers.Contender], Awaitable[None]]
) -> dict[str, list[float]]:
    """Microseconds of the questions that each contender was asked, in turns of which the first warms up."""
    trips: dict[str, list[float]] = {}
    for turn in range(ROUNDS + 1):
        for each in present:
            times = await _times(lambda: ask(each))  # noqa: B023 - called at once
            trips[each.name] = trips.get(each.name, []) + times if turn else []
    return trips


def _absent(case: str, why: str) -> Row:
    return {"case": case, "value": None, "unit": "", "floor": None, "ratio": None, "what": f"not measured: {why}"}


async def _rate(contender: peers.Contender, size: int) -> float | None:
    """Events a second of one burst; None where it does not get through."""
    start = time.perf_counter()
    try:
        async with asyncio.timeout(STALL):
            await contender.burst(BURST, size)
    except TimeoutError:
        return None
    return BURST / (time.perf_counter() - start)


async def _times(action: Callable[[], Awaitable[None]]) -> list[float]:
    """Microseconds of each of ASKED actions, one after the other."""
    spent = []
    for _ in range(ASKED):
        start = time.perf_counter()
        await action()
        spent.append(1e6 * (time.perf_counter() - start))
    return spent


def _compared(row: Callable[..., Row], case: str, present: list[peers.Contender], measured: dict[str, list[float]]) -> list[Row]:  # fmt: skip
    """Each contender beside NATS, where that is here: microseconds of questions, or a rate of events."""
    reference = next((each for each in present if each.name == "NATS"), None)
    events = case.endswith("events")
    found = []
    for label, share in (("", 49),) if events else ((" p50", 49), (" p99", 98)):
        # Not of those who fell out on the way.
        values = {each.name: statistics.quantiles(measured[each.name], n=100)[share] for each in present}
        for each in present:
            what = f"{reference.how if reference else 'no NATS here'}; here: {each.how}"
            floor = values[reference.name] if reference else 0.0
            found.append(row(f"{case}{label} {each.name}", values[each.name], "1/s" if events else "us", floor, what))
    return found


# --- qcosd


@asynccontextmanager
async def _qcosd(plain: bool = False) -> AsyncIterator[peers.Contender]:
    with tempfile.TemporaryDirectory(prefix="qcos-b-") as place:
        (folder := Path(place) / "echo").mkdir()
        (folder / "plugin.toml").write_text(MANIFEST)
        (folder / "main.py").write_text(ECHO)
        with World("--plugin-dir", place, config=only()) as world:
            async with Client(world.runtime, connect_grace=peers.PATIENCE) as client:
                contender = Qcosd(client)
                await contender.begin()
                if plain:
                    yield Plain(world.runtime, contender.topic)
                    return
                try:
                    yield contender
                finally:
                    await contender.events.aclose()


class Qcosd(peers.Contender):
    """The SDK's client, and a plugin of plain pyzmq."""

    name = "qcosd"
    how = "PLAIN with a token each over ipc, authenticated by ZAP; SDK's client, plain pyzmq in the plugin"

    def __init__(self, client: Client) -> None:
        self._client = client
        self._heard = 0
        self.events: Any = None
        self.topic = ""

    async def begin(self) -> None:
        """Put a job into the plugin's hands, whose progress the answers are."""
        job = await self._client.submit({"target": "answer"}, {"call": await self._client.put(b"call")})
        self.topic = f"job.{job}"
        self.events = self._client.events([self.topic])
        async with asyncio.timeout(peers.PATIENCE):
            async for event in self.events:
                if event.state["stage"] == "echo.echo":
                    return

    async def ask(self, size: int) -> None:
        await self.burst(1, size)

    async def burst(self, count: int, size: int) -> None:
        body = {"plugin": "echo", "kind": "slow", "seconds": count * SCALE + size}
        await self._client._drive(_unkeyed(Request(Type.PLUGIN_FAULT, body)))
        self._heard += count
        async with asyncio.timeout(peers.PATIENCE):
            async for event in self.events:
                if self._number(event) == self._heard:
                    return

    async def ping(self) -> None:
        await self._client.ping()

    @staticmethod
    def _number(event: TopicEvent) -> int:
        return int(event.state["stage"].partition(": ")[2] or 0)


class Plain(peers.Contender):
    """The same without the SDK and its loop: what the daemon itself takes."""

    name = "qcosd, plain"
    how = "as qcosd, with a client of plain pyzmq that blocks"

    def __init__(self, runtime: Path, topic: str) -> None:
        self._context = zmq.Context()
        token = (client_token(runtime) or "").encode()
        self._bus, self._events = self._context.socket(zmq.DEALER), self._context.socket(zmq.SUB)
        for peer, name in ((self._bus, CLIENTS_SOCKET), (self._events, EVENTS_SOCKET)):
            peer.linger, peer.plain_username, peer.plain_password = 0, USER.encode(), token
            peer.connect(f"ipc://{runtime / name}")
        self._events.subscribe(topic)
        self._ask(Type.HELLO, {"name": "plain", "versions": [1, 1]})
        self._events.recv_multipart()  # the subscription is in force

    def _ask(self, kind: Type, body: dict[str, Any]) -> None:
        self._bus.send_multipart(encode(Message(kind, body, id=1)))
        if decode(self._bus.recv_multipart(), Side.KERNEL).type is Type.ERROR:
            raise RuntimeError(f"{kind.name} was refused")

    async def ask(self, size: int) -> None:
        await self.burst(1, size)

    async def burst(self, count: int, size: int) -> None:
        self._ask(Type.PLUGIN_FAULT, {"plugin": "echo", "kind": "slow", "seconds": count * SCALE + size})
        for _ in range(count):
            decode(self._events.recv_multipart()[1:], Side.KERNEL)

    async def ping(self) -> None:
        self._ask(Type.PING, {})


def _unkeyed(request: Request) -> Iterator[list[Request]]:
    """A request that may be carried out again, and so needs no record."""
    yield [request]
