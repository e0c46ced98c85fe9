# SPDX-License-Identifier: Apache-2.0
"""Which processes take part in an execution phase: the system's scheduler is to prefer them while they do.

(The priority of the online part of a splitkernel, in A. Paler's terms.)
"""

from __future__ import annotations

from qcosd.core.alarms import Alarms
from qcosd.core.effects import SetPriority
from qcosd.core.leases import Leases
from qcosd.core.outbox import Outbox
from qcosd.core.work import Lease

LINGER = 1.0
"""Seconds that a process stays online after its last lease with a stream: the next batch nearly always comes sooner."""


class Online:
    """Looks at incarnations whose leases have changed. One is online while it holds a lease with a stream, and a little longer."""

    def __init__(self, outbox: Outbox, alarms: Alarms, leases: Leases) -> None:
        self._outbox = outbox
        self._alarms = alarms
        self._leases = leases
        self._online: set[int] = set()

    def settle(self, now: float) -> None:
        """Tell the shell who began. Who has ended is looked at later."""
        for incarnation in self._leases.take_touched():
            streams = self._streams(incarnation)
            if streams and incarnation not in self._online:
                self._outbox.put(SetPriority(incarnation, True))
                self._online.add(incarnation)
            elif not streams and incarnation in self._online:
                self._alarms.set(("online", incarnation), now + LINGER)

    def check(self, incarnation: int) -> None:
        """It had nothing more to do with a stream a while ago: unless it has again, it is online no more."""
        if not self._streams(incarnation):
            self._outbox.put(SetPriority(incarnation, False))
            self._online.discard(incarnation)

    def _streams(self, incarnation: int) -> bool:
        return any(isinstance(each, Lease) and each.streams for each in self._leases.of_incarnation(incarnation))
