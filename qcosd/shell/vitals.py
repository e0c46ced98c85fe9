# SPDX-License-Identifier: Apache-2.0
"""What the system says of a process: its state, the time it has used, the moment of its start."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat, counted from the one behind the name (proc(5) counts from 1 and has two before that).
_STATE, _UTIME, _STIME, _STARTTIME = 0, 11, 12, 19
_MAX_BYTES = 1024
STOPPED = "T"  # by a signal; a process under a debugger is "t"
ENDED = ("Z", "X")


class Vitals:
    """Reads /proc/PID/stat. The descriptor stays with the process: it never reads of another one with the same number.

    Raises OSError where there is no such process.
    """

    def __init__(self, pid: int) -> None:
        self._descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def state(self) -> str:
        """One letter of proc(5); "X" where the process is gone."""
        fields = self._read()
        return chr(fields[0]) if fields else "X"

    @property
    def cpu(self) -> float | None:
        """Seconds on a core, of all its threads; None where the process has ended."""
        fields = self._read().split()
        if not fields or fields[_STATE].decode() in ENDED:
            return None
        return (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS

    @property
    def started(self) -> str:
        """The moment of its start, which tells it from any other process that ever had its number: BOOT_ID:TICKS."""
        fields = self._read().split()
        return f"{boot_id()}:{fields[_STARTTIME].decode()}" if fields else ""

    def close(self) -> None:
        os.close(self._descriptor)

    def _read(self) -> bytes:
        """What stands behind the name, which may itself contain spaces and parentheses."""
        try:
            line = os.pread(self._descriptor, _MAX_BYTES, 0)
        except ProcessLookupError:
            return b""
        return line[line.rfind(b")") + 2 :]


def boot_id() -> str:
    """Names this boot of the machine. A start is counted from it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
