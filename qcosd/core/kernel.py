# SPDX-License-Identifier: Apache-2.0
"""The kernel: a struct of registries. ``handle`` takes one event and returns the effects that it has.

It reads no clock, opens nothing and draws no random number: the same events give the same effects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from qcosd.core import events, inspection, journal_fault, recovery
from qcosd.core.alarms import Alarms
from qcosd.core.blobs import Blobs
from qcosd.core.calls import HANDLERS, Call
from qcosd.core.collector import Collector
from qcosd.core.components import Component, Instance
from qcosd.core.effects import Disconnect, Effect, Exit, Log, Notify
from qcosd.core.entropy import Entropy
from qcosd.core.events import Channel, Event, Limits
from qcosd.core.jobs import Jobs
from qcosd.core.lifecycle import State
from qcosd.core.liveness import Liveness
from qcosd.core.online import Online
from qcosd.core.outbox import Outbox
from qcosd.core.peers import Peer, Peers
from qcosd.core.quota import Quota
from qcosd.core.records import RecordType
from qcosd.core.reports import Reports
from qcosd.core.requests import Refused, Reply, Requests
from qcosd.core.scheduler import Scheduler
from qcosd.core.session import Session
from qcosd.core.supervisor import Supervisor
from qcosd.core.topics import Topics
from qcosd.protocol import SPECS, Message, ProtocolError, Side, Type, decode, error_table

SETTLED = frozenset({State.READY, State.FAILED, State.DOWN})


class Kernel:
    """Registries, and the order in which an event goes through them."""

    def __init__(self) -> None:
        self._assemble(events.Start((), 0, 0, "", bytes(32), 0.0, ""))

    def _assemble(self, start: events.Start) -> None:
        self.start = start
        self.limits: Limits = start.limits
        self.outbox = Outbox()
        self.outbox.boot = start.boot
        self.outbox.position = start.position
        self.alarms = Alarms()
        self.counters: Counter[str] = Counter()
        self.entropy = Entropy(start.entropy)
        self.peers = Peers()
        self.quota = Quota(start.limits)
        self.topics = Topics(self.outbox, start.limits.subscriptions)
        self.requests = Requests(self.outbox, self.alarms, self.quota, start.limits)
        self.blobs = Blobs(self.outbox, self.requests, self.quota)
        self.supervisor = Supervisor(self.outbox, self.alarms, self.entropy, start.manifests, start.limits)
        self.liveness = Liveness(self.outbox, self.alarms, self.peers, self.supervisor)
        self.jobs = Jobs(self.outbox, self.topics, self.alarms, start.limits)
        self.scheduler = Scheduler(
            self.outbox, self.alarms, self.entropy, self.jobs, self.supervisor, self.blobs, start.limits, start.streams
        )  # fmt: skip
        self.online = Online(self.outbox, self.alarms, self.scheduler.leases)
        self.reports = Reports(
            self.alarms, self.jobs, self.supervisor, self.blobs, self.scheduler, start.limits.attempts
        )  # fmt: skip
        self.session = Session(self.outbox, self.peers, self.supervisor, self.liveness, self.reports, start)
        self.collector = Collector(self.outbox, self.alarms, self.blobs, self.jobs, start.limits)
        self.rolled_back = ""  # what the journal has lost, as long as nobody has accepted that
        self.journal_fault = ""
        self.space: events.Space | None = None  # of the state directory
        self.draining = False
        self._exiting = False
        self._settled = True  # no component is on its way, for the first time or again

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Everything that is to be done because of an event. ``now``: monotonic seconds."""
        EVENTS[type(event)](self, event, now)
        self._settle(now)
        self.topics.quiet = False
        return self.outbox.take()

    def next_deadline(self) -> float | None:
        """When a Tick is due, unless another event changes that."""
        return self.alarms.next()

    @property
    def state(self) -> str:
        """State of the kernel, as STATUS gives it."""
        if self.supervisor.stopping:
            return "stopping"
        if self.draining:
            return "draining"
        if self.rolled_back or self.journal_fault:
            return "degraded"
        if any(component.failed for component in self.supervisor.components.values()):
            return "degraded"
        return "ready" if self._settled else "starting"

    def stop(self, reason: str, now: float) -> None:
        """Stop all components in order and then the daemon; asked a second time, kill them."""
        if self.supervisor.stopping:
            self.supervisor.kill_all(now)
            return
        self.log("stopping", reason=reason)
        self.outbox.put(Notify({"STOPPING": "1", "STATUS": f"stopping: {reason}"}))
        self.supervisor.stop_all(now)
        self.requests.refuse_all(Refused("shutting_down"))

    def goodbye(self, peer: Peer, reason: str, now: float, *, blamed: bool) -> None:
        """A peer leaves of its own accord: whatever it holds is given back, and to blame or not; whoever waits for it is answered."""
        instance = self._part(peer)
        if instance is not None:
            self._lose(instance, reason, now, blamed=blamed)
            self.supervisor.gone(instance, reason, now)

    def log(self, text: str, **fields: Any) -> None:
        """A line of the daemon's log."""
        self.outbox.put(Log(text, fields))

    # Events

    def _on_start(self, event: events.Start, now: float) -> None:
        self._assemble(event)
        self.outbox.wall, self.outbox.position = event.wall - now, event.position
        self.outbox.append(RecordType.BOOT, now, boot=event.boot, pid=event.pid, version=event.version)
        recovery.restore(self, event, now)
        if event.rolled_back:
            recovery.fence(self, event.rolled_back, now)
        else:
            recovery.begin(self, now)
        self.outbox.put(Notify({"READY": "1", "STATUS": "starting plugins"}))

    def _on_stop(self, event: events.Stop, now: float) -> None:
        self.stop(event.reason, now)

    def _on_received(self, event: events.Received, now: float) -> None:
        side = Side.PLUGIN if event.channel is Channel.PLUGINS else Side.CLIENT
        if side is Side.PLUGIN and self.supervisor.of_identity(event.address.identity) is None:
            self.counters["late"] += 1  # an old incarnation: nothing that it says counts
            return
        try:
            message = decode(event.frames, side)
        except ProtocolError as breach:
            self._breach(event, breach, now)
            return
        peer = self.peers.at(event.address)
        if message.type is Type.HELLO:
            self._hello(event, message, peer, now)
        elif peer is None or message.boot not in (0, self.start.boot):
            self.counters["unregistered"] += 1
            self.outbox.send(event.channel, event.address, Type.REHELLO, {"boot": self.start.boot}, id=message.id)
        else:
            peer.heard = now
            self._call(peer, message, now)

    def _hello(self, event: events.Received, message: Message, peer: Peer | None, now: float) -> None:
        instance = self.supervisor.of_identity(event.address.identity) if event.channel is Channel.PLUGINS else None
        if instance is not None and (old := self.peers.of_incarnation(instance.incarnation)) not in (None, peer):
            # Nobody else has its token, and the end of a connection may be seen late.
            self._cut(old, "connected anew", now)
        try:
            loss = self.session.hello(event.channel, event.address, peer, message, now)
        except ProtocolError as breach:
            self._breach(event, breach, now)
            return
        if loss:
            recovery.fence(self, loss, now)

    def _call(self, peer: Peer, message: Message, now: float) -> None:
        """Hand a message to its handler; a request gets its one answer, now or when its slot is."""
        slot = None
        try:
            if SPECS[message.type].replies:
                slot = self.requests.open(peer, message, now)
                if slot is None:
                    breach = ProtocolError("bad_message", f"request {message.id} is still open", message.id)
                    self._disconnect(peer.channel, peer, breach, now)
                    return
                if self.requests.recall(slot, message, now):
                    return
            journal_fault.refuse_changes(self, message, peer.side is Side.CLIENT)
            reply = HANDLERS[message.type](self, Call(peer, message, slot, now))
        except Refused as refused:
            self.counters["late" if refused.name == "late" else "refused"] += 1
            if slot is not None:
                self.requests.refuse(slot, refused)
            elif message.id:
                self.outbox.error(peer.channel, peer.address, message.id, refused.name, refused.text, refused.details)
            return
        if slot is not None and reply is not None:
            self.requests.answer(slot, reply, now)

    def _breach(self, event: events.Received, breach: ProtocolError, now: float) -> None:
        """Frames that are no message of a known kind."""
        if breach.name in ("unknown_type", "not_allowed"):
            self.counters["refused"] += 1
            self.outbox.error(event.channel, event.address, breach.id, breach.name, str(breach))
            return
        self.counters["malformed"] += 1
        peer = self.peers.at(event.address) or Peer(event.channel, event.address, "", now)
        self._disconnect(event.channel, peer, breach, now)

    def _disconnect(self, channel: Channel, peer: Peer, breach: ProtocolError, now: float) -> None:
        """Close the connection of a peer that broke the protocol. A plugin pays with its process."""
        self.log("disconnecting a peer", peer=peer.address.identity, reason=str(breach))
        self.outbox.send(
            channel, peer.address, Type.GOODBYE, {"error": error_table(breach.name, str(breach))}, id=breach.id
        )
        self.outbox.put(Disconnect(channel, peer.address, str(breach)))
        instance = self.supervisor.of_identity(peer.address.identity) if channel is Channel.PLUGINS else None
        self._part(peer)
        if instance is not None:
            self._lose(instance, str(breach), now)
            self.supervisor.kill(instance, f"broke the protocol: {breach}", now)

    def _on_peer_gone(self, event: events.PeerGone, now: float) -> None:
        if (peer := self.peers.at(event.address)) is not None:
            self._cut(peer, event.reason, now)

    def _cut(self, peer: Peer, reason: str, now: float) -> None:
        """A connection has ended. A plugin keeps its leases: its process may live and connect again."""
        instance = self._part(peer)
        if instance is not None:
            self.supervisor.cut(instance, reason, now)

    def _part(self, peer: Peer) -> Instance | None:
        """Undo everything that a connection has here; the instance whose it was. Whoever waits for the peer is answered."""
        self.peers.remove(peer)
        self.requests.goodbye(peer)
        self.blobs.goodbye(peer.address)
        return self.supervisor.of_incarnation(peer.incarnation) if peer.incarnation else None

    def _lose(self, instance: Instance, reason: str, now: float, *, blamed: bool = True) -> None:
        """A process has ended or is about to: its leases go back."""
        instance.excused |= self.reports.lost(instance, reason, now, blamed=blamed)

    def _on_subscribe(self, event: events.Subscribe, now: float) -> None:
        if not event.on:
            self.topics.unsubscribe(event.address, event.topic)
        elif not self.topics.subscribe(event.address, event.topic):
            self.counters["refused"] += 1

    def _on_spawned(self, event: events.Spawned, now: float) -> None:
        self.supervisor.spawned(event.incarnation, event.pid, event.started, now)

    def _on_spawn_failed(self, event: events.SpawnFailed, now: float) -> None:
        self._ended(event.incarnation, f"could not be started: {event.reason}", now)

    def _on_exited(self, event: events.Exited, now: float) -> None:
        if event.status is None:
            reason = "ended with an unknown status"
        elif event.status < 0:
            reason = f"killed by signal {-event.status}"
        else:
            reason = f"exited with status {event.status}"
        instance = self.supervisor.of_incarnation(event.incarnation)
        if instance is not None and not instance.fault and event.status in events.FROM_OUTSIDE:
            instance.outside = True
        self._ended(event.incarnation, reason, now)

    def _ended(self, incarnation: int, reason: str, now: float) -> None:
        instance = self.supervisor.of_incarnation(incarnation)
        self.scheduler.leases.forget(incarnation)
        if instance is None:
            self.supervisor.stray_exited(incarnation, reason, now)
            return
        if (peer := self.peers.of_incarnation(incarnation)) is not None:
            self._part(peer)
        reason = instance.fault or reason
        self._lose(instance, reason, now)
        self.supervisor.exited(instance, reason, now)
        if instance.wanted:
            state = str(instance.state)
            self.log("a plugin ended", plugin=instance.name, incarnation=incarnation, reason=reason, state=state)

    def _on_durable(self, event: events.Durable, now: float) -> None:
        """The shell itself holds effects back until their position is durable."""

    def _on_frozen(self, event: events.Frozen, now: float) -> None:
        if (instance := self.supervisor.of_incarnation(event.incarnation)) is not None:
            instance.outside = True
            self.supervisor.kill(instance, "frozen (stopped by a signal)", now)

    def _on_vitals(self, event: events.Vitals, now: float) -> None:
        self.liveness.seen(event.incarnation, event.cpu, now)

    def _on_blob_written(self, event: events.BlobWritten, now: float) -> None:
        self.blobs.written(event.ticket, event.offset, event.error, now)

    def _on_blob_data(self, event: events.BlobData, now: float) -> None:
        self.blobs.read(event.ticket, event.data, now)

    def _on_tick(self, event: events.Tick, now: float) -> None:
        while (key := self.alarms.take_due(now)) is not None:
            self._ring(key[0], key[1], now)

    def _ring(self, area: str, subject: Any, now: float) -> None:
        """An alarm of some registry."""
        match area:
            case "slot":
                self.requests.expire(subject)
            case "component":
                self.supervisor.timeout(subject, now)
            case "silence":
                self.liveness.check(subject, now)
            case "surplus":
                self.supervisor.shrink(subject, lambda i: not self.scheduler.leases.load(i.incarnation), now)
            case "lease":
                if (instance := self.reports.expire(subject, now)) is not None:
                    self.supervisor.kill(instance, "did not give up a revoked lease", now)
            case "job":
                self.scheduler.overdue(subject, now)
            case "online":
                self.online.check(subject)
            case "retry":
                self.scheduler.stir()
            case "collect":
                self.collector.collect(now, not self.journal_fault)

    # After every event

    def _settle(self, now: float) -> None:
        """Let what has changed have its consequences."""
        self.supervisor.advance(now)
        if changed := self.supervisor.take_changed():
            self.scheduler.stir()
            self._settled = all(component.state in SETTLED for component in self.supervisor.components.values())
        if not self.supervisor.stopping and not self.rolled_back:
            self.scheduler.fill(now)
        self.online.settle(now)
        for instance in changed:
            row = instance.describe(now)
            del row["uptime"]  # it changes without an event
            self.topics.publish(f"plugin.{instance.name}", row)
            self.answer_component(instance.component, now)
        for job in self.jobs.take_ended():
            for slot in self.requests.parked(job.topic):
                self.requests.answer(slot, Reply(Type.JOB_DOCUMENT, {"document": self.jobs.document(job, now)}), now)
        if names := self.jobs.take_forgotten():
            self.requests.forget_jobs(names, now)
        self._announce()
        if self.supervisor.stopping and self.supervisor.at_rest and not self._exiting:
            self._exiting = True
            for peer in self.peers.all():
                self.outbox.send(peer.channel, peer.address, Type.GOODBYE, {"reason": "the daemon stops"})
            self.log("stopped")
            self.outbox.put(Exit(0))

    def answer_component(self, component: Component, now: float) -> None:
        """Answer who waits for a component to be up or down."""
        states = {instance.state for instance in component.instances}
        if not states <= SETTLED:
            return
        for slot in self.requests.parked(f"plugin.{component.name}"):
            up = State.READY in states and State.FAILED not in states
            if up if slot.want == "up" else states == {State.DOWN}:
                self.requests.answer(slot, Reply(Type.ACK), now)
            elif State.FAILED in states:
                self.requests.refuse(slot, Refused("no_provider", f"{component.name} has failed: {component.failed}"))
            elif states == {State.DOWN}:
                self.requests.refuse(slot, Refused("no_reply", f"{component.name} was stopped"))

    def _announce(self) -> None:
        """Publish the state of the kernel where it has changed."""
        if self.start.boot and self.topics.publish("kernel", {"state": self.state, "boot": self.start.boot}):
            self.outbox.put(Notify({"STATUS": self.state}))


EVENTS: dict[type[Event], Callable[[Kernel, Any, float], None]] = {
    events.Start: Kernel._on_start,
    events.Stop: Kernel._on_stop,
    events.Received: Kernel._on_received,
    events.PeerGone: Kernel._on_peer_gone,
    events.Subscribe: Kernel._on_subscribe,
    events.Spawned: Kernel._on_spawned,
    events.SpawnFailed: Kernel._on_spawn_failed,
    events.Exited: Kernel._on_exited,
    events.Frozen: Kernel._on_frozen,
    events.Vitals: Kernel._on_vitals,
    events.PrioritySet: inspection.on_priority_set,
    events.LogLine: inspection.on_log_line,
    events.Durable: Kernel._on_durable,
    events.JournalHealth: journal_fault.on_health,
    events.Space: inspection.on_space,
    events.LogTail: inspection.on_log_tail,
    events.BlobWritten: Kernel._on_blob_written,
    events.BlobData: Kernel._on_blob_data,
    events.Away: recovery.on_away,
    events.Tick: Kernel._on_tick,
}
