# SPDX-License-Identifier: Apache-2.0
"""A daemon that may die at any moment: a kernel, the gate that holds its effects back, a journal that is a list, and its processes."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from honest_peers import Client, Peer
from honest_plugins import PIPELINE, Plugin
from kernel_rig import unpacked

from qcosd.core.effects import (
    SIGKILL,
    SIGTERM,
    Append,
    BlobDelete,
    BlobDrop,
    BlobRead,
    BlobWrite,
    Disconnect,
    Effect,
    Exit,
    Look,
    Publish,
    Send,
    Signal,
    Spawn,
)
from qcosd.core.events import (
    BlobData,
    BlobWritten,
    Channel,
    Event,
    Exited,
    JournalHealth,
    Limits,
    PeerGone,
    Received,
    Spawned,
    Start,
    Survivor,
    Vitals,
)
from qcosd.core.image import Image, fold
from qcosd.core.journal_fault import meanwhile
from qcosd.core.kernel import Kernel
from qcosd.core.manifest import Manifest
from qcosd.core.records import Record
from qcosd.protocol import Side, Type, decode, encode
from qcosd.sdk.plugin_session import PluginSession
from qcosd.shell.gate import Gate, destination_of


class Daemon:
    """A kernel and its processes. ``choice``: whatever can happen next happens in random order, and the journal lags behind; None: in a fixed one.
    ``luck``: what becomes of messages and connections when somebody dies.

    ``cut``: number of an event and how many of its effects are carried out before the kernel is killed; ``survive`` tells of each
    plugin whether it outlives that.
    """

    def __init__(
        self,
        *manifests: Manifest,
        choice: random.Random | None = None,
        luck: random.Random | None = None,
        cut: tuple[int, int] | None = None,
        survive: Callable[[Plugin], bool] = lambda plugin: True,
        liars: tuple[str, ...] = (),
        slots: int = 2,
        limits: Limits | None = None,
    ) -> None:
        self.manifests = {m.name: m for m in manifests or PIPELINE}
        self.choice, self.luck = choice, choice or luck or random.Random(0)
        self.cut, self.survive, self.liars, self.slots = cut, survive, liars, slots
        self.limits = limits or Limits()
        self.now, self.boot_number, self.events_fed = 100.0, 6, 0
        self.effects_of: list[int] = []  # how many effects each event had
        self.records: list[Record] = []  # on disk
        self.image: Image = {}  # with those that are not on disk yet
        self.unwritten: deque[Append] = deque()
        self.fault = ""  # why the journal cannot be written
        self.store: dict[str, bytes] = {}
        self.partial: dict[int, bytes] = {}
        self.plugins: dict[int, Plugin] = {}  # processes that exist, by incarnation
        self.unborn: dict[int, str] = {}  # those that have not been told their secret
        self.clients: list[Client] = []
        self.routes: dict[bytes, Peer] = {}
        self.routings = self.ticket = 0
        self.spawned: set[int] = set()
        self.given: dict[tuple[int, int], tuple[str, Any]] = {}  # lease and epoch -> who and what: never anybody else
        self.secrets: dict[tuple[int, int], str] = {}
        self.helped: set[tuple[int, int, int, int]] = set()  # a host and who has helped it: leases and epochs
        self.events: deque[Event] = deque()
        self.kernel = Kernel()
        self.boot()

    # The life of the kernel

    def journal(self) -> Image:
        image: Image = {}
        fold(image, self.records)
        return unpacked(image)

    def boot(self, **start: Any) -> None:
        """A kernel starts from what the journal has."""
        self.boot_number += 1
        self.kernel, image = Kernel(), self.journal()
        self.image = self.journal()
        self.gate, self.events = Gate(len(self.records)), deque()
        known = {int(name) for name, body in image.get("incarnation", {}).items() if body["pid"]}
        assert set(self.plugins) <= known, "a process that runs is in the journal"
        survivors = tuple(Survivor(incarnation, 1000 + incarnation) for incarnation in sorted(self.plugins))
        sizes = {sha: len(data) for sha, data in self.store.items()}
        self.feed(
            Start(
                tuple(self.manifests.values()), self.boot_number, 1, "0.1", bytes([self.boot_number % 256]) * 32,
                1e9 + self.now, "ipc:///run/streams/", self.limits, image=image, position=len(self.records),
                survivors=survivors, artifacts=sizes, **start,
            )
        )  # fmt: skip

    def crash(self, **start: Any) -> None:
        """SIGKILL to the kernel, and the next one starts. What it has not written is lost, and so is what waits for that."""
        self.unwritten.clear()
        self.gate, self.events = Gate(), deque()
        self.partial.clear()
        self.unborn.clear()  # they read the end of a file instead of a secret
        for plugin in list(self.plugins.values()):
            if not self.survive(plugin):
                self.vanish(plugin)
        for peer in self.peers():
            unaware = self.lucky(0.3)
            if self.lucky(0.5):
                peer.inbox.clear()
            if unaware:  # its socket connects again by itself, and sends what it had not sent
                self.connect(peer)
            else:
                peer.outbox.clear()
                peer.session.lost(self.now)
        self.boot(**start)
        for peer in self.peers():
            if not peer.session.welcomed and peer.session._hello_at is None:
                self.greet(peer)

    def lucky(self, chance: float) -> bool:
        return self.luck.random() < chance

    def feed(self, event: Event) -> None:
        number, self.events_fed = self.events_fed, self.events_fed + 1
        effects = self.kernel.handle(event, self.now)
        self.effects_of.append(len(effects))
        cut = self.cut is not None and self.cut[0] == number
        for effect in effects[: self.cut[1]] if cut and self.cut else effects:
            act, instead = partial(self.carry_out, effect), partial(self.instead, effect)
            self.gate.submit(destination_of(effect), effect.after, act, instead)
        if cut:
            self.cut = None
            self.crash()
            return
        if isinstance(event, Spawned):
            born = partial(self.bear, event.incarnation)
            self.gate.submit(("incarnation", event.incarnation), self.kernel.outbox.position, born)

    def write(self) -> None:
        """The journal has some more on disk."""
        append = self.unwritten.popleft()
        self.records += append.records
        assert len(self.records) == append.position
        self.gate.durable(append.position)

    def fail(self, fault: str) -> None:
        """The journal cannot be written, or (empty) can again and catches up."""
        self.fault = fault
        while self.unwritten and not fault:
            self.write()
        self.gate.health(fault)
        self.feed(JournalHealth(fault))

    def instead(self, effect: Effect, fault: str) -> Callable[[], None] | None:
        other = meanwhile(effect, fault) if isinstance(effect, Send) else None
        return None if other is None else partial(self.carry_out, other)

    # What it wants done

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Append(records):
                fold(self.image, records)
                self.unwritten.append(effect)
                if self.choice is None and not self.fault:
                    self.write()
            case Send():
                frames = encode(effect.message)
                self.witness(effect)
                peer = self.routes.get(effect.address.routing)
                if peer is not None and peer.alive and peer.routing == effect.address.routing:
                    peer.inbox.append(frames)
            case Publish():
                decode(encode(effect.message), Side.KERNEL)
            case Spawn():
                assert effect.incarnation not in self.spawned, "a number is never used twice"
                self.spawned.add(effect.incarnation)
                self.unborn[effect.incarnation] = effect.component
                self.events.append(Spawned(effect.incarnation, 1000 + effect.incarnation))
            case Signal(incarnation, signum) if signum in (SIGKILL, SIGTERM):
                self.unborn.pop(incarnation, None)
                if (plugin := self.plugins.get(incarnation)) is not None:
                    self.die(plugin, -signum)
                elif incarnation in self.spawned:
                    self.events.append(Exited(incarnation, -signum))
            case Look(incarnation):
                self.events.append(Vitals(incarnation, None))
            case BlobWrite(ticket, sha, _, offset, data, last):
                self.partial[ticket] = self.partial.get(ticket, b"") + data
                if last:
                    self.store[sha] = self.partial.pop(ticket)
                self.events.append(BlobWritten(ticket, offset))
            case BlobRead(ticket, sha, offset, length):
                self.events.append(BlobData(ticket, self.store[sha][offset : offset + length]))
            case BlobDrop(ticket):
                self.partial.pop(ticket, None)
            case BlobDelete(shas):
                for sha in shas:
                    del self.store[sha]
            case Disconnect() | Exit():
                raise AssertionError(f"everybody is honest: {effect}")

    def witness(self, effect: Send) -> None:
        """A lease with its epoch is one thing in the hands of one process, for ever; so is a grant and its secret."""
        body = effect.message.body
        if effect.message.type is Type.LEASE:
            what = body["job"], body["batch"], body["service"], body["op"]
            seen = self.given.setdefault((body["lease"], body["epoch"]), (effect.address.identity, what))
            assert seen == (effect.address.identity, what), f"{seen} and {effect}"
            numbers = {what for (lease, _), (_, what) in self.given.items() if lease == body["lease"]}
            assert len(numbers) == 1, numbers
        granted = (
            [body.get("stream"), *body.get("aides", ())] if effect.message.type in (Type.LEASE, Type.GRANT) else []
        )
        for stream in filter(None, granted):
            assert self.secrets.setdefault((stream["grant"], stream["epoch"]), stream["secret"]) == stream["secret"]

    # Processes and connections

    def peers(self) -> list[Peer]:
        return [*self.plugins.values(), *self.clients]

    def connect(self, peer: Peer) -> None:
        self.routings += 1
        peer.routing = b"r%d" % self.routings
        self.routes[peer.routing] = peer

    def greet(self, peer: Peer) -> None:
        """A peer connects and says HELLO."""
        self.connect(peer)
        peer.outbox.clear()
        peer.session.hello(self.now)

    def bear(self, incarnation: int) -> None:
        """A process learns its secret, and begins."""
        component = self.unborn.pop(incarnation, None)
        if component is None:
            return
        operations = self.manifests[component].operations
        services = [operation.name for operation in operations]
        hello = {
            "name": component,
            "incarnation": incarnation,
            "services": services,
            "slots": self.slots,
            "ready": True,
        }
        plugin = Plugin(f"{component}/{incarnation}", PluginSession(hello, self.now))
        plugin.operations, plugin.incarnation, plugin.liar = operations, incarnation, component in self.liars
        self.plugins[incarnation] = plugin
        self.greet(plugin)

    def vanish(self, plugin: Plugin) -> None:
        plugin.alive = False
        del self.plugins[plugin.incarnation]
        for task in plugin.tasks.values():
            task.over = True

    def die(self, plugin: Plugin, status: int | None) -> None:
        """A process ends; what it has sent may arrive still."""
        self.vanish(plugin)
        for frames in plugin.outbox if self.lucky(0.5) else ():
            self.events.append(Received(Channel.PLUGINS, plugin.address, tuple(frames)))
        self.events.append(PeerGone(Channel.PLUGINS, plugin.address, "disconnected"))
        self.events.append(Exited(plugin.incarnation, status))

    def drop(self, peer: Peer) -> None:
        """A connection ends, with what is on its way, and a new one is made."""
        self.events.append(PeerGone(peer.channel, peer.address, "disconnected"))
        peer.inbox.clear()
        peer.session.lost(self.now)
        self.greet(peer)
