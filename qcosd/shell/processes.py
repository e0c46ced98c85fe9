# SPDX-License-Identifier: Apache-2.0
"""Plugin processes: started in two phases, watched by pidfd, signalled as a group.

A process is forked first and learns its secret later, through a descriptor that it inherits. The kernel can record the pid in
between: whatever dies in the middle, a process that reads end of file there instead of a secret exits by itself.
"""

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qcosd.core.manifest import Manifest, ProcessLimits
from qcosd.shell.logs import Logs
from qcosd.shell.prctl import die_with_parent

BOOT_VARIABLE = "QCOS_BOOT_FD"  # names the descriptor from which a plugin reads its boot map
# What the service manager says to the daemon is not for plugins.
_NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "INVOCATION_ID", "JOURNAL_STREAM")  # fmt: skip


@dataclass(slots=True)
class _Process:
    component: str
    popen: "subprocess.Popen[bytes]"
    descriptor: int  # pidfd
    boot: int  # writing end of the boot descriptor, -1 once it is closed


class Processes:
    """The living processes, by incarnation. `exited(incarnation, component, status)` is called in the loop when one has ended
    and its group has been cleared; status is the exit code, or minus the signal.

    `embedded`: plugins die with the daemon (the thread that spawns must be the one that lives longest: the main thread).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        logs: Logs,
        exited: Callable[[int, str, int], None],
        embedded: bool,
    ) -> None:
        self._loop = loop
        self._logs = logs
        self._exited = exited
        self._embedded = embedded
        self._processes: dict[int, _Process] = {}

    def __len__(self) -> int:
        return len(self._processes)

    def spawn(self, incarnation: int, manifest: Manifest) -> int:
        """First phase: start the process and return its pid. Raises OSError where it cannot be started."""
        log = self._logs.open(manifest.name)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            popen = subprocess.Popen(
                command(manifest),
                stdin=subprocess.DEVNULL,
                stdout=log.descriptor,
                stderr=log.descriptor,
                cwd="/",
                env=_environment(reading),
                pass_fds=(reading,),
                start_new_session=True,
                # Between fork and exec, with the artifact thread about: it is one system call, already looked up.
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
            descriptor = os.pidfd_open(popen.pid)
        except OSError:
            os.close(writing)
            popen.kill()
            popen.wait()
            raise
        process = _Process(manifest.name, popen, descriptor, writing)
        self._processes[incarnation] = process
        self._loop.add_reader(process.descriptor, self._ended, incarnation)
        return popen.pid

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
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.popen.pid, signum)

    def close(self) -> None:
        """Kill what is left and wait for it."""
        for incarnation in list(self._processes):
            self.signal(incarnation, signal.SIGKILL)
            self._reap(incarnation)

    def _ended(self, incarnation: int) -> None:
        process, status = self._reap(incarnation)
        self._exited(incarnation, process.component, status)

    def _reap(self, incarnation: int) -> tuple[_Process, int]:
        process = self._processes.pop(incarnation)
        self._loop.remove_reader(process.descriptor)
        os.close(process.descriptor)
        self._close_boot(process)
        # An incarnation ends as a whole. Its leader is not reaped yet, so the number of the group cannot be in use elsewhere.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.popen.pid, signal.SIGKILL)
        return process, process.popen.wait()

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


def _environment(boot_descriptor: int) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    environment[BOOT_VARIABLE] = str(boot_descriptor)
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
