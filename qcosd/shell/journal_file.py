# SPDX-License-Identifier: Apache-2.0
"""The journal on disk: a sqlite database in the state directory, and its witness (see ``qcosd.shell.journal_mark``).

``records`` holds what was appended last, one row a record; ``images`` what all earlier records have come to, one row an entity
(see ``qcosd.core.image``); ``meta`` the numbers that say how the two fit. What the kernel knew is the image with the records
applied in order.
"""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack

from qcosd.core import image as core_image
from qcosd.core.image import Entity, Image
from qcosd.core.records import Record, RecordType
from qcosd.shell.journal_mark import NAME as MARK_NAME
from qcosd.shell.journal_mark import Mark, sync_directory
from qcosd.shell.journal_upgrade import (
    JournalError,
    area_version,
    bring_up_to_date,
    format_number,
    last_release_boot,
    retire_last_release,
)

NAME = "journal.db"
SLICE = 200  # records that are folded at once: whoever appends meanwhile waits so long
BUSY = 1.0  # seconds to wait for another process that reads the database
MOST_ROWS = 500  # of one statement; sqlite takes 32766 values
FAULTS = (sqlite3.DatabaseError, OSError)  # what a disk may do to a journal

# position, type, version, at (seconds since the epoch), body
Row = tuple[int, int, int, float, bytes]
Fold = Callable[[Image, Iterable[Record]], None]
Touched = Callable[[Record], tuple[Entity, ...]]

_SCHEMA = (
    "CREATE TABLE records (position INTEGER PRIMARY KEY, type INTEGER NOT NULL, version INTEGER NOT NULL, at REAL NOT NULL, body BLOB NOT NULL)",
    "CREATE TABLE images (area TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (area, name))",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL)",
)


