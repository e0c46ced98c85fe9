# SPDX-License-Identifier: Apache-2.0
"""Case `queue` of `tools/bench`: jobs that wait, from 1 to 10,000. How fast they are accepted, what they weigh, how long the daemon
takes to be back after kill -9, and whether it still has them.

The jobs are greetings, and the one plugin that could greet has been stopped. Each size has a daemon of its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos_world import World, WorldError, only

from qcosd.sdk.async_client import Client
from qcosd.sdk.client import BlockingClient
from qcosd.sdk.errors import SdkError

SIZES = (1, 100, 1000, 10_000)
ABREAST = 64  # requests of the client that are unanswered at a time
PATIENCE = 120.0
ENDED = frozenset({"done", "failed", "cancelled"})
OPTIONS = {"target": "greeted", "shots": 1, "seed": 1}

Row = dict[str, Any]


def rows(row: Callable[..., Row]) -> list[Row]:
    """All rows of the case; ``row`` makes one."""
    found: list[Row] = []
    first: dict[str, float] = {}
    for size in SIZES:
        with World(config=only("hello")) as world:
            found += _size(row, world, size, first)
    return found


def _size(row: Callable[..., Row], world: World, size: int, first: dict[str, float]) -> list[Row]:
    with BlockingClient(world.runtime, connect_grace=PATIENCE) as client:
        client.plugin("stop", "hello", timeout=PATIENCE)
        greeting = client.put(b"qubits\n")
    pings, submits = asyncio.run(_submit(world, greeting, size))
    resident = _resident_mb(world.keeper.lives[-1].pid)
    start = time.monotonic()
    os.kill(world.keeper.lives[-1].pid, signal.SIGKILL)
    try:
        life = world.keeper.await_life(2, PATIENCE)
        with BlockingClient(world.runtime, connect_grace=PATIENCE) as client:
            jobs = client.status(PATIENCE)["jobs"]
            seconds = time.monotonic() - start
        kept = sum(number for state, number in jobs.items() if state not in ENDED)
        after = _resident_mb(life.pid)
    except (WorldError, SdkError):
        seconds, kept, after = PATIENCE, 0, 0.0
    for name, value in (("resident", resident), ("after", after), ("restart", seconds)):
        first.setdefault(name, value)
    case = f"queue {size}"
    return [
        row(f"{case} submit", size / submits, "jobs/s", size / pings, "as many pings, as many at a time (higher is better)"),
        row(f"{case} resident", resident, "MB", first["resident"], f"with {SIZES[0]} job"),
        row(f"{case} restarted", after, "MB", first["after"], f"resident memory after kill -9, with {SIZES[0]} job"),
        row(f"{case} restart", seconds, "s", first["restart"], f"kill -9 until it answers, with {SIZES[0]} job"),
        row(f"{case} kept", kept, "jobs", size, "jobs that were accepted"),
    ]  # fmt: skip


async def _submit(world: World, greeting: str, size: int) -> tuple[float, float]:
    """Seconds for so many pings, and for so many jobs."""
    async with Client(world.runtime, connect_grace=PATIENCE) as client:
        start = time.perf_counter()
        await _abreast(size, lambda n: client.ping(timeout=PATIENCE))
        middle = time.perf_counter()
        await _abreast(
            size, lambda n: client.submit(OPTIONS, {"greeting": greeting}, key=f"queue-{n}", timeout=PATIENCE)
        )
        return middle - start, time.perf_counter() - middle


async def _abreast(count: int, action: Callable[[int], Any]) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        for n in numbers:
            await action(n)

    await asyncio.gather(*(work() for _ in range(min(ABREAST, count))))


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024
