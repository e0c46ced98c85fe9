# SPDX-License-Identifier: Apache-2.0
"""Processes that an incarnation has left behind, found by a mark in their environment.

Whatever a plugin starts inherits the mark, also what has left its session and process group, and what outlived daemon and
plugin both. Only a program that clears its environment, or may not be looked at by its own user, escapes.
"""

import contextlib
import os
import re
import signal
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

MARK_VARIABLE = "QCOS_INCARNATION"
_MAX_PASSES = 20  # over all processes, while each finds some that the one before did not


class Strays:
    """The marked processes of the daemon that owns the state directory, and of its earlier lives.

    The mark names the directory by device and inode: a path can mean another one in a container.
    """

    def __init__(self, state: Path) -> None:
        found = state.stat()
        self._lineage = f"{found.st_dev:x}.{found.st_ino:x}"
        self._pattern = re.compile(rb"(?:^|\0)%s=%s/(\d+)\0" % (MARK_VARIABLE.encode(), self._lineage.encode()))

    def mark(self, incarnation: int) -> str:
        """The value of MARK_VARIABLE for the processes of an incarnation."""
        return f"{self._lineage}/{incarnation}"

    def kill(self, incarnation: int) -> list[int]:
        """SIGKILL to whatever is left of an incarnation. Returns the pids. May be called from any thread."""
        return self._kill(lambda number: number == incarnation)

    def kill_others(self, incarnations: Collection[int]) -> list[int]:
        """SIGKILL to what is left of all incarnations but these. Returns the pids."""
        return self._kill(lambda number: number not in incarnations)

    def _kill(self, condemned: Callable[[int], bool]) -> list[int]:
        killed: dict[int, None] = {}
        for _ in range(_MAX_PASSES):
            before = len(killed)
            for pid in self._marked(condemned):
                if pid not in killed and self._kill_one(pid, condemned):
                    killed[pid] = None
            if len(killed) == before:
                break
        return list(killed)

    def _marked(self, condemned: Callable[[int], bool]) -> Iterator[int]:
        for name in os.listdir("/proc"):
            if name.isdigit() and (number := self._incarnation_of(int(name))) is not None and condemned(number):
                yield int(name)

    def _kill_one(self, pid: int, condemned: Callable[[int], bool]) -> bool:
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            try:
                number = self._incarnation_of(pid)  # of the process that the descriptor holds, or of none
                if number is not None and condemned(number):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    return True
            finally:
                os.close(descriptor)
        return False

    def _incarnation_of(self, pid: int) -> int | None:
        try:
            descriptor = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # it is gone, or somebody else's
            return None
        try:
            environment = bytearray()
            while chunk := os.read(descriptor, 1 << 16):
                environment += chunk
        except OSError:
            return None
        finally:
            os.close(descriptor)
        found = self._pattern.search(environment)
        return int(found[1]) if found else None
