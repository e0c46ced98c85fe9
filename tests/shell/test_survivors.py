# SPDX-License-Identifier: Apache-2.0
"""Plugins that outlive the daemon: who is taken over, who is not, and that nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from nursery import Nursery, daemon_life, in_nursery, is_gone
from shell_world import PLUGIN_TOKEN, Inbox, World, run, until

from qcosd.core.events import Survivor
from qcosd.shell.strays import MARK_VARIABLE, Strays
from qcosd.shell.survivors import adopt_survivors
from qcosd.shell.vitals import Vitals, boot_id
from qcosd.shell.zap import digest_of

SLEEPER = "import signal; signal.pause()"


class Outsider:
    """A process that is not a child of this one, so that nobody here can wait for it."""

    def __init__(self, program: str, environment: dict[str, str]) -> None:
        start = (
            f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {program!r}], start_new_session=True, "
            "stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL); print(p.pid); p.returncode = 0"
        )
        said = subprocess.run(
            [sys.executable, "-c", start], env=os.environ | environment, stdout=subprocess.PIPE, check=True
        )
        self.pid = int(said.stdout)
        vitals = Vitals(self.pid)
        self.started = vitals.started
        vitals.close()

    def record(self, component: str = "p") -> dict[str, Any]:
        """What the journal would have."""
        return {
            "component": component,
            "instance": 1,
            "token_hash": digest_of(PLUGIN_TOKEN),
            "pid": self.pid,
            "started": self.started,
        }


def outsider(strays: Strays, incarnation: int, program: str = SLEEPER) -> Outsider:
    return Outsider(program, {MARK_VARIABLE: strays.mark(incarnation)})


def test_a_survivor_is_watched_signalled_and_let_in(tmp_path: Path) -> None:
    """It is admitted with the token that it has had all along, of which only the digest is known."""

    async def test() -> None:
        async with World(tmp_path) as world, Nursery(tmp_path) as nursery:
            process = outsider(nursery.strays, 7)
            recorded = {"7": process.record()}
            found = adopt_survivors(recorded, nursery.processes, world.authenticator, nursery.strays)
            assert found == (Survivor(7, process.pid),)
            inbox = Inbox()
            world.bus(inbox, "plugins")
            await world.peer(name="plugins", user=b"p/7", token=PLUGIN_TOKEN).send(b"hello again")
            kind, connection, frames = await inbox.next()
            assert (kind, connection.identity, frames) == ("received", "p/7", [b"hello again"])
            assert nursery.processes.started(7) == process.started
            assert nursery.processes.cpu(7) is not None
            nursery.processes.signal(7, signal.SIGTERM)
            assert await nursery.ends.get() == (7, "p", None), "nobody knows the exit status of what is not a child"
            nursery.processes.signal(7, signal.SIGTERM)  # too late, and no harm

    run(test())


def test_the_dead_and_their_namesakes_are_not_taken_over(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world, Nursery(tmp_path) as nursery:
            strays = nursery.strays
            alive, dead = outsider(strays, 1), outsider(strays, 2)
            os.kill(dead.pid, signal.SIGKILL)
            assert is_gone(dead.pid)
            recorded: dict[str, dict[str, Any]] = {
                "2": dead.record(),
                "3": alive.record() | {"started": f"{boot_id()}:1"},  # another process had this pid
                "4": alive.record() | {"started": alive.started.replace(boot_id(), "0")},  # before the machine booted
                "5": {
                    "component": "p",
                    "instance": 1,
                    "token_hash": digest_of(PLUGIN_TOKEN),
                },  # died before its pid was recorded
                "10": alive.record() | {"pid": os.getpid()},
            }
            before = len(os.listdir("/proc/self/fd"))
            assert adopt_survivors(recorded, nursery.processes, world.authenticator, strays) == ()
            assert len(nursery.processes) == 0 and len(os.listdir("/proc/self/fd")) == before
            assert is_gone(alive.pid), "its incarnation is not in the journal"

    run(test())


def test_what_is_not_taken_over_is_killed_wherever_it_is(tmp_path: Path) -> None:
    """The second plugin had no pid in the journal, and a descendant of the first has left its session."""
    place, elsewhere = tmp_path / "state", tmp_path / "other"
    place.mkdir()
    elsewhere.mkdir()
    strays = Strays(place)
    descendant = outsider(strays, 1)
    foreign = outsider(Strays(elsewhere), 1)
    (settled, started), _ = daemon_life(place, "service", killed=True)

    async def test() -> None:
        async with World(tmp_path) as world, Nursery(place) as nursery:
            record = {"component": "p", "instance": 1, "token_hash": "", "pid": settled, "started": started}
            stray = outsider(strays, 2)
            found = adopt_survivors({"1": record}, nursery.processes, world.authenticator, strays)
            assert found == (Survivor(1, settled),)
            assert is_gone(stray.pid)
            os.kill(descendant.pid, 0)  # what an incarnation has started lives as long as it does
            nursery.processes.signal(1, signal.SIGKILL)
            assert await nursery.ends.get() == (1, "p", None)
            await asyncio.to_thread(is_gone, descendant.pid)

    run(test())
    os.kill(foreign.pid, 0)  # another daemon's
    assert Strays(elsewhere).kill_others(()) == [foreign.pid]


def test_what_left_the_group_of_a_child_ends_with_it_too(tmp_path: Path) -> None:
    async def test(nursery: Nursery) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        nursery.spawn(
            1,
            "import signal, subprocess; worker = subprocess.Popen(['sleep', '1000'], start_new_session=True);"
            f"open({str(fifo)!r}, 'w').write(str(worker.pid)); signal.pause()",
        )
        worker = int(await asyncio.to_thread(fifo.read_text))
        nursery.processes.signal(1, signal.SIGKILL)
        assert await nursery.ends.get() == (1, "p", -signal.SIGKILL)
        assert await asyncio.to_thread(is_gone, worker)

    in_nursery(tmp_path, test)


@pytest.mark.parametrize("adopted", [True, False])
def test_a_stopped_process_is_told_once_until_it_runs_again(tmp_path: Path, adopted: bool) -> None:
    async def test(nursery: Nursery) -> None:
        if adopted:
            process = outsider(nursery.strays, 1)
            pid = process.pid
            assert nursery.processes.adopt(1, "p", pid, process.started)
        else:
            pid = nursery.spawn(1, SLEEPER)
        other = nursery.spawn(2, SLEEPER)
        vitals = Vitals(pid)
        assert nursery.processes.look() == []
        for _ in range(2):
            os.kill(pid, signal.SIGSTOP)
            await until(lambda: vitals.state == "T")
            assert nursery.processes.look() == [], "it may be continued at once"
            assert nursery.processes.look() == [1]
            assert nursery.processes.look() == []
            os.kill(pid, signal.SIGCONT)
            await until(lambda: vitals.state != "T")
            assert nursery.processes.look() == []
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: vitals.state == "T")
        nursery.processes.signal(1, signal.SIGKILL)
        assert (await nursery.ends.get())[0] == 1, "what is stopped can be killed"
        assert (vitals.state, vitals.cpu, vitals.started) in (
            ("X", None, ""),
            ("Z", None, process.started if adopted else ""),
        )
        vitals.close()
        os.kill(other, 0)

    in_nursery(tmp_path, test)


def test_what_a_debugger_holds_is_not_frozen(tmp_path: Path) -> None:
    async def test(nursery: Nursery) -> None:
        pid = nursery.spawn(
            1, "import ctypes, os, signal; ctypes.CDLL(None).ptrace(0, 0, 0, 0); os.kill(os.getpid(), signal.SIGSTOP)"
        )
        vitals = Vitals(pid)
        await until(lambda: vitals.state == "t")  # traced by this process, its parent
        assert nursery.processes.look() == nursery.processes.look() == []
        vitals.close()
        nursery.processes.signal(1, signal.SIGKILL)
        await nursery.ends.get()

    in_nursery(tmp_path, test)


def test_the_time_of_all_threads_counts(tmp_path: Path) -> None:
    async def test(nursery: Nursery) -> None:
        nursery.spawn(
            1, "import threading; t = threading.Thread(target=lambda: [0 for _ in iter(int, 1)]); t.start(); t.join()"
        )
        assert nursery.processes.cpu(1) is not None
        await until(lambda: (nursery.processes.cpu(1) or 0.0) > 0.3)
        nursery.processes.signal(1, signal.SIGKILL)
        await nursery.ends.get()
        assert nursery.processes.cpu(1) is None

    in_nursery(tmp_path, test)
