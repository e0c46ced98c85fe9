# SPDX-License-Identifier: Apache-2.0
"""What the tests of the journal share: toy records, whose meaning depends on their order, and directories of every kind."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from qcosd.core.image import Entity, Image
from qcosd.core.records import Record, RecordType
from qcosd.shell.journal_file import JournalFile, pack

POWER, CRASH = RecordType.OUTPUT, RecordType.LEASE


def record(name: str, value: Any = None, kind: RecordType = POWER) -> Record:
    """Adds a value to the list of values of an entity; None removes the entity."""
    return Record(kind, {"name": name, "value": value}, 0.5)


def toy_touched(record: Record) -> tuple[Entity, ...]:
    return (("toy", record.body["name"]),) if "name" in record.body else ()


def toy_fold(image: Image, records: Iterable[Record]) -> None:
    for record in records:
        for area, name in toy_touched(record):
            entities = image.setdefault(area, {})
            if record.body["value"] is None:
                entities.pop(name, None)
            else:
                entities[name] = {"values": [*entities.get(name, {}).get("values", ()), record.body["value"]]}


def open_file(directory: Path) -> JournalFile:
    return JournalFile(directory, toy_fold, toy_touched)


def write(file: JournalFile, *records: Record, power: bool = True) -> None:
    """Append the records of one event."""
    file.write(pack(records, file.position + len(records)), power)
    file.witness()


def meaning(records: Iterable[Record]) -> Image:
    image: Image = {}
    toy_fold(image, records)
    return without_empty(image)


def without_empty(image: Image) -> Image:
    return {area: entities for area, entities in image.items() if entities}


def killed(file: JournalFile, copy: Path) -> Path:
    """What a process that is killed now would leave behind."""
    copy.mkdir()
    for name in ("journal.db", "journal.db-wal", "journal.mark"):
        shutil.copy(file.path.with_name(name), copy)
    return copy


@contextmanager
def memory_directory() -> Iterator[Path]:
    """A directory where flushing costs nothing."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="qcos-", dir=place) as name:
        yield Path(name)


@contextmanager
def small_disk(path: Path, size: str = "1m") -> Iterator[Path]:
    """A file system of its own. Skips the test where nobody may mount one."""
    path.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)  # a test that failed may have left files open


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Not a byte is left in a file system."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while file.write(bytes(4096)):
            pass
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def freezing_disk(home: Path) -> Iterator[Path]:
    """A file system that ``frozen`` can stop: whoever writes to it then does not come back. Skips where nobody may mount one."""
    image, path = home / "image", home / "disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(32 << 20)
    try:
        subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, path], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def frozen(disk: Path) -> Iterator[None]:
    """Nothing that is written to a file system comes back before the end."""
    subprocess.run(["fsfreeze", "--freeze", disk], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", disk], check=True)


def read_only(path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", path], check=True)
