# SPDX-License-Identifier: Apache-2.0
"""Case `dead-time` of `tools/bench`: how long a component stands idle between two jobs that are ready for it.

The jobs wait for a plugin that does next to nothing and notes on its own clock when it begins and when it ends. Between the end of
one job and the beginning of the next lie the result's way to the kernel, its record on the disk, the decision, and the way back.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from chaos_world import World, only

from qcosd.sdk.client import BlockingClient

JOBS = 200
PATIENCE = 120.0

MANIFEST = """
name = "timer"
version = "1"
argv = ["{python}", "{folder}/main.py"]

[[operation]]
service = "timer"
op = "time"
consumes = ["ticket"]
produces = ["stamp"]
"""

PLUGIN = """
import time
from qcosd.sdk import Plugin

plugin = Plugin()

@plugin.operation("timer", "time")
def work(lease):
    began = time.monotonic()
    return lease.result(outputs={"stamp": b"done"}, facts={"began": began, "ended": time.monotonic()})

plugin.main()
"""

Row = dict[str, Any]


def rows(row: Callable[..., Row]) -> list[Row]:
    """All rows of the case; ``row`` makes one."""
    with tempfile.TemporaryDirectory(prefix="qcos-b-") as place:
        (folder := Path(place) / "timer").mkdir()
        (folder / "plugin.toml").write_text(MANIFEST)
        (folder / "main.py").write_text(PLUGIN)
        with World("--plugin-dir", place, config=only()) as world:
            gaps, pings = _measure(world)
            flushes = _flushes(world.state)
    floor = median(pings) + median(flushes)
    what = "a PING to the kernel and back, and one small write flushed to the disk"
    return [
        row("dead-time p50", median(gaps), "ms", floor, what),
        row("dead-time p99", quantiles(gaps, n=100)[98], "ms", floor, what),
    ]


def _measure(world: World) -> tuple[list[float], list[float]]:
    """Milliseconds between the jobs, and of as many pings."""
    with BlockingClient(world.runtime, connect_grace=PATIENCE) as client:
        client.plugin("stop", "timer", timeout=PATIENCE)
        tickets = [client.put(b"%d" % n) for n in range(JOBS)]
        jobs = [client.submit({"target": "stamp"}, {"ticket": ticket}) for ticket in tickets]
        client.plugin("start", "timer", timeout=PATIENCE)
        facts = [client.wait(job, timeout=PATIENCE)["facts"]["timer.time"] for job in jobs]
        pings = [1000 * client.ping() for _ in range(JOBS)]
    in_order = sorted(facts, key=lambda fact: float(fact["began"]))
    return [1000 * (b["began"] - a["ended"]) for a, b in pairwise(in_order)], pings


def _flushes(place: Path) -> list[float]:
    """Milliseconds of small writes that reach the disk."""
    spent = []
    with open(place / "flush", "wb", buffering=0) as file:
        for _ in range(50):
            file.write(bytes(512))
            start = time.perf_counter()
            os.fsync(file.fileno())
            spent.append(1000 * (time.perf_counter() - start))
    return spent
