# SPDX-License-Identifier: Apache-2.0
"""What plugins claim to hold when they say HELLO to the next kernel, and lies among it."""

from __future__ import annotations

import dataclasses

from kernel_rig import HELLO, Rig, plugin
from recovery_rig import greet, held, reboot, submit

from qcosd.protocol import Type


def test_two_who_claim_the_same_lease_do_not_harm_the_kernel() -> None:
    rig = Rig(dataclasses.replace(HELLO, replicas=2))
    client = rig.client()
    job = submit(rig, client)
    owner = next(
        i.incarnation for i in rig.kernel.supervisor.instances() if rig.kernel.scheduler.leases.load(i.incarnation)
    )
    liar = 3 - owner
    lease = rig.read(plugin("hello", owner), Type.LEASE).body
    reboot(rig)
    greet(rig, "hello", owner, held(lease))
    greet(rig, "hello", liar, held(lease))
    revoked = rig.read(plugin("hello", liar), Type.REVOKE).body
    rig.tell(plugin("hello", liar), Type.REVOKED, {"lease": revoked["lease"], "epoch": revoked["epoch"]})
    address = plugin("hello", owner)
    body = {"lease": lease["lease"], "epoch": lease["epoch"], "outputs": {"greeted": rig.put(address, b"x")}}
    assert rig.ask(address, Type.DONE, body).type is Type.ACK
    assert rig.document(rig.client(), job)["state"] == "done"
    assert len(rig.kernel.scheduler.leases) == 0


def test_what_a_plugin_finished_is_taken_once_although_nobody_acknowledged_it() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    job = submit(rig, client)
    lease = rig.work("hello")
    document = rig.document(client, job)
    for _ in range(2):
        reboot(rig)
        greet(rig, "hello", 1, held(lease, finished=True))
        answer = rig.done("hello", lease)
        assert answer.body["error"]["name"] == "late"
        assert rig.document(rig.client(), job) == document


def test_what_the_kernel_knows_nothing_of_is_revoked_and_occupies_its_plugin_until_then() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    job = submit(rig, client)
    lease = rig.lease("hello")
    rig.ask(client, Type.JOB_CANCEL, {"job": job})
    reboot(rig)
    rig.inbox.clear()  # REVOKE has not arrived
    greet(rig, "hello", 1, held(lease))
    client = rig.client()
    other = submit(rig, client)
    assert not rig.has_lease("hello")
    rig.give_up("hello")
    assert rig.work("hello")["job"] == other
    assert rig.document(client, job)["state"] == "cancelled"
    assert len(rig.kernel.scheduler.leases) == 0
