# SPDX-License-Identifier: Apache-2.0
"""Plugin processes: started in two phases or taken over from an earlier life of the daemon, watched by pidfd, signalled as a group.

A process is forked first and learns its secret later, through a descriptor that it inherits. The kernel can record the pid in
between: whatever dies in the middle, a process that reads end of file there instead of a secret exits by itself.

Nothing ties a plugin of a service to the daemon's life: it has a session of its own, prints to files, and holds no descriptor
of the daemon but the boot descriptor, which it reads to the end.
"""

import asyncio
import contextlib
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qcosd.core.manifest import Manifest, ProcessLimits
from qcosd.shell.logs import Logs
from qcosd.shell.prctl import die_with_parent
from qcosd.shell.priority import Priorities
from qcosd.shell.strays import MARK_VARIABLE, Strays
from qcosd.shell.vitals import ENDED, STOPPED, Vitals

BOOT_VARIABLE = "QCOS_BOOT_FD"  # names the descriptor from which a plugin reads its boot map
# What the service manager says to the daemon is not for plugins.
_NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "INVOCATION_ID", "JOURNAL_STREAM")  # fmt: skip


@dataclass(slots=True)
class _Process:
    instance: str
    pid: int
    popen: "subprocess.Popen[bytes] | None"  # None: taken over, not our child
    descriptor: int  # pidfd
    vitals: Vitals
    boot: int = -1  # writing end of the boot descriptor, -1 once it is closed
    stopped: int = 0  # looks in a row that found it stopped


