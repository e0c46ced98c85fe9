# SPDX-License-Identifier: Apache-2.0
"""How long an instance may stay in a state before its timer fires."""

from __future__ import annotations

from qcosd.core.components import Instance
from qcosd.core.events import Limits
from qcosd.core.lifecycle import State

SPAWN_TIMEOUT = 30.0  # seconds for the shell to start a process
KILL_REPEAT = 5.0  # seconds after which SIGKILL is sent again
OWED = (
    State.SPAWNING,
    State.STARTING,
    State.ASKED,
)  # it is the kernel that owes something, which may wait for the journal


def patience(instance: Instance, limits: Limits) -> float | None:
    """Seconds until the timeout of the state that an instance is in; None where it may last for ever."""
    rule = instance.component.manifest
    match instance.state:
        case State.SPAWNING:
            return SPAWN_TIMEOUT
        case State.STARTING:
            return rule.readiness_timeout
        case State.READY:
            return rule.restart.stable_after
        case State.AWAITED:
            # A survivor of an earlier boot, which has not been heard yet in this one, has to find the daemon first.
            return limits.adopt_grace if instance.reborn else limits.reconnect_grace
        case State.BACKOFF:
            return _backoff(instance)
        case State.ASKED:
            return rule.stop.ask
        case State.TERMINATING:
            return rule.stop.term
        case State.KILLING:
            return KILL_REPEAT
        case _:
            return None


def _backoff(instance: Instance) -> float:
    """Seconds until the restart: the first one at once, then doubling, up to a bound."""
    rule = instance.component.manifest.restart
    if instance.row <= 1:
        return rule.backoff_first
    return min(rule.backoff_max, rule.backoff_base * 2.0 ** min(instance.row - 2, 60))
