# SPDX-License-Identifier: Apache-2.0
"""Components and their processes: order of start, readiness, restart, stop. The states are those of ``lifecycle``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from qcosd.core.alarms import Alarms
from qcosd.core.components import Component, Instance, Role, serviceable
from qcosd.core.effects import SIGKILL, SIGTERM, Signal, Spawn
from qcosd.core.entropy import Entropy
from qcosd.core.events import Address, Channel, Limits, Survivor
from qcosd.core.image import Image
from qcosd.core.lifecycle import ALIVE, TABLE, Action, State, Trigger
from qcosd.core.manifest import Manifest
from qcosd.core.outbox import Outbox
from qcosd.core.patience import OWED, patience
from qcosd.core.records import RecordType
from qcosd.protocol import Type


class Supervisor:
    """All components. What changed since the last look is in ``take_changed``."""

    def __init__(self, outbox: Outbox, alarms: Alarms, entropy: Entropy, manifests: tuple[Manifest, ...], limits: Limits) -> None:  # fmt: skip
        self._outbox = outbox
        self._alarms = alarms
        self._entropy = entropy
        self._limits = limits
        self._alive: dict[int, Instance] = {}  # by incarnation
        self._strays: dict[int, dict[str, Any]] = {}  # incarnation -> record, of survivors that nobody wants
        self._absent: dict[str, dict[str, Any]] = {}  # what the journal has of components without a manifest
        self._changed: dict[Instance, None] = {}
        self.last = 0  # the highest incarnation so far
        self.components = {manifest.name: Component(manifest) for manifest in manifests}
        if len(self.components) != len(manifests):
            raise ValueError("two manifests have the same name")
        self.stopping = False
        self.silenced = False  # processes are not started, nor told anything: the journal cannot be written
        self.version = 0  # grows whenever a component may have become serviceable or ceased to be

    # Start and stop

    def restore(self, image: Image, survivors: Iterable[Survivor], now: float) -> None:
        """Take up what earlier boots have left. Comes before ``start_all``."""
        self.last = image.get("kernel", {}).get("incarnations", {}).get("last", 0)
        for name, body in image.get("component", {}).items():
            if (component := self.components.get(name)) is not None:
                component.wanted, component.failed = body["wanted"], body["failed"]
            else:
                self._absent[name] = dict(body)
        running = {survivor.incarnation for survivor in survivors}
        for incarnation, record in sorted((int(name), body) for name, body in image.get("incarnation", {}).items()):
            if incarnation not in running:
                reason = "ended while the daemon was away"
                self._outbox.append(RecordType.INCARNATION_END, now, incarnation=incarnation, reason=reason)
            elif (instance := self._place_of(record, now)) is not None:
                self._adopt(instance, incarnation, record, now)
            else:
                self._strays[incarnation] = dict(record)
                self._outbox.put(Signal(incarnation, SIGKILL))

    def start_all(self, now: float) -> None:
        """Start every component that no operator has stopped and that had not failed."""
        for component in self.components.values():
            for instance in component.instances if component.wanted else ():
                if component.failed and instance.state is State.DOWN:
                    instance.wanted, instance.cause = True, component.failed
                    self.fire(instance, Trigger.GAVE_UP, now)
                else:
                    self.fire(instance, Trigger.START, now)

    def stop_all(self, now: float) -> None:
        """Want no process: they are stopped one after the other, those that need a service before those that provide it."""
        self.stopping = True
        for instance in self.instances():
            instance.wanted = False
        self.advance(now)

    def suspend(self, now: float) -> None:
        """Kill whatever runs, and start nothing until the next ``start_all``."""
        for instance in self.instances():
            instance.wanted = instance.reborn = False
            self.fire(instance, Trigger.KILL if instance.state in ALIVE else Trigger.STOP, now)

    def kill_all(self, now: float) -> None:
        """SIGKILL to whatever runs."""
        for instance in self.instances():
            self.fire(instance, Trigger.KILL, now)

    def command(self, component: Component, trigger: Trigger, now: float) -> None:
        """What an operator wants of all processes of a component: START, STOP, RESTART (of those that are ready one after the other) or RESET."""
        component.wanted = trigger is not Trigger.STOP and (component.wanted or trigger is not Trigger.RESET)
        component.failed = ""
        if trigger is Trigger.RESET:
            component.deaths.clear()
        self._record(component, now)
        ready = [i.incarnation for i in component.instances if trigger is Trigger.RESTART and i.state is State.READY]
        for instance in [i for i in component.instances if i.incarnation not in ready]:
            self.fire(instance, trigger, now)
        if trigger in (Trigger.RESTART, Trigger.STOP):
            self.roll(component, ready, now)

    def roll(self, component: Component, incarnations: list[int], now: float) -> None:
        """Restart these processes, each when all others are ready."""
        component.rolling = incarnations
        if (instance := component.next_rolling()) is not None and not self.stopping:
            self.fire(instance, Trigger.RESTART, now)

    def advance(self, now: float) -> None:
        """Start what waits and has what it needs; when stopping, stop what nobody alive needs."""
        ready = {s for i in self._alive.values() if i.state is State.READY for s in i.component.manifest.services}
        for instance in self.instances():
            if self.stopping:
                if not self._needed(instance.component):
                    self.fire(instance, Trigger.STOP, now)
            elif instance.state is State.WAITING:
                missing = [service for service in instance.component.manifest.needs if service not in ready]
                instance.cause = f"waits for service {', '.join(missing)}" if missing else instance.cause
                if not missing:
                    self.fire(instance, Trigger.SATISFIED, now)

    def want_more(self, name: str, now: float) -> bool:
        """All processes of a component are busy and work waits: one more is started, up to ``max_replicas``. Whether one is coming."""
        component = self.components[name]
        rule, active = component.manifest, component.active
        if rule.most_replicas == rule.replicas or not component.wanted or component.failed or self.stopping:
            return False
        self._alarms.set(("surplus", component), now + self._limits.surplus_idle)
        if len(active) < rule.most_replicas and all(instance.takes_leases for instance in active):
            self.fire(component.add(Role.ACTIVE), Trigger.START, now)
            self.advance(now)
        return any(instance.serviceable and not instance.takes_leases for instance in component.active)

    def shrink(self, component: Component, idle: Callable[[Instance], bool], now: float) -> None:
        """Nobody has wanted more for a while: stop one process that is more than ``replicas`` and has nothing to do."""
        active = component.active
        if len(active) <= component.manifest.replicas or self.stopping:
            return
        self._alarms.set(("surplus", component), now + self._limits.surplus_idle)
        surplus = [instance for instance in active if instance.number > 1 and instance.takes_leases and idle(instance)]
        if surplus:
            self.fire(surplus[-1], Trigger.STOP, now)

    # Questions

    def instances(self) -> list[Instance]:
        """All instances of all components."""
        return [instance for component in self.components.values() for instance in component.instances]

    def named(self, name: str) -> list[Instance]:
        """The instance that goes by this name; none where there is none."""
        return [instance for instance in self.instances() if instance.name == name]

    def active(self, name: str) -> list[Instance]:
        """Instances of a component to which work may be given."""
        return [instance for instance in self.components[name].instances if instance.takes_leases]

    def address_of(self, incarnation: int) -> Address | None:
        """Where the process of an incarnation is connected; None while it is not."""
        instance = self._alive.get(incarnation)
        return None if instance is None else instance.address

    def serviceable(self, component: Component) -> bool:
        """Whether the component, and what it waits for, will be ready without anybody's help."""
        return serviceable(self.components.values(), component)

    def without_manifest(self, names: Iterable[str]) -> str:
        """Which of these components were there when the daemon was last started and are not now, for people; empty where none."""
        gone = sorted(set(names) - self.components.keys())
        return f"the manifest (plugin.toml) of {', '.join(gone)} is not here any more" if gone else ""

    @property
    def at_rest(self) -> bool:
        """Whether no process exists any more."""
        return not self._alive and not self._strays

    def of_identity(self, identity: str) -> Instance | None:
        """The instance whose present process has this identity; None for old incarnations and strangers."""
        number = identity.rpartition("/")[2]
        instance = self._alive.get(int(number)) if number.isdecimal() else None
        return instance if instance is not None and instance.identity == identity else None

    def of_incarnation(self, incarnation: int) -> Instance | None:
        """The instance whose present process this is."""
        return self._alive.get(incarnation)

    def image(self) -> Image:
        """What the journal should say: fold of all records of this registry."""
        alive = {str(incarnation): instance.record for incarnation, instance in self._alive.items()}
        strays = {str(incarnation): record for incarnation, record in self._strays.items()}
        said = {c.name: {"wanted": c.wanted, "failed": c.failed} for c in self.components.values()}
        return {
            "incarnation": alive | strays,
            "component": {n: body for n, body in said.items() if body["failed"] or not body["wanted"]} | self._absent,
            "kernel": {"incarnations": {"last": self.last}} if self.last else {},
        }

    # What happens to a process

    def spawned(self, incarnation: int, pid: int, started: str, now: float) -> None:
        """The process runs."""
        if (instance := self.of_incarnation(incarnation)) is not None:
            instance.pid, instance.started = pid, started
            self._outbox.append(RecordType.INCARNATION_PID, now, incarnation=incarnation, pid=pid, started=started)
            self.fire(instance, Trigger.SPAWNED, now)

    def greeted(self, instance: Instance, address: Address, slots: int, ready: bool, now: float) -> None:
        """The plugin has said HELLO."""
        instance.address, instance.slots = address, max(1, slots)
        if instance.state is State.AWAITED:
            instance.reborn = False
        self.fire(instance, Trigger.READY if ready else Trigger.GREETED, now)

    def cut(self, instance: Instance, reason: str, now: float) -> None:
        """The connection of a plugin has ended; its process may live and connect again."""
        instance.address, instance.cause = None, reason
        self.fire(instance, Trigger.CUT, now)

    def gone(self, instance: Instance, reason: str, now: float) -> None:
        """The plugin has left; its process is ended."""
        instance.address, instance.cause = None, reason
        self.fire(instance, Trigger.GONE, now)

    def kill(self, instance: Instance, fault: str, now: float, *, guilty: bool = False, blameless: bool = False) -> None:  # fmt: skip
        """Put an end to a process that is at fault. ``guilty``: whatever it has in hand is not to blame for that.
        ``blameless``: it is killed for reasons of somebody else, and nobody pays."""
        if instance.state in ALIVE:
            instance.fault = instance.cause = fault
            instance.guilty = instance.guilty or guilty
            instance.reborn = instance.reborn or (blameless and instance.wanted)
            self.fire(instance, Trigger.KILL, now)

    def exited(self, instance: Instance, reason: str, now: float) -> None:
        """The process has ended."""
        self._outbox.append(RecordType.INCARNATION_END, now, incarnation=instance.incarnation, reason=reason)
        del self._alive[instance.incarnation]
        component, rule = instance.component, instance.component.manifest.restart
        trigger = self._sentence(instance, now)
        if trigger is Trigger.GAVE_UP:
            if rule.policy == "always":
                reason = f"died {len(component.deaths)} times within {rule.within:g} s; the last time: {reason}"
            component.failed, component.rolling = reason, []
            self._record(component, now)
        instance.cause = reason if trigger in (Trigger.DIED, Trigger.GAVE_UP) else ""
        instance.address, instance.pid, instance.scheduling = None, 0, ""
        self.fire(instance, trigger, now)

    def stray_exited(self, incarnation: int, reason: str, now: float) -> None:
        """A survivor that nobody wanted has ended, if that is what it was."""
        if self._strays.pop(incarnation, None) is not None:
            self._outbox.append(RecordType.INCARNATION_END, now, incarnation=incarnation, reason=reason)

    def timeout(self, instance: Instance, now: float) -> None:
        """The timer of the instance's state has run out."""
        if self.silenced and instance.state in OWED and not self.stopping:
            return self._set_timer(instance, now, entered=False)
        if instance.state is State.STARTING:
            instance.fault = f"not ready within {instance.component.manifest.readiness_timeout:g} s"
        elif instance.state is State.AWAITED:
            instance.fault = f"did not connect within {patience(instance, self._limits):g} s"
        instance.cause = instance.fault or instance.cause
        self.fire(instance, Trigger.TIMEOUT, now)

    def postpone(self, now: float) -> None:
        """Nobody could have kept a promise, since the daemon itself was held up: whoever owes something gets its time anew."""
        for instance in self._alive.values():
            self._set_timer(instance, now, entered=False)

    def explain(self, instance: Instance, cause: str) -> None:
        """Say, or say no more, what there is about a process that is ready."""
        instance.cause = cause
        self._changed[instance] = None

    def fire(self, instance: Instance, trigger: Trigger, now: float) -> None:
        """Apply a cell of the table."""
        component, before, served = instance.component, instance.state, instance.component.serviceable
        if trigger in (Trigger.START, Trigger.RESTART) and not self.stopping:
            # What is asked to end and wanted again at once is reborn as soon as its process has ended.
            instance.reborn = trigger is Trigger.RESTART or instance.reborn or not instance.wanted
            instance.wanted = True
        elif trigger is Trigger.STOP:
            instance.wanted = instance.reborn = False
        instance.state, actions = TABLE[before][trigger]
        for action in actions:
            self._act(instance, action, now)
        if instance.state is not before or actions:
            instance.since = now if instance.state is not before else instance.since
            if instance.state is State.READY:
                instance.cause, instance.stood = "", True
                self.roll(component, component.rolling, now)
            self._set_timer(instance, now, entered=instance.state is not before)
            self._changed[instance] = None
            self._changed.update(dict.fromkeys(component.promote()))
            if instance.state is State.DOWN and instance.number > 1 and len(component.instances) > component.base:
                component.drop(instance)
        self.version += served != component.serviceable or State.WAITING in (before, instance.state)

    def take_changed(self) -> list[Instance]:
        """Instances of which something has changed since the last call."""
        changed, self._changed = list(self._changed), {}
        return changed

    # Inner parts

    def _place_of(self, record: dict[str, Any], now: float) -> Instance | None:
        """Where a survivor belongs; None where it is not wanted."""
        component = self.components.get(record["component"])
        if component is None or not component.wanted:
            return None
        for instance in component.instances:
            if instance.number == record["instance"]:
                return instance if instance.state is State.DOWN else None
        if len(component.active) == component.manifest.most_replicas:
            return None
        self._alarms.set(("surplus", component), now + self._limits.surplus_idle)
        return component.add(Role.ACTIVE, record["instance"])

    def _adopt(self, instance: Instance, incarnation: int, record: dict[str, Any], now: float) -> None:
        instance.incarnation, instance.spawns = incarnation, 1
        instance.wanted = instance.reborn = True
        instance.token_hash, instance.pid, instance.started = record["token_hash"], record["pid"], record["started"]
        self._alive[incarnation] = instance
        self.fire(instance, Trigger.SURVIVED, now)

    def _record(self, component: Component, now: float) -> None:
        """What an operator wants, and whether the component has failed, must survive the daemon."""
        said = {"wanted": component.wanted, "failed": component.failed}
        self._outbox.append(RecordType.COMPONENT, now, component=component.name, **said)

    def _act(self, instance: Instance, action: Action, now: float) -> None:
        match action:
            case Action.SPAWN:
                self._spawn(instance, now)
            case Action.ASK:
                if instance.address is not None:
                    body = {"seconds": instance.component.manifest.stop.ask}
                    self._outbox.send(Channel.PLUGINS, instance.address, Type.STOP, body)
            case Action.TERM:
                self._outbox.put(Signal(instance.incarnation, SIGTERM))
            case Action.KILL:
                self._outbox.put(Signal(instance.incarnation, SIGKILL))
            case Action.FORGIVE:
                instance.row = 0
            case Action.ABSOLVE:
                instance.row = 0
                instance.component.deaths.clear()

    def _spawn(self, instance: Instance, now: float) -> None:
        self.last += 1
        component, token = instance.component, self._entropy.secret()
        instance.incarnation, instance.token_hash = self.last, hashlib.sha256(token.encode()).hexdigest()
        instance.reborn, instance.pid, instance.started, instance.address = False, 0, "", None
        instance.fault, instance.guilty, instance.excused = "", False, False
        instance.outside = instance.stood = False
        instance.spawns += 1
        instance.log.clear()
        self._alive[self.last] = instance
        self._outbox.append(
            RecordType.INCARNATION, now, component=component.name, instance=instance.number, incarnation=self.last, token_hash=instance.token_hash
        )  # fmt: skip
        self._outbox.put(Spawn(component.name, instance.name, self.last, instance.identity, token, component.manifest))

    def _set_timer(self, instance: Instance, now: float, *, entered: bool) -> None:
        if instance.state is State.READY and not entered:
            return  # it has been stable since it was ready, whatever happens meanwhile
        key, seconds = ("component", instance), patience(instance, self._limits)
        if seconds is None:
            self._alarms.clear(key)
        else:
            self._alarms.set(key, now + seconds)

    def _sentence(self, instance: Instance, now: float) -> Trigger:
        """Which trigger the end of this process is."""
        rule, deaths = instance.component.manifest.restart, instance.component.deaths
        if not instance.wanted:
            return Trigger.ENDED
        if instance.reborn:
            return Trigger.REBORN
        instance.row += 1
        # Whoever is killed from outside while it stands ready with nothing in hand has done nothing to deserve it.
        if instance.guilty or not (instance.excused or (instance.outside and instance.stood)):
            deaths.append(now)
            while deaths[0] < now - rule.within:
                deaths.popleft()
        if rule.policy == "never" or len(deaths) >= rule.max_deaths:
            return Trigger.GAVE_UP
        return Trigger.DIED

    def _needed(self, component: Component) -> bool:
        """Whether something alive needs a service of this component."""
        services = component.manifest.services
        return any(
            other.component is not component and services & set(other.component.manifest.needs)
            for other in self._alive.values()
        )
