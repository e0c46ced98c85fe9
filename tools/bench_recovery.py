# SPDX-License-Identifier: Apache-2.0
"""Case `recovery` of `tools/bench`: from kill -9 until the same program is ready again, beside what restarts programs elsewhere.

The program is the plugin `hello`. The floors start it the same way (a boot descriptor) on a bus that only hears it, and time ends with
its HELLO; for qcosd time ends when a client has been told that the new incarnation is ready, which is later.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgpack
from chaos_world import LOOK, ROOT, World, WorldError, only

from qcosd.protocol import Message, Type
from qcosd.sdk.boot import BOOT_VARIABLE
from qcosd.sdk.client import BlockingClient
from qcosd.sdk.lone_bus import Breach, LoneBus

HELLO = [sys.executable, "-m", "qcos_plugins.hello.main"]
REPEATS = 21
FREEZES = 5
PATIENCE = 30.0
STEADY = 1.2  # seconds that a process runs before it is killed: runit waits a second with what ended sooner
BARE = f"""
import asyncio, os, sys
async def main():
    while True:
        boot = os.open(sys.argv[1], os.O_RDONLY)
        environment = {{**os.environ, "{BOOT_VARIABLE}": str(boot), "PYTHONUNBUFFERED": "1"}}
        process = await asyncio.create_subprocess_exec(*sys.argv[3:], env=environment, pass_fds=(boot,), cwd="/", start_new_session=True, stdin=asyncio.subprocess.DEVNULL)
        os.close(boot)
        open(sys.argv[2], "w").write(str(process.pid))
        await process.wait()
asyncio.run(main())
"""

Row = dict[str, Any]
MakeRow = Callable[..., Row]
Current = Callable[[], int]
"""The pid of the process that is kept running."""


Way = Callable[[Path, Path, list[str]], contextlib.AbstractContextManager[Current]]
"""Keeps a plugin running: (file with its boot map, file for its pid, command)."""


class NotHere(Exception):
    """This machine cannot run that one; why."""


class Contestant(Protocol):
    """Something that restarts the plugin."""

    def strike(self) -> float:
        """Kill the plugin; seconds until it is ready again."""

    def attend(self) -> None:
        """Keep up the conversation with the plugin."""


def rows(row: MakeRow) -> list[Row]:
    """All rows of the case; ``row`` makes one. The contestants take turns, so that whatever else the machine does hits all alike."""
    ways = {
        "bare asyncio": _kept(_bare),
        "runit": _kept(_runit),
        "systemd": _kept(_systemd),
        "plugin": _supervised(),
        "plugin, warm spare": _supervised("spares = 1\n"),
    }
    absent: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        contestants: dict[str, Contestant] = {}
        for name, way in ways.items():
            try:
                contestants[name] = stack.enter_context(way)
            except (NotHere, WorldError) as reason:
                absent[name] = str(reason)
        medians = _race(contestants)
    what = "a loop of create_subprocess_exec and wait, same program"
    found = [
        row(name, 1e3 * medians[name], "ms", 1e3 * medians["bare asyncio"], what) if name in medians else _absent(name, "ms", absent[name])
        for name in ways
    ]  # fmt: skip
    with _world() as world:
        found.append(_frozen(row, world))
        found += _daemon(row, world)
    return found


def _absent(case: str, unit: str, why: str) -> Row:
    return {"case": case, "value": None, "unit": unit, "floor": None, "ratio": None, "what": f"not measured: {why}"}


def _race(contestants: Mapping[str, Contestant]) -> dict[str, float]:
    """Median seconds of each."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    order, generator = list(contestants), random.Random(REPEATS)
    for _ in range(REPEATS):
        generator.shuffle(order)  # what one leaves behind for the next must not always hit the same one
        for name in order:
            end = time.monotonic() + STEADY / 2
            while time.monotonic() < end:  # also for what the last one left to be done: a new spare is being started
                for everyone in contestants.values():
                    everyone.attend()
                time.sleep(LOOK)
            times[name].append(contestants[name].strike())
    return {name: statistics.median(seconds) for name, seconds in times.items()}


# --- floors


