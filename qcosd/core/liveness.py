# SPDX-License-Identifier: Apache-2.0
"""Whether a plugin that says nothing is busy or dead. An interpreter may be silent for many seconds while a library holds its
lock; what tells it from one that hangs is that it uses the CPU."""

from __future__ import annotations

import math

from qcosd.core.alarms import Alarms
from qcosd.core.components import Instance
from qcosd.core.effects import Look
from qcosd.core.lifecycle import State
from qcosd.core.outbox import Outbox
from qcosd.core.peers import Peers
from qcosd.core.supervisor import Supervisor
from qcosd.protocol import HEARTBEAT

SUSPECT = 2 * HEARTBEAT  # seconds of silence after which the use of the CPU is watched
SILENT = 3 * HEARTBEAT  # after which it is judged
BEAT = HEARTBEAT / 2  # looks begin at multiples of it: the daemon wakes up once for all plugins, not once for each
LEAST_USE = 0.01  # of a core, over the time between two looks; the threads of libzmq alone need less


class Liveness:
    """Looks at silent plugins until they speak, or are killed."""

    def __init__(self, outbox: Outbox, alarms: Alarms, peers: Peers, supervisor: Supervisor) -> None:
        self._outbox = outbox
        self._alarms = alarms
        self._peers = peers
        self._supervisor = supervisor
        self._looks: dict[Instance, tuple[float, float]] = {}  # when it was seen last, CPU seconds until then

    def watch(self, instance: Instance, now: float) -> None:
        """A plugin has said HELLO."""
        self._looks.pop(instance, None)
        self._suspect(instance, now)

    def check(self, instance: Instance, now: float) -> None:
        """The alarm of an instance: look at it if nothing came from it for a while."""
        peer = self._peers.of_incarnation(instance.incarnation)
        if peer is None:
            self._looks.pop(instance, None)
            return  # its next HELLO sets the alarm again
        if instance.state is not State.READY:
            self._suspect(instance, now)
            return
        if now < peer.heard + SUSPECT:  # not the difference: it may be rounded down, and the alarm be due again at once
            self._looks.pop(instance, None)
            if instance.cause:
                self._supervisor.explain(instance, "")
            self._suspect(instance, peer.heard)
            return
        self._outbox.put(Look(instance.incarnation))
        self._alarms.set(("silence", instance), now + HEARTBEAT)

    def seen(self, incarnation: int, cpu: float | None, now: float) -> None:
        """What a look has shown. ``cpu``: seconds that the process has used so far; None: nobody knows."""
        instance, peer = self._supervisor.of_incarnation(incarnation), self._peers.of_incarnation(incarnation)
        if instance is None or peer is None or cpu is None or instance.state is not State.READY:
            return
        silence = now - peer.heard
        at, used = self._looks.setdefault(instance, (now, cpu))
        if silence < SUSPECT or now - at < HEARTBEAT / 2:
            return
        self._looks[instance] = (now, cpu)
        if silence < SILENT:
            return
        if cpu - used >= LEAST_USE * (now - at):
            self._supervisor.explain(instance, f"busy: no heartbeat for {silence:.0f} s, using the CPU")
        else:
            self._supervisor.kill(instance, f"silent: no heartbeat for {silence:.0f} s, not using the CPU", now)

    def _suspect(self, instance: Instance, heard: float) -> None:
        self._alarms.set(("silence", instance), math.ceil((heard + SUSPECT) / BEAT) * BEAT)

    def away(self, seconds: float, now: float) -> None:
        """The daemon has heard nobody for that long: nobody's silence in that time counts, and no look from before it."""
        for peer in self._peers.all():
            peer.heard = min(now, peer.heard + seconds)
        self._looks.clear()
        self._supervisor.postpone(now)
