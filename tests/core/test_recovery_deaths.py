# SPDX-License-Identifier: Apache-2.0
"""Who pays for a death: the work, the component, or nobody."""

from __future__ import annotations

import dataclasses

import pytest
from kernel_rig import FRAGILE, HELLO, Rig, plugin
from recovery_rig import greet, held, reboot, submit

from qcosd.core.events import Address, Exited, Limits
from qcosd.protocol import Type
from qcosd.sdk.plugin_session import EXIT_BUS_SILENT


def die_of_it(rig: Rig, status: int = -11) -> None:
    """The plugin dies with a lease in hand, and the next one is there and has it."""
    rig.lease("hello")
    rig.kill("hello", status)
    rig.advance(0.0)


def one_at_a_time(attempts: int = 2) -> tuple[Rig, Address, str]:
    rig = Rig(
        dataclasses.replace(HELLO, restart=dataclasses.replace(FRAGILE, backoff_base=0.0)),
        limits=Limits(attempts=attempts),
    )
    client = rig.client()
    return rig, client, submit(rig, client)


def test_while_nobody_gets_on_it_takes_twice_as_many_deaths() -> None:
    rig, client, job = one_at_a_time()
    for _ in range(3):
        die_of_it(rig)
        assert rig.document(client, job)["state"] == "booting"
    die_of_it(rig)
    assert rig.document(client, job)["error"]["name"] == "poison"
    assert not rig.kernel.supervisor.components["hello"].deaths, "the work has paid"


def test_while_others_get_on_the_work_is_poison_after_its_attempts() -> None:
    rig = Rig(dataclasses.replace(HELLO, restart=FRAGILE, replicas=2), limits=Limits(attempts=2))
    client = rig.client()
    bad = submit(rig, client)
    first = next(i for i in rig.kernel.supervisor.instances() if rig.kernel.scheduler.leases.load(i.incarnation))
    rig.feed(Exited(first.incarnation, -11))
    rig.advance(0.0)
    good = submit(rig, client)
    for instance in rig.kernel.supervisor.instances():
        for message in list(rig.inbox[plugin("hello", instance.incarnation)]):
            if message.type is Type.LEASE and message.body["job"] == good:
                address = plugin("hello", instance.incarnation)
                body = {
                    "lease": message.body["lease"],
                    "epoch": message.body["epoch"],
                    "outputs": {"greeted": rig.put(address, b"x")},
                }
                assert rig.ask(address, Type.DONE, body).type is Type.ACK
    assert rig.document(client, good)["state"] == "done"
    second = next(i for i in rig.kernel.supervisor.instances() if rig.kernel.scheduler.leases.load(i.incarnation))
    rig.feed(Exited(second.incarnation, -11))
    assert rig.document(client, bad)["error"]["name"] == "poison"


OUTSIDE = [-9, EXIT_BUS_SILENT]


@pytest.mark.parametrize("status", OUTSIDE)
def test_an_end_from_outside_is_a_quarter_of_a_death(status: int) -> None:
    rig, client, job = one_at_a_time(attempts=1)
    for _ in range(7):
        die_of_it(rig, status)
        assert rig.document(client, job)["state"] == "booting"
    die_of_it(rig, status)
    assert rig.document(client, job)["error"]["name"] == "poison"


def test_whoever_leaves_because_the_kernel_was_silent_blames_the_kernel() -> None:
    rig, client, job = one_at_a_time(attempts=1)
    for _ in range(20):
        rig.lease("hello")
        rig.tell(rig.address("hello"), Type.GOODBYE, {"reason": "stopped", "status": EXIT_BUS_SILENT})
        rig.feed(Exited(rig.kernel.supervisor.components["hello"].incarnation, EXIT_BUS_SILENT))
        rig.advance(30.0)
    (work,) = rig.kernel.jobs.active[job].works.values()
    assert (work.deaths, work.strikes) == (0, 0)
    assert not rig.kernel.supervisor.components["hello"].deaths
    rig.work("hello")
    assert rig.document(client, job)["state"] == "done"


def test_deaths_are_counted_across_reboots() -> None:
    rig, client, job = one_at_a_time()
    for _ in range(3):
        die_of_it(rig)
    lease = rig.lease("hello")
    number = rig.kernel.supervisor.last
    reboot(rig)
    greet(rig, "hello", number, held(lease))
    client = rig.client()
    rig.kill("hello")
    assert rig.document(client, job)["error"]["name"] == "poison"


def test_whoever_ends_while_the_daemon_is_away_is_nobodys_fault() -> None:
    rig, client, job = one_at_a_time()
    for _ in range(12):
        rig.lease("hello")
        rig.reboot()
    client = rig.client()
    assert rig.document(client, job)["restarts"] == 12
    rig.work("hello")
    assert rig.document(client, job)["state"] == "done"


@pytest.mark.parametrize("status", OUTSIDE)
def test_whoever_is_ended_from_outside_while_idle_does_not_pay(status: int) -> None:
    rig = Rig(dataclasses.replace(HELLO, restart=FRAGILE))
    for _ in range(10):
        rig.kill("hello", status)
        rig.advance(10.0)
    assert rig.state("hello") == "ready"
    for _ in range(3):
        rig.kill("hello", -11)
        rig.advance(1.0)
    assert rig.state("hello") == "failed"
