# SPDX-License-Identifier: Apache-2.0
"""What an operator is shown of the kernel beyond what it needs itself. What to make of it is for `qcosctl` to say."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qcosd.core import events
from qcosd.core.components import Component, Instance
from qcosd.core.lifecycle import ALIVE
from qcosd.core.requests import Reply
from qcosd.core.work import Lease
from qcosd.protocol import Type

if TYPE_CHECKING:
    from qcosd.core.kernel import Kernel


def status(kernel: Kernel, now: float) -> dict[str, Any]:
    """What STATUS_REPLY says besides names, states and counters."""
    earlier = kernel.start.image.get("kernel", {}).get("incarnations", {}).get("last", 0)
    space = {"free": kernel.space.free, "total": kernel.space.total} if kernel.space else {}
    return {
        "uptime": round(now + kernel.outbox.wall - kernel.start.wall, 3),
        "journal": {
            "position": kernel.outbox.position,
            "fault": kernel.journal_fault,
            "rolled_back": kernel.rolled_back,
        },
        "adopted": [i.name for i in kernel.supervisor.instances() if i.state in ALIVE and 0 < i.incarnation <= earlier],
        "space": space,
    }


def component_document(kernel: Kernel, component: Component, now: float) -> dict[str, Any]:
    """Everything there is about a component: the document of PLUGIN_DOCUMENT."""
    rule = component.manifest
    return {
        "name": component.name,
        "version": rule.version,
        "state": str(component.state),
        "wanted": component.wanted,
        "failed": component.failed or None,
        "deaths": len(component.deaths),
        "instances": [
            {
                **each.describe(now),
                "scheduling": each.scheduling or None,
                "leases": _leases(kernel, each, now),
            }
            for each in component.instances
        ],
        "services": {operation.name: operation.table() for operation in rule.operations},
        "rank": rule.rank,
        "replicas": {"least": rule.replicas, "most": rule.most_replicas, "spares": rule.spares},
        "needs": list(rule.needs),
        "rights": list(rule.rights),
        "readiness_timeout": rule.readiness_timeout,
        "restart": asdict(rule.restart),
        "stop": asdict(rule.stop),
        "limits": asdict(rule.limits),
    }


def _leases(kernel: Kernel, instance: Instance, now: float) -> list[dict[str, Any]]:
    """What a process has in hand. ``age``: seconds since it was given, or since the daemon has been here."""
    return [
        {
            "lease": lease.number,
            "epoch": lease.epoch,
            "job": lease.work.job.id,
            "op": lease.part.operation.name,
            "batch": lease.work.batch,
            "age": round(now - lease.since, 3),
            "revoked": lease.revoked,
        }
        for lease in kernel.scheduler.leases.of_incarnation(instance.incarnation)
        if isinstance(lease, Lease) and instance.incarnation
    ]


# Events


def on_space(kernel: Kernel, event: events.Space, now: float) -> None:
    """The shell has looked at the state directory."""
    kernel.space = event


def on_priority_set(kernel: Kernel, event: events.PrioritySet, now: float) -> None:
    """The shell has told the system how to schedule a process."""
    if (instance := kernel.supervisor.of_incarnation(event.incarnation)) is not None:
        instance.scheduling = event.result


def on_log_line(kernel: Kernel, event: events.LogLine, now: float) -> None:
    """A component has printed something."""
    for instance in kernel.supervisor.named(event.instance):
        instance.log.append(event.text)


def on_log_tail(kernel: Kernel, event: events.LogTail, now: float) -> None:
    """Whoever asked for the end of a log gets it."""
    for slot in kernel.requests.parked(log_subject(event.name, event.asked)):
        kernel.requests.answer(slot, Reply(Type.PLUGIN_LINES, {"lines": list(event.lines)}), now)


def log_subject(name: str, lines: int) -> str:
    """What requests for the end of a log are parked on."""
    return f"log.{name}.{lines}"
