# SPDX-License-Identifier: Apache-2.0
"""A private world for campaigns and benchmarks: directories of its own, processes that can be told from all others, and a keeper
that starts the daemon again at once when it dies, as a service manager with RestartSec=0 does."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MARK = "QCOS_CHAOS_WORLD"
"""Environment variable that every process of a world has, whoever started it."""

EARLY_DEATHS = 5
"""Lives in a row that ended before they served, after which the keeper gives up: it would go on for ever."""

LOOK = 0.01  # seconds between two looks at what cannot be waited for
STOPPING = 30.0  # seconds that an ordered stop may take


ROOT = Path(__file__).resolve().parents[1]


def only(*names: str) -> str:
    """A configuration in which no other plugin is started: what is measured must not wait for what is not."""
    others = sorted(
        path.parent.name for path in (ROOT / "plugins").glob("*/plugin.toml") if path.parent.name not in names
    )
    return f"[plugins]\ndisable = {others}\n"


class WorldError(Exception):
    """The world does not do what everything else here rests on."""


@dataclass
class Life:
    """One life of the daemon; times of ``time.monotonic``."""

    pid: int
    started: float
    served: float | None = None  # when it said that it serves
    boot: int = 0


class World:
    """Directories and environment; use it as a context manager."""

    def __init__(self, *daemon_options: str, config: str = "") -> None:
        self.home = Path(tempfile.mkdtemp(prefix="qcos-c-", dir="/tmp"))  # short: it will hold sockets
        self.mark = uuid.uuid4().hex
        self.runtime, self.state = self.home / "run", self.home / "state"
        for name in ("t", "h"):
            (self.home / name).mkdir()
        (self.home / "qcosd.toml").write_text(config)
        self._options = [*daemon_options, "--config", str(self.home / "qcosd.toml")]
        self.keeper = Keeper(self.command, self.environment, self.home / "daemon.log")

    def __enter__(self) -> World:
        self.keeper.start()
        try:
            self.keeper.await_life(1, STOPPING)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.keeper.end()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def command(self) -> list[str]:
        places = ["--runtime-dir", str(self.runtime), "--state-dir", str(self.state)]
        return [sys.executable, "-P", "-m", "qcosd.shell.main", *places, *self._options]

    @property
    def environment(self) -> dict[str, str]:
        dropped = {"XDG_RUNTIME_DIR", "NOTIFY_SOCKET", "QCOS_STATE_DIR", "SYSTEMD_EXEC_PID"}
        return {
            **{name: value for name, value in os.environ.items() if name not in dropped},
            MARK: self.mark,
            "QCOS_RUNTIME_DIR": str(self.runtime),
            "TMPDIR": str(self.home / "t"),
            "HOME": str(self.home / "h"),
            "XDG_CONFIG_HOME": str(self.home / "h" / "config"),
            "XDG_CACHE_HOME": str(self.home / "h" / "cache"),
        }

    def processes(self) -> dict[int, str]:
        """Living processes of this world: pid -> command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        return found

    def log(self) -> str:
        """What the daemon has printed in all its lives."""
        with contextlib.suppress(OSError):
            return (self.home / "daemon.log").read_text()
        return ""


class Keeper:
    """Runs the daemon in a thread; another one at once whenever it has ended, until ``stop``. ``lives``: all of them."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._command, self._environment, self._log = command, environment, log
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self.lives: list[Life] = []
        self.status: int | None = None  # of the last life, once it was stopped
        self.given_up = False

    def start(self) -> None:
        self._thread.start()

    def await_life(self, number: int, seconds: float) -> Life:
        """Until the daemon's life ``number`` (from 1), or a later one, serves. Raises WorldError."""
        with self._changed:
            self._changed.wait_for(lambda: self.given_up or self._serving(number) is not None, seconds)
            life = self._serving(number)
        if life is None:
            said = self._log.read_text().splitlines()[-1:] if self._log.exists() else []
            raise WorldError(f"life {number} of the daemon does not serve: {' '.join(said) or 'it said nothing'}")
        return life

    def _serving(self, number: int) -> Life | None:
        return next((life for life in self.lives[number - 1 :] if life.served is not None), None)

    def stop(self) -> int | None:
        """SIGTERM, and its exit status; None where it had to be killed."""
        with self._changed:
            self._stopping = True
            pid = self.lives[-1].pid if self.lives else 0
        if self._thread.is_alive() and pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGTERM)
            self._thread.join(STOPPING)
        if self._thread.is_alive():
            return None
        return self.status

    def end(self) -> None:
        """Whatever state it is in, it ends."""
        if self._thread.ident is not None and self.stop() is None and self._thread.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.lives[-1].pid, signal.SIGKILL)
            self._thread.join()

    def _keep(self) -> None:
        early = 0
        while early < EARLY_DEATHS:
            reading, writing = os.pipe()
            with self._changed, self._log.open("ab") as log:
                if self._stopping:
                    os.close(reading)
                    os.close(writing)
                    break
                started = time.monotonic()
                process = subprocess.Popen(
                    [*self._command, "--ready-fd", str(writing)],
                    env=self._environment,
                    pass_fds=(writing,),
                    stdin=subprocess.DEVNULL,
                    stderr=log,
                )
                os.close(writing)
                life = Life(process.pid, started)
                self.lives.append(life)
            with open(reading, "rb") as ready:
                line = ready.readline()
            with self._changed:
                if line:
                    life.served, life.boot = time.monotonic(), int(json.loads(line)["boot"])
                self._changed.notify_all()
            early = 0 if line else early + 1
            self.status = process.wait()
        with self._changed:
            self.given_up = True
            self._changed.notify_all()


@contextmanager
def process_end(pid: int) -> Iterator[Callable[[float], bool]]:
    """A function that waits for the end of this process, whoever its parent is, and tells whether it came."""
    descriptor = os.pidfd_open(pid)
    try:
        yield lambda seconds: bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Look until it holds; whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK)
    return True
