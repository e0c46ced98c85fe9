# SPDX-License-Identifier: Apache-2.0
"""The journal on disk: what it says is what was appended, in whatever state it is found; what it lost is told."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_world import (
    CRASH,
    killed,
    meaning,
    memory_directory,
    open_file,
    read_only,
    record,
    small_disk,
    without_empty,
    write,
)

from qcosd.core import image, records
from qcosd.core.records import Record, RecordType
from qcosd.shell.journal_file import JournalFile
from qcosd.shell.journal_upgrade import JournalError

ACCEPT = Record(RecordType.ROLLBACK_ACCEPTED, {}, 0.0)


def test_what_was_written_is_there_and_positions_go_on(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    assert (file.boot, file.position, file.rolled_back, file.image()) == (1, 0, "", {})
    write(file, record("a", 1), record("b", 2))
    write(file, record("a", {"bytes": b"\xff", 7: None}), power=False)
    file.close()
    again = open_file(tmp_path)
    assert (again.boot, again.position, again.rolled_back) == (2, 3, "")
    assert again.image() == {"toy": {"a": {"values": [1, {"bytes": b"\xff", 7: None}]}, "b": {"values": [2]}}}
    again.close()
    assert not (tmp_path / "journal.db-wal").exists(), "closed in order: one file is all of it"


def test_an_event_with_more_records_than_a_statement_takes_is_not_torn(tmp_path: Path) -> None:
    event = [record(str(n % 7), n) for n in range(1203)]
    with memory_directory() as directory:
        file = open_file(directory)
        write(file, *event)
        frames = (directory / "journal.db-wal").stat().st_size
        copy = killed(file, tmp_path / "copy")
        os.truncate(copy / "journal.db-wal", frames - 1)
        torn = open_file(copy)
        assert torn.image() == {} and "1203" in torn.rolled_back
        assert file.image() == meaning(event)
        torn.close()
        file.close()


def test_power_safe_records_are_flushed_and_others_are_not(tmp_path: Path) -> None:
    file = open_file(tmp_path)

    def level() -> int:
        (found,) = file._connected.execute("PRAGMA synchronous").fetchone()
        return int(found)

    write(file, record("a", 1, CRASH), power=False)
    assert level() == 1, "NORMAL"
    assert b" 00000000000000000000 " in (tmp_path / "journal.mark").read_bytes(), (
        "the mark is of what survives the machine"
    )
    write(file, record("a", 2))
    assert level() == 2, "FULL"
    assert b" 00000000000000000002 " in (tmp_path / "journal.mark").read_bytes()
    file.close()


events = st.lists(
    st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 9))).map(lambda pair: record(*pair)),
    min_size=1, max_size=4,
)  # fmt: skip
steps = st.lists(st.one_of(events, st.integers(0, 9), st.just("open")), max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_snapshots_and_truncation_change_nothing(steps: list[list[Record] | int | str]) -> None:
    appended: list[Record] = []
    with memory_directory() as directory:
        file = open_file(directory)
        for step in steps:
            match step:
                case list():
                    write(file, *step)
                    appended += step
                case int():
                    file.fold_some(max(file.folded, file.position - step))
                    assert file.unfolded <= step
                case _:
                    file.close()
                    file = open_file(directory)
            assert file.position == len(appended) and not file.rolled_back
            assert without_empty(file.image()) == meaning(appended)
        with closing(sqlite3.connect(file.path)) as reader:
            assert reader.execute("SELECT count(*) FROM records").fetchone() == (file.unfolded,)
        file.close()


def test_boots_never_share_a_number_whether_or_not_they_wrote_anything(tmp_path: Path) -> None:
    first = open_file(tmp_path)
    second = open_file(killed(first, tmp_path / "second"))
    third = open_file(killed(second, tmp_path / "third"))
    os.truncate(killed(third, tmp_path / "fourth") / "journal.db-wal", 0)
    fourth = open_file(tmp_path / "fourth")
    assert [file.boot for file in (first, second, third, fourth)] == [1, 2, 3, 4]
    assert "boot 3" in fourth.rolled_back, "the number is safe, but the file has lost it"
    for file in (first, second, third, fourth):
        file.close()


def check_cut(directory: Path, before: list[list[Record]], safe: int, boot: int) -> str:
    """Opens a journal that was cut: an error, or what some of the first events make, and the alarm where that is not all."""
    try:
        file = open_file(directory)
        found = without_empty(file.image())
    except JournalError as error:
        assert str(directory) in str(error)
        return "error"
    try:
        assert file.boot > boot
        kept = [n for n in range(len(before) + 1) if meaning(chain(*before[:n])) == found]
        assert kept, "not what any number of whole events makes"
        count = len(list(chain(*before[: kept[-1]])))
        assert file.position >= max(count, safe)
        assert (count >= safe) or file.rolled_back, f"position {safe} was safe and {count} is left"
        return "rolled back" if file.rolled_back else "complete"
    finally:
        file.close()


def cut_everywhere(stride: int, start: int = 0) -> dict[str, set[str]]:
    seen: dict[str, set[str]] = {"journal.db": set(), "journal.db-wal": set()}
    with memory_directory() as directory:
        (directory / "life").mkdir()
        file = open_file(directory / "life")
        before = [[record(str(n % 5), n), record(str(n % 3), n)] for n in range(40)]
        for number, event in enumerate(before):
            write(file, *event, power=number % 3 != 0)
            if number == 15:
                file.fold_some(20)
            if number == 32:  # from here on there are frames in the log
                file.close()
                file = open_file(directory / "life")
        safe, boot = file._safe, file.boot
        assert 0 < safe < file.position == 80
        whole = killed(file, directory / "whole")
        file.close()
        for name in seen:
            data = (whole / name).read_bytes()
            cuts = {
                n + d for n in range(0, len(data), 4096 if name.endswith("db") else 4120) for d in (-1, 0, 1, 31, 32)
            }
            for cut in sorted(n for n in cuts | set(range(start, len(data), stride)) if 0 <= n < len(data)):
                copy = directory / "copy"
                copy.mkdir()
                for other in whole.iterdir():
                    (copy / other.name).write_bytes(data[:cut] if other.name == name else other.read_bytes())
                seen[name].add(check_cut(copy, before, safe, boot))
                for left in copy.iterdir():
                    left.unlink()
                copy.rmdir()
    return seen


def test_a_file_that_was_cut_is_an_error_or_raises_the_alarm() -> None:
    seen = cut_everywhere(499)
    assert seen["journal.db"] == {"error", "rolled back"} and seen["journal.db-wal"] >= {"rolled back"}


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_a_file_that_was_cut_at_any_byte(part: int) -> None:
    cut_everywhere(10, part)


def lose(file: JournalFile, copy: Path) -> Path:
    """The directory after the log was lost."""
    killed(file, copy)
    os.truncate(copy / "journal.db-wal", 0)
    return copy


def test_a_loss_is_told_until_it_is_accepted_and_no_number_is_used_twice(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    write(file, record("a", 1))
    file.close()
    file = open_file(tmp_path)
    write(file, record("a", 2), record("a", 3))
    place = lose(file, tmp_path / "lost")
    file.close()
    for boot in (3, 4):
        lost = open_file(place)
        assert (lost.boot, lost.position, lost.image()) == (boot, 3, {"toy": {"a": {"values": [1]}}})
        for words in ("position 1 of boot 1", "position 3 of boot 2", "put it back", str(place)):
            assert words in lost.rolled_back
        if boot == 3:
            lost.close()
    write(lost, record("a", 4))
    assert lost.position == 4
    write(lost, ACCEPT)
    assert lost.rolled_back == ""
    lost.close()
    accepted = open_file(place)
    assert (accepted.boot, accepted.position, accepted.rolled_back) == (5, 5, "")
    assert accepted.image() == {"toy": {"a": {"values": [1, 4]}}}
    accepted.close()


def test_a_mark_that_is_behind_is_no_alarm(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    old = (tmp_path / "journal.mark").read_bytes()
    write(file, record("a", 1))
    file.close()
    (tmp_path / "journal.mark").write_bytes(old)
    again = open_file(tmp_path)
    assert (again.rolled_back, again.position) == ("", 1)
    again.close()
    (tmp_path / "journal.mark").unlink()
    again = open_file(tmp_path)
    assert (again.rolled_back, again.boot) == ("", 3)
    again.close()


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"qcos-mark 1 1 1 00000000\n"])
def test_a_damaged_mark_is_an_alarm(tmp_path: Path, damage: bytes) -> None:
    open_file(tmp_path).close()
    (tmp_path / "journal.mark").write_bytes(damage)
    file = open_file(tmp_path)
    assert "journal.mark: is damaged" in file.rolled_back
    file.close()


def test_a_lost_database_is_an_alarm(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    write(file, record("a", 1))
    file.close()
    (tmp_path / "journal.db").unlink()
    file = open_file(tmp_path)
    assert (file.boot, file.position) == (2, 1) and "position 0 of boot 0" in file.rolled_back
    file.close()


def edit(directory: Path, statement: str) -> None:
    with closing(sqlite3.connect(directory / "journal.db")) as db, db:
        db.execute(statement)


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("DELETE FROM records WHERE position = 2", "some are missing"),
        ("DELETE FROM records WHERE position = 1", "some are missing"),
        ("UPDATE meta SET value = 9 WHERE key = 'folded'", "some are missing"),
        ("DELETE FROM meta WHERE key = 'boot'", "numbers are missing"),
        ("DELETE FROM meta", "format number is missing"),
        ("DROP TABLE images", "not a journal"),
        ("UPDATE records SET body = x'c1'", "damaged"),
        ("INSERT INTO images VALUES ('toy', 'z', 1, x'93')", "damaged"),
        ("UPDATE meta SET value = 99 WHERE key = 'format'", "has format 99, this qcosd reads up to 1"),
        ("UPDATE records SET version = 7 WHERE position = 3", "type 12, version 7; this qcosd reads up to 1"),
        ("UPDATE records SET type = 777 WHERE position = 3", "type 777, version 1; this qcosd reads up to 0"),
        ("INSERT INTO images VALUES ('toy', 'z', 3, x'80')", "images of 'toy', version 3; this qcosd reads 1"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_says_so(tmp_path: Path, statement: str, complaint: str) -> None:
    file = open_file(tmp_path)
    write(file, record("a", 1), record("b", 2), record("c", 3))
    file.close()
    edit(tmp_path, statement)
    with pytest.raises(JournalError, match=complaint) as raised:
        open_file(tmp_path).image()
    assert str(tmp_path / "journal.db") in str(raised.value)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"a letter to my mother" * 500)
    with pytest.raises(JournalError, match=r"journal.db: is damaged \(file is not a database\): put back a copy"):
        open_file(tmp_path)
    assert (tmp_path / "journal.db").read_bytes().startswith(b"a letter")


def test_a_database_in_other_hands_is_not_waited_for(tmp_path: Path) -> None:
    open_file(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalError, match="another process holds the database"):
            open_file(tmp_path)


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        open_file(disk).close()
        read_only(disk)
        with pytest.raises(JournalError, match=r"disk: .*read-only"):
            open_file(disk)


def test_a_full_disk_at_the_start_is_an_error(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "16k") as disk, pytest.raises(JournalError, match=r"journal.*make room"):
        open_file(disk)


def test_an_older_version_is_migrated_after_a_copy_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_file(tmp_path)
    write(file, record("a", 1), record("b", 2))
    file.fold_some(2)
    write(file, record("a", 3), record("b", 4, CRASH))
    file.close()
    monkeypatch.setitem(records.VERSIONS, RecordType.OUTPUT, 2)
    with pytest.raises(JournalError, match="OUTPUT of version 1, too old for this qcosd, which reads 2"):
        open_file(tmp_path)
    monkeypatch.setitem(records.UPGRADES, (RecordType.OUTPUT, 1), lambda body: body | {"value": -body["value"]})
    monkeypatch.setitem(image.VERSIONS, "toy", 2)
    monkeypatch.setitem(image.UPGRADES, ("toy", 1), lambda body: {"values": [10 * v for v in body["values"]]})
    file = open_file(tmp_path)
    assert file.image() == {"toy": {"a": {"values": [10, -3]}, "b": {"values": [20, 4]}}}
    file.fold_some(4)
    file.close()
    file = open_file(tmp_path)
    assert file.image() == {"toy": {"a": {"values": [10, -3]}, "b": {"values": [20, 4]}}}, "once is enough"
    file.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal.db", "journal.db.before-2", "journal.db.before-3", "journal.mark"]  # fmt: skip
    monkeypatch.undo()
    with pytest.raises(JournalError, match=r"has format 3, this qcosd reads up to 1.*before-3"):
        open_file(tmp_path)
    (tmp_path / "journal.db.before-3").replace(tmp_path / "journal.db")
    file = open_file(tmp_path)
    assert file.image() == {"toy": {"a": {"values": [1, 3]}, "b": {"values": [2, 4]}}} and file.rolled_back
    file.close()


def test_the_boot_number_of_the_last_release_goes_on(tmp_path: Path) -> None:
    (tmp_path / "boot").write_text("41\n")
    file = open_file(tmp_path)
    assert file.boot == 42
    file.close()
    assert (tmp_path / "boot.before-1").read_text() == "41\n" and not (tmp_path / "boot").exists()
    (tmp_path / "boot").write_text("60\n")  # somebody has been back there
    file = open_file(tmp_path)
    assert file.boot == 61
    file.close()
    (tmp_path / "boot").write_text("garbage")
    with pytest.raises(JournalError, match="boot: is no boot number"):
        open_file(tmp_path)


def test_the_core_says_what_records_mean_by_default(tmp_path: Path) -> None:
    file = JournalFile(tmp_path)
    write(file, Record(RecordType.BOOT, {"boot": 1}, 0.0))
    file.fold_some(1)
    assert file.image()["kernel"]["boot"]["last"] == 1
    file.close()


def test_damage_in_what_nobody_reads_is_found_before_something_is_written_there(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    write(file, *(record(str(n), "x" * 3000) for n in range(50)))
    write(file, *(record(str(n)) for n in range(50)))
    while file.unfolded:
        file.fold_some(file.position)
    file.close()
    with (tmp_path / "journal.db").open("r+b") as database:
        database.seek(32)  # number of the first page of the list of free pages
        page = int.from_bytes(database.read(4), "big")
        assert page
        database.seek(4096 * (page - 1))
        database.write(bytes(4096))
    with pytest.raises(JournalError, match=r"journal.db: is damaged \(.*[Ff]reelist"):
        open_file(tmp_path)
