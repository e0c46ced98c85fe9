# SPDX-License-Identifier: Apache-2.0
"""The witness beside the journal: how far the journal has once been safe.

A database whose log was cut off opens as if the rest had never been. The mark is written after the journal is on disk and never
before, so a mark above what the journal holds says that the journal has lost something. It is not flushed for each group: after a
power failure it may be behind, which says nothing.
"""

import os
import zlib
from pathlib import Path

NAME = "journal.mark"
_LINE = "qcos-mark 1 {boot:020d} {position:020d}"


class Mark:
    """The file ``path``: the boot number and the last power-safe position that it was told, both 0 where there is no file.

    ``damaged``: there is a file, but what it said cannot be told any more.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.boot = self.position = 0
        self.damaged = False
        self._descriptor = -1
        try:
            line = path.read_bytes()
        except FileNotFoundError:
            return
        try:
            boot, position = (int(word) for word in line.split()[2:4])
        except ValueError:
            self.damaged = True
            return
        self.damaged = line != _encode(boot, position)
        if not self.damaged:
            self.boot, self.position = boot, position

    def begin(self, boot: int, position: int) -> None:
        """Begin a boot, on disk when this returns. From here on ``tell`` writes in place. Raises OSError."""
        aside = self.path.with_suffix(".new")
        with open(aside, "wb") as file:
            file.write(_encode(boot, position))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.path)
        sync_directory(self.path.parent)
        self.close()
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        self.boot, self.position, self.damaged = boot, position, False

    def tell(self, position: int) -> None:
        """Everything up to ``position`` is on disk. Raises OSError."""
        if position > self.position:
            os.pwrite(self._descriptor, _encode(self.boot, position), 0)  # within one sector: never seen in part
            self.position = position

    def close(self) -> None:
        """Write no more. May be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encode(boot: int, position: int) -> bytes:
    line = _LINE.format(boot=boot, position=position).encode()
    return line + b" %08x\n" % zlib.crc32(line)
