# SPDX-License-Identifier: Apache-2.0
"""Components and their processes: order of start, readiness, restart, stop. The states are those of ``lifecycle``."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from qcosd.core.alarms import Alarms
from qcosd.core.effects import SIGKILL, SIGTERM, Signal, Spawn
from qcosd.core.entropy import Entropy
from qcosd.core.events import Address, Channel
from qcosd.core.lifecycle import ALIVE, TABLE, Action, State, Trigger
from qcosd.core.manifest import Manifest
from qcosd.core.outbox import Outbox
from qcosd.core.records import RecordType
from qcosd.protocol import Type

SPAWN_TIMEOUT = 30.0  # seconds for the shell to start a process
KILL_REPEAT = 5.0  # seconds after which SIGKILL is sent again
LOG_TAIL = 20  # lines kept of what a component printed


@dataclass(eq=False, slots=True)
class Component:
    """A component and its present process, if any."""

    manifest: Manifest
    state: State = State.DOWN
    wanted: bool = False
    reborn: bool = False  # the process has been asked to end so that another one can start
    cause: str = ""  # why it is not ready, for people
    incarnation: int = 0  # of the present or the last process
    pid: int = 0
    address: Address | None = None  # once it has said HELLO
    slots: int = 1  # leases at a time
    fault: str = ""  # why the kernel put an end to the present process
    guilty: bool = False  # the kernel put an end to it for what it delivered: it pays for this death itself
    excused: bool = False  # the present process had a lease in hand when it died, which pays for the death
    since: float = 0.0  # when the state was entered
    spawns: int = 0
    row: int = 0  # restarts in a row, since it was last stable
    deaths: deque[float] = field(default_factory=deque)  # those that the component pays for
    log: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_TAIL))

    @property
    def name(self) -> str:
        """Name of the component, from its manifest."""
        return self.manifest.name

    @property
    def identity(self) -> str:
        """What authentication calls the present process."""
        return f"{self.name}/{self.incarnation}"

    @property
    def serviceable(self) -> bool:
        """Whether it is ready, or will be again without anybody's help."""
        return self.wanted and self.state not in (State.DOWN, State.FAILED)

    def describe(self, now: float) -> dict[str, Any]:
        """Row of PLUGIN_LISTING."""
        alive = self.state in ALIVE
        return {
            "name": self.name,
            "service": ", ".join(sorted(self.manifest.services)),
            "state": str(self.state),
            "pid": self.pid if alive and self.pid else None,
            "incarnation": self.incarnation,
            "restarts": max(0, self.spawns - 1),
            "uptime": round(now - self.since, 3) if self.state is State.READY else None,
            "cause": self.cause or None,
        }


