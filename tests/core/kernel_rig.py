# SPDX-License-Identifier: Apache-2.0
"""A kernel with a pretended shell around it: processes start at once, artifacts are kept in a dict, time stands still.

The pretended peers speak real frames, encoded and decoded by ``qcosd.protocol``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from typing import Any

import msgpack

from qcosd.core.effects import (
    Append,
    BlobDelete,
    BlobDrop,
    BlobRead,
    BlobWrite,
    Effect,
    Look,
    Publish,
    Send,
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
    Tick,
)  # fmt: skip
from qcosd.core.image import Image, fold
from qcosd.core.kernel import Kernel
from qcosd.core.manifest import Manifest, Operation, Restart
from qcosd.core.records import Record
from qcosd.protocol import Message, Side, Type, decode, encode, error_table


def manifest(name: str, *operations: Operation, **changes: Any) -> Manifest:
    return Manifest(name=name, version="1", argv=("x",), operations=operations, **changes)


HELLO = manifest("hello", Operation("hello", "greet", ("greeting",), ("greeted",)))
COMPILE = manifest("pytket_compile", Operation("compile", "compile", ("source",), ("logical",)))
OPTIMISE = manifest("pytket_optimise", Operation("optimise", "optimise", ("logical",), ("optimised",)))
QECC = manifest("surface_code", Operation("qecc", "prepare", ("optimised", "device"), ("fragments",)))
MAP = manifest("grid_mapper", Operation("map", "place", ("fragments", "device"), ("placement",)))
ADAPTER = manifest(
    "stim_adapter",
    Operation("hardware", "describe", (), ("device",)),
    Operation("hardware", "calibrate", ("device",), ("calibration",)),
    Operation("hardware", "run", ("fragments", "placement", "calibration"), (), each="batch", stream_out="rounds"),
)
TRACKER = manifest(
    "matching_tracker",
    Operation("track", "run", ("fragments", "calibration"), ("counts",), each="batch", stream_in="rounds"),
)
QEC = (COMPILE, OPTIMISE, QECC, MAP, ADAPTER, TRACKER)
FRAGILE = Restart(max_deaths=3)


class Rig:
    """The kernel and everything around it. ``inbox[address]`` holds what peers were sent and have not read."""

    def __init__(self, *manifests: Manifest, hello: bool = True, limits: Limits | None = None, **start: Any) -> None:
        self.kernel = Kernel()
        self.now = 100.0
        self.hello = hello  # plugins say HELLO as soon as they are started
        self.silent = False  # plugins send no heartbeats
        self.hold_blobs = False  # artifact effects stay in ``held``
        self.held: list[Effect] = []
        self.effects: list[Effect] = []
        self.inbox: dict[Address, list[Message]] = defaultdict(list)
        self.store: dict[str, bytes] = {}
        self.partial: dict[int, bytes] = defaultdict(bytes)
        self.manifests = {m.name: m for m in manifests}
        self.ids = 0
        self.boot_number = 7
        self.records: list[Record] = []  # as the journal has them
        self.position = 0
        self.start = Start(
            manifests, 7, 4711, "0.1", b"e" * 32, 1e9, "ipc:///run/streams/", limits or Limits(), **start
        )
        self.feed(self.start)

    def journal(self) -> Image:
        """What the journal has."""
        image: Image = {}
        fold(image, self.records)
        return unpacked(image)

    def reboot(self, **start: Any) -> None:
        """The kernel is killed and the next one starts from the journal. Nothing of what it said last has arrived."""
        self.boot_number += 1
        self.kernel = Kernel()
        artifacts = {sha: len(data) for sha, data in self.store.items()}
        self.partial.clear()
        self.feed(
            dataclasses.replace(
                self.start,
                boot=self.boot_number,
                entropy=bytes([self.boot_number % 256]) * 32,
                wall=1e9 + self.now - 100.0,
                image=self.journal(),
                position=self.position,
                artifacts=artifacts,
                **start,
            )
        )

    def feed(self, event: Event) -> None:
        pending: list[Event] = [event]
        while pending:
            happening = pending.pop(0)
            effects = self.kernel.handle(happening, self.now)
            if isinstance(
                happening, Start
            ):  # nobody can have subscribed before: what was published is in the snapshot alone
                self.first = self.kernel.topics.snapshot("")
            for effect in effects:
                self.effects.append(effect)
                pending += self.carry_out(effect)

    def carry_out(self, effect: Effect) -> list[Event]:
        match effect:
            case Append():
                self.records += effect.records
                self.position = effect.position
            case Send():
                frames = encode(effect.message)
                self.inbox[effect.address].append(decode(frames, Side.KERNEL))
            case Publish():
                decode(encode(effect.message), Side.KERNEL)
            case Spawn():
                events: list[Event] = [Spawned(effect.incarnation, 1000 + effect.incarnation)]
                if self.hello:
                    events.append(self.greeting(effect.component, effect.incarnation))
                return events
            case Look() if not self.silent:
                instance = self.kernel.supervisor.of_incarnation(effect.incarnation)
                if instance is not None and instance.address is not None:
                    return [received(instance.address, Message(Type.HEARTBEAT, boot=self.kernel.start.boot))]
            case BlobWrite() | BlobRead() if self.hold_blobs:
                self.held.append(effect)
            case BlobWrite():
                self.partial[effect.ticket] += effect.data
                if not effect.last:
                    return [BlobWritten(effect.ticket, effect.offset)]
                data = self.partial.pop(effect.ticket)
                if hashlib.sha256(data).hexdigest() != effect.sha:
                    return [BlobWritten(effect.ticket, effect.offset, "wrong_digest")]
                self.store[effect.sha] = data
                return [BlobWritten(effect.ticket, effect.offset)]
            case BlobRead():
                data = self.store[effect.sha][effect.offset : effect.offset + effect.length]
                return [BlobData(effect.ticket, data)]
            case BlobDrop():
                self.partial.pop(effect.ticket, None)
            case BlobDelete():
                for sha in effect.shas:
                    del self.store[sha]
        return []

    def greeting(self, component: str, incarnation: int, **changes: Any) -> Received:
        services = [operation.name for operation in self.manifests[component].operations]
        body = {"name": component, "versions": [1, 1], "incarnation": incarnation, "services": services, **changes}
        return received(plugin(component, incarnation), Message(Type.HELLO, body, 1))

    def advance(self, seconds: float) -> None:
        """Let time pass, with a Tick at every moment that the kernel asks for."""
        end = self.now + seconds
        while (due := self.kernel.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.feed(Tick())
        self.now = end

    def client(self, name: str = "c1", uid: int = 1000) -> Address:
        address = Address(f"uid:{uid}", name.encode())
        self.tell(address, Type.HELLO, {"name": "test", "versions": [1, 1]}, id=1)
        assert self.read(address).type is Type.WELCOME
        return address

    def tell(self, address: Address, kind: Type, body: dict[str, Any] | None = None, **header: Any) -> None:
        self.feed(received(address, Message(kind, body or {}, boot=header.pop("boot", self.boot_number), **header)))

    def request(self, address: Address, kind: Type, body: dict[str, Any] | None = None, **header: Any) -> int:
        self.ids += 1
        self.tell(address, kind, body, id=1000 + self.ids, **header)
        return 1000 + self.ids

    def ask(self, address: Address, kind: Type, body: dict[str, Any] | None = None, **header: Any) -> Message:
        """A request and its answer, which must come at once."""
        number = self.request(address, kind, body, **header)
        answers = self.answers(address, number)
        assert len(answers) == 1, answers
        return answers[0]

    def answers(self, address: Address, number: int) -> list[Message]:
        found = [message for message in self.inbox[address] if message.id == number]
        self.inbox[address] = [message for message in self.inbox[address] if message.id != number]
        return found

    def refusal(self, address: Address, kind: Type, body: dict[str, Any] | None = None, **header: Any) -> str:
        """Name of the error that a request ends in."""
        answer = self.ask(address, kind, body, **header)
        assert answer.type is Type.ERROR, answer
        return str(answer.body["error"]["name"])

    def read(self, address: Address, kind: Type | None = None) -> Message:
        """The next message of a kind, taken out of the inbox."""
        for message in self.inbox[address]:
            if kind is None or message.type is kind:
                self.inbox[address].remove(message)
                return message
        raise AssertionError(f"{address.identity} has no {kind}: {self.inbox[address]}")

    def address(self, component: str) -> Address:
        """Where the leading process of a component is."""
        return plugin(component, self.kernel.supervisor.components[component].incarnation)

    def put(self, address: Address, data: bytes) -> str:
        sha = hashlib.sha256(data).hexdigest()
        assert (
            self.ask(address, Type.BLOB_PUT, {"sha": sha, "size": len(data)}, payload=(data,)).type is Type.BLOB_STORED
        )
        return sha

    def submit(self, address: Address, kind: str = "source", **options: Any) -> str:
        sha = self.put(address, b"program")
        reply = self.ask(address, Type.JOB_SUBMIT, {"inputs": {kind: sha}, "options": options})
        assert reply.type is Type.JOB_ACCEPTED, reply
        return str(reply.body["job"])

    def document(self, address: Address, job: str) -> dict[str, Any]:
        return dict(self.ask(address, Type.JOB_SHOW, {"job": job}).body["document"])

    def lease(self, component: str) -> dict[str, Any]:
        """The next lease that a component was given."""
        return self.read(self.address(component), Type.LEASE).body

    def has_lease(self, component: str) -> bool:
        return any(message.type is Type.LEASE for message in self.inbox[self.address(component)])

    def done(
        self, component: str, lease: dict[str, Any], summary: dict[str, Any] | None = None, **facts: Any
    ) -> Message:
        """Store outputs as the manifest promises, and report the lease done."""
        produces = next(
            operation.produces for operation in self.manifests[component].operations
            if (operation.service, operation.op) == (lease["service"], lease["op"])
        )  # fmt: skip
        address = self.address(component)
        outputs = {
            kind: self.put(address, f"{component} {kind} {lease['job']} {lease['batch']}".encode()) for kind in produces
        }
        body = {
            "lease": lease["lease"],
            "epoch": lease["epoch"],
            "outputs": outputs,
            "facts": facts,
            "summary": summary,
        }
        return self.ask(address, Type.DONE, body)

    def work(self, component: str, summary: dict[str, Any] | None = None, **facts: Any) -> dict[str, Any]:
        """Take the next lease of a component and do it."""
        lease = self.lease(component)
        assert self.done(component, lease, summary, **facts).type is Type.ACK
        return lease

    def fail(self, component: str, lease: dict[str, Any], name: str, message: str = "", **details: Any) -> Message:
        """Report a lease as failed."""
        error = error_table(name, message, details)
        body = {"lease": lease["lease"], "epoch": lease["epoch"], "error": error}
        return self.ask(self.address(component), Type.FAILED, body)

    def give_up(self, component: str) -> None:
        """Answer all REVOKEs that a component has got."""
        address = self.address(component)
        while any(message.type is Type.REVOKE for message in self.inbox[address]):
            body = self.read(address, Type.REVOKE).body
            self.tell(address, Type.REVOKED, {"lease": body["lease"], "epoch": body["epoch"]})

    def bury(self, component: str) -> None:
        """A component that the kernel has killed is gone, and its next process is there."""
        assert self.state(component) == "killing"
        self.kill(component)
        self.advance(0.0)

    def boot(self) -> None:
        """Do all operations of the whole job of the QEC path."""
        for component in (
            "pytket_compile",
            "pytket_optimise",
            "stim_adapter",
            "surface_code",
            "stim_adapter",
            "grid_mapper",
        ):
            self.work(component)

    def kill(self, component: str, status: int | None = -11, *, noticed: bool = True) -> None:
        """The process of a component dies; its connection may be seen to end first."""
        incarnation = self.kernel.supervisor.components[component].incarnation
        if noticed:
            self.feed(PeerGone(Channel.PLUGINS, plugin(component, incarnation), "disconnected"))
        self.feed(Exited(incarnation, status))

    def state(self, component: str) -> str:
        return str(self.kernel.supervisor.components[component].state)

    def of(self, kind: type[Any]) -> list[Any]:
        """Effects of a kind so far."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def events(self, topic: str) -> list[dict[str, Any]]:
        """The state of a topic when the kernel had started, if there was one, and those published since, in order."""
        first = [self.first[topic]["state"]] if topic in self.first else []
        published = [e.message.body for e in self.of(Publish) if e.topic == topic]
        return first + [body["state"] for body in published if body["seq"]]


def unpacked(image: Image) -> Image:
    """An image as it comes back from a file, without what is empty."""
    body: Image = msgpack.unpackb(msgpack.packb(image), strict_map_key=False)
    return {area: bodies for area, bodies in body.items() if bodies}


def plugin(component: str, incarnation: int) -> Address:
    return Address(f"{component}/{incarnation}", f"r{incarnation}".encode())


def received(address: Address, message: Message) -> Received:
    channel = Channel.CLIENTS if address.identity.startswith("uid:") else Channel.PLUGINS
    return Received(channel, address, tuple(encode(message)))
