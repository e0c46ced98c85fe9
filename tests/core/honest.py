# SPDX-License-Identifier: Apache-2.0
"""A kernel among honest plugins and clients, all of which may die at any moment.

Plugins and clients are the sessions of the SDK, frames and all; the gate that holds effects back is the daemon's. What is pretended
is the rest: connections are queues, processes are objects, the journal is a list, and time passes when nothing else can happen.
What a plugin makes follows from what it was given and from nothing else, so that results can be compared bit by bit.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kernel_rig import manifest, unpacked

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
    Address,
    BlobData,
    BlobWritten,
    Channel,
    Event,
    Exited,
    Limits,
    PeerGone,
    Received,
    Spawned,
    Start,
    Survivor,
    Tick,
    Vitals,
)
from qcosd.core.image import Image, fold
from qcosd.core.kernel import Kernel
from qcosd.core.manifest import Manifest, Operation
from qcosd.core.records import Record
from qcosd.protocol import Side, Type, decode, encode, error_table
from qcosd.sdk.errors import RequestFailed
from qcosd.sdk.plugin_session import LeaseGiven, LeaseLost, PluginSession, StopAsked, StreamGranted
from qcosd.sdk.session import Answer, Failure, Request, Session
from qcosd.shell.gate import Gate, destination_of

ROUNDS = 3  # blocks of a stream
PATIENCE = 3.0  # seconds for which a consumer waits for its producer
CHECK_PROGRAM = Operation("verify", "program", ("logical", "optimised"), checks=("optimised",))
CHECK_COUNTS = Operation("verify", "counts", ("counts",), checks=("counts",), each="batch")
PIPELINE = (
    manifest("compile", Operation("compile", "compile", ("source",), ("logical",), preempt="kill")),
    manifest("optimise", Operation("optimise", "optimise", ("logical",), ("optimised",), preempt="kill")),
    manifest(
        "adapter",
        Operation("hardware", "describe", (), ("device",)),
        Operation("hardware", "run", ("optimised", "device"), each="batch", stream_out="rounds", resumes=True),
    ),
    manifest("tracker", Operation("track", "run", ("optimised",), ("counts",), each="batch", stream_in="rounds")),
    manifest("verifier", CHECK_PROGRAM, CHECK_COUNTS),
)


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(eq=False)
class Task:
    """A lease in the hands of a plugin."""

    plugin: Plugin
    lease: int
    epoch: int
    body: dict[str, Any]
    stream: dict[str, Any] | None  # as granted last
    acked: int = 0  # of a producer: blocks that a consumer has acknowledged; of a consumer: blocks that it has
    state: str = ""  # the checkpoint of the last acknowledgement
    met: bool = False  # of a consumer: whether a producer has ever connected
    since: float = 0.0
    over: bool = False
    calls: set[int] = field(default_factory=set)  # BLOB_PUTs without an answer
    outputs: dict[str, str] | None = None

    @property
    def name(self) -> str:
        return f"{self.body['service']}.{self.body['op']}"

    @property
    def binds(self) -> bool:
        return self.stream is not None and self.stream["role"] == "bind"


@dataclass(eq=False)
class Peer:
    """A process, and its connection."""

    identity: str
    session: Session
    routing: bytes = b""
    inbox: deque[list[bytes]] = field(default_factory=deque)
    outbox: deque[list[bytes]] = field(default_factory=deque)
    alive: bool = True

    channel = Channel.CLIENTS

    @property
    def address(self) -> Address:
        return Address(self.identity, self.routing)


@dataclass(eq=False)
class Plugin(Peer):
    """A plugin process."""

    component: str = ""
    incarnation: int = 0
    liar: bool = False
    tasks: dict[tuple[int, int], Task] = field(default_factory=dict)

    channel = Channel.PLUGINS


@dataclass(eq=False)
class Client(Peer):
    """A client: calls in hand and what is to be done with their answers."""

    waiting: dict[int, Callable[[Answer | Failure], None]] = field(default_factory=dict)


class World:
    """Everything. ``choice``: whatever can happen next happens in random order, and the journal lags behind; None: in a fixed one.
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
            self.gate.submit(destination_of(effect), effect.after, partial(self.carry_out, effect))
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

    # What it wants done

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Append(records):
                fold(self.image, records)
                self.unwritten.append(effect)
                if self.choice is None:
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
        if stream := body.get("stream") if effect.message.type in (Type.LEASE, Type.GRANT) else None:
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
        services = [operation.name for operation in self.manifests[component].operations]
        hello = {
            "name": component,
            "incarnation": incarnation,
            "services": services,
            "slots": self.slots,
            "ready": True,
        }
        plugin = Plugin(f"{component}/{incarnation}", PluginSession(hello, self.now))
        plugin.component, plugin.incarnation, plugin.liar = component, incarnation, component in self.liars
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

    # Clients

    def client(self, name: str = "uid:1000") -> Client:
        client = Client(name, Session({"name": "client"}))
        self.clients.append(client)
        self.greet(client)
        return client

    def ask(self, client: Client, request: Request, then: Callable[[Answer | Failure], None] | None = None) -> None:
        call = client.session.request(request, self.now)
        client.waiting[call] = then or (lambda answer: None)

    def submit(self, client: Client, key: str, **options: Any) -> dict[str, Any]:
        """A client stores a program, submits it under a key and waits. What it has learnt so far is in the map that is returned."""
        learnt: dict[str, Any] = {}
        program = f"program {key}".encode()
        sha = hashlib.sha256(program).hexdigest()

        def stored(answer: Answer | Failure) -> None:
            assert isinstance(answer, Answer), answer
            body = {"inputs": {"source": sha}, "options": options}
            self.ask(client, Request(Type.JOB_SUBMIT, body, key=key), accepted)

        def accepted(answer: Answer | Failure) -> None:
            assert isinstance(answer, Answer), answer
            assert learnt.setdefault("job", answer.message.body["job"]) == answer.message.body["job"]
            self.ask(client, Request(Type.JOB_WAIT, {"job": learnt["job"]}), ended)

        def ended(answer: Answer | Failure) -> None:
            assert isinstance(answer, Answer), answer
            learnt["document"] = answer.message.body["document"]

        self.ask(client, Request(Type.BLOB_PUT, {"sha": sha, "size": len(program)}, (program,)), stored)
        return learnt

    # What can happen next

    def actions(self) -> Iterator[Callable[[], None]]:
        if self.unwritten:
            yield self.write
        if self.events:
            yield lambda: self.feed(self.events.popleft())
        for peer in self.peers():
            peer.outbox.extend(peer.session.outgoing())
            if peer.inbox:
                yield partial(self.hear, peer)
            if peer.outbox:
                yield partial(self.speak, peer)
        for plugin in self.plugins.values():
            for task in plugin.tasks.values():
                if task.stream is None and not task.calls and not task.over:
                    yield partial(self.work, task)
                elif task.binds and not task.over and (producer := self.producer(task)) is not None:
                    yield partial(self.stream, producer, task)

    def step(self) -> None:
        """One thing happens; where nothing can, time passes."""
        if self.choice is None:
            if (action := next(self.actions(), None)) is None:
                action = self.pass_time
        else:
            action = self.choice.choice(list(self.actions()) or [self.pass_time])
        action()

    def speak(self, peer: Peer) -> None:
        self.feed(Received(peer.channel, peer.address, tuple(peer.outbox.popleft())))

    def hear(self, peer: Peer) -> None:
        frames = peer.inbox.popleft()
        if isinstance(peer, Plugin):
            assert isinstance(peer.session, PluginSession)
            self.take(peer, peer.session.handle(frames, self.now))
        else:
            self.take(peer, peer.session.receive(frames, self.now))

    def pass_time(self) -> None:
        """Until somebody has a reason to do something."""
        due = [at for peer in self.peers() if (at := peer.session.next_deadline()) is not None]
        kernel = self.kernel.next_deadline()
        due += [kernel] if kernel is not None else []
        alone = [t for p in self.plugins.values() for t in p.tasks.values() if t.binds and not t.over and not t.outputs]
        due += [task.since + PATIENCE for task in alone]
        self.now = max(self.now, min(due))
        if kernel is not None and kernel <= self.now:
            self.feed(Tick())
        for peer in self.peers():
            if isinstance(peer.session, PluginSession):
                self.take(peer, peer.session.elapse(self.now))
            else:
                self.take(peer, peer.session.tick(self.now))
        for task in alone:
            if task.since + PATIENCE <= self.now and not task.over:
                self.fail(task, "retry_later", "nobody sends", stream="rounds")

    def take(self, peer: Peer, happenings: list[Any]) -> None:
        for happening in happenings:
            match happening:
                case Answer(call=call) | Failure(call=call) if isinstance(peer, Client):
                    peer.waiting.pop(call)(happening)
                case Answer(call=call) if isinstance(peer, Plugin):
                    for task in list(peer.tasks.values()):
                        if call in task.calls:
                            task.calls.discard(call)
                            self.report(task)
                case Failure(call=call, error=error) if isinstance(peer, Plugin):
                    late = (
                        isinstance(error, RequestFailed) and error.name == "late"
                    )  # a result that the next epoch overtook
                    assert late and not any(call in task.calls for task in peer.tasks.values()), error
                case LeaseGiven(lease, epoch, body) if isinstance(peer, Plugin):
                    task = Task(peer, lease, epoch, body, body["stream"], since=self.now)
                    peer.tasks[lease, epoch] = task
                case LeaseLost(lease, epoch, _) if isinstance(peer, Plugin):
                    if (lost := peer.tasks.pop((lease, epoch), None)) is not None:  # else its result is on the way
                        lost.over = True
                    assert isinstance(peer.session, PluginSession)
                    peer.session.revoked(lease, epoch)
                case StreamGranted(lease, epoch, grant) if isinstance(peer, Plugin):
                    peer.tasks[lease, epoch].stream = grant
                case StopAsked(reason, code) if isinstance(peer, Plugin):
                    assert isinstance(peer.session, PluginSession)
                    peer.session.goodbye(reason)
                    for frames in (*peer.outbox, *peer.session.outgoing()):
                        self.events.append(Received(Channel.PLUGINS, peer.address, tuple(frames)))
                    if peer.alive:
                        self.die(peer, code)
                    return

    # Work

    def producer(self, task: Task) -> Task | None:
        """Who is connected to a consumer."""
        assert task.stream is not None
        for plugin in self.plugins.values():
            for other in plugin.tasks.values():
                stream = other.stream
                if stream is None or other is task or other.over or stream["role"] != "connect":
                    continue
                if (stream["grant"], stream["epoch"]) == (task.stream["grant"], task.stream["epoch"]):
                    assert stream["secret"] == task.stream["secret"]
                    return other
        return None

    def stream(self, producer: Task, consumer: Task) -> None:
        """One more block, and its acknowledgement with the consumer's checkpoint."""
        if not consumer.met:
            consumer.met, consumer.acked, consumer.state = True, producer.acked, producer.state
        assert (producer.acked, producer.state) == (consumer.acked, consumer.state)
        if producer.acked < ROUNDS:
            consumer.since = self.now
            block = digest(producer.body["seed"], producer.body["inputs"], producer.acked)
            consumer.state = producer.state = digest(consumer.state, block)
            consumer.acked = producer.acked = producer.acked + 1
        if producer.acked == ROUNDS:
            self.work(consumer)
            self.work(producer)

    def work(self, task: Task) -> None:
        """Do the work, and begin to store what comes out."""
        task.over = True
        accused = self.lie(task) if task.body["service"] == "verify" else None
        if accused is not None:
            self.fail(task, "wrong_input", "a lie", kind=accused)
            return
        operation = next(o for o in self.manifests[task.plugin.component].operations if o.name == task.name)
        task.outputs = {}
        for kind in operation.produces:
            made = {"kind": kind, "inputs": task.body["inputs"], "batch": task.body["batch"], "seed": task.body["seed"]}
            content = {**made, "state": task.state, **({"lie": True} if task.plugin.liar else {})}
            data = json.dumps(content, sort_keys=True).encode()
            task.outputs[kind] = sha = hashlib.sha256(data).hexdigest()
            body = {"sha": sha, "size": len(data)}
            task.calls.add(task.plugin.session.request(Request(Type.BLOB_PUT, body, (data,)), self.now))
        self.report(task)

    def lie(self, task: Task) -> str | None:
        """Kind of an input that a liar has made."""
        shas = {kind: row["sha"] for kind, row in task.body["inputs"].items()}
        return next((kind for kind, sha in shas.items() if b'"lie"' in self.store[sha]), None)

    def report(self, task: Task) -> None:
        """Everything is stored: DONE."""
        if task.calls or task.outputs is None:
            return
        summary, session = None, task.plugin.session
        if "counts" in task.outputs:
            shots = task.body["shots"]
            luck = int(task.state, 16)
            discarded = luck % 3 if shots > 2 else 0
            ones = luck // 3 % (shots - discarded + 1)
            summary = {
                "same": {"decoder": "plain"},
                "sum": {
                    "counts": {"0": shots - discarded - ones, "1": ones},
                    "shots_accepted": shots - discarded,
                    "shots_discarded": discarded,
                    "batches": 1,
                },
                "max": {"depth": luck % 7},
            }
        assert isinstance(session, PluginSession)
        ended_with = task.stream["epoch"] if task.stream is not None else None
        session.done(task.lease, task.epoch, task.outputs, {"depth": 3}, summary, self.now, ended_with)
        task.plugin.tasks.pop((task.lease, task.epoch), None)

    def fail(self, task: Task, name: str, message: str, **details: Any) -> None:
        task.over = True
        assert isinstance(task.plugin.session, PluginSession)
        task.plugin.session.failed(task.lease, task.epoch, error_table(name, message, details), self.now)
        task.plugin.tasks.pop((task.lease, task.epoch), None)

    # What must hold

    def leftovers(self) -> list[str]:
        """What is left of jobs, once all have ended and everybody has had time to tidy up."""
        kernel = self.kernel
        areas = {area for area, *_ in kernel.alarms._due} - {"component", "silence", "collect", "surplus"}
        counted = {
            "leases": len(kernel.scheduler.leases),
            "jobs": len(kernel.jobs.active),
            "works": len(self.journal().get("job", {})),
            "slots": len(kernel.requests),
            "urgency": len(kernel.scheduler._urgency._needs),
            "tasks": sum(len(plugin.tasks) for plugin in self.plugins.values()),
            "held": sum(len(p.session.leases) for p in self.plugins.values() if isinstance(p.session, PluginSession)),
            "transfers": len(kernel.blobs),
        }
        return [f"{name}: {count}" for name, count in counted.items() if count] + sorted(areas)

    def settle(self, seconds: float) -> None:
        """Let time pass, whatever happens in it."""
        end = self.now + seconds
        while self.now < end:
            self.step()


def refused(answer: Answer | Failure) -> str:
    """Name of the error that a call has ended in."""
    assert isinstance(answer, Failure)
    assert isinstance(answer.error, RequestFailed)
    return answer.error.name
