# SPDX-License-Identifier: Apache-2.0
"""The journal: what the kernel appends goes to a thread of its own, and ``durable(position)`` is called when it is safe.

Group commit: whatever waits when the thread is free becomes one transaction, as safe as the most demanding of its records.
A disk that cannot be written is not the end: records are kept and tried again, and what waits for them waits on.
"""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from queue import Empty, SimpleQueue

from qcosd.core.records import Record, Safety
from qcosd.shell.journal_file import FAULTS, JournalFile, Row, pack
from qcosd.shell.journal_upgrade import JournalError
from qcosd.shell.report import report

FOLD_EVERY = 10_000  # records
RETRY = 1.0  # seconds
HANGS = 5.0  # seconds without any progress after which the disk counts as one that hangs

_Entry = tuple[list[Row], bool]  # records of one event, and whether they must survive the machine


class Journal:
    """The journal in a file. The callbacks are called in the loop: ``durable(position)``, in order, when every record up to
    there is safe; ``health(fault)`` when the journal cannot be written, and ``health("")`` when it can be again.

    When ``fold_every`` records have come together they move into the image, a few at a time between the groups.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, file: JournalFile, durable: Callable[[int], None],
        health: Callable[[str], None], fold_every: int = FOLD_EVERY, retry: float = RETRY, hangs: float = HANGS,
    ) -> None:  # fmt: skip
        self.position = file.position
        self._loop = loop
        self._file = file
        self._durable = durable
        self._health = health
        self._fold_every = fold_every
        self._retry = retry
        self._hangs = hangs
        self._safe = file.position  # as the loop knows it
        self._said = ""  # the fault that was told last
        self._timer: asyncio.TimerHandle | None = None
        self._missed = 0  # looks in a row that have seen no progress
        self._hanging = False  # that is the fault
        self._queue: SimpleQueue[_Entry | None] = SimpleQueue()  # None: close
        # Of the thread:
        self._waiting: list[_Entry] = []
        self._told = file.position
        self._fold_upto = 0
        self._fault = ""
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def append(self, records: Sequence[Record], position: int) -> None:
        """Append the records of one event, of which the kernel numbered the last one ``position``. Returns at once."""
        _check_follows(self.position, records, position)
        self.position = position
        # Packed here and now: a body may hold what the kernel goes on changing.
        self._queue.put((pack(records, position), any(record.safety is Safety.POWER for record in records)))
        self._watch()

    def close(self) -> None:
        """Write everything that was appended and close the file. Says so in the daemon's log where that cannot be done."""
        if self._timer is not None:
            self._timer.cancel()
        self._queue.put(None)
        self._thread.join(0.0 if self._hanging else None)
        if self._thread.is_alive():
            _report_lost(self.position - self._safe, self._said)

    # In the loop

    def _watch(self) -> None:
        if self._timer is None and self._safe < self.position:
            self._timer = self._loop.call_later(self._hangs / 2, self._look, self._safe)

    def _look(self, before: int) -> None:
        """Whether there is any progress. It takes two looks to say no: a daemon that was frozen is late for the first itself."""
        self._timer = None
        self._missed = self._missed + 1 if self._safe == before else 0
        if self._missed == 2 and not self._said:
            what = f"{self._file.path}: a write has not come back for {self._hangs:g} s"
            self._hear(f"{what}: see what holds up the disk of its directory")
            self._hanging = True
        self._watch()

    def _landed(self, position: int) -> None:
        self._missed, self._safe = 0, position
        self._durable(position)
        if self._hanging:
            self._hear("")

    def _hear(self, fault: str) -> None:
        self._hanging = False
        if fault != self._said:
            self._said = fault
            self._health(fault)

    # In the thread

    def _run(self) -> None:
        try:
            while not self._closing:
                self._collect()
                self._turn()
            if self._waiting:
                _report_lost(sum(len(rows) for rows, _ in self._waiting), self._fault)
            self._file.close()
        except BaseException as error:  # noqa: BLE001  a bug: the daemon ends with it, as with one in the loop
            self._tell(partial(_raise, error))

    def _collect(self) -> None:
        """Wait for something to do; take all that is there."""
        if self._fault:
            self._await(time.monotonic() + self._retry)
        elif self._fold_upto <= self._file.folded:
            self._take(None)
        with contextlib.suppress(Empty):
            while not self._closing:
                self._take(0.0)

    def _await(self, deadline: float) -> None:
        with contextlib.suppress(Empty):
            while not self._closing and (left := deadline - time.monotonic()) > 0:
                self._take(left)

    def _take(self, timeout: float | None) -> None:
        entry = self._queue.get(timeout=timeout) if timeout != 0.0 else self._queue.get_nowait()
        if entry is None:
            self._closing = True
        else:
            self._waiting.append(entry)

    def _turn(self) -> None:
        """Write what waits, tell what is safe, and do a piece of the folding."""
        try:
            if self._waiting:
                rows = [row for rows, _ in self._waiting for row in rows]
                self._file.write(rows, power=any(power for _, power in self._waiting))
                self._waiting.clear()
            self._file.witness()
            if self._file.position > self._told:
                self._told = self._file.position
                self._tell(partial(self._landed, self._told))
            if self._file.unfolded >= self._fold_every:
                self._fold_upto = self._file.position
            if self._fold_upto > self._file.folded and not self._closing:
                self._file.fold_some(self._fold_upto)
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise  # not the disk's doing
        except FAULTS as error:
            self._say(self._file.explain(error))
        else:
            self._say("")

    def _say(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            self._tell(partial(self._hear, fault))

    def _tell(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the daemon has ended
            self._loop.call_soon_threadsafe(callback)


class MemoryJournal:
    """The journal of a daemon whose state ends with it: nothing is kept, and a record is durable as soon as it is appended."""

    def __init__(self, durable: Callable[[int], None]) -> None:
        self.position = 0
        self._durable = durable

    def append(self, records: Sequence[Record], position: int) -> None:
        """As that of ``Journal``, except that ``durable(position)`` is called at once."""
        _check_follows(self.position, records, position)
        self.position = position
        self._durable(position)

    def close(self) -> None:
        """Nothing to do."""


def _check_follows(last: int, records: Sequence[Record], position: int) -> None:
    if position != last + len(records) or not records:
        raise JournalError(f"{len(records)} records up to position {position} do not follow position {last}")


def _report_lost(records: int, fault: str) -> None:
    report(f"the journal ends without its last {records} records, which nobody was told of: {fault}")


def _raise(error: BaseException) -> None:
    raise error
