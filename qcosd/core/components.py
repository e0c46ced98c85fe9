# SPDX-License-Identifier: Apache-2.0
"""Components and their instances: a component is a role, an instance is a place for one of the processes that fill it."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from qcosd.core.events import Address
from qcosd.core.lifecycle import ALIVE, State
from qcosd.core.manifest import Manifest

LOG_TAIL = 20  # lines kept of what a process printed


class Role(StrEnum):
    """What an instance is for."""

    ACTIVE = "active"  # takes leases
    SPARE = "spare"  # stands ready to become active


@dataclass(eq=False, slots=True)
class Instance:
    """One of the processes of a component: the present one, if any, and those that follow it."""

    component: Component
    number: int  # among the instances of the component, from 1
    role: Role
    state: State = State.DOWN
    wanted: bool = False
    reborn: bool = (
        False  # the process ends so that another one can start, or was not heard yet in this boot: nobody pays
    )
    cause: str = ""  # why it is not ready, or does not answer; for people
    incarnation: int = 0  # of the present or the last process
    token_hash: str = ""  # SHA-256 of its token
    pid: int = 0
    started: str = ""  # when the process did, as the shell tells it
    address: Address | None = None  # while it is connected and has said HELLO
    slots: int = 1  # leases at a time
    fault: str = ""  # why the kernel put an end to the present process
    guilty: bool = False  # the kernel put an end to it for what it delivered: it pays for this death itself
    outside: bool = False  # its end came from outside: a signal of somebody else, or nobody knows
    stood: bool = False  # the present process has been ready
    excused: bool = False  # the present process had a lease in hand when it died, which pays for the death
    scheduling: str = ""  # how the system schedules the present process, where that was changed; for people
    since: float = 0.0  # when the state was entered
    spawns: int = 0
    row: int = 0  # restarts in a row, since it was last stable
    log: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_TAIL))  # what the present process printed last

    @property
    def name(self) -> str:
        """``NAME`` of the component for the first instance, ``NAME:2`` and so on for the others."""
        return self.component.name if self.number == 1 else f"{self.component.name}:{self.number}"

    @property
    def identity(self) -> str:
        """What authentication calls the present process."""
        return f"{self.component.name}/{self.incarnation}"

    @property
    def serviceable(self) -> bool:
        """Whether it is ready, or will be again without anybody's help."""
        return self.wanted and self.state not in (State.DOWN, State.FAILED)

    @property
    def takes_leases(self) -> bool:
        """Whether work may be given to it."""
        return self.role is Role.ACTIVE and self.state is State.READY

    @property
    def record(self) -> dict[str, Any]:
        """What the journal has of the present process."""
        return {
            "component": self.component.name,
            "instance": self.number,
            "token_hash": self.token_hash,
            "pid": self.pid,
            "started": self.started,
        }

    def describe(self, now: float) -> dict[str, Any]:
        """Row of PLUGIN_LISTING."""
        alive = self.state in ALIVE
        return {
            "name": self.name,
            "service": ", ".join(sorted(self.component.manifest.services)),
            "state": str(self.state),
            "role": str(self.role),
            "pid": self.pid if alive and self.pid else None,
            "incarnation": self.incarnation,
            "restarts": max(0, self.spawns - 1),
            "uptime": round(now - self.since, 3) if self.state is State.READY else None,
            "cause": self.cause or None,
        }


# The best first: where a component stands is where its best instance stands.
_STANDING = (
    State.READY, State.STARTING, State.SPAWNING, State.AWAITED, State.ASKED, State.TERMINATING, State.KILLING,
    State.BACKOFF, State.WAITING, State.FAILED, State.DOWN,
)  # fmt: skip


@dataclass(eq=False, slots=True)
class Component:
    """A role, what an operator wants of it, and the processes that fill it."""

    manifest: Manifest
    wanted: bool = True  # no operator has stopped it
    failed: str = ""  # why it is not started again until it is reset
    rolling: list[int] = field(default_factory=list)  # incarnations that are still to be restarted
    instances: list[Instance] = field(default_factory=list)
    deaths: deque[float] = field(default_factory=deque)  # those that the component pays for

    def __post_init__(self) -> None:
        for number in range(self.base):
            self.add(Role.ACTIVE if number < self.manifest.replicas else Role.SPARE)

    @property
    def name(self) -> str:
        """Name of the component, from its manifest."""
        return self.manifest.name

    @property
    def base(self) -> int:
        """Instances that exist however little there is to do."""
        return self.manifest.replicas + self.manifest.spares

    @property
    def active(self) -> list[Instance]:
        """Instances that take leases once they are ready."""
        return [instance for instance in self.instances if instance.role is Role.ACTIVE]

    @property
    def leading(self) -> Instance:
        """The instance that stands best."""
        return min(self.instances, key=lambda instance: _STANDING.index(instance.state))

    @property
    def state(self) -> State:
        """Where the component stands: the state of its leading instance."""
        return self.leading.state

    @property
    def cause(self) -> str:
        """Why it is not ready, for people."""
        return self.leading.cause

    @property
    def incarnation(self) -> int:
        """Of its leading instance."""
        return self.leading.incarnation

    @property
    def serviceable(self) -> bool:
        """Whether a process is ready, or will be again without anybody's help."""
        return any(instance.serviceable for instance in self.instances)

    def next_rolling(self) -> Instance | None:
        """The next process to restart, if no other is away; those that have ended were restarted."""
        away = any(instance.wanted and instance.state is not State.READY for instance in self.instances)
        there = {instance.incarnation: instance for instance in self.instances}
        while self.rolling and not away:
            if (incarnation := self.rolling.pop(0)) in there:
                return there[incarnation]
        return None

    def promote(self) -> list[Instance]:
        """Each active instance that is not ready and a spare that is change their roles; those that did."""
        changed: list[Instance] = []
        for absent in self.active if self.manifest.spares else ():
            spares = [i for i in self.instances if i.role is Role.SPARE and i.state is State.READY]
            if absent.state is not State.READY and spares:
                spares[0].role, absent.role = Role.ACTIVE, Role.SPARE
                changed += [spares[0], absent]
        return changed

    def add(self, role: Role, number: int = 0) -> Instance:
        """One more instance, with the lowest free number where none is given."""
        taken = {instance.number for instance in self.instances}
        number = number or next(n for n in range(1, len(taken) + 2) if n not in taken)
        self.instances.append(Instance(self, number, role))
        return self.instances[-1]

    def drop(self, instance: Instance) -> None:
        """An instance is needed no more. Where it was a spare, an active one becomes a spare: it is fewer of those that are wanted."""
        self.instances.remove(instance)
        if instance.role is Role.SPARE:
            self.active[-1].role = Role.SPARE

    def describe(self, now: float) -> list[dict[str, Any]]:
        """Rows of PLUGIN_LISTING, one for each instance."""
        return [instance.describe(now) for instance in self.instances]


def serviceable(components: Collection[Component], component: Component, seen: frozenset[str] = frozenset()) -> bool:
    """Whether a component, and what it waits for, will be ready without anybody's help. ``seen``: who waits for it."""
    if not component.serviceable or component.name in seen:
        return False
    if component.state is not State.WAITING:
        return True
    return all(
        any(
            service in other.manifest.services and serviceable(components, other, seen | {component.name})
            for other in components
        )
        for service in component.manifest.needs
    )
