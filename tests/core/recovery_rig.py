# SPDX-License-Identifier: Apache-2.0
"""What tests of recovery do with a rig: submit, start the kernel anew, and let plugins say what they hold."""

from __future__ import annotations

from typing import Any

from kernel_rig import Rig

from qcosd.core.events import Address, Survivor


def submit(rig: Rig, client: Address, **options: Any) -> str:
    return rig.submit(client, "greeting", target="greeted", **options)


def survivors(rig: Rig) -> tuple[Survivor, ...]:
    return tuple(Survivor(number, 1000 + number) for number in sorted(rig.kernel.supervisor._alive))


def reboot(rig: Rig, **start: Any) -> None:
    """A new kernel; all processes outlive the old one, and nobody has said HELLO yet."""
    rig.reboot(survivors=survivors(rig), **start)


def greet(rig: Rig, name: str, incarnation: int, *leases: dict[str, Any], **more: Any) -> None:
    held = [{"stream": None, "finished": False, **lease} for lease in leases]
    rig.feed(rig.greeting(name, incarnation, leases=held, **more))


def held(lease: dict[str, Any], **more: Any) -> dict[str, Any]:
    stream = lease["stream"]["epoch"] if lease["stream"] else None
    return {"lease": lease["lease"], "epoch": lease["epoch"], "stream": stream, **more}
