# SPDX-License-Identifier: Apache-2.0
"""How the system's scheduler treats the processes that take part in an execution phase: niceness or SCHED_FIFO, and which CPUs.

Linux keeps all three for each thread, and new threads inherit them; so they are set for every thread that a process has. What may
not be raised stays as it is, and is said: a user may raise what RLIMIT_NICE and RLIMIT_RTPRIO allow, and CAP_SYS_NICE anything
(sched(7)).
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preference:
    """What an online process gets. ``nice``: -20 to 19. ``fifo``: priority under SCHED_FIFO, 1 to 99, or 0 for the ordinary
    scheduler. ``cpus``: which it may use; empty for all that it may use otherwise."""

    nice: int
    fifo: int
    cpus: frozenset[int]


class Priorities:
    """Raises and lowers processes. ``own``: what all processes of the daemon have otherwise is what it has itself."""

    def __init__(self, preference: Preference) -> None:
        self._online = preference
        self._own = Preference(os.getpriority(os.PRIO_PROCESS, 0), 0, frozenset(os.sched_getaffinity(0)))

    def set(self, pid: int, online: bool) -> str:
        """Treat a process as online, or as any other. Returns what is so now, in words, with what was refused."""
        wanted = self._online if online else self._own
        refused: dict[str, None] = {}
        policy, order = (os.SCHED_FIFO, f"SCHED_FIFO {wanted.fifo}") if wanted.fifo else (os.SCHED_OTHER, "SCHED_OTHER")
        cpus = wanted.cpus or self._own.cpus
        steps: dict[str, Callable[[int], None]] = {
            order: lambda thread: os.sched_setscheduler(thread, policy, os.sched_param(wanted.fifo)),
            f"nice {wanted.nice}": lambda thread: os.setpriority(os.PRIO_PROCESS, thread, wanted.nice),
            f"CPUs {listed(wanted.cpus)}": lambda thread: os.sched_setaffinity(thread, cpus),
        }
        for thread in _threads(pid):
            for name, step in steps.items():
                try:
                    step(thread)
                except ProcessLookupError:
                    break  # a thread that has ended
                except OSError as error:
                    refused[f"{name} refused: {error.strerror}"] = None
        with contextlib.suppress(ProcessLookupError):
            return "; ".join([described(pid), *refused])
        return "ended"


def described(pid: int) -> str:
    """How the system schedules the main thread of a process. Raises ProcessLookupError."""
    policy = os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK
    if policy == os.SCHED_FIFO:
        order = f"SCHED_FIFO {os.sched_getparam(pid).sched_priority}"
    else:
        order = f"nice {os.getpriority(os.PRIO_PROCESS, pid)}"
    return f"{order}, CPUs {listed(os.sched_getaffinity(pid))}"


def parsed(text: str) -> frozenset[int]:
    """CPUs of a list such as "0-2,5", as cpuset(7) has it. Raises ValueError."""
    found: set[int] = set()
    for piece in text.replace(" ", "").split(",") if text.strip() else ():
        first, dash, last = piece.partition("-")
        found.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(found)


def listed(cpus: frozenset[int] | set[int]) -> str:
    """The list that `parsed` reads."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs) or "all"


def _threads(pid: int) -> Iterator[int]:
    try:
        names = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    yield from map(int, names)
