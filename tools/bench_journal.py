# SPDX-License-Identifier: Apache-2.0
"""What it costs to remember: appends to the journal, as safe as either class asks for, beside bare sqlite and bare fdatasync."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import uvloop

from qcosd.core.image import Entity, Image
from qcosd.core.records import Record, RecordType
from qcosd.shell.journal import Journal
from qcosd.shell.journal_file import JournalFile
from qcosd.shell.main import SWITCH_INTERVAL

ONE_BY_ONE = 1000  # appends, each after the last is durable
TOGETHER = 20_000  # appends, of which WAITING are not durable yet
WAITING = 256
BODY = {"job": "j" * 24, "state": "done", "artifact": "0" * 64, "text": "x" * 100}
ENTITIES = 1000  # that the records are about, in turn
KINDS = {"power": RecordType.OUTPUT, "crash": RecordType.LEASE}

Row = dict[str, Any]


def rows(row: Callable[..., Row], place: Path) -> list[Row]:
    """Rows as `tools/bench` prints them; `place` is on the disk to be measured."""
    found = []
    sys.setswitchinterval(SWITCH_INTERVAL)  # as the daemon does
    for name, kind in KINDS.items():
        floor = bare_sqlite(place / f"{name}.db", "FULL" if name == "power" else "NORMAL")
        (place / name).mkdir()
        alone, rate = uvloop.run(appended(place / name, kind))
        what = "bare sqlite, one INSERT a transaction" + (" and fdatasync" if name == "power" else ", not flushed")
        found += [
            row(f"{name} p50", 1e3 * statistics.median(alone), "ms", 1e3 * statistics.median(floor), what),
            row(f"{name} p99", 1e3 * percentile(alone, 99), "ms", 1e3 * percentile(floor, 99), what),
            row(f"{name} rate", rate, "/s", 1 / statistics.mean(floor), what),
        ]
    flushed = bare_fdatasync(place / "bare")
    found.append(row("fdatasync p50", 1e3 * statistics.median(flushed), "ms", 1e3 * statistics.median(flushed), "itself: 4 KiB written in place"))  # fmt: skip
    return found


async def appended(place: Path, kind: RecordType) -> tuple[list[float], float]:
    """Seconds of each append that waits for the one before; appends a second when many wait."""
    loop = asyncio.get_running_loop()
    file = JournalFile(place, _fold, _touched)
    told: asyncio.Queue[int] = asyncio.Queue()
    journal = Journal(loop, file, told.put_nowait, print)

    def append() -> None:
        name = str(journal.position % ENTITIES)
        journal.append([Record(kind, {"name": name, **BODY}, 0.0)], journal.position + 1)

    alone = []
    for _ in range(ONE_BY_ONE):
        start = time.perf_counter()
        append()
        await told.get()
        alone.append(time.perf_counter() - start)
    durable = first = journal.position
    start = time.perf_counter()
    while durable < first + TOGETHER:
        while journal.position < min(durable + WAITING, first + TOGETHER):
            append()
        durable = await told.get()
    rate = TOGETHER / (time.perf_counter() - start)
    journal.close()
    return alone, rate


def _touched(record: Record) -> tuple[Entity, ...]:
    return (("bench", record.body["name"]),)


def _fold(image: Image, records: Iterable[Record]) -> None:
    for record in records:
        image.setdefault("bench", {})[record.body["name"]] = record.body


def bare_sqlite(path: Path, synchronous: str) -> list[float]:
    """Seconds of each of as many transactions of one such row."""
    seconds = []
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {synchronous}")
        db.execute("CREATE TABLE records (position INTEGER PRIMARY KEY, body BLOB)")
        body = os.urandom(260)
        for _ in range(ONE_BY_ONE):
            start = time.perf_counter()
            db.execute("INSERT INTO records (body) VALUES (?)", (body,))
            seconds.append(time.perf_counter() - start)
    return seconds


def bare_fdatasync(path: Path) -> list[float]:
    """Seconds of writing a page in place and flushing it."""
    seconds = []
    with path.open("wb", buffering=0) as file:
        file.write(bytes(4096 * 100))
        os.fsync(file.fileno())
        for number in range(ONE_BY_ONE):
            start = time.perf_counter()
            os.pwrite(file.fileno(), b"x" * 4096, 4096 * (number % 100))
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - start)
    return seconds


def percentile(values: list[float], share: int) -> float:
    return sorted(values)[len(values) * share // 100]
