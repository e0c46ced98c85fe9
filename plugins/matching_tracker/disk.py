# SPDX-License-Identifier: Apache-2.0
"""Bytes that outlive the process: a directory of files named by what they contain, shared by all trackers of a user.

It only ever saves work.  A file that is damaged, a directory that belongs to somebody else, a full disk: all are as if the
file was not there.  Files are written aside and renamed, so that a reader sees the whole of one or none.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

BYTES: Final = 256 << 20
_DIGEST: Final = sha256().digest_size


def default_directory() -> Path:
    """The service manager's, the user's, or /var/cache/qcos for root."""
    if service := os.environ.get("CACHE_DIRECTORY"):
        return Path(service.split(":")[0]) / "templates"
    if user := os.environ.get("XDG_CACHE_HOME"):
        return Path(user) / "qcos" / "templates"
    if os.geteuid() == 0:
        return Path("/var/cache/qcos/templates")
    return Path("~/.cache/qcos/templates").expanduser()


class Disk:
    """Key -> bytes.  The least recently used go when there are more than ``bound`` bytes.  For threads and processes."""

    def __init__(self, directory: Path, bound: int = BYTES) -> None:
        self._directory = directory
        self._bound = bound

    def get(self, key: bytes) -> bytes | None:
        """What was put there; None if it is not there whole."""
        path = self._path(key)
        try:
            if not self._trusted():
                return None
            written = path.read_bytes()
            digest, data = written[:_DIGEST], written[_DIGEST:]
            if digest != sha256(key + data).digest():
                path.unlink()
                return None
            os.utime(path)  # used, for whoever makes room
        except OSError:
            return None
        return data

    def put(self, key: bytes, data: bytes) -> None:
        """Keep it, if that can be done."""
        with suppress(OSError):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._trusted():
                return
            descriptor, aside = tempfile.mkstemp(dir=self._directory)
            try:
                with open(descriptor, "wb") as file:
                    file.write(sha256(key + data).digest() + data)
                os.replace(aside, self._path(key))
            except OSError:
                os.unlink(aside)
                raise
            self._make_room()

    def _path(self, key: bytes) -> Path:
        return self._directory / key.hex()

    def _trusted(self) -> bool:
        """Whether nobody else can put anything there: what is read decides how shots are decoded."""
        found = self._directory.stat()
        return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)

    def _make_room(self) -> None:
        """Also of what a writer left that was killed."""
        files = []
        for entry in os.scandir(self._directory):
            with suppress(FileNotFoundError):  # another process makes room too
                files.append((entry.stat().st_mtime_ns, entry.name, entry.stat().st_size))
        total = sum(size for _, _, size in files)
        for _, name, size in sorted(files):
            if total <= self._bound:
                break
            (self._directory / name).unlink(missing_ok=True)
            total -= size
