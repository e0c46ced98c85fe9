# SPDX-License-Identifier: Apache-2.0
"""A world for a system test: the real command, the real daemon and the real plugins, told from all others by a mark."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from qcosd.sdk.client import BlockingClient

PATIENCE = 60.0
"""Seconds after which a test gives up waiting for something that must happen. Nothing ever waits that long when it works."""

LOOK = 0.01
"""Seconds between two looks at what cannot be subscribed to."""

EXAMPLES = Path(__file__).resolve().parents[2] / "etc" / "examples"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


@dataclass
class World:
    """An environment whose processes can be told from all others, with a directory for everything temporary."""

    home: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def temporary(self) -> Path:
        """What the processes take for the system's temporary directory."""
        return self.home / "t"

    @property
    def runtime(self) -> Path:
        return self.home / "run"

    @property
    def environment(self) -> dict[str, str]:
        dropped = {"XDG_RUNTIME_DIR", "NOTIFY_SOCKET", "QCOS_STATE_DIR"}
        return {
            **{name: value for name, value in os.environ.items() if name not in dropped},
            "QCOS_TEST_WORLD": self.mark,
            "QCOS_RUNTIME_DIR": str(self.runtime),
            "TMPDIR": str(self.temporary),
            "HOME": str(self.home / "h"),
            "XDG_CONFIG_HOME": str(self.home / "h" / "config"),
            "XDG_CACHE_HOME": str(self.home / "h" / "cache"),
        }

    def popen(self, *words: object, **how: Any) -> subprocess.Popen[str]:
        """Start `qcosctl`; stdout and stderr are pipes unless `how` says otherwise."""
        how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | how
        command = [sys.executable, "-P", "-m", "qcosd.ctl.main", *map(str, words)]
        process: subprocess.Popen[str] = subprocess.Popen(command, env=self.environment, **how)
        return process

    def ctl(self, *words: object) -> Done:
        """Run `qcosctl` to its end."""
        return finish(self.popen(*words))

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.home / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def processes(self) -> dict[int, str]:
        """Living processes of this world: pid -> command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if f"QCOS_TEST_WORLD={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return found

    def leftovers(self) -> list[str]:
        """Files that private daemons have left."""
        return sorted(path.name for path in self.temporary.iterdir())

    def assert_empty(self) -> None:
        """Nothing runs and nothing lies about."""
        assert self.processes() == {}
        assert self.leftovers() == []

    def await_death(self, pids: Mapping[int, str]) -> None:
        """Until these processes are gone; fails if they stay. Whoever was killed along with its parent dies on its own time."""
        for pid, command in pids.items():
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                assert select.select([descriptor], [], [], PATIENCE)[0], f"still running: {command}"
            finally:
                os.close(descriptor)


def finish(process: subprocess.Popen[str]) -> Done:
    """Wait for a command to end."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"{process.args} did not end\nstdout: {out}\nstderr: {err}")
    return Done(process.returncode, out, err)


def read_until(process: subprocess.Popen[str], accept: Callable[[str], bool], *, stream: str = "stdout") -> list[str]:
    """Lines of a running command up to the first that is accepted; fails if the stream ends before, or takes too long."""
    lines: list[str] = []
    guard = threading.Timer(PATIENCE, process.kill)
    guard.start()
    try:
        for line in getattr(process, stream):
            lines.append(line)
            if accept(line):
                return lines
    finally:
        guard.cancel()
    pytest.fail(f"{process.args} ended, or was ended, after: {''.join(lines)}")


def await_condition(condition: Callable[[], bool], what: str, every: float = LOOK) -> None:
    """For what cannot be subscribed to (a file that appears): look until it holds, so often (seconds)."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        select.select([], [], [], every)


def await_job(runtime_dir: Path, accept: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any]:
    """Until the state of some job of this daemon is accepted, as its events tell; that state."""
    with BlockingClient(runtime_dir, connect_grace=PATIENCE) as client:
        for event in client.events(["job."], timeout=PATIENCE):
            if accept(event.state):
                return event.state
    pytest.fail("no job came to that state")


def await_private_job(world: World, *states: str) -> int:
    """Until the private daemon of a `run` has a job in one of these states; the daemon's pid."""
    await_condition(lambda: any(world.temporary.glob("qcosd-*/run/clients.sock")), "the sockets of a private daemon")
    (runtime_dir,) = world.temporary.glob("qcosd-*/run")
    await_job(runtime_dir, lambda job: job["state"] in states)
    (pid,) = [pid for pid, command in world.processes().items() if "qcosd.shell.main" in command]
    return pid


@dataclass
class DaemonWorld(World):
    """A world with a daemon that the test may talk to, stop, freeze and kill."""

    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, *words: object) -> None:
        """``words``: further options of the daemon."""
        reading, writing = os.pipe()
        with (self.home / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "qcosd.shell.main", "--ready-fd", str(writing)]
                + ["--runtime-dir", str(self.runtime), "--state-dir", str(self.home / "state"), *map(str, words)],
                env=self.environment,
                pass_fds=(writing,),
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        os.close(writing)
        with open(reading, "rb") as ready:
            if not ready.readline():
                self.process.wait(PATIENCE)
                pytest.fail(f"the daemon did not come up:\n{self.log()}")

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def log(self) -> str:
        return (self.home / "daemon.log").read_text()


GREET = ("--as", "greeting", "--target", "greeted")
"""Options of the smallest job there is: one plugin, no quantum library."""

LENGTHY = (EXAMPLES / "ghz.qasm", "--shots", 1_000_000, "--distance", 5)
"""FILE and options of a job that is under way for longer than any test."""
