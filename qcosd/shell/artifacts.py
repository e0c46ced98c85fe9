# SPDX-License-Identifier: Apache-2.0
"""The artifact store: content-addressed files, named by their SHA-256.

A file is written aside, verified, made durable, and renamed: a name that exists is a complete artifact. All work is done by one
thread of its own, in order, so that a slow disk does not hold up the event loop.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from qcosd.shell.journal_mark import sync_directory

_Result = TypeVar("_Result")
_ASIDE = "incoming"
_DIGITS = frozenset("0123456789abcdef")
# What the disk may say to a write without being the daemon's end: the artifact is refused, the rest goes on.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)


@dataclass(slots=True)
class _Incoming:
    """An artifact that is being written."""

    path: Path
    descriptor: int
    written: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)


class Artifacts:
    """The store in `directory`. With `durable` false nothing is flushed to disk: for a store that does not outlive the daemon.

    Methods return at once; their callback is called in the loop. Callbacks come in the order of the calls.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: Path, durable: bool = True) -> None:
        self._loop = loop
        self._directory = directory
        self._durable = durable
        self._incoming: dict[int, _Incoming] = {}  # ticket -> artifact; touched by the thread only
        self._aside = directory / _ASIDE
        self._aside.mkdir(mode=0o700, exist_ok=True)
        for leftover in self._aside.iterdir():  # of a life that ended in the middle
            leftover.unlink()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="artifacts")

    def write(
        self, ticket: int, sha: str, offset: int, data: bytes, last: bool, done: Callable[[str | None], None]
    ) -> None:
        """Write a chunk; the `last` one completes the artifact. `done(None)`, or `done("wrong_digest" | "no_space")`."""
        self._submit(lambda: self._write(ticket, sha, offset, data, last), done)

    def drop(self, ticket: int) -> None:
        """Forget an unfinished write."""
        self._submit(lambda: self._discard(ticket), lambda _: None)

    def read(self, sha: str, offset: int, length: int, done: Callable[[bytes | None], None]) -> None:
        """Read a chunk. `done(data)`, or `done(None)` where the artifact cannot be read or is shorter."""
        self._submit(lambda: self._read(sha, offset, length), done)

    def delete(self, shas: Sequence[str]) -> None:
        """Remove artifacts, as far as they are there. What the disk does not let go is there at the next start."""
        self._submit(lambda: self._delete(shas), lambda _: None)

    def contents(self) -> dict[str, int]:
        """Digest -> bytes of every complete artifact. For the start: it reads the directory there and then."""
        found: dict[str, int] = {}
        with os.scandir(self._directory) as folders:
            for folder in folders:
                if len(folder.name) == 2 and folder.is_dir(follow_symlinks=False):
                    with os.scandir(folder) as files:
                        found.update((file.name, file.stat().st_size) for file in files if is_digest(file.name))
        return found

    def path(self, sha: str) -> Path:
        """Where the artifact is, or would be. Raises ValueError for what is not a digest."""
        if not is_digest(sha):
            raise ValueError(f"not a SHA-256 digest: {sha!r}")
        return self._directory / sha[:2] / sha

    def close(self) -> None:
        """Finish what has been asked for, without telling, and forget unfinished writes."""
        self._thread.shutdown(wait=True)
        for ticket in list(self._incoming):
            self._discard(ticket)

    def _submit(self, work: Callable[[], _Result], done: Callable[[_Result], None]) -> None:
        def finished(future: "Future[_Result]") -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the daemon has ended
                self._loop.call_soon_threadsafe(lambda: done(future.result()))

        self._thread.submit(work).add_done_callback(finished)

    def _write(self, ticket: int, sha: str, offset: int, data: bytes, last: bool) -> str | None:
        try:
            incoming = self._incoming.get(ticket)
            if incoming is None:
                if offset != 0:
                    return "no_space"  # an earlier chunk could not be written; its successors were already on their way
                path = self._aside / str(ticket)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                incoming = self._incoming[ticket] = _Incoming(path, os.open(path, flags, 0o600))
            if offset != incoming.written:
                raise ValueError(f"chunk at {offset} of ticket {ticket}, which has {incoming.written} bytes")
            _write_all(incoming.descriptor, data)
            incoming.digest.update(data)
            incoming.written += len(data)
            if not last:
                return None
            if incoming.digest.hexdigest() != sha:
                self._discard(ticket)
                return "wrong_digest"
            self._publish(incoming, self.path(sha))
            os.close(self._incoming.pop(ticket).descriptor)
            return None
        except OSError as error:
            self._discard(ticket)
            if error.errno in _NO_SPACE:
                return "no_space"
            raise

    def _publish(self, incoming: _Incoming, path: Path) -> None:
        created = not path.parent.exists()
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if self._durable:
            os.fsync(incoming.descriptor)
        incoming.path.replace(path)
        if self._durable:
            sync_directory(path.parent)
            if created:
                sync_directory(self._directory)

    def _discard(self, ticket: int) -> None:
        incoming = self._incoming.pop(ticket, None)
        if incoming is not None:
            os.close(incoming.descriptor)
            with contextlib.suppress(OSError):  # what the disk does not let go is removed at the next start
                incoming.path.unlink()

    def _delete(self, shas: Sequence[str]) -> None:
        for sha in shas:
            with contextlib.suppress(OSError):
                self.path(sha).unlink()

    def _read(self, sha: str, offset: int, length: int) -> bytes | None:
        try:
            descriptor = os.open(self.path(sha), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            data = os.pread(descriptor, length, offset)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return data if len(data) == length else None


def is_digest(name: str) -> bool:
    """Whether it is a SHA-256 as this store writes one."""
    return len(name) == 64 and set(name) <= _DIGITS


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
