# SPDX-License-Identifier: Apache-2.0
"""Plugins that outlived the daemon: found from what the journal says of their incarnations, and let in again."""

from collections.abc import Mapping
from typing import Any

from qcosd.core.events import Survivor
from qcosd.shell.processes import Processes
from qcosd.shell.report import report
from qcosd.shell.strays import Strays
from qcosd.shell.zap import Authenticator


def identity_of(component: str, incarnation: int) -> str:
    """The PLAIN user name of an incarnation."""
    return f"{component}/{incarnation}"


def adopt_survivors(
    recorded: Mapping[str, Mapping[str, Any]], processes: Processes, authenticator: Authenticator, strays: Strays
) -> tuple[Survivor, ...]:
    """Watch and admit those of the recorded incarnations that still run; kill what is left of all others.

    `recorded`: the area "incarnation" of the journal's image, number -> {component, instance, token_hash, pid, started}. To be called
    before the plugins' socket is bound: a peer whose token is refused does not try again.
    """
    survivors = []
    for number, body in sorted(recorded.items(), key=lambda item: int(item[0])):
        incarnation, component = int(number), str(body["component"])
        instance = component if body["instance"] == 1 else f"{component}:{body['instance']}"
        # Without a pid it never got its secret. It has read end of file and exited, or is a stray.
        pid = body.get("pid")
        if pid and processes.adopt(incarnation, instance, int(pid), str(body.get("started", ""))):
            authenticator.admit(identity_of(component, incarnation), str(body["token_hash"]))
            survivors.append(Survivor(incarnation, int(pid)))
    killed = strays.kill_others({survivor.incarnation for survivor in survivors})
    if killed:
        report("killed processes that an earlier life has left", {"pids": killed})
    return tuple(survivors)
