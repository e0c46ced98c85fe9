# SPDX-License-Identifier: Apache-2.0
"""Testing plugins in one process: the real kernel, real sessions, real worker threads, and no socket, process or clock.

    from qcos_plugins.hello.main import plugin

    with Bench((plugin, "plugins/hello/plugin.toml")) as bench:
        outcome = bench.run({"greeting": b"world"}, target="greeted")
        assert outcome.outputs["greeted"] == b"Hello, world!\\n"

Time is virtual: whenever nothing else can happen it jumps to the next deadline, so back-offs and budgets take no time.
Smaller than that: ``make_lease`` for one call of one operation, ``stream_pair`` for the two ends of a stream,
``Workers`` for a pool.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import os
import queue
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from qcosd.core import effects, events
from qcosd.core.events import Address, Channel
from qcosd.core.image import Image, fold
from qcosd.core.kernel import Kernel
from qcosd.core.manifest import Manifest
from qcosd.protocol import encode
from qcosd.sdk import calls
from qcosd.sdk.conversations import Conversations
from qcosd.sdk.host import Host, Surroundings
from qcosd.sdk.lease import Lease
from qcosd.sdk.links import MemoryLink, memory_pair
from qcosd.sdk.plugin import Plugin
from qcosd.sdk.plugin_session import FaultAsked, PluginSession, StopAsked
from qcosd.sdk.session import Limits, Session, Welcomed
from qcosd.sdk.stand_ins import Workers, make_lease, stream_pair
from qcosd.sdk.stream_session import Grant
from qcosd.shell.manifest import read_manifest

__all__ = ["Bench", "Manifest", "Outcome", "Workers", "make_lease", "read_manifest", "stream_pair"]

T = TypeVar("T")

PATIENCE = 60.0
"""Real seconds that a worker thread may take before the bench calls it stuck."""

HORIZON = 3600.0
"""Virtual seconds after which the bench says that what is waited for does not happen."""

_CLIENT = Address("uid:0", b"client")


@dataclass(frozen=True)
class Outcome:
    """A job that has ended.  ``outputs``: artifact kind -> bytes, of all that the job has made."""

    document: dict[str, Any]
    outputs: dict[str, bytes]


class _Incarnation:
    """One life of a plugin on the bench."""

    def __init__(self, bench: Bench, plugin: Plugin, spawn: effects.Spawn) -> None:
        self.address = Address(spawn.identity, spawn.identity.encode())
        self.number = spawn.incarnation
        self.component = spawn.component
        self.alive = True
        self.frozen = False
        self._bench = bench
        self._plugin = plugin
        self.session = PluginSession(plugin.hello(spawn.component, spawn.incarnation), bench.now, plugin.bus_grace)
        around = Surroundings(self._post, self.flush, lambda: bench.now, self._run, bench.link)
        self.host = Host(plugin.operations, self.session, around)
        self.session.hello(bench.now)
        self.flush()

    def _post(self, function: Callable[[], None]) -> None:
        self._bench.post(function)

    @staticmethod
    def _run(coroutine: Coroutine[Any, Any, Any], lease: Lease) -> Any:
        return asyncio.run(coroutine)

    def flush(self) -> None:
        for frames in self.session.outgoing():
            if self.alive and not self.frozen:
                self._bench.deliver(events.Received(Channel.PLUGINS, self.address, tuple(frames)))

    def receive(self, frames: list[bytes]) -> None:
        if self.alive and not self.frozen:
            self._take(self.session.handle(frames, self._bench.now))

    def elapse(self) -> None:
        if self.alive and not self.frozen:
            self._take(self.session.elapse(self._bench.now))

    def _take(self, happenings: list[Any]) -> None:
        for happening in self.host.handle(happenings):
            match happening:
                case Welcomed(body=body):
                    self._plugin.configuration = body.get("configuration", {})
                    if self._plugin.preparation is not None:
                        self._plugin.preparation()
                        self.session.ready()
                case FaultAsked(kind="crash"):
                    self.end(-effects.SIGKILL)
                case FaultAsked(kind="hang"):
                    self.frozen = True
                case FaultAsked(seconds=seconds):
                    self.host.slow = seconds
                case StopAsked(code=code):
                    self.end(code)
        self.flush()

    def end(self, status: int) -> None:
        """Like the end of a process: nothing that its threads still do can be heard."""
        if self.alive:
            self.alive = False
            self.host.revoke_all("the process has ended")
            self._bench.deliver(events.PeerGone(Channel.PLUGINS, self.address, "closed"))
            self._bench.deliver(events.Exited(self.number, status))


@dataclass
class _Store:
    """Artifacts, as the shell keeps them."""

    complete: dict[str, bytes] = field(default_factory=dict)
    partial: dict[int, bytearray] = field(default_factory=dict)

    def write(self, effect: effects.BlobWrite) -> str | None:
        held = self.partial.setdefault(effect.ticket, bytearray())
        assert len(held) == effect.offset, f"chunk at {effect.offset} after {len(held)} bytes"
        held += effect.data
        if not effect.last:
            return None
        data = bytes(self.partial.pop(effect.ticket))
        if hashlib.sha256(data).hexdigest() != effect.sha:
            return "wrong_digest"
        self.complete[effect.sha] = data
        return None


class Bench:
    """See the module.  Each of ``plugins`` is (Plugin, its plugin.toml or Manifest).

    ``kernel`` is the real one; ``now`` is virtual; ``published`` has the (topic, state) of every event; ``log`` has the
    lines of the daemon's log.
    """

    def __init__(
        self,
        *plugins: tuple[Plugin, str | os.PathLike[str] | Manifest],
        limits: events.Limits | None = None,
    ) -> None:
        self.kernel = Kernel()
        self.now = 1000.0
        self.published: list[tuple[str, dict[str, Any]]] = []
        self.log: list[str] = []
        self._limits = limits or events.Limits()
        self._plugins: dict[str, Plugin] = {}
        self._manifests: list[Manifest] = []
        for plugin, manifest in plugins:
            read = manifest if isinstance(manifest, Manifest) else read_manifest(Path(manifest))
            self._plugins[read.name] = plugin
            self._manifests.append(read)
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._living: dict[int, _Incarnation] = {}
        self._store = _Store()
        self._links: dict[tuple[int, int], dict[str, MemoryLink]] = {}
        self._session = Session({"name": "bench"})
        self._talks = Conversations(self._session)
        self._boot, self._serves = 0, False
        self._image: Image = {}
        self._position = 0
        self.exit_code: int | None = None

    def __enter__(self) -> Self:
        self._rise()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for incarnation in list(self._living.values()):
            incarnation.end(0)
        if kind is None:
            self._pump_until(lambda: not self._busy())

    # --- what a test does

    def run(self, inputs: Mapping[str, bytes], **options: Any) -> Outcome:
        """Submit a job (options: target, shots, seed, ...), wait for its end, fetch what it has made."""
        return self.wait(self.submit(inputs, **options))

    def submit(self, inputs: Mapping[str, bytes], **options: Any) -> str:
        """Submit a job; returns its id."""
        stored = {kind: self.call(calls.put(data, self._bounds, None)) for kind, data in inputs.items()}
        return self.call(calls.submit({"seed": 0, **options}, stored, None, None))

    def wait(self, job: str) -> Outcome:
        """Let things happen until the job has ended."""
        document = self.call(calls.wait(job, None))
        made = {kind: sha for kind, sha in document["artifacts"].items() if sha in self._store.complete}
        return Outcome(document, {kind: self._store.complete[sha] for kind, sha in made.items()})

    def call(self, talk: calls.Talk[T]) -> T:
        """Hold one of the conversations of ``qcosd.sdk.calls`` as a client."""
        conversation = self._talks.begin(talk, self.now)
        self._flush_client()
        self._pump_until(lambda: conversation.over)
        return conversation.result()

    def kill(self, component: str) -> None:
        """SIGKILL."""
        self._of(component).end(-effects.SIGKILL)

    def freeze(self, component: str) -> None:
        """It no longer reads nor beats; its worker threads run on and are not heard."""
        self._of(component).frozen = True

    def restart_kernel(self, away: float = 0.0) -> None:
        """SIGKILL to the kernel, and after ``away`` virtual seconds the next boot, which has the journal and nothing else.

        Plugins live on; what was on its way to the dead kernel, and what it still wanted done, is lost.
        """
        self.kernel, self._serves = Kernel(), False
        self._store.partial.clear()
        self._session.lost(self.now)
        for incarnation in self._living.values():
            incarnation.session.lost(self.now)
        self.advance(away)
        self._rise()

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Let things happen, and time pass, until ``condition()``."""
        self._pump_until(condition)

    def settle(self) -> None:
        """Let happen whatever happens without time passing."""
        while self._next(block=self._busy()):
            pass

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        self.settle()
        while (at := self._next_deadline()) is not None and at <= end:
            self._jump(at)
            self.settle()
        self.now = max(self.now, end)

    # --- inside: the shell's part

    def _rise(self) -> None:
        """The next boot of the kernel, which everybody who lives then greets."""
        self._boot += 1
        living = [one for one in self._living.values() if one.alive]
        self.deliver(events.Start(
            tuple(self._manifests), self._boot, 1, "bench", bytes([self._boot]) * 32, 1.7e9 + self.now, "memory://", self._limits,
            image=copy.deepcopy(self._image), position=self._position,
            survivors=tuple(events.Survivor(one.number, 10_000 + one.number) for one in living),
            artifacts={sha: len(data) for sha, data in self._store.complete.items()},
        ))  # fmt: skip
        for session, flush in [(one.session, one.flush) for one in living] + [(self._session, self._flush_client)]:
            session.hello(self.now)
            flush()
        self._serves = True
        self.settle()

    def post(self, function: Callable[[], None]) -> None:
        """Run it soon, in the thread of the test.  May be called from any thread."""
        self._inbox.put(function)

    def deliver(self, event: events.Event) -> None:
        """Hand an event to the kernel, soon; nothing happens if it dies before."""
        self._post_to_kernel(lambda: self._handle(event))

    def _post_to_kernel(self, function: Callable[[], None]) -> None:
        kernel = self.kernel
        self.post(lambda: function() if self.kernel is kernel else None)

    def link(self, grant: Grant) -> MemoryLink:
        """An end of a granted stream."""
        ends = self._links.get((grant.grant, grant.epoch))
        if ends is None:
            reader, writer = memory_pair()
            ends = self._links[(grant.grant, grant.epoch)] = {"bind": reader, "connect": writer}
        return ends[grant.role]

    def _of(self, component: str) -> _Incarnation:
        for incarnation in self._living.values():
            if incarnation.component == component and incarnation.alive:
                return incarnation
        raise LookupError(f"{component} does not run")

    def _bounds(self) -> Limits:
        return self._session.limits

    def _busy(self) -> bool:
        hosts = [incarnation.host for incarnation in self._living.values()]
        return any(host.busy > (0 if self._serves else host.waiting) for host in hosts)

    def _next(self, block: bool) -> bool:
        try:
            function = self._inbox.get(timeout=PATIENCE) if block else self._inbox.get_nowait()
        except queue.Empty:
            if block:
                raise AssertionError(f"a worker thread has been silent for {PATIENCE:g} s") from None
            return False
        function()
        return True

    def _pump_until(self, condition: Callable[[], bool]) -> None:
        end = self.now + HORIZON
        while not condition():
            if self._next(block=self._busy()):
                continue
            at = self._next_deadline()
            if at is None or at > end:
                raise AssertionError("this does not happen")
            self._jump(at)

    def _next_deadline(self) -> float | None:
        sessions: list[Session] = [self._session]
        sessions += [one.session for one in self._living.values() if one.alive and not one.frozen]
        times = [self.kernel.next_deadline(), *(session.next_deadline() for session in sessions)]
        return min((at for at in times if at is not None), default=None)

    def _jump(self, at: float) -> None:
        self.now = max(self.now, at)
        for incarnation in list(self._living.values()):
            incarnation.elapse()
        self._tell_client(self._session.tick(self.now))
        self.deliver(events.Tick())

    def _flush_client(self) -> None:
        for frames in self._session.outgoing():
            self.deliver(events.Received(Channel.CLIENTS, _CLIENT, tuple(frames)))

    def _tell_client(self, happenings: list[Any]) -> None:
        for happening in happenings:
            self._talks.take(happening, self.now)
        self._flush_client()

    def _handle(self, event: events.Event) -> None:
        for effect in self.kernel.handle(event, self.now):
            self._perform(effect)

    def _perform(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Send(channel, address, message):
                frames = encode(message)
                if channel is Channel.CLIENTS:
                    self._tell_client(self._session.receive(frames, self.now))
                else:
                    for incarnation in self._living.values():
                        if incarnation.address == address:
                            incarnation.receive(frames)
            case effects.Publish(topic, message):
                self.published.append((topic, message.body["state"]))
            case effects.Spawn():
                self.deliver(events.Spawned(effect.incarnation, 10_000 + effect.incarnation))
                self._post_to_kernel(lambda: self._spawn(effect))
            case effects.Signal(incarnation=number, signum=signum):
                if number in self._living:
                    self._living[number].end(0 if signum == effects.SIGTERM else -signum)
            case effects.Append(records, position):
                fold(self._image, records)
                self._position = position
                self.deliver(events.Durable(position))
            case effects.BlobWrite():
                self.deliver(events.BlobWritten(effect.ticket, effect.offset, self._store.write(effect)))
            case effects.BlobDrop(ticket):
                self._store.partial.pop(ticket, None)
            case effects.BlobRead(ticket, sha, offset, length):
                data = self._store.complete.get(sha)
                self.deliver(events.BlobData(ticket, None if data is None else data[offset : offset + length]))
            case effects.Disconnect(address=address):
                for incarnation in list(self._living.values()):
                    if incarnation.address == address:
                        incarnation.end(-effects.SIGKILL)
            case effects.Log(text, fields):
                self.log.append(" ".join([text, *(f"{key}={value}" for key, value in fields.items())]))
            case effects.Exit(code):
                self.exit_code = code

    def _spawn(self, effect: effects.Spawn) -> None:
        # One that has ended is kept while its threads still run, so that nobody takes the bench for idle.
        self._living = {number: one for number, one in self._living.items() if one.alive or one.host.busy}
        self._living[effect.incarnation] = _Incarnation(self, self._plugins[effect.component], effect)