class JournalFile:
    """The journal in ``directory``, opened for a new boot, whose number is on disk before this returns.

    ``boot``: that number. ``position``: of the last record. ``rolled_back``: see Start. Whoever opens the journal may hand it
    to another thread, but only one may use it at a time. ``fold`` and ``touched`` say what records mean.
    Raises JournalError where the journal cannot be written, is damaged, or was written by a newer version.
    """

    def __init__(
        self, directory: Path, fold: Fold = core_image.fold, touched: Touched = core_image.touched
    ) -> None:  # fmt: skip
        self.path = directory / NAME
        self.boot = self.position = self.folded = 0
        self.rolled_back = ""
        self._directory = directory
        self._fold, self._touched = fold, touched
        self._mark: Mark | None = None
        self._db: sqlite3.Connection | None = None
        self._synchronous = ""
        self._safe = 0  # position up to which everything survives the machine
        try:
            if not os.access(directory, os.W_OK | os.X_OK):
                raise OSError(errno.EACCES, "no permission to write there, or a read-only file system", str(directory))
            self._mark = Mark(directory / MARK_NAME)
            # Cross-thread: opened by the main thread and then used by the journal's alone.
            self._db = sqlite3.connect(self.path, timeout=BUSY, isolation_level=None, check_same_thread=False)
            self._open(self._db, self._mark)
        except FAULTS as error:
            self.close()
            raise JournalError(self.explain(error)) from error
        except JournalError:
            self.close()
            raise

    def image(self) -> Image:
        """Everything that the journal says. Raises JournalError where a body cannot be read."""
        image: Image = {}
        try:
            for area, name, body in self._connected.execute("SELECT area, name, body FROM images"):
                image.setdefault(area, {})[name] = _unpack(body)
            self._fold(image, self._records(self.position))
        except (sqlite3.DatabaseError, ValueError, msgpack.UnpackException) as error:
            raise JournalError(self.explain(error)) from error
        except (KeyError, IndexError, TypeError) as error:
            text = (
                f"{self.path}: says what this version does not understand ({error!r}): start the version that wrote it"
            )
            raise JournalError(text) from error
        return image

    @property
    def unfolded(self) -> int:
        """Number of records that are not in the image yet."""
        return self.position - self.folded

    def write(self, rows: Sequence[Row], power: bool) -> None:
        """Append rows, all or none. ``power``: they survive the machine when this returns. Raises one of FAULTS."""
        self._be_synchronous("FULL" if power else "NORMAL")
        accepts = any(row[1] == RecordType.ROLLBACK_ACCEPTED for row in rows)
        if len(rows) <= MOST_ROWS and not accepts:
            _insert(self._connected, "INSERT INTO records VALUES", rows)  # a statement is a transaction of its own
        else:
            with self._transaction():
                _insert(self._connected, "INSERT INTO records VALUES", rows)
                if accepts:
                    self._connected.execute("DELETE FROM meta WHERE key = 'rolled_back'")
        if accepts:
            self.rolled_back = ""
        self.position = rows[-1][0]
        if power:
            self._safe = self.position

    def witness(self) -> None:
        """Let the mark say what is safe. Call it before anybody else is told. Raises OSError."""
        assert self._mark is not None
        self._mark.tell(self._safe)

    def fold_some(self, upto: int) -> None:
        """Move the oldest records, those up to ``upto`` or SLICE of them, into the image. Raises one of FAULTS."""
        # A power failure that undoes this leaves the records where they were.
        self._be_synchronous("NORMAL")
        with self._transaction():
            self._fold_records(min(upto, self.folded + SLICE))

    def explain(self, error: Exception) -> str:
        """For people: the file, what is wrong with it, and what to do."""
        name = getattr(error, "sqlite_errorname", "")
        if isinstance(error, OSError):
            return f"{error.filename or self.path}: {error.strerror}: make it writable, or make room"
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            return f"{self.path}: cannot be written ({error}): make room in its directory, or make it writable"
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return f"{self.path}: another process holds the database ({error}): end that process"
        return f"{self.path}: is damaged ({error}): put back a copy of the state directory; or move {NAME} and {NAME}-wal away, start, and accept the loss with `qcosctl doctor --accept`"

    def close(self) -> None:
        """Close the files. May be called again. What has been written stays written, whatever goes wrong here."""
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._mark is not None:
            self._mark.close()

    @property
    def _connected(self) -> sqlite3.Connection:
        assert self._db is not None, "the journal is closed"
        return self._db

    def _open(self, db: sqlite3.Connection, mark: Mark) -> None:
        left_boot = last_release_boot(self._directory)
        (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise OSError(
                errno.ENOTSUP, "its file system cannot hold a database with a write-ahead log", str(self.path)
            )
        self._be_synchronous("FULL")
        (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found.replace("\n", ": "))
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            with self._transaction():
                for statement in _SCHEMA:
                    db.execute(statement)
                first = {"format": format_number(), "boot": left_boot, "folded": 0}
                _insert(db, "INSERT INTO meta VALUES", list(first.items()))
            sync_directory(self._directory)
        elif not {"records", "images", "meta"} <= tables:
            raise JournalError(f"{self.path}: is a database, but not a journal: move it away")
        bring_up_to_date(db, self.path, self._transaction)
        self._read_numbers(db)
        before = self.boot
        self.boot = max(before, mark.boot, left_boot) + 1
        with self._transaction():
            self._look_back(db, mark, before)
            db.execute("UPDATE meta SET value = ? WHERE key = 'boot'", (self.boot,))
        mark.begin(self.boot, self.position)
        self._safe = self.position
        retire_last_release(self._directory)

    def _read_numbers(self, db: sqlite3.Connection) -> None:
        meta = dict(db.execute("SELECT key, value FROM meta"))
        if not {"boot", "folded"} <= meta.keys():
            raise sqlite3.DatabaseError("its numbers are missing")
        self.boot, self.folded, self.rolled_back = meta["boot"], meta["folded"], meta.get("rolled_back", "")
        count, first, last = db.execute("SELECT count(*), min(position), max(position) FROM records").fetchone()
        self.position = last if count else self.folded
        if count and (first != self.folded + 1 or count != self.unfolded):
            raise sqlite3.DatabaseError(
                f"{count} records from position {first} to {last} after a snapshot at {self.folded}: some are missing"
            )

    def _look_back(self, db: sqlite3.Connection, mark: Mark, boot: int) -> None:
        """Compare with the mark. What is lost is told until somebody accepts it, and no number of it is used again."""
        if mark.damaged:
            lost = f"{mark.path}: is damaged, so that nobody can tell whether the journal is complete"
        elif mark.position > self.position or mark.boot > boot:
            lost = f"{self.path}: ends at position {self.position} of boot {boot}, but has been at position {mark.position} of boot {mark.boot}: what came between is lost"
        else:
            return
        self.rolled_back = f"{lost} (where there is a newer copy of {self._directory}: stop qcosd and put it back)"
        db.execute("INSERT OR REPLACE INTO meta VALUES ('rolled_back', ?)", (self.rolled_back,))
        if mark.position > self.position:
            # Records have to follow each other without a gap: the numbers that are lost go behind the snapshot.
            self._fold_records(self.position)
            self._set_folded(mark.position)
            self.position = mark.position

    def _fold_records(self, upto: int) -> None:
        db = self._connected
        records = list(self._records(upto))
        entities = list(dict.fromkeys(entity for record in records for entity in self._touched(record)))
        image: Image = {}
        for some in _pieces(entities):
            wanted = ", ".join(["(?, ?)"] * len(some))
            rows = db.execute(  # a join finds each by the index; IN would read the whole table
                f"WITH wanted (area, name) AS (VALUES {wanted}) SELECT area, name, body FROM wanted CROSS JOIN images USING (area, name)",
                [word for entity in some for word in entity],
            )
            for area, name, body in rows.fetchall():
                image.setdefault(area, {})[name] = _unpack(body)
        self._fold(image, records)
        bodies, gone = [], []
        for area, name in entities:
            if (body := image.get(area, {}).get(name)) is None:
                gone.append((area, name))
            else:
                bodies.append((area, name, area_version(area), msgpack.packb(body)))
        _insert(db, "INSERT OR REPLACE INTO images VALUES", bodies)
        db.executemany("DELETE FROM images WHERE area = ? AND name = ?", gone)
        db.execute("DELETE FROM records WHERE position <= ?", (upto,))
        self._set_folded(upto)

    def _set_folded(self, position: int) -> None:
        self._connected.execute("UPDATE meta SET value = ? WHERE key = 'folded'", (position,))
        self.folded = position

    def _records(self, upto: int) -> Iterator[Record]:
        query = "SELECT type, at, body FROM records WHERE position <= ? ORDER BY position"
        for kind, at, body in self._connected.execute(query, (upto,)).fetchall():
            yield Record(RecordType(kind), _unpack(body), at)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        db = self._connected
        numbers = self.position, self.folded
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            self.position, self.folded = numbers
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _be_synchronous(self, level: str) -> None:
        if level != self._synchronous:
            self._connected.execute(f"PRAGMA synchronous = {level}")
            self._synchronous = level


def pack(records: Sequence[Record], position: int) -> list[Row]:
    """The rows of records of which the last one has a position."""
    first = position - len(records) + 1
    return [
        (place, int(record.type), record.version, record.at, msgpack.packb(record.body))
        for place, record in enumerate(records, first)
    ]


def _unpack(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgpack.unpackb(body, strict_map_key=False)
    return found


def _insert(db: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows by as few statements as can be: the interpreter may be taken away at the start of each."""
    for some in _pieces(rows):
        one = "(" + ", ".join("?" * len(some[0])) + ")"
        db.execute(f"{statement} {', '.join([one] * len(some))}", [value for row in some for value in row])


def _pieces(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), MOST_ROWS):
        yield items[start : start + MOST_ROWS]
