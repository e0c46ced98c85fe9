# SPDX-License-Identifier: Apache-2.0
"""One daemon per directory, held by flock: the lock cannot outlive its holder, whatever kills it."""

import errno
import fcntl
import os
from pathlib import Path

LOCK_NAME = "qcosd.lock"


class LockHeld(Exception):
    """Another process holds the directory. `pid` is None when the holder has not written it yet."""

    def __init__(self, directory: Path, pid: int | None) -> None:
        holder = f"pid {pid}" if pid is not None else "a process that is just starting"
        super().__init__(f"{directory} is in use by another qcosd ({holder})")
        self.directory = directory
        self.pid = pid


class DirectoryLock:
    """Exclusive ownership of a directory. The file stays when the lock is released: removing it would race with a newcomer."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK_NAME
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise LockHeld(directory, holder_of(self.path)) from None
            raise
        os.fchmod(self._descriptor, 0o640)  # the group may see who holds it
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let another daemon take the directory. May be called again."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1


def holder_of(path: Path) -> int | None:
    """The pid written in a lock file, or None. It says who wrote the file last, not that the lock is held."""
    try:
        return int(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None
