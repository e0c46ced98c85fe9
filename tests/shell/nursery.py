# SPDX-License-Identifier: Apache-2.0
"""What tests of plugin processes share: real processes, the news of their ends, and the whole life of a daemon that has some."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from shell_world import run

from qcosd.core.manifest import Manifest, ProcessLimits
from qcosd.shell.logs import Logs
from qcosd.shell.priority import Preference, Priorities
from qcosd.shell.processes import Processes
from qcosd.shell.strays import Strays

# Reads its boot descriptor to the end, as a plugin does, and exits at once if there is nothing.
READ_BOOT = "import os, sys; boot = open(int(os.environ['QCOS_BOOT_FD']), 'rb').read(); boot or sys.exit(9); "


class Nursery:
    """Processes under test and the news of their ends."""

    def __init__(self, directory: Path, embedded: bool = False) -> None:
        self.logs = Logs(directory, 1 << 20, 1)
        self.strays = Strays(directory)
        self.ends: asyncio.Queue[tuple[int, str, int | None]] = asyncio.Queue()
        self.processes = Processes(
            asyncio.get_running_loop(),
            self.logs,
            self.strays,
            lambda *end: self.ends.put_nowait(end),
            Priorities(Preference(0, 0, frozenset())),
            embedded,
        )

    def spawn(self, incarnation: int, program: str, limits: ProcessLimits | None = None) -> int:
        manifest = Manifest("p", "1", ("{python}", "-c", program), limits=limits or ProcessLimits(), folder="/")
        return self.processes.spawn(incarnation, manifest, manifest.name)

    async def __aenter__(self) -> Nursery:
        return self

    async def __aexit__(self, *_: object) -> None:
        for incarnation in list(self.processes._processes):
            self.processes.signal(incarnation, signal.SIGKILL)
            self.processes._reap(incarnation)
        self.processes.close()
        self.strays.kill_others(())
        self.logs.close()


def in_nursery(tmp_path: Path, test: Any, embedded: bool = False) -> None:
    async def body() -> None:
        async with Nursery(tmp_path, embedded) as nursery:
            await test(nursery)

    run(body())


def is_gone(pid: int) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 20)[0])
    finally:
        os.close(descriptor)


DAEMON = f"""
import asyncio, sys, uvloop
from pathlib import Path
from qcosd.core.manifest import Manifest
from qcosd.shell.logs import Logs
from qcosd.shell.priority import Preference, Priorities
from qcosd.shell.processes import Processes
from qcosd.shell.strays import Strays

async def main():
    place = Path(sys.argv[1])
    processes = Processes(asyncio.get_running_loop(), Logs(place, 1 << 20, 1), Strays(place), print, Priorities(Preference(0, 0, frozenset())), sys.argv[2] == "embedded")
    program = {READ_BOOT + "import signal; signal.pause()"!r}
    for incarnation in (1, 2):
        print(processes.spawn(incarnation, Manifest("p", "1", (sys.executable, "-c", program)), "p"), processes.started(incarnation))
    processes.hand_over(1, b"go")
    print(flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    processes.close()

uvloop.run(main())
"""


def daemon_life(place: Path, mode: str, killed: bool) -> list[tuple[int, str]]:
    """Pids and starts of two plugins of a daemon that has ended. The first one has got its secret."""
    command = [sys.executable, "-c", DAEMON, str(place), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        plugins = [line.split() for line in (daemon.stdout.readline(), daemon.stdout.readline())]
        assert daemon.stdout.readline() == "\n"
        if killed:
            daemon.kill()
        daemon.communicate()
        assert daemon.returncode == (-signal.SIGKILL if killed else 0)
    return [(int(pid), started) for pid, started in plugins]
