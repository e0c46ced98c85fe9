# SPDX-License-Identifier: Apache-2.0
"""What the daemon makes of effects, and what it reports: a kernel that only takes notes, with the real processes and clock."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from nursery import READ_BOOT, Nursery
from shell_world import PLUGIN_TOKEN, Inbox, World, run, until

from qcosd.core import effects, events
from qcosd.core.events import Address, Channel
from qcosd.core.manifest import Manifest
from qcosd.shell.daemon import Daemon, Devices
from qcosd.shell.journal import MemoryJournal
from qcosd.shell.survivors import adopt_survivors
from qcosd.shell.vitals import Vitals
from qcosd.shell.zap import digest_of


class Notes:
    """Stands where the kernel is: keeps what happens, and wants done what a test puts in `wants`."""

    def __init__(self) -> None:
        self.seen: list[events.Event] = []
        self.wants: list[effects.Effect] = []
        self.deadline: float | None = None

    def handle(self, event: events.Event, now: float) -> list[effects.Effect]:
        self.seen.append(event)
        if isinstance(event, events.Tick):
            self.deadline = None
        wants, self.wants = self.wants, []
        return wants

    def next_deadline(self) -> float | None:
        return self.deadline

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]


class Stage:
    """A daemon whose kernel takes notes."""

    def __init__(self, world: World, nursery: Nursery) -> None:
        self.notes = Notes()
        self.daemon = Daemon(world.loop, lambda: world.now, self.notes, {}, lambda code: None)  # type: ignore[arg-type]
        nursery.processes._exited = self.daemon.exited
        self.daemon.attach(
            Devices(
                {},
                MemoryJournal(self.daemon.durable),
                None,
                world.authenticator,
                nursery.processes,
                nursery.logs,
                None,
                None,
            )
        )  # type: ignore[arg-type]

    def do(self, *wants: effects.Effect) -> None:
        self.notes.wants.extend(wants)
        self.daemon.handle(events.Durable(0))


def test_a_daemon_that_was_away_says_so_before_anything_else(tmp_path: Path) -> None:
    """The clock runs on while the loop does not: as after a SIGSTOP."""
    gone = events.PeerGone(Channel.CLIENTS, Address("uid:0", b"c"), "disconnected")

    async def test() -> None:
        async with World(tmp_path) as world, Nursery(tmp_path) as nursery:
            stage = Stage(world, nursery)
            world.now = 7.0
            stage.do()  # the time until its first event is nobody's
            world.now = 8.0
            stage.daemon.pulse()
            assert stage.notes.seen == [events.Durable(0)]
            stage.notes.deadline = 9.0
            stage.do()
            world.now = 13.0
            stage.daemon.handle(gone)  # whatever comes first, and whether or not it moves the next deadline
            await until(lambda: bool(stage.notes.of(events.Tick)))
            assert stage.notes.seen[2:] == [events.Away(5.0), gone, events.Tick()]

    run(test())


def test_a_process_from_its_start_to_its_end(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world, Nursery(tmp_path) as nursery:
            stage = Stage(world, nursery)
            # The system counts time on a core in hundredths of a second: a quick start may have used none.
            work = "import signal, time\nwhile time.process_time() < 0.1: pass\nprint('ready')\nsignal.pause()"
            manifest = Manifest("p", "1", ("{python}", "-c", READ_BOOT + work), folder="/")
            stage.do(effects.Spawn("p", "p", 7, "p/7", PLUGIN_TOKEN.decode(), manifest))
            (spawned,) = stage.notes.of(events.Spawned)
            vitals = Vitals(spawned.pid)
            assert spawned == events.Spawned(7, spawned.pid, vitals.started) and vitals.started
            await until(lambda: "ready" in nursery.logs.last_words("p"))
            inbox = Inbox()
            world.bus(inbox, "plugins")
            await world.peer(name="plugins", user=b"p/7", token=PLUGIN_TOKEN).send(b"hello")
            assert (await inbox.next())[1].identity == "p/7"
            stage.do(effects.Look(7), effects.Look(8))
            looked, absent = stage.notes.of(events.Vitals)
            assert looked.incarnation == 7 and looked.cpu > 0 and absent == events.Vitals(8, None)
            stage.daemon.look()
            os.kill(spawned.pid, signal.SIGSTOP)
            await until(lambda: vitals.state == "T")
            for _ in range(3):
                stage.daemon.look()
            assert stage.notes.of(events.Frozen) == [events.Frozen(7)]
            vitals.close()
            stage.do(effects.Signal(7, signal.SIGKILL))
            await until(lambda: bool(stage.notes.of(events.Exited)))
            assert stage.notes.seen[-1] == events.Exited(7, -signal.SIGKILL)

    run(test())


def test_the_end_of_a_survivor_takes_its_token_away(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world, Nursery(tmp_path) as first, Nursery(tmp_path) as second:
            manifest = Manifest("p", "1", ("sleep", "1000"))
            pid = first.processes.spawn(7, manifest, "p")
            body = {
                "component": "p",
                "instance": 1,
                "token_hash": digest_of(PLUGIN_TOKEN),
                "pid": pid,
                "started": first.processes.started(7),
            }
            stage = Stage(world, second)
            assert adopt_survivors({"7": body}, second.processes, world.authenticator, second.strays)
            stage.do(effects.Signal(7, signal.SIGTERM))
            await until(lambda: stage.notes.of(events.Exited) == [events.Exited(7, None)])
            inbox = Inbox()
            world.bus(inbox, "plugins")
            refused = world.authenticator.refused
            world.peer(name="plugins", user=b"p/7", token=PLUGIN_TOKEN)
            await until(lambda: world.authenticator.refused > refused)
            assert await first.ends.get() == (7, "p", -signal.SIGTERM)
            assert inbox.reports.empty()

    run(test())