class Processes:
    """The living processes, by incarnation. `exited(incarnation, instance, status)` is called in the loop when one has ended
    and its group has been cleared; status is the exit code, or minus the signal, or None for a process that was taken over.
    What it left outside its group is killed soon after.

    `embedded`: plugins die with the daemon (the thread that spawns must be the one that lives longest: the main thread).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        logs: Logs,
        strays: Strays,
        exited: Callable[[int, str, int | None], None],
        priorities: Priorities,
        embedded: bool,
    ) -> None:
        self._loop = loop
        self._logs = logs
        self._strays = strays
        self._exited = exited
        self._priorities = priorities
        self._embedded = embedded
        self._processes: dict[int, _Process] = {}

    def __len__(self) -> int:
        return len(self._processes)

    def spawn(self, incarnation: int, manifest: Manifest, instance: str) -> int:
        """First phase: start the process and return its pid. Raises OSError where it cannot be started. ``instance``: its log."""
        log = self._logs.open(instance)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            popen = subprocess.Popen(
                command(manifest),
                stdin=subprocess.DEVNULL,
                stdout=log.descriptor,
                stderr=log.descriptor,
                cwd="/",
                env=_environment(reading, self._strays.mark(incarnation)),
                pass_fds=(reading,),
                start_new_session=True,
                # Between fork and exec, with other threads about: it is one system call, already looked up.
                preexec_fn=die_with_parent if self._embedded else None,
            )
        except (OSError, subprocess.SubprocessError) as error:
            os.close(writing)
            if isinstance(error, OSError):
                raise
            raise OSError(str(error)) from error
        finally:
            os.close(reading)
        try:
            _limit(popen.pid, manifest.limits)
            descriptor, vitals = _open(popen.pid)
        except OSError:
            os.close(writing)
            popen.kill()
            popen.wait()
            raise
        log.mark(f"{instance} incarnation {incarnation} pid {popen.pid} started")
        self._watch(incarnation, _Process(instance, popen.pid, popen, descriptor, vitals, writing))
        return popen.pid

    def adopt(self, incarnation: int, instance: str, pid: int, started: str) -> bool:
        """Take over a process of an earlier life of the daemon. False, and nothing is done, where it has ended: `started` tells
        it from another process with the same pid."""
        try:
            descriptor, vitals = _open(pid)
        except OSError:
            return False
        # What has this start is what had the pid ever since, so that the pidfd is of the same process.
        if vitals.started != started or vitals.state in ENDED:
            vitals.close()
            os.close(descriptor)
            return False
        self._logs.open(instance)
        self._watch(incarnation, _Process(instance, pid, None, descriptor, vitals))
        return True

    def hand_over(self, incarnation: int, secret: bytes) -> None:
        """Second phase: write the secret, at most 4 KiB, and close. Does nothing for a process that has ended."""
        process = self._processes.get(incarnation)
        if process is not None and process.boot >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(process.boot, secret)
            self._close_boot(process)

    def signal(self, incarnation: int, signum: int) -> None:
        """Signal the whole process group. Does nothing for a process that has ended."""
        process = self._processes.get(incarnation)
        if process is None:
            return
        # The number of a child's group is ours until it is reaped. That of any other ends with the process.
        if process.popen is None and _is_over(process.descriptor):
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signum)

    def started(self, incarnation: int) -> str:
        """What tells the process from any other that ever had its pid; empty where it has ended."""
        process = self._processes.get(incarnation)
        return process.vitals.started if process is not None else ""

    def cpu(self, incarnation: int) -> float | None:
        """Seconds that the process has used; None where it has ended."""
        process = self._processes.get(incarnation)
        return process.vitals.cpu if process is not None else None

    def set_priority(self, incarnation: int, online: bool) -> str | None:
        """Have the system prefer a process, or no more. What is so now, for people; None where it has ended."""
        process = self._processes.get(incarnation)
        if process is None or _is_over(process.descriptor):
            return None
        return self._priorities.set(process.pid, online)

    def look(self) -> list[int]:
        """Incarnations that have been stopped (SIGSTOP) since the look before the last one. Each is told once until it runs again."""
        frozen = []
        child = _is_a_child_stopped()  # one call for all of them, which is nearly always enough
        for incarnation, process in self._processes.items():
            suspect = child or process.popen is None
            process.stopped = process.stopped + 1 if suspect and process.vitals.state == STOPPED else 0
            if process.stopped == 2:
                frozen.append(incarnation)
        return frozen

    def close(self) -> None:
        """Let go of what is left. An embedded daemon kills it and waits for it; a service leaves it to its next life."""
        for incarnation in list(self._processes):
            if self._embedded:
                self.signal(incarnation, signal.SIGKILL)
                self._reap(incarnation)
                self._strays.kill(incarnation)
            else:
                self._forget(incarnation)

    def _watch(self, incarnation: int, process: _Process) -> None:
        self._processes[incarnation] = process
        self._loop.add_reader(process.descriptor, self._ended, incarnation)

    def _ended(self, incarnation: int) -> None:
        instance, status = self._reap(incarnation)
        self._exited(incarnation, instance, status)
        # Behind the restart, and not in the loop: it looks at every process of the machine.
        self._loop.run_in_executor(None, self._strays.kill, incarnation)

    def _reap(self, incarnation: int) -> tuple[str, int | None]:
        process = self._forget(incarnation)
        if process.popen is None:
            # The number of its group may be somebody else's by now. The rest is found by its mark.
            return process.instance, None
        # An incarnation ends as a whole. Its leader is not reaped yet, so the number of the group cannot be in use elsewhere.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.instance, process.popen.wait()

    def _forget(self, incarnation: int) -> _Process:
        process = self._processes.pop(incarnation)
        self._loop.remove_reader(process.descriptor)
        os.close(process.descriptor)
        process.vitals.close()
        self._close_boot(process)
        return process

    def _close_boot(self, process: _Process) -> None:
        if process.boot >= 0:
            os.close(process.boot)
            process.boot = -1


def command(manifest: Manifest) -> list[str]:
    """The command of a manifest: `{python}` is this interpreter, `{folder}` where plugin.toml is. A relative path of the
    program is relative to that folder. (The working directory is /: with `python -m` it becomes the head of the import path,
    where a plugin's own files would hide modules of the standard library.)"""
    words = [word.replace("{python}", sys.executable).replace("{folder}", manifest.folder) for word in manifest.argv]
    if "/" in words[0] and not words[0].startswith("/"):
        words[0] = str(Path(manifest.folder) / words[0])
    return words


def _open(pid: int) -> tuple[int, Vitals]:
    """A pidfd and the vitals of a process."""
    descriptor = os.pidfd_open(pid)
    try:
        return descriptor, Vitals(pid)
    except OSError:
        os.close(descriptor)
        raise


def _is_a_child_stopped() -> bool:
    """Whether some child of this process is stopped. Only looks."""
    try:
        return os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # there is none
        return False


def _is_over(pidfd: int) -> bool:
    """Whether the process has ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _environment(boot_descriptor: int, mark: str) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    environment[BOOT_VARIABLE] = str(boot_descriptor)
    environment[MARK_VARIABLE] = mark
    environment["PYTHONUNBUFFERED"] = "1"  # what a plugin printed before it was killed is in its log
    return environment


def _limit(pid: int, limits: ProcessLimits) -> None:
    """Resource limits, set from outside: the process has no secret yet, so it has nothing to do but to load."""
    wanted = {
        resource.RLIMIT_CORE: 0,
        # Writable private memory. The address space (RLIMIT_AS) would count mapped libraries and reserved arenas as well.
        resource.RLIMIT_DATA: limits.memory_mb << 20,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_CPU: limits.cpu_seconds,
    }
    for kind, bound in wanted.items():
        if bound or kind == resource.RLIMIT_CORE:
            try:
                resource.prlimit(pid, kind, (bound, bound))
            except ProcessLookupError:
                return
            except (ValueError, OSError) as error:  # more than the daemon itself may have
                raise OSError(f"cannot set the limits: {error}") from error
