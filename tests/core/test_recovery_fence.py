# SPDX-License-Identifier: Apache-2.0
"""Journals that have lost something: everything is fenced until an operator accepts the loss."""

from __future__ import annotations

import pytest
from kernel_rig import HELLO, Rig, unpacked
from recovery_rig import greet, held, reboot, submit

from qcosd.core import recovery
from qcosd.core.effects import Spawn
from qcosd.core.events import Exited, Tick
from qcosd.core.recovery import image_of
from qcosd.protocol import Type


def fenced(rig: Rig) -> bool:
    """Nothing runs, nothing is started, nothing new is taken."""
    before = len(rig.of(Spawn))
    for instance in rig.kernel.supervisor.instances():
        if instance.state == "killing":
            rig.feed(Exited(instance.incarnation, -9))
    rig.advance(100.0)
    client = rig.client()
    body = {"inputs": {"greeting": rig.put(client, b"program")}, "options": {"target": "greeted"}}
    assert rig.refusal(client, Type.JOB_SUBMIT, body) == "rolled_back"
    for kind in (Type.PLUGIN_START, Type.PLUGIN_RESTART, Type.PLUGIN_RESET):
        assert rig.refusal(client, kind, {"plugin": "hello"}) == "rolled_back"
    assert rig.ask(client, Type.STATUS).body["state"] == "degraded"
    return rig.state("hello") == "down" and len(rig.of(Spawn)) == before


@pytest.mark.parametrize("how", ["shell", "boot", "lease"])
def test_a_loss_is_noticed_and_everything_is_fenced_until_it_is_accepted(how: str) -> None:
    rig = Rig(HELLO)
    job = submit(rig, rig.client())
    lease = rig.lease("hello")
    reboot(rig, **({"rolled_back": "the mark is higher"} if how == "shell" else {}))
    if how == "boot":
        greet(rig, "hello", 1, held(lease), boot=rig.boot_number + 1)
    elif how == "lease":
        greet(rig, "hello", 1, {"lease": 1000, "epoch": 1})
    assert rig.state("hello") == "killing"
    assert fenced(rig)
    for kind in (Type.JOB_WAIT, Type.JOB_SHOW, Type.JOB_RESULT, Type.JOB_CANCEL):
        error = rig.ask(rig.client(), kind, {"job": "77"}).body["error"]
        assert error["name"] == "rolled_back"
        assert error["message"].startswith("no job 77: journal rolled back: ") and "doctor --accept" in error["message"]
    numbers = rig.kernel.scheduler.leases.last, rig.kernel.jobs.last, rig.kernel.supervisor.last
    recovery.accept(rig.kernel, rig.now)
    rig.feed(Tick())
    assert rig.work("hello")["lease"] > numbers[0] + 1000
    client = rig.client()
    assert rig.refusal(client, Type.JOB_SHOW, {"job": "77"}) == "no_such_job"
    assert rig.document(client, job)["state"] == "done"
    assert int(submit(rig, client)) > numbers[1] + 1000
    assert rig.kernel.supervisor.last > numbers[2] + 1000
    assert rig.journal() == unpacked(image_of(rig.kernel))
    counters = numbers[0], rig.kernel.jobs.last
    rig.reboot()
    assert (rig.kernel.scheduler.leases.last > counters[0] + 1000, rig.kernel.jobs.last) == (True, counters[1])


def test_an_honest_hello_fences_nobody() -> None:
    rig = Rig(HELLO)
    job = submit(rig, rig.client())
    lease = rig.lease("hello")
    reboot(rig)
    greet(rig, "hello", 1, held(lease), boot=rig.boot_number - 1)
    assert not rig.kernel.rolled_back
    rig.done("hello", lease)
    assert rig.document(rig.client(), job)["state"] == "done"