@dataclass
class Kept:
    """A plugin that somebody keeps running, on a bus that only hears it."""

    bus: LoneBus
    current: Current

    def strike(self) -> float:
        victim = self.current()
        start = time.perf_counter()
        os.kill(victim, signal.SIGKILL)
        hello = self.hello()
        seconds = time.perf_counter() - start
        self.bus.welcome(hello)
        return seconds

    def hello(self) -> Message:
        try:
            return self.bus.expect("HELLO", lambda message: message.type is Type.HELLO, PATIENCE)
        except Breach as error:
            raise NotHere(f"the plugin was not started: {error}") from None

    def attend(self) -> None:
        while self.bus.hear(0.0) is not None:
            pass


@contextmanager
def _kept(way: Way) -> Iterator[Kept]:
    with tempfile.TemporaryDirectory(prefix="qcos-b-", dir="/tmp") as name, LoneBus("hello", HELLO) as bus:
        boot, pid = Path(name) / "boot", Path(name) / "pid"
        boot.write_bytes(bus.boot_map())
        with way(boot, pid, HELLO) as current:
            kept = Kept(bus, current)
            bus.welcome(kept.hello())
            yield kept


@contextmanager
def _bare(boot: Path, pid: Path, command: list[str]) -> Iterator[Current]:
    with _group([sys.executable, "-c", BARE, str(boot), str(pid), *command]):
        yield lambda: int(pid.read_text())


def _script(boot: Path, pid: Path, command: list[str]) -> str:
    """A shell script that becomes the plugin."""
    words = " ".join(map(shlex.quote, command))
    return (
        f"#!/bin/sh\nexec 3<{boot}\necho $$ >{pid}\ncd /\nexport {BOOT_VARIABLE}=3 PYTHONUNBUFFERED=1\nexec {words}\n"
    )


def _executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@contextmanager
def _runit(boot: Path, pid: Path, command: list[str]) -> Iterator[Current]:
    if shutil.which("runsv") is None:
        raise NotHere("runsv is not installed (apt-get install runit)")
    service = boot.parent / "service"
    service.mkdir()
    _executable(service / "run", _script(boot, pid, command))
    with _group(["runsv", str(service)], first=signal.SIGTERM):
        yield lambda: int(pid.read_text())


@contextmanager
def _systemd(boot: Path, pid: Path, command: list[str]) -> Iterator[Current]:
    """A unit of a systemd in a container."""
    lab = str(ROOT / "tools" / "lab" / "systemd")
    script = _executable(boot.parent / "run", _script(boot, pid, command))
    unit = f"[Service]\nExecStart={script}\nRestart=always\nRestartSec=0\nStartLimitIntervalSec=0\n[Unit]\nStartLimitIntervalSec=0\n"
    (boot.parent / "qcos-bench.service").write_text(unit)
    socket = str(msgpack.unpackb(boot.read_bytes())["endpoint"]).removeprefix("ipc://")
    # The root of the container is an overlay of this one's: it has no other mounts, and its sockets are not ours.
    shared = {str(Path(socket).parent): None, str(ROOT): None, sys.prefix: None, sys.base_prefix: None}
    folders = [folder for folder in shared if not Path(folder).is_relative_to("/usr")]
    up = subprocess.run([lab, "up", "--units", str(boot.parent), *folders], capture_output=True, text=True, check=False)
    if up.returncode != 0:
        raise NotHere(f"no systemd in a container here: {' '.join((up.stderr or up.stdout).split())[-200:]}")
    try:
        start = subprocess.run(
            [lab, "exec", "systemctl", "start", "qcos-bench"], capture_output=True, text=True, check=False
        )
        if start.returncode != 0:
            raise NotHere(f"the unit does not start: {' '.join(start.stderr.split())}")
        yield lambda: _outside(int(pid.read_text()))
    finally:
        subprocess.run([lab, "down"], capture_output=True, check=False)


