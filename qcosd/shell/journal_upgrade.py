# SPDX-License-Identifier: Apache-2.0
"""A journal that an earlier version wrote becomes one of this version, after a copy of it was made; one of a newer version is refused."""

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, TypeVar

import msgpack

from qcosd.core import image, records
from qcosd.core.records import RecordType, Upgrade
from qcosd.shell.journal_mark import sync_directory

LAYOUT = 1  # version of the tables
_LAST_RELEASE = "boot"  # all that the last release kept: its boot number

Transaction = Callable[[], AbstractContextManager[None]]
_Kind = TypeVar("_Kind")


class JournalError(Exception):
    """The journal cannot be read or written. The message names the file, what is wrong, and the remedy."""


def format_number() -> int:
    """Number of the whole format. It rises with the version of anything in it."""
    versions = [*records.VERSIONS.values(), *image.VERSIONS.values()]
    return LAYOUT + sum(version - 1 for version in versions)


def area_version(area: str) -> int:
    """Version of the layout of an area's bodies."""
    return image.VERSIONS.get(area, 1)


def bring_up_to_date(db: sqlite3.Connection, path: Path, transaction: Transaction) -> None:
    """Refuse what a newer version wrote, and rewrite what an older one did: all or nothing, ``path.before-FORMAT`` is a copy.

    Raises JournalError or sqlite3.Error.
    """
    row = db.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
    if row is None:
        raise sqlite3.DatabaseError("its format number is missing")
    found, ours = row[0], format_number()
    if found > ours:
        raise JournalError(
            f"{path}: has format {found}, this qcosd reads up to {ours}: install the version that wrote it, or put back a copy of before ({path.name}.before-{found})"
        )
    numbers = {int(kind): version for kind, version in records.VERSIONS.items()}
    for kind, version in db.execute("SELECT DISTINCT type, version FROM records").fetchall():
        if version > numbers.get(kind, 0):
            raise JournalError(f"{path}: has records of type {kind}, version {version}; this qcosd reads up to {numbers.get(kind, 0)}: install the version that wrote it")  # fmt: skip
    for area, version in db.execute("SELECT DISTINCT area, version FROM images").fetchall():
        if version > area_version(area):
            raise JournalError(f"{path}: has images of {area!r}, version {version}; this qcosd reads {area_version(area)}: install the version that wrote it")  # fmt: skip
    if found == ours:
        return
    back_up(db, path.with_name(f"{path.name}.before-{ours}"))
    with transaction():
        for position, kind, version, body in db.execute("SELECT position, type, version, body FROM records").fetchall():
            type_ = RecordType(kind)
            if version != (ours_ := records.VERSIONS[type_]):
                body = _upgraded(path, records.UPGRADES, type_, type_.name, version, ours_, body)
                db.execute("UPDATE records SET version = ?, body = ? WHERE position = ?", (ours_, body, position))
        for area, name, version, body in db.execute("SELECT area, name, version, body FROM images").fetchall():
            if version != (ours_ := area_version(area)):
                body = _upgraded(path, image.UPGRADES, area, f"images of {area!r}", version, ours_, body)
                db.execute("UPDATE images SET version = ?, body = ? WHERE area = ? AND name = ?", (ours_, body, area, name))  # fmt: skip
        db.execute("UPDATE meta SET value = ? WHERE key = 'format'", (ours,))


def back_up(db: sqlite3.Connection, path: Path) -> None:
    """A complete copy of the database, on disk when this returns. Raises sqlite3.Error or OSError."""
    aside = path.with_name(f"{path.name}.new")
    aside.unlink(missing_ok=True)
    with closing(sqlite3.connect(aside)) as copy:
        db.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file is all of it
    descriptor = os.open(aside, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    aside.replace(path)
    sync_directory(path.parent)


def last_release_boot(directory: Path) -> int:
    """The boot number that the last release left, which had no journal; 0 where there is none. Raises JournalError."""
    path = directory / _LAST_RELEASE
    try:
        return int(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        raise JournalError(f"{path}: is no boot number ({error}): write the number of the last boot into it, or remove it") from error  # fmt: skip


def retire_last_release(directory: Path) -> None:
    """The journal has the boot number now: keep the old file under another name."""
    path = directory / _LAST_RELEASE
    if path.exists():
        path.replace(path.with_name(f"{_LAST_RELEASE}.before-{LAYOUT}"))


def _upgraded(
    path: Path, upgrades: Mapping[tuple[_Kind, int], Upgrade], kind: _Kind, name: str, version: int, ours: int, body: bytes
) -> bytes:  # fmt: skip
    unpacked: dict[str, Any] = msgpack.unpackb(body, strict_map_key=False)
    for step in range(version, ours):
        if (kind, step) not in upgrades:
            raise JournalError(f"{path}: has {name} of version {version}, too old for this qcosd, which reads {ours}: start a version between them once")  # fmt: skip
        unpacked = upgrades[kind, step](unpacked)
    packed: bytes = msgpack.packb(unpacked)
    return packed
