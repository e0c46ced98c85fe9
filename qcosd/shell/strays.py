# SPDX-License-Identifier: Apache-2.0
"""Processes that an incarnation has left behind, found by a mark in their environment.

Whatever a plugin starts inherits the mark, also what has left its session and process group, and what outlived daemon and
plugin both. Only a program that clears its environment, or may not be looked at by its own user, escapes.
"""

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

MARK_VARIABLE = "QCOS_INCARNATION"
_MAX_PASSES = 20  # over all processes, while each finds some that the one before did not
_EXEC_SECONDS = 0.01  # until the environment of a process is there that is just becoming another program


class Strays:
    """The marked processes of the daemon that owns the state directory, and of its earlier lives.

    The mark names the directory by device and inode: a path can mean another one in a container.
    """

    def __init__(self, state: Path) -> None:
        found = state.stat()
        self._lineage = f"{found.st_dev:x}.{found.st_ino:x}"
        self._bare: set[int] = set()  # pids of programs that really have no environment
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
            bare: set[int] = set()
            for pid in self._marked(condemned, bare):
                if pid not in killed and self._kill_one(pid, condemned):
                    killed[pid] = None
            if len(killed) == before and bare <= self._bare:
                return list(killed)
            if not bare <= self._bare:
                time.sleep(_EXEC_SECONDS)
        self._bare |= bare
        return list(killed)

    def _marked(self, condemned: Callable[[int], bool], bare: set[int]) -> Iterator[int]:
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            environment = _environment_of(pid)
            if environment == b"" and _is_program(pid):
                bare.add(pid)
            elif (number := self._incarnation_in(environment)) is not None and condemned(number):
                yield pid

    def _kill_one(self, pid: int, condemned: Callable[[int], bool]) -> bool:
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(pid)
            try:
                number = self._incarnation_in(_environment_of(pid))  # of what the descriptor holds, or of nobody
                if number is not None and condemned(number):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    return True
            finally:
                os.close(descriptor)
        return False

    def _incarnation_in(self, environment: bytes) -> int | None:
        found = self._pattern.search(environment)
        return int(found[1]) if found else None


def _environment_of(pid: int) -> bytes:
    """Empty for what is gone, somebody else's, or not there yet."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
        return file.readall()
    return b""


def _is_program(pid: int) -> bool:
    """Whether it is a program that runs: no thread of the system's kernel, not gone, not somebody else's."""
    with contextlib.suppress(OSError):
        return bool(os.readlink(f"/proc/{pid}/exe"))
    return False
