# SPDX-License-Identifier: Apache-2.0
"""What components print: append-only files that the daemon tails, never pipes.

A pipe would kill a printing plugin when the daemon dies and block it while the daemon is frozen. A file does neither. Rotation
copies the content aside and truncates the file in place, because the plugin keeps the descriptor that it was given; it writes
with O_APPEND, so its next line goes to the new beginning. What is written between the copy and the truncation is lost.

Each instance has a file of its own: NAME.log, NAME:2.log, .. At the start of a process the daemon itself writes a line: when, which
incarnation, which pid.
"""

import contextlib
import os
from datetime import datetime
from pathlib import Path

MAX_LINE = 4096  # bytes of a line that are passed on; the file keeps all of them
MAX_LINES = 200  # of one log in one poll
MAX_BYTES = 1 << 18  # of one log in one poll; a flood is passed over, and stays in the file


class LogFile:
    """The log of one instance: `path`, and `path.1` (newest) to `path.keep` for what was rotated away."""

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._bound = max_bytes  # size at which it is rotated
        self._keep = keep
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self.descriptor = os.open(path, flags, 0o640)  # to be inherited as stdout and stderr
        self._position = os.fstat(self.descriptor).st_size  # what is older was told by an earlier life
        self._partial = b""
        self._mark = b""  # the last one

    def mark(self, text: str) -> None:
        """Write a line of the daemon's, with the time. It is nothing that the process has printed: `new_lines` leaves it out."""
        self._mark = f"== {datetime.now().isoformat(timespec='milliseconds')} {text}".encode()
        with contextlib.suppress(OSError):  # a full disk
            os.write(self.descriptor, self._mark + b"\n")

    def new_lines(self, final: bool = False) -> list[str]:
        """The complete lines written since the last call; with `final` also an unfinished last one."""
        size = os.fstat(self.descriptor).st_size
        if size < self._position:  # truncated by somebody else
            self._position, self._partial = 0, b""
        lines: list[str] = []
        if size - self._position > MAX_BYTES:
            lines.append(f"({size - self._position - MAX_BYTES} bytes passed over; see {self.path.name})")
            self._position, self._partial = size - MAX_BYTES, b""
        *complete, partial = (self._partial + self._read(size)).split(b"\n")
        self._partial = partial[:MAX_LINE]
        if final and self._partial:
            complete.append(self._partial)
            self._partial = b""
        if len(complete) > MAX_LINES:
            lines.append(f"({len(complete) - MAX_LINES} lines passed over; see {self.path.name})")
        lines += [line[:MAX_LINE].decode("utf-8", "replace") for line in complete[-MAX_LINES:] if line != self._mark]
        if self._position > self._bound:
            self._rotate()
        return lines

    def close(self) -> None:
        os.close(self.descriptor)

    def _read(self, end: int) -> bytes:
        data = bytearray()
        while self._position < end and (chunk := os.pread(self.descriptor, end - self._position, self._position)):
            data += chunk
            self._position += len(chunk)
        return bytes(data)

    def _rotate(self) -> None:
        aside = self.path.with_name(f"{self.path.name}.new")
        try:
            if self._keep > 0:
                self._copy_to(aside)  # before anything is given up for it
                for number in range(self._keep - 1, 0, -1):
                    if self._numbered(number).exists():
                        self._numbered(number).replace(self._numbered(number + 1))
                aside.replace(self._numbered(1))
            os.ftruncate(self.descriptor, 0)
        except OSError:  # the disk is full, say: as much again may be printed before it is tried again
            self._bound = self._position + self._max_bytes
            with contextlib.suppress(OSError):
                aside.unlink()
        else:
            self._position, self._bound = 0, self._max_bytes

    def _copy_to(self, path: Path) -> None:
        copy = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            offset = 0
            while copied := os.sendfile(copy, self.descriptor, offset, 1 << 24):
                offset += copied
                if offset >= self._position + MAX_BYTES:
                    break  # it prints faster than we copy; do not stay here for ever
        finally:
            os.close(copy)

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


class Logs:
    """The log files of all instances, in one directory."""

    def __init__(self, directory: Path, max_bytes: int, keep: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._keep = keep
        self._files: dict[str, LogFile] = {}

    def open(self, instance: str) -> LogFile:
        """The instance's log, created if need be. The name of its component is checked by the manifest: it is no path."""
        if instance not in self._files:
            self._files[instance] = LogFile(self._path(instance), self._max_bytes, self._keep)
        return self._files[instance]

    def poll(self) -> list[tuple[str, str]]:
        """(instance, line) for everything printed since the last poll."""
        return [(instance, line) for instance, log in self._files.items() for line in log.new_lines()]

    def last_words(self, instance: str) -> list[str]:
        """What an instance printed before it ended, an unfinished last line included."""
        log = self._files.get(instance)
        return log.new_lines(final=True) if log is not None else []

    def tail(self, name: str, lines: int) -> list[str]:
        """The last lines of a log, the oldest first, whoever was the daemon then; as far as a message holds them. ``name``: of an
        instance, or of a component: where that has several logs, those of each after a line with its name."""
        others = [] if ":" in name else [path.name[: -len(".log")] for path in self._directory.glob(f"{name}:*.log")]
        names = [name, *sorted(others, key=lambda other: int(other.partition(":")[2]))]
        found: list[str] = []
        for each in names:
            found += [f"==> {each} <=="] if others and lines else []
            found += self._tail_of(self._path(each), lines, MAX_BYTES // len(names))
        return found

    @staticmethod
    def _tail_of(path: Path, lines: int, room: int) -> list[str]:
        found: list[bytes] = []
        for part in (path, path.with_name(f"{path.name}.1")):
            if len(found) < lines:
                found = [*_last_bytes(part, MAX_BYTES).splitlines(), *found]
        kept = []
        for line in reversed(found[-lines:] if lines else []):
            kept.append(line[:MAX_LINE].decode("utf-8", "replace"))
            room -= len(kept[-1]) + 8
            if room < 0:
                break
        return kept[::-1]

    def _path(self, instance: str) -> Path:
        return self._directory / f"{instance}.log"

    def close(self) -> None:
        for log in self._files.values():
            log.close()
        self._files.clear()


def _last_bytes(path: Path, most: int) -> bytes:
    """The end of a file, from the beginning of a line; nothing where there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return b""
    try:
        size = os.fstat(descriptor).st_size
        data = os.pread(descriptor, most, max(0, size - most))
    finally:
        os.close(descriptor)
    return data if size <= most else data.partition(b"\n")[2]
