# SPDX-License-Identifier: Apache-2.0
"""The journal's thread: groups, order, disks that fill up, and processes that are killed while they append."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from journal_world import CRASH, POWER, full, meaning, open_file, record, small_disk, toy_fold, toy_touched
from shell_world import run, until

from qcosd.core.records import Record
from qcosd.shell.journal import Journal, MemoryJournal
from qcosd.shell.journal_file import JournalFile, Row
from qcosd.shell.journal_upgrade import JournalError


class HeldFile(JournalFile):
    """Waits before its first group, and keeps the sizes of all of them: (rows, power-safe)."""

    def __init__(self, directory: Path) -> None:
        self.groups: list[tuple[int, bool]] = []
        self.begun, self.go = threading.Event(), threading.Event()
        super().__init__(directory, toy_fold, toy_touched)

    def write(self, rows: Sequence[Row], power: bool) -> None:
        self.begun.set()
        self.go.wait()
        super().write(rows, power)
        self.groups.append((len(rows), power))


class Told:
    """A journal with what it tells."""

    def __init__(self, file: JournalFile, **options: Any) -> None:
        self.durable: list[int] = []
        self.health: list[str] = []
        self.records: list[Record] = []
        self.file = file
        self.journal = Journal(
            asyncio.get_running_loop(), file, self.durable.append, self.health.append, **options
        )  # fmt: skip

    def append(self, *records: Record) -> None:
        self.records += records
        self.journal.append(records, self.journal.position + len(records))

    async def all_durable(self) -> None:
        await until(lambda: self.durable[-1:] == [self.journal.position])


def test_all_that_waits_is_one_group_as_safe_as_its_records_ask_for(tmp_path: Path) -> None:
    async def test() -> None:
        file = HeldFile(tmp_path)
        told = Told(file)
        told.append(record("a", 0, CRASH))
        await until(file.begun.is_set)
        for number in range(50):
            told.append(record("a", number, CRASH), record("b", number, POWER if number == 30 else CRASH))
        assert told.durable == []
        file.go.set()
        await told.all_durable()
        assert file.groups == [(1, False), (100, True)]
        assert told.durable == [1, 101], "in order, a group at a time"
        told.append(record("a", 51, CRASH))
        await told.all_durable()
        assert file.groups[-1] == (1, False)
        told.journal.close()
        again = open_file(tmp_path)
        assert again.image() == meaning(told.records)
        again.close()

    run(test())


def test_a_body_is_what_it_was_when_it_was_appended(tmp_path: Path) -> None:
    async def test() -> None:
        file = HeldFile(tmp_path)
        told = Told(file)
        value = [1]
        told.append(record("a", value))
        value.append(2)
        file.go.set()
        await told.all_durable()
        told.journal.close()

    run(test())
    file = open_file(tmp_path)
    assert file.image() == {"toy": {"a": {"values": [[1]]}}}
    file.close()


def test_closing_writes_all_that_was_appended(tmp_path: Path) -> None:
    async def test() -> None:
        told = Told(open_file(tmp_path))
        for number in range(100):
            told.append(record("a", number))
        told.journal.close()
        again = open_file(tmp_path)
        assert again.image() == meaning(told.records)
        again.close()

    run(test())


def test_records_move_into_the_image_while_more_arrive(tmp_path: Path) -> None:
    async def test() -> None:
        file = open_file(tmp_path)
        told = Told(file, fold_every=500)
        for number in range(1300):
            told.append(record(str(number % 20), number, CRASH))
            if number % 50 == 0:
                await told.all_durable()
        await told.all_durable()
        await until(lambda: file.unfolded < 500)
        told.journal.close()
        again = open_file(tmp_path)
        assert again.folded >= 800 and again.image() == meaning(told.records)
        again.close()

    run(test())


def test_positions_follow_each_other(tmp_path: Path) -> None:
    async def test() -> None:
        told = Told(open_file(tmp_path))
        told.append(record("a", 1), record("a", 2))
        for records, position in (([record("a", 3)], 2), ([record("a", 3)], 4), ([], 2)):
            with pytest.raises(JournalError, match="do not follow position 2"):
                told.journal.append(records, position)
        told.journal.close()

    run(test())


def test_in_memory_a_record_is_durable_at_once() -> None:
    positions: list[int] = []
    journal = MemoryJournal(positions.append)
    journal.append([record("a", 1)], 1)
    journal.append([record("a", 2), record("a", 3)], 3)
    assert (positions, journal.position) == ([1, 3], 3)
    with pytest.raises(JournalError):
        journal.append([record("a", 4)], 3)
    journal.close()


@contextmanager
def files_may_not_grow_beyond(size: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_cannot_be_written_is_told_and_kept(tmp_path: Path) -> None:
    async def test() -> None:
        told = Told(open_file(tmp_path), retry=0.01)
        told.append(record("a", 0))
        await told.all_durable()
        mark = (tmp_path / "journal.mark").read_bytes()
        with files_may_not_grow_beyond((tmp_path / "journal.db-wal").stat().st_size):
            for number in range(20):
                told.append(record("a", number))
            await until(lambda: bool(told.health))
            told.append(record("b", 1, CRASH))
            assert told.durable == [1] and (tmp_path / "journal.mark").read_bytes() == mark
        await told.all_durable()
        await until(lambda: len(told.health) == 2)
        assert str(tmp_path / "journal.db") in told.health[0] and "make room" in told.health[0] and told.health[1] == ""
        told.journal.close()
        again = open_file(tmp_path)
        assert again.image() == meaning(told.records) and not again.rolled_back
        again.close()

    run(test())


def test_a_full_disk_is_told_once_and_forgotten_when_there_is_room(tmp_path: Path) -> None:
    async def test() -> None:
        with small_disk(tmp_path / "disk") as disk:
            told = Told(open_file(disk), retry=0.01, fold_every=100)
            with full(disk):
                for number in range(300):
                    told.append(record(str(number % 50), "x" * 200))
                    if number % 10 == 0:
                        await asyncio.sleep(0)
                await until(lambda: bool(told.health))
                assert "full" in told.health[0] or "I/O" in told.health[0]
                assert not told.durable or told.durable[-1] < told.journal.position
            await told.all_durable()
            await until(lambda: told.health[-1] == "")
            assert len(told.health) == 2
            told.journal.close()
            again = open_file(disk)
            assert again.image() == meaning(told.records) and not again.rolled_back
            again.close()

    run(test())


def test_a_disk_that_hangs_is_told_and_forgotten_when_it_goes_on(tmp_path: Path) -> None:
    async def test() -> None:
        file = HeldFile(tmp_path)
        told = Told(file, hangs=0.02)
        told.append(record("a", 1))
        await until(lambda: bool(told.health))
        assert str(tmp_path / "journal.db") in told.health[0] and "has not come back" in told.health[0]
        told.append(record("a", 2))
        assert told.durable == []
        file.go.set()
        await told.all_durable()
        assert told.health[1:] == [""]
        told.journal.close()
        again = open_file(tmp_path)
        assert again.image() == meaning(told.records)
        again.close()

    run(test())


def test_a_daemon_ends_although_its_disk_hangs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        file = HeldFile(tmp_path)
        told = Told(file, hangs=0.02)
        told.append(record("a", 1), record("a", 2))
        await until(lambda: bool(told.health))
        told.journal.close()
        assert told.durable == [] and "ends without its last 2 records" in capfd.readouterr().err
        file.go.set()
        told.journal._thread.join()

    run(test())


def test_what_never_could_be_written_is_said_at_the_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        told = Told(open_file(tmp_path), retry=0.01)
        with files_may_not_grow_beyond((tmp_path / "journal.db-wal").stat().st_size):
            told.append(record("a", 1), record("a", 2))
            await until(lambda: bool(told.health))
            told.journal.close()
        assert told.durable == []

    run(test())
    assert "ends without its last 2 records, which nobody was told of" in capfd.readouterr().err


def test_a_bug_in_the_thread_is_a_fault_of_the_loop(tmp_path: Path) -> None:
    async def test() -> None:
        faults: list[BaseException | None] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context.get("exception")))
        file = open_file(tmp_path)
        told = Told(file)
        file.position = 7  # somebody has written here as well
        write = told.journal._file.write
        told.journal._file.write = lambda rows, power: write([rows[0], rows[0]], power)  # type: ignore[method-assign]
        told.append(record("a", 1))
        await until(lambda: bool(faults))
        assert "UNIQUE" in str(faults[0]) and told.durable == []
        file.close()

    run(test())


CHILD = """
import asyncio, os, sys
from pathlib import Path
import uvloop
sys.path.insert(0, sys.argv[2])
from journal_world import CRASH, POWER, open_file, record
from qcosd.shell.journal import Journal