class Supervisor:
    """All components. What changed since the last look is in ``take_changed``."""

    def __init__(self, outbox: Outbox, alarms: Alarms, entropy: Entropy, manifests: tuple[Manifest, ...]) -> None:
        self._outbox = outbox
        self._alarms = alarms
        self._entropy = entropy
        self._incarnations = 0
        self._changed: dict[str, Component] = {}
        self.components = {manifest.name: Component(manifest) for manifest in manifests}
        if len(self.components) != len(manifests):
            raise ValueError("two manifests have the same name")
        self.stopping = False
        self.version = 0  # grows whenever a component may have become serviceable or ceased to be

    def start_all(self, now: float) -> None:
        """Want every component."""
        for component in self.components.values():
            self.fire(component, Trigger.START, now)

    def stop_all(self, now: float) -> None:
        """Want no component: they are stopped one after the other, those that need a service before those that provide it."""
        self.stopping = True
        for component in self.components.values():
            component.wanted = False
        self.advance(now)

    def kill_all(self, now: float) -> None:
        """SIGKILL to whatever runs."""
        for component in self.components.values():
            self.fire(component, Trigger.KILL, now)

    def advance(self, now: float) -> None:
        """Start what waits and has what it needs; when stopping, stop what nobody alive needs."""
        ready = self._services(frozenset({State.READY}))
        for component in self.components.values():
            if self.stopping:
                if not self._needed(component):
                    self.fire(component, Trigger.STOP, now)
            elif component.state is State.WAITING:
                missing = [service for service in component.manifest.needs if service not in ready]
                component.cause = f"waits for service {', '.join(missing)}" if missing else component.cause
                if not missing:
                    self.fire(component, Trigger.SATISFIED, now)

    def serviceable(self, component: Component) -> bool:
        """Whether the component, and what it waits for, will be ready without anybody's help."""
        return self._serviceable(component, frozenset())

    def _serviceable(self, component: Component, seen: frozenset[str]) -> bool:
        if not component.serviceable or component.name in seen:
            return False
        if component.state is not State.WAITING:
            return True
        return all(
            any(
                service in other.manifest.services and self._serviceable(other, seen | {component.name})
                for other in self.components.values()
            )
            for service in component.manifest.needs
        )

    @property
    def at_rest(self) -> bool:
        """Whether no process exists any more."""
        return not any(component.state in ALIVE for component in self.components.values())

    def of_identity(self, identity: str) -> Component | None:
        """The component whose present process has this identity; None for old incarnations and strangers."""
        component = self.components.get(identity.rpartition("/")[0])
        if component is None or component.state not in ALIVE or component.identity != identity:
            return None
        return component

    def active(self, name: str) -> list[Component]:
        """Processes of a component that take leases now."""
        component = self.components[name]
        return [component] if component.state is State.READY else []

    def want_more(self, name: str, now: float) -> bool:
        """Ask for one more process of a component. False where there can be none."""
        return False

    def address_of(self, incarnation: int) -> Address | None:
        """Where the process of an incarnation is connected."""
        component = self.of_incarnation(incarnation)
        return None if component is None else component.address

    def of_incarnation(self, incarnation: int) -> Component | None:
        """The component whose present process this is."""
        for component in self.components.values():
            if component.incarnation == incarnation and component.state in ALIVE:
                return component
        return None

    def spawned(self, incarnation: int, pid: int, now: float) -> None:
        """The process runs."""
        if (component := self.of_incarnation(incarnation)) is not None:
            component.pid = pid
            self._outbox.append(RecordType.INCARNATION_PID, now, incarnation=incarnation, pid=pid)
            self.fire(component, Trigger.SPAWNED, now)

    def greeted(self, component: Component, address: Address, slots: int, ready: bool, now: float) -> None:
        """The plugin has said HELLO."""
        component.address, component.slots = address, max(1, slots)
        if ready:
            self.fire(component, Trigger.READY, now)

    def gone(self, component: Component, reason: str, now: float) -> None:
        """The plugin is out of reach or has left; its process is ended."""
        component.address = None
        component.cause = reason
        self.fire(component, Trigger.GONE, now)

    def kill(self, component: Component, fault: str, now: float, *, guilty: bool = False) -> None:
        """Put an end to a process that is at fault. ``guilty``: whatever it has in hand is not to blame for that."""
        component.fault = component.cause = fault
        component.guilty = component.guilty or guilty
        self.fire(component, Trigger.KILL, now)

    def exited(self, component: Component, reason: str, now: float) -> None:
        """The process has ended."""
        self._outbox.append(RecordType.INCARNATION_END, now, incarnation=component.incarnation, reason=reason)
        reason = component.fault or reason
        trigger = self._sentence(component, now)
        if trigger is Trigger.GAVE_UP and component.manifest.restart.policy == "always":
            reason = f"died {len(component.deaths)} times within {component.manifest.restart.within:g} s; the last time: {reason}"
        component.cause = reason if trigger in (Trigger.DIED, Trigger.GAVE_UP) else ""
        component.address, component.pid = None, 0
        self.fire(component, trigger, now)

    def timeout(self, component: Component, now: float) -> None:
        """The timer of the component's state has run out."""
        if component.state is State.STARTING:
            component.fault = component.cause = f"not ready within {component.manifest.readiness_timeout:g} s"
        self.fire(component, Trigger.TIMEOUT, now)

    def fire(self, component: Component, trigger: Trigger, now: float) -> None:
        """Apply a cell of the table."""
        before, served = component.state, component.serviceable
        if trigger in (Trigger.START, Trigger.RESTART) and not self.stopping:
            # What is asked to end and wanted again at once is reborn as soon as its process has ended.
            component.reborn = trigger is Trigger.RESTART or component.reborn or not component.wanted
            component.wanted = True
        elif trigger is Trigger.STOP:
            component.wanted = component.reborn = False
        component.state, actions = TABLE[before][trigger]
        for action in actions:
            self._act(component, action, now)
        self.version += served != component.serviceable or State.WAITING in (before, component.state)
        if component.state is before and not actions:
            return
        component.since = now if component.state is not before else component.since
        if component.state is State.READY:
            component.cause = ""
        self._set_timer(component, now, entered=component.state is not before)
        self._changed[component.name] = component

    def take_changed(self) -> list[Component]:
        """Components whose state has changed since the last call."""
        changed, self._changed = list(self._changed.values()), {}
        return changed

    def _act(self, component: Component, action: Action, now: float) -> None:
        match action:
            case Action.SPAWN:
                self._spawn(component, now)
            case Action.ASK:
                if component.address is not None:
                    body = {"seconds": component.manifest.stop.ask}
                    self._outbox.send(Channel.PLUGINS, component.address, Type.STOP, body)
            case Action.TERM:
                self._outbox.put(Signal(component.incarnation, SIGTERM))
            case Action.KILL:
                self._outbox.put(Signal(component.incarnation, SIGKILL))
            case Action.FORGIVE:
                component.row = 0
            case Action.ABSOLVE:
                component.row = 0
                component.deaths.clear()

    def _spawn(self, component: Component, now: float) -> None:
        self._incarnations += 1
        component.incarnation = self._incarnations
        component.reborn, component.pid, component.address = False, 0, None
        component.fault, component.guilty, component.excused = "", False, False
        component.spawns += 1
        component.log.clear()
        name, number, identity = component.name, component.incarnation, component.identity
        after = self._outbox.append(RecordType.INCARNATION, now, component=name, incarnation=number)
        self._outbox.put(Spawn(name, number, identity, self._entropy.secret(), component.manifest, after))

    def _set_timer(self, component: Component, now: float, *, entered: bool) -> None:
        key = ("component", component.name)
        rule = component.manifest
        match component.state:
            case State.SPAWNING:
                self._alarms.set(key, now + SPAWN_TIMEOUT)
            case State.STARTING:
                self._alarms.set(key, now + rule.readiness_timeout)
            case State.READY if entered:
                self._alarms.set(key, now + rule.restart.stable_after)
            case State.BACKOFF:
                self._alarms.set(key, now + _backoff(component))
            case State.ASKED:
                self._alarms.set(key, now + rule.stop.ask)
            case State.TERMINATING:
                self._alarms.set(key, now + rule.stop.term)
            case State.KILLING:
                self._alarms.set(key, now + KILL_REPEAT)
            case _:
                self._alarms.clear(key)

    def _sentence(self, component: Component, now: float) -> Trigger:
        """Which trigger the end of this process is."""
        rule = component.manifest.restart
        if not component.wanted:
            return Trigger.ENDED
        if component.reborn:
            return Trigger.REBORN
        component.row += 1
        if component.guilty or not component.excused:
            component.deaths.append(now)
            while component.deaths[0] < now - rule.within:
                component.deaths.popleft()
        if rule.policy == "never" or len(component.deaths) >= rule.max_deaths:
            return Trigger.GAVE_UP
        return Trigger.DIED

    def _services(self, states: frozenset[State]) -> set[str]:
        return {service for c in self.components.values() if c.state in states for service in c.manifest.services}

    def _needed(self, component: Component) -> bool:
        """Whether something alive needs a service of this component."""
        return any(
            other.state in ALIVE and other is not component and component.manifest.services & set(other.manifest.needs)
            for other in self.components.values()
        )


def _backoff(component: Component) -> float:
    """Seconds until the restart: the first one at once, then doubling, up to a bound."""
    rule = component.manifest.restart
    if component.row <= 1:
        return rule.backoff_first
    return min(rule.backoff_max, rule.backoff_base * 2.0 ** min(component.row - 2, 60))