def _outside(inner: int) -> int:
    """What we call the process that is called ``inner`` in the container."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError, IndexError):
            numbers = status.read_text().split("NSpid:")[1].split("\n")[0].split()
            if len(numbers) > 1 and int(numbers[-1]) == inner and HELLO[-1] in (status.parent / "cmdline").read_text():
                return int(numbers[0])
    raise NotHere(f"pid {inner} of the container is not to be seen from here")


@contextmanager
def _group(command: list[str], first: signal.Signals = signal.SIGKILL) -> Iterator[None]:
    """A supervisor, and at the end neither it nor what it runs."""
    process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.killpg(process.pid, first)
        if first is not signal.SIGKILL:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
        for pid in map(int, children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()


# --- qcosd


@dataclass
class Supervised:
    """The plugin of a daemon."""

    client: BlockingClient

    def strike(self) -> float:
        seconds = _strike(self.client, signal.SIGKILL, PATIENCE)
        if seconds is None:
            raise RuntimeError("hello was killed and did not get ready again")
        return seconds

    def attend(self) -> None:
        self.client.ping()


@contextmanager
def _supervised(changes: str = "") -> Iterator[Supervised]:
    with _world(changes) as world, BlockingClient(world.runtime, connect_grace=PATIENCE) as client:
        yield Supervised(client)


def _active(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The process of `hello` that takes work, where one is ready to: a spare does not count."""
    return next((row for row in rows if row["state"] == "ready" and row.get("role", "active") == "active"), None)


def _strike(client: BlockingClient, signum: signal.Signals, seconds: float) -> float | None:
    """Seconds from the signal until another process takes work; None where none does."""
    before = _active(row for row in client.plugins() if row["name"].partition(":")[0] == "hello")
    if before is None:
        raise RuntimeError("hello is not ready")
    events = client.events(["plugin.hello"], timeout=seconds)
    next(events)  # the snapshot: it listens from here on
    start = time.perf_counter()
    os.kill(before["pid"], signum)
    for event in events:
        if (after := _active([event.state])) is not None and after["pid"] != before["pid"]:
            return time.perf_counter() - start
    return None


def _frozen(row: MakeRow, world: World) -> Row:
    times = []
    with BlockingClient(world.runtime, connect_grace=PATIENCE) as client:
        for _ in range(FREEZES):
            time.sleep(STEADY)
            seconds = _strike(client, signal.SIGSTOP, PATIENCE)
            if seconds is None:
                client.plugin("kill", "hello")
                return _absent("frozen plugin", "s", f"not replaced within {PATIENCE:g} s")
            times.append(seconds)
    return row("frozen plugin", statistics.median(times), "s", 2.0, "the limit: replaced within 2 s")


def _daemon(row: MakeRow, world: World) -> list[Row]:
    """Killed until it says that it serves, and until a client that was there before has its answer."""
    serves, answers, keeper = [], [], world.keeper
    with BlockingClient(world.runtime, connect_grace=PATIENCE) as client:
        client.status()
        for _ in range(REPEATS):
            time.sleep(STEADY)
            life = len(keeper.lives)
            start = time.monotonic()
            os.kill(keeper.lives[-1].pid, signal.SIGKILL)
            reborn = keeper.await_life(life + 1, PATIENCE)
            serves.append((reborn.served or 0.0) - start)
            while client.status()["boot"] < reborn.boot:
                pass
            answers.append(time.monotonic() - start)
    libraries = _start_of("import asyncio, click, zmq, msgpack, uvloop")
    what = "start of Python with the daemon's libraries"
    return [
        row("daemon serves", statistics.median(serves), "s", libraries, what),
        row(
            "daemon answers", statistics.median(answers), "s", libraries, f"{what}; to a client that had been connected"
        ),
    ]


def _start_of(code: str) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@contextmanager
def _world(changes: str = "") -> Iterator[World]:
    """A world whose one plugin is `hello`, with a manifest that lets it be killed as often as it takes. Others would take the
    processors while it starts."""
    with tempfile.TemporaryDirectory(prefix="qcos-b-", dir="/tmp") as name:
        folder = Path(name) / "hello"
        shutil.copytree(ROOT / "plugins" / "hello", folder)
        manifest = folder / "plugin.toml"
        text = manifest.read_text().replace("[restart]\n", "[restart]\nmax_deaths = 1000\nstable_after = 0.5\n")
        manifest.write_text(changes + text)
        with World("--plugin-dir", name, config=only("hello")) as world:
            with BlockingClient(world.runtime, connect_grace=PATIENCE) as client:
                if not any(event.state["state"] == "ready" for event in client.events(["plugin.hello"], PATIENCE)):
                    raise RuntimeError("hello does not get ready")
            yield world