async def main():
    file = open_file(Path(sys.argv[1]))
    assert not file.rolled_back, file.rolled_back
    os.write(1, b"boot %d\\n" % file.boot)
    more = asyncio.Event()
    def durable(position):
        os.write(1, b"%d\\n" % position)
        more.set()
    journal = Journal(asyncio.get_running_loop(), file, durable, print, fold_every=400)
    number = file.position
    while True:
        for _ in range(number % 7 + 1):
            size = number % 4 + 1
            kind = CRASH if number % 3 else POWER
            first = journal.position + 1
            journal.append([record(str(first), f"{n} of {size}", kind) for n in range(size)], first + size - 1)
            number += 1
        await more.wait()
        more.clear()
uvloop.run(main())
"""


@contextmanager
def child(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", CHILD, str(directory), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def survive(directory: Path, kills: int, seed: int) -> None:
    """Kill a process that appends, again and again: what it was told is there, no event is torn, no boot number comes twice."""
    draw = random.Random(seed)
    boots = []
    for _ in range(kills):
        with child(directory) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(b"boot"), line
            boots.append(int(line.split()[1]))
            for _ in range(draw.randrange(150)):
                assert process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read().splitlines(keepends=True)
        told = [int(word) for word in rest if word.endswith(b"\n")]
        file = open_file(directory)
        boots.append(file.boot)
        assert not file.rolled_back and file.position >= max(told, default=0)
        values = [entity["values"] for entity in file.image().get("toy", {}).values()]
        for event in values:
            size = int(event[0].split()[2])
            assert event == [f"{n} of {size}" for n in range(size)]
        assert sum(map(len, values)) == file.position, "none is missing, none is there twice"
        file.close()
    assert boots == sorted(set(boots))


def test_a_killed_process_leaves_what_it_was_told(tmp_path: Path) -> None:
    survive(tmp_path, 6, seed=1)


@pytest.mark.long
def test_a_process_that_is_killed_often_leaves_what_it_was_told(tmp_path: Path) -> None:
    survive(tmp_path, 80, seed=int(os.environ.get("QCOS_TEST_SEED", "2")))
