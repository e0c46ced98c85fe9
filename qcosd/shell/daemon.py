# SPDX-License-Identifier: Apache-2.0
"""Between the kernel and the world: what happens becomes an event, effects are carried out, and there is one timer.

Nothing is decided here. An exception in here or in the kernel is a bug: the daemon says so and ends, because a kernel that
went wrong in the middle of a step must not go on.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import msgpack

from qcosd import protocol
from qcosd.core import effects, events
from qcosd.core.events import Address, Channel
from qcosd.core.journal_fault import meanwhile
from qcosd.core.kernel import Kernel
from qcosd.shell.artifacts import Artifacts
from qcosd.shell.bus import Bus, Sent
from qcosd.shell.connections import Connection
from qcosd.shell.gate import Gate, destination_of
from qcosd.shell.journal import Journal, MemoryJournal
from qcosd.shell.logs import Logs
from qcosd.shell.notify import ServiceManager
from qcosd.shell.processes import Processes
from qcosd.shell.publisher import Publisher
from qcosd.shell.report import report
from qcosd.shell.survivors import identity_of
from qcosd.shell.zap import Authenticator, digest_of

PULSE = protocol.HEARTBEAT / 2
AWAY = protocol.HEARTBEAT  # seconds without a pulse after which the daemon says that it was away
OVER_QUOTA_COOLDOWN = 1.0  # seconds until a peer that did not read may connect again


@dataclass(frozen=True, slots=True)
class Devices:
    """What the daemon drives."""

    buses: dict[Channel, Bus]
    journal: Journal | MemoryJournal
    publisher: Publisher
    authenticator: Authenticator
    processes: Processes
    logs: Logs
    artifacts: Artifacts
    service_manager: ServiceManager


class Daemon:
    """Feeds the kernel and does what it says. `boot_map` is what every plugin is told besides its own identity and token.

    `finished` is called with the exit code when the kernel has ended.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        kernel: Kernel,
        boot_map: dict[str, object],
        finished: Callable[[int], None],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._kernel = kernel
        self._boot_map = boot_map
        self._finished = finished
        self._devices: Devices | None = None
        self._gate = Gate()
        self._events: deque[events.Event] = deque()
        self._secrets: dict[int, bytes] = {}  # incarnation -> boot map that is to be handed over
        self._handling = False
        self._deadline: float | None = None
        self._awake = math.inf  # when the loop was last known to turn, once it has had an event
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._journal_fault = ""
        self._stopping = False
        self._spawning: set[int] = set()  # incarnations whose Spawn may be held back
        self._exit: int | None = None

    def attach(self, devices: Devices) -> None:
        """Give the daemon its devices, whose callbacks need the daemon. Call once, before the first event."""
        self._devices = devices
        self._gate = Gate(devices.journal.position)

    def listener(self, channel: Channel) -> "ChannelListener":
        """What the ROUTER of a channel reports to."""
        return ChannelListener(self, channel)

    def handle(self, event: events.Event) -> None:
        """Let the kernel handle an event, and those that follow from its effects, and carry the effects out."""
        if self._closed:
            return
        self.pulse()
        self._events.append(event)
        if self._handling:
            return
        self._handling = True
        try:
            while self._events:
                event = self._events.popleft()
                for effect in self._kernel.handle(event, self._clock()):
                    perform, instead = partial(self._perform, effect), partial(self._instead, effect)
                    self._gate.submit(destination_of(effect), self._after(effect), perform, instead)
                if isinstance(event, events.Spawned):
                    self._hand_over(event.incarnation)
                self._stopping = self._stopping or isinstance(event, events.Stop)
                self._wait_for_nothing()
        finally:
            self._handling = False
        self._set_timer()

    def pulse(self) -> None:
        """The loop turns; call it every PULSE seconds. A daemon that was frozen, or busy with one thing, says so to the kernel before
        anything else: what has waited is not late, and no silence counts while nobody was listening."""
        now = self._clock()
        away, self._awake = now - self._awake, now
        if away > AWAY:
            self.handle(events.Away(away))

    def subscription_asked(self, connection: Connection, topic: str, on: bool) -> None:
        """A subscriber asks for, or gives up, a topic prefix."""
        self.handle(events.Subscribe(_subscriber(connection), topic, on))

    def exited(self, incarnation: int, instance: str, status: int | None) -> None:
        """A process has ended. Its last words come first: they may be the reason."""
        for line in self._attached.logs.last_words(instance):
            self.handle(events.LogLine(instance, line))
        self._attached.authenticator.revoke(identity_of(instance.partition(":")[0], incarnation))
        self.handle(events.Exited(incarnation, status))

    def poll_logs(self) -> None:
        """Tell the kernel what the components have printed."""
        for instance, line in self._attached.logs.poll():
            self.handle(events.LogLine(instance, line))

    def durable(self, position: int) -> None:
        """The journal has every record up to `position`."""
        if not self._closed:
            self._gate.durable(position)
            self.handle(events.Durable(position))

    def journal_health(self, fault: str) -> None:
        """The journal cannot be written, or (empty) can be again."""
        self._journal_fault = fault
        self._gate.health(fault)
        self.handle(events.JournalHealth(fault))

    def look(self) -> None:
        """Tell the kernel which processes have been stopped."""
        for incarnation in self._attached.processes.look():
            self.handle(events.Frozen(incarnation))

    def close(self) -> None:
        """Handle nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    @property
    def _attached(self) -> Devices:
        assert self._devices is not None, "attach comes first"
        return self._devices

    def _set_timer(self) -> None:
        deadline = self._kernel.next_deadline()
        if deadline == self._deadline and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._deadline = deadline
        if deadline is not None:
            # The loop's timers count whole milliseconds and round; never be early, it would be a turn for nothing.
            delay = math.ceil(max(0.0, deadline - self._clock()) * 1000) / 1000
            self._timer = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for bus in self._attached.buses.values():
            bus.drain_now()  # what has arrived in time is in time
        self.handle(events.Tick())

    def _after(self, effect: effects.Effect) -> int:
        match effect:
            case effects.Spawn(incarnation=incarnation):
                self._spawning.add(incarnation)
            case effects.Exit(code):
                self._exit = code
                return self._attached.journal.position  # nobody would do any more what is held back
        return effect.after

    def _instead(self, effect: effects.Effect, fault: str) -> Callable[[], None] | None:
        other = meanwhile(effect, fault) if isinstance(effect, effects.Send) else None
        return None if other is None else partial(self._perform, other)

    def _wait_for_nothing(self) -> None:
        # A daemon that is to stop does not wait for a journal that cannot be written: that might be for ever.
        if not self._stopping or not self._journal_fault:
            return
        for incarnation in self._spawning:
            self._gate.abandon(("incarnation", incarnation))
            self._events.append(events.SpawnFailed(incarnation, "the journal cannot be written"))
        self._spawning.clear()
        if self._exit is not None:
            self._finished(self._exit)

    def _hand_over(self, incarnation: int) -> None:
        # The pid of the process is recorded before it learns its secret.
        secret = self._secrets.pop(incarnation, None)
        if secret is not None:
            action = partial(self._attached.processes.hand_over, incarnation, secret)
            self._gate.submit(("secret", incarnation), self._attached.journal.position, action)  # signals do not wait

    def _perform(self, effect: effects.Effect) -> None:
        devices = self._attached
        match effect:
            case effects.Send(channel, address, message):
                sent = devices.buses[channel].send(address.routing, protocol.encode(message))
                if sent is not Sent.QUEUED:
                    self._send_failed(channel, address, sent)
            case effects.Publish(topic, message):
                devices.publisher.publish(topic, protocol.encode(message))
            case effects.Subscription(_, topic, on, granted):
                if granted:
                    devices.publisher.subscribe(topic, on)
            case effects.Spawn():
                self._spawn(effect)
            case effects.Signal(incarnation, signum):
                devices.processes.signal(incarnation, signum)
            case effects.Append(records, position):
                devices.journal.append(records, position)
            case effects.Look(incarnation):
                self._events.append(events.Vitals(incarnation, devices.processes.cpu(incarnation)))
            case effects.SetPriority(incarnation, online):
                result = devices.processes.set_priority(incarnation, online)
                if result is not None:
                    self._events.append(events.PrioritySet(incarnation, result))
            case effects.LogRead(name, lines):
                self._events.append(events.LogTail(name, lines, tuple(devices.logs.tail(name, lines))))
            case effects.BlobWrite(ticket, sha, _, offset, data, last):
                written = partial(self._blob_written, ticket, offset)
                devices.artifacts.write(ticket, sha, offset, data, last, written)
            case effects.BlobDrop(ticket):
                devices.artifacts.drop(ticket)
            case effects.BlobRead(ticket, sha, offset, length):
                devices.artifacts.read(sha, offset, length, partial(self._blob_read, ticket))
            case effects.BlobDelete(shas):
                devices.artifacts.delete(shas)
            case effects.Disconnect(channel, address, _, cooldown):
                self._disconnect(channel, address, cooldown)
            case effects.Notify(fields):
                devices.service_manager.tell(fields)
            case effects.Log(text, fields):
                report(text, fields)
            case effects.Exit(code):
                self._finished(code)

    def _spawn(self, effect: effects.Spawn) -> None:
        devices = self._attached
        self._spawning.discard(effect.incarnation)
        try:
            pid = devices.processes.spawn(effect.incarnation, effect.manifest, effect.instance)
        except OSError as error:
            self._events.append(events.SpawnFailed(effect.incarnation, str(error)))
            return
        devices.authenticator.admit(effect.identity, digest_of(effect.token.encode()))
        boot = self._boot_map | {
            "component": effect.component,
            "incarnation": effect.incarnation,
            "identity": effect.identity,
            "token": effect.token,
        }
        self._secrets[effect.incarnation] = msgpack.packb(boot)
        self._events.append(events.Spawned(effect.incarnation, pid, devices.processes.started(effect.incarnation)))

    def _send_failed(self, channel: Channel, address: Address, sent: Sent) -> None:
        if sent is Sent.FULL:
            report("disconnecting a peer that does not read", {"channel": channel, "peer": address.identity})
            self._disconnect(channel, address, OVER_QUOTA_COOLDOWN)
        self._events.append(events.PeerGone(channel, address, sent.value))

    def _disconnect(self, channel: Channel, address: Address, cooldown: float) -> None:
        devices = self._attached
        connection = devices.buses[channel].disconnect(address.routing)
        if connection is not None:
            peer = connection.identity if channel is Channel.PLUGINS else connection.peer
            devices.authenticator.refuse(peer, cooldown)

    def _blob_written(self, ticket: int, offset: int, error: str | None) -> None:
        self.handle(events.BlobWritten(ticket, offset, error))

    def _blob_read(self, ticket: int, data: bytes | None) -> None:
        self.handle(events.BlobData(ticket, data))


class ChannelListener:
    """Turns what a ROUTER reports into events."""

    def __init__(self, daemon: Daemon, channel: Channel) -> None:
        self._daemon = daemon
        self._channel = channel

    def received(self, connection: Connection, frames: list[bytes], /) -> None:
        address = Address(connection.identity, connection.routing)
        self._daemon.handle(events.Received(self._channel, address, tuple(frames)))

    def gone(self, connection: Connection, /) -> None:
        address = Address(connection.identity, connection.routing)
        self._daemon.handle(events.PeerGone(self._channel, address, "disconnected"))


def _subscriber(connection: Connection) -> Address:
    # A subscriber has no routing id. The descriptor and its inode name the connection as well.
    return Address(connection.identity, f"{connection.descriptor}:{connection.inode}".encode())
