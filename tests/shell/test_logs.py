# SPDX-License-Identifier: Apache-2.0
"""Log files: tailing, rotation, floods."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from qcosd.shell.logs import MAX_BYTES, MAX_LINE, MAX_LINES, LogFile, Logs


def write(log: LogFile, data: bytes) -> None:
    os.write(log.descriptor, data)


def test_lines_are_told_once_and_whole(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", 1 << 20, 2)
    write(log, b"one\ntwo\nthr")
    assert log.new_lines() == ["one", "two"]
    assert log.new_lines() == []
    write(log, b"ee\n\xff\n")
    assert log.new_lines() == ["three", "�"]
    write(log, b"no end")
    assert log.new_lines() == []
    assert log.new_lines(final=True) == ["no end"]
    assert log.new_lines(final=True) == []
    log.close()


def test_an_earlier_life_is_not_told_again(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(b"yesterday\n")
    logs = Logs(tmp_path, 1 << 20, 2)
    log = logs.open("x")
    write(log, b"today\n")
    assert logs.poll() == [("x", "today")]
    assert (tmp_path / "x.log").read_bytes() == b"yesterday\ntoday\n"
    assert logs.last_words("unheard of") == []
    logs.close()


def test_rotation_keeps_what_a_process_with_the_old_descriptor_writes(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", 4096, 2)
    program = "import sys\nfor line in sys.stdin: print(line * 50, end='', flush=True); print('#', file=sys.stderr, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=log.descriptor, stderr=subprocess.PIPE
    ) as writer:
        assert writer.stdin is not None and writer.stderr is not None
        told: list[str] = []
        for number in range(30):
            writer.stdin.write(b"line %d of the log\n" % number)
            writer.stdin.flush()
            writer.stderr.readline()  # it has been written
            told += log.new_lines()
    assert told == [f"line {number} of the log" for number in range(30) for _ in range(50)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.log", "x.log.1", "x.log.2"]
    assert log.path.stat().st_size <= 4096 + 2000
    kept = b"".join((tmp_path / name).read_bytes() for name in ("x.log.2", "x.log.1", "x.log"))
    assert b"\0" not in kept, "the writer went on at its old offset"
    assert kept.endswith(b"line 29 of the log\n")
    log.close()


def test_a_log_that_cannot_be_rotated_is_kept_until_it_can(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", 100, 2)
    in_the_way = tmp_path / "x.log.new"
    write(log, b"old" * 40 + b"\n")
    log.new_lines()
    in_the_way.mkdir()
    for number in range(3):
        write(log, b"%d" % number * 60 + b"\n")
        assert log.new_lines() == [f"{number}" * 60]
    assert (tmp_path / "x.log.1").read_bytes() == b"old" * 40 + b"\n", "nothing was given up"
    assert log.path.stat().st_size == 3 * 61
    in_the_way.rmdir()
    write(log, b"3" * 60 + b"\n")
    assert log.new_lines() == ["3" * 60]
    assert log.path.stat().st_size == 0 and (tmp_path / "x.log.1").stat().st_size == 4 * 61
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.log", "x.log.1", "x.log.2"]
    log.close()


def test_without_rotated_files_the_size_is_still_bounded(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", 100, 0)
    write(log, b"x" * 99 + b"\n" + b"more\n")
    assert len(log.new_lines()) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["x.log"]
    assert log.path.stat().st_size == 0
    log.close()


def test_a_flood_is_passed_over_and_said(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", 1 << 30, 2)
    write(log, b"line\n" * MAX_BYTES)  # five times as much as is read in one go
    lines = log.new_lines()
    assert len(lines) == MAX_LINES + 2
    assert lines[0] == f"({4 * MAX_BYTES} bytes passed over; see x.log)"
    assert lines[1].endswith("lines passed over; see x.log)")
    assert log.new_lines() == []
    write(log, b"y" * (3 * MAX_LINE) + b"\nnext\n")
    assert log.new_lines() == ["y" * MAX_LINE, "next"]
    log.close()


def test_a_line_that_never_ends_takes_no_memory(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", 1 << 30, 2)
    for _ in range(10):
        write(log, b"z" * MAX_LINE)
        assert log.new_lines() == []
    assert log.new_lines(final=True) == ["z" * MAX_LINE]
    log.close()


def test_the_tail_is_of_the_file_whoever_was_the_daemon(tmp_path: Path) -> None:
    logs = Logs(tmp_path, 1 << 20, 2)
    assert logs.tail("plugin", 5) == [], "it has never printed"
    (tmp_path / "plugin.log").write_text("three\nfour\nunfinished")
    (tmp_path / "plugin.log.1").write_text("one\ntwo\n")
    assert logs.tail("plugin", 2) == ["four", "unfinished"]
    assert logs.tail("plugin", 4) == ["two", "three", "four", "unfinished"]
    assert logs.tail("plugin", 99) == ["one", "two", "three", "four", "unfinished"]
    assert logs.tail("plugin", 0) == []


def test_the_start_of_a_process_is_marked_and_is_nothing_that_it_has_printed(tmp_path: Path) -> None:
    logs = Logs(tmp_path, 1 << 20, 2)
    log = logs.open("x:2")
    write(log, b"of the one before\n")
    log.mark("x:2 incarnation 7 pid 4711 started")
    write(log, b"== like a mark\n")
    assert logs.poll() == [("x:2", "of the one before"), ("x:2", "== like a mark")]
    _, mark, _ = (tmp_path / "x:2.log").read_text().splitlines()
    assert re.fullmatch(r"== \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} x:2 incarnation 7 pid 4711 started", mark)
    assert logs.tail("x:2", 2) == [mark, "== like a mark"]
    logs.close()


def test_the_tail_of_a_component_is_that_of_all_its_instances(tmp_path: Path) -> None:
    logs = Logs(tmp_path, 1 << 20, 2)
    for name in ("x", "x:2", "x:10", "xy:2", "x.log:2"):
        (tmp_path / f"{name}.log").write_text(f"first of {name}\nlast of {name}\n")
    (tmp_path / "x:2.log.1").write_text("rotated away\n")
    lines = [line for name in ("x", "x:2", "x:10") for line in (f"==> {name} <==", f"last of {name}")]
    assert logs.tail("x", 1) == lines
    assert logs.tail("x:2", 3) == ["rotated away", "first of x:2", "last of x:2"]
    assert logs.tail("xy", 1) == ["==> xy <==", "==> xy:2 <==", "last of xy:2"]
    assert logs.tail("x", 0) == []
    for name in ("x", "x:2", "x:10"):
        (tmp_path / f"{name}.log").write_bytes((b"z" * 10_000 + b"\n") * 1000)
    assert sum(map(len, logs.tail("x", 1000))) <= MAX_BYTES + 3 * MAX_LINE, "it fits into a message"


def test_a_tail_fits_into_a_message(tmp_path: Path) -> None:
    logs = Logs(tmp_path, 1 << 20, 2)
    (tmp_path / "plugin.log").write_bytes(b"\xff" * 10_000 + b"\n" + b"x" * 3000 + b"\n" + b"y\n" * 400_000)
    tail = logs.tail("plugin", 1000)
    assert tail == ["y"] * 1000
    (tmp_path / "plugin.log").write_bytes((b"z" * 10_000 + b"\n") * 1000)
    tail = logs.tail("plugin", 1000)
    assert set(map(len, tail)) == {4096}
    assert 0 < sum(map(len, tail)) <= (1 << 18) + 4096
