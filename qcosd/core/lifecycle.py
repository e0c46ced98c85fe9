# SPDX-License-Identifier: Apache-2.0
"""The life of an instance of a component: states x triggers, every cell written down.

Rule 1: whatever moves an instance from state to state is in this table and nowhere else.
Rule 2: the table knows nothing of the reasons. Which trigger the end of a process is (DIED, GAVE_UP, REBORN, ENDED) is decided by
``supervisor``, from what is wanted of the instance and the tally of deaths of its component.

A cell is the next state and the actions to take on the way. `x` is the empty cell: nothing happens.
"""

from __future__ import annotations

from enum import Enum, StrEnum


class State(StrEnum):
    """Where an instance is in its life."""

    DOWN = "down"  # not wanted
    WAITING = "waiting"  # for the services that it needs
    SPAWNING = "spawning"  # the shell is starting the process
    STARTING = "starting"  # the process runs and has not said that it is ready
    READY = "ready"
    AWAITED = "awaited"  # the process runs and is not connected: it outlived the daemon, or its connection ended
    BACKOFF = "backoff"  # died; waits for its restart
    ASKED = "asked"  # STOP has been sent
    TERMINATING = "terminating"  # SIGTERM has been sent
    KILLING = "killing"  # SIGKILL has been sent
    FAILED = "failed"  # died too often; stays down until it is reset


class Trigger(StrEnum):
    """What can happen to an instance."""

    START = "start"  # it is wanted
    STOP = "stop"  # it is wanted no more
    RESTART = "restart"
    KILL = "kill"
    RESET = "reset"
    SATISFIED = "satisfied"  # all services that it needs are ready
    SURVIVED = "survived"  # its process of an earlier boot still runs
    SPAWNED = "spawned"
    GREETED = "greeted"  # it said HELLO and is not ready yet
    READY = "ready"
    CUT = "cut"  # its connection ended
    GONE = "gone"  # it said that it leaves
    TIMEOUT = "timeout"  # the timer of the state
    DIED = "died"  # the process ended and is to be started again, after a while
    REBORN = "reborn"  # the process ended as it was asked to, and is to be started again
    GAVE_UP = "gave up"  # the process ended and is not to be started again; or that was so before the daemon started
    ENDED = "ended"  # the process ended and nobody wants it


class Action(Enum):
    """What to do on the way. Timers are set on entering a state and cleared on leaving it."""

    SPAWN = "start the process"
    ASK = "send STOP"
    TERM = "send SIGTERM"
    KILL = "send SIGKILL"
    FORGIVE = "forget restarts in a row"
    ABSOLVE = "forget all deaths"


Cell = tuple[State, tuple[Action, ...]]

_S, _A = State, Action
_DOWN: Cell = (_S.DOWN, ())
_WAIT: Cell = (_S.WAITING, ())
_SPAWN: Cell = (_S.SPAWNING, (_A.SPAWN,))
_ASK: Cell = (_S.ASKED, (_A.ASK,))
_TERM: Cell = (_S.TERMINATING, (_A.TERM,))
_KILL: Cell = (_S.KILLING, (_A.KILL,))
_AGAIN: Cell = (_S.WAITING, (_A.ABSOLVE,))
_BACKOFF: Cell = (_S.BACKOFF, ())
_FAILED: Cell = (_S.FAILED, ())
_AWAIT: Cell = (_S.AWAITED, ())
_START: Cell = (_S.STARTING, ())
_READY: Cell = (_S.READY, ())
_CALM: Cell = (_S.READY, (_A.FORGIVE,))
x: None = None

# columns in the order of Trigger:
#                  START      STOP       RESTART    KILL       RESET      SATISF.    SURVIVED   SPAWNED    GREETED    READY      CUT        GONE       TIMEOUT    DIED       REBORN     GAVE_UP    ENDED
_ROWS: dict[State, tuple[Cell | None, ...]] = {
    _S.DOWN:        (_WAIT,     x,         _WAIT,     x,         x,         x,         _AWAIT,    x,         x,         x,         x,         x,         x,         x,         x,         _FAILED,   x),
    _S.WAITING:     (x,         _DOWN,     x,         x,         x,         _SPAWN,    x,         x,         x,         x,         x,         x,         x,         x,         x,         x,         x),
    _S.SPAWNING:    (x,         _ASK,      _ASK,      _KILL,     x,         x,         x,         _START,    x,         x,         x,         x,         _KILL,     _BACKOFF,  _WAIT,     _FAILED,   _DOWN),
    _S.STARTING:    (x,         _TERM,     _TERM,     _KILL,     x,         x,         x,         x,         x,         _READY,    x,         _TERM,     _KILL,     _BACKOFF,  _WAIT,     _FAILED,   _DOWN),
    _S.READY:       (x,         _ASK,      _ASK,      _KILL,     x,         x,         x,         x,         x,         x,         _AWAIT,    _TERM,     _CALM,     _BACKOFF,  _WAIT,     _FAILED,   _DOWN),
    _S.AWAITED:     (x,         _TERM,     _TERM,     _KILL,     x,         x,         x,         x,         _START,    _READY,    x,         x,         _KILL,     _BACKOFF,  _WAIT,     _FAILED,   _DOWN),
    _S.BACKOFF:     (x,         _DOWN,     _AGAIN,    x,         _AGAIN,    x,         x,         x,         x,         x,         x,         x,         _WAIT,     x,         x,         x,         x),
    _S.ASKED:       (x,         x,         x,         _KILL,     x,         x,         x,         _TERM,     x,         x,         x,         x,         _TERM,     _BACKOFF,  _WAIT,     _FAILED,   _DOWN),
    _S.TERMINATING: (x,         x,         x,         _KILL,     x,         x,         x,         _TERM,     x,         x,         x,         x,         _KILL,     _BACKOFF,  _WAIT,     _FAILED,   _DOWN),
    _S.KILLING:     (x,         x,         x,         _KILL,     x,         x,         x,         _KILL,     x,         x,         x,         x,         _KILL,     _BACKOFF,  _WAIT,     _FAILED,   _DOWN),
    _S.FAILED:      (_AGAIN,    _DOWN,     _AGAIN,    x,         _AGAIN,    x,         x,         x,         x,         x,         x,         x,         x,         x,         x,         x,         x),
}  # fmt: skip

TABLE: dict[State, dict[Trigger, Cell]] = {
    state: {trigger: cell or (state, ()) for trigger, cell in zip(Trigger, row, strict=True)}
    for state, row in _ROWS.items()
}

ALIVE = frozenset(
    {_S.SPAWNING, _S.STARTING, _S.READY, _S.AWAITED, _S.ASKED, _S.TERMINATING, _S.KILLING}
)  # a process may exist
EXITS = frozenset({Trigger.DIED, Trigger.REBORN, Trigger.GAVE_UP, Trigger.ENDED})
