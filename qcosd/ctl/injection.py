# SPDX-License-Identifier: Apache-2.0
"""Faults done to a running daemon and its plugins, and how long the system takes to recover from each.

A plugin is killed, frozen or slowed down by a message, so whoever may talk to the daemon may do it. The daemon cannot be asked to
kill itself: that takes its pid, and its uid or root. A process is named by a pidfd, so that a number that is used again is never
hit by mistake.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qcosd.sdk.client import BlockingClient
from qcosd.sdk.errors import DaemonAbsent, DaemonSilent, DeadlineExceeded, RequestFailed

DAEMON = "daemon"
KILL, FREEZE, SLOW = "kill", "freeze", "slow"
KINDS = (KILL, FREEZE, SLOW)
_LOOK = 0.005  # seconds between looks at a daemon that is not there, and at states that are not to be had as events


@dataclass(frozen=True)
class Fault:
    """What is done to whom. ``target``: a component, or ``daemon``."""

    kind: str
    target: str

    @property
    def label(self) -> str:
        """What its recovery is counted under: a kind of fault, of a plugin or of the daemon."""
        return f"{self.kind} {DAEMON if self.target == DAEMON else 'plugin'}"


@dataclass
class Struck:
    """A fault that has been done, and what must be overcome: the process, its incarnation or boot number."""

    fault: Fault
    at: float  # time.monotonic()
    before: int
    pid: int
    pidfd: int = -1
    seconds: float | None = None  # until the system had recovered; None: it has not
    trouble: str = ""  # why not, for people

    @property
    def survived(self) -> bool:
        return self.seconds is not None

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


@dataclass
class Plan:
    """Which faults, chosen by a seeded generator. ``weights``: kind -> its share."""

    seed: int
    weights: Mapping[str, float]
    generator: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.generator = random.Random(self.seed)
        if not any(self.weights.values()):
            raise ValueError("no kind of fault has a share")

    def next(self, targets: Sequence[str]) -> Fault:
        """The next fault. The daemon is never slowed down: it has no such message."""
        target = self.generator.choice(list(targets))
        kinds = [kind for kind in KINDS if self.weights.get(kind, 0) > 0 and not (kind == SLOW and target == DAEMON)]
        if not kinds:
            return Fault(KILL, target)
        return Fault(self.generator.choices(kinds, [self.weights[kind] for kind in kinds])[0], target)


class Injector:
    """Does faults to one daemon. Belongs to one thread.

    ``patience``: seconds after which a fault counts as not recovered from. ``thaw``: seconds after which a frozen daemon that nobody
    has restarted is continued. ``slowness``: seconds that a slowed plugin pauses before each operation, until it is relieved. ``revive``
    starts the daemon again after it was killed; None where somebody else does. ``directly``: signals instead of messages, for plugins
    too, which the kernel knows nothing of.
    """

    def __init__(
        self, runtime_dir: Path, *, patience: float = 30.0, thaw: float = 1.0, slowness: float = 0.2, settle: float = 15.0,
        revive: Callable[[], None] | None = None, directly: bool = False,
    ) -> None:  # fmt: skip
        self.runtime_dir = runtime_dir
        self.patience, self.thaw, self.slowness, self.settle = patience, thaw, slowness, settle
        self._revive = revive
        self._directly = directly
        self.client = BlockingClient(runtime_dir, connect_grace=patience, name="chaos")
        self.seen: dict[int, int] = {}  # pid -> pidfd of every process that has been a plugin's
        self.resets = 0  # components that had to be told to try again

    def close(self) -> None:
        self.client.close()
        for descriptor in self.seen.values():
            os.close(descriptor)
        self.seen.clear()

    def plugins(self) -> dict[str, dict[str, Any]]:
        """The components by name; their processes are remembered for ``orphans``."""
        rows = {row["name"]: row for row in self.client.plugins(self.patience)}
        for row in rows.values():
            if row["pid"] and row["pid"] not in self.seen:
                with contextlib.suppress(ProcessLookupError):
                    self.seen[row["pid"]] = os.pidfd_open(row["pid"])
        for pid, descriptor in list(self.seen.items()):
            if _dead(descriptor):
                os.close(self.seen.pop(pid))
        return rows

    def orphans(self) -> list[int]:
        """Processes that were a plugin's, still live, and are nobody's now: a plugin has ``settle`` seconds to notice and to stop."""
        until = time.monotonic() + self.settle
        while True:
            owned = {row["pid"] for row in self.plugins().values()}
            left = sorted(pid for pid in self.seen if pid not in owned)
            if not left or time.monotonic() >= until:
                return left
            time.sleep(_LOOK)

    # --- doing

    def strike(self, fault: Fault) -> Struck | None:
        """Do a fault; None where there is nothing to do it to at the moment (a component that has no process)."""
        return self._strike_daemon(fault) if fault.target == DAEMON else self._strike_plugin(fault)

    def _strike_daemon(self, fault: Fault) -> Struck:
        self.plugins()  # whoever runs now must not be forgotten by the next daemon
        status = self.client.status(self.patience)
        descriptor = os.pidfd_open(status["pid"])
        struck = Struck(fault, time.monotonic(), status["boot"], status["pid"], descriptor)
        signal.pidfd_send_signal(descriptor, signal.SIGKILL if fault.kind == KILL else signal.SIGSTOP)
        return struck

    def _strike_plugin(self, fault: Fault) -> Struck | None:
        row = self.plugins().get(fault.target)
        if row is None or row["state"] == "failed":
            self.reset(fault.target)
            return None
        if row["state"] != "ready" or row["pid"] not in self.seen:
            return None
        struck = Struck(fault, time.monotonic(), row["incarnation"], row["pid"], os.dup(self.seen[row["pid"]]))
        try:
            if fault.kind == SLOW:
                self.client.fault(fault.target, SLOW, self.slowness, timeout=self.patience)
            elif self._directly:
                signal.pidfd_send_signal(struck.pidfd, signal.SIGKILL if fault.kind == KILL else signal.SIGSTOP)
            elif fault.kind == KILL:
                self.client.plugin("kill", fault.target, timeout=self.patience)
            else:
                self.client.fault(fault.target, FREEZE, timeout=self.patience)
        except ProcessLookupError:  # it has just died of something else
            struck.close()
            return None
        except RequestFailed as error:
            struck.close()
            if error.name in ("no_reply", "no_process"):  # likewise
                return None
            raise
        return struck

    def reset(self, name: str) -> None:
        """What an operator does about a component that has died too often to be started again by itself."""
        self.client.plugin("reset", name, timeout=self.patience)
        self.resets += 1

    # --- recovering

    def await_recovery(self, struck: Struck) -> None:
        """Until the system has recovered, or ``patience`` is over: then the fault is undone as well as can be."""
        try:
            if struck.fault.target == DAEMON:
                self._await_daemon(struck)
            else:
                self._await_plugin(struck)
        except (DaemonAbsent, DaemonSilent, DeadlineExceeded) as error:
            struck.trouble = str(error)
        finally:
            if struck.fault == Fault(FREEZE, DAEMON):  # however this ends, Ctrl-C included
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(struck.pidfd, signal.SIGCONT)
            struck.close()

    def _await_daemon(self, struck: Struck) -> None:
        until = struck.at + self.patience
        if struck.fault.kind == KILL:
            select.select([struck.pidfd], [], [])
            if self._revive is not None:
                self._revive()
        elif not select.select([struck.pidfd], [], [], self.thaw)[0]:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(struck.pidfd, signal.SIGCONT)
        elif self._revive is not None:  # somebody has put an end to it, and nobody but us starts another
            self._revive()
        died = _dead(struck.pidfd)
        while time.monotonic() < until:
            boot = self._boot(until)
            died = died or _dead(struck.pidfd)  # a watchdog may end it after it was continued
            if boot > struck.before or (boot == struck.before and not died):
                struck.seconds = time.monotonic() - struck.at
                return
        struck.trouble = f"no daemon serves with a boot number above {struck.before}"

    def _boot(self, until: float) -> int:
        """Boot number of the daemon that answers; 0 if none does yet. A fresh connection waits for nothing of the last one."""
        grace = max(_LOOK, min(0.5, until - time.monotonic()))
        try:
            with BlockingClient(self.runtime_dir, connect_grace=grace, name="chaos") as client:
                return int(client.status(grace)["boot"])
        except (DaemonAbsent, DaemonSilent, DeadlineExceeded):
            time.sleep(_LOOK)
            return 0

    def _await_plugin(self, struck: Struck) -> None:
        fault = struck.fault
        if fault.kind == SLOW:
            self._relieve(struck)
            return
        topic = f"plugin.{fault.target}"
        for event in self.client.events([topic], timeout=max(0.0, struck.at + self.patience - time.monotonic())):
            state = event.state
            if event.topic != topic:  # a subscription is to a prefix
                continue
            if state["state"] == "ready" and state["incarnation"] > struck.before:
                struck.seconds = time.monotonic() - struck.at
                return
            if state["state"] == "failed":  # it would be missing from the rest of the campaign
                struck.trouble = f"given up: {state['cause']}"
                self.reset(fault.target)
                return
        struck.trouble = f"{fault.target}: not ready again, its process is that of before"
        if fault.kind == FREEZE:  # or it would be frozen for ever
            with contextlib.suppress(RequestFailed):
                self.client.plugin("kill", fault.target, timeout=self.patience)

    def _relieve(self, struck: Struck) -> None:
        """A slow plugin is nothing to recover from: it must only be there still, or have been replaced."""
        select.select([struck.pidfd], [], [], self.thaw)
        struck.at = time.monotonic()  # how long it was left slow says nothing of the system
        name = struck.fault.target
        with contextlib.suppress(RequestFailed):
            self.client.fault(name, SLOW, 0.0, timeout=self.patience)
        until = struck.at + self.patience
        while time.monotonic() < until:
            if self.plugins()[name]["state"] == "ready":
                struck.seconds = time.monotonic() - struck.at
                return
            time.sleep(_LOOK)
        struck.trouble = f"{name}: not ready"


def restarts_by_itself(pid: int) -> bool:
    """Whether systemd has started this process as the main process of a unit: systemd says so in its environment."""
    with contextlib.suppress(OSError):
        return f"SYSTEMD_EXEC_PID={pid}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


def may_signal(pid: int) -> bool:
    """Whether this user may signal the process."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _dead(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])
