# SPDX-License-Identifier: Apache-2.0
"""Who comes first, whose place it takes, and who is left alone."""

from __future__ import annotations

import dataclasses

from kernel_rig import HELLO, Rig, manifest
from recovery_rig import submit

from qcosd.core.events import Limits
from qcosd.core.manifest import Operation
from qcosd.protocol import Type

GREET = Operation("hello", "greet", ("greeting",), ("greeted",))
KILLABLE = manifest("hello", dataclasses.replace(GREET, preempt="kill"))


def test_the_most_urgent_takes_the_place_of_another_and_keeps_it() -> None:
    rig = Rig(KILLABLE, limits=Limits(ageing_period=1.0))
    client = rig.client()
    submit(rig, client, priority=0)
    lease = rig.lease("hello")
    rig.advance(60.0)  # it runs, and does not grow more urgent by that
    urgent = submit(rig, client, priority=5)
    assert rig.read(rig.address("hello"), Type.REVOKE).body["lease"] == lease["lease"]
    rig.tell(rig.address("hello"), Type.REVOKED, {"lease": lease["lease"], "epoch": lease["epoch"]})
    assert rig.lease("hello")["job"] == urgent


def test_nobody_is_preempted_by_its_own_class_nor_more_than_twice() -> None:
    rig = Rig(KILLABLE)
    client = rig.client()
    lowly = submit(rig, client, priority=0)
    submit(rig, client, priority=0)
    assert not [m for m in rig.inbox[rig.address("hello")] if m.type is Type.REVOKE]
    for round in range(2):
        assert rig.lease("hello")["job"] == lowly
        urgent = submit(rig, client, priority=9)
        rig.give_up("hello")
        assert rig.work("hello")["job"] == urgent, round
    assert rig.lease("hello")["job"] == lowly
    submit(rig, client, priority=9)
    assert not [m for m in rig.inbox[rig.address("hello")] if m.type is Type.REVOKE]


def test_one_more_process_comes_before_a_preemption() -> None:
    rig = Rig(dataclasses.replace(KILLABLE, max_replicas=2))
    client = rig.client()
    submit(rig, client, priority=0)
    urgent = submit(rig, client, priority=5)
    assert not [m for inbox in rig.inbox.values() for m in inbox if m.type is Type.REVOKE]
    leases = [m for inbox in rig.inbox.values() for m in inbox if m.type is Type.LEASE]
    assert urgent in {message.body["job"] for message in leases}


def test_what_may_not_be_killed_is_left_alone() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    submit(rig, client, priority=0)
    submit(rig, client, priority=9)
    assert not [m for m in rig.inbox[rig.address("hello")] if m.type is Type.REVOKE]
