# SPDX-License-Identifier: Apache-2.0
"""What the kernel holds on to does not grow with the jobs that it has seen: objects are counted, not bytes."""

from __future__ import annotations

import gc
from types import FunctionType, ModuleType

import pytest
from kernel_rig import HELLO, QEC, Rig

from qcosd.core import leases
from qcosd.core.events import Channel, Limits, PeerGone
from qcosd.core.kernel import Kernel
from qcosd.protocol import Type

FORGETFUL = Limits(jobs_kept=2, keys_kept=2, artifact_grace=0.5, collect_every=0.5)


def held(kernel: Kernel) -> int:
    """Objects that can be reached from the kernel."""
    seen: set[int] = set()
    waiting: list[object] = [kernel]
    while waiting:
        found = waiting.pop()
        if id(found) not in seen and not isinstance(found, type | ModuleType | FunctionType):
            seen.add(id(found))
            waiting += gc.get_referents(found)
    return len(seen)


def live(rig: Rig, number: int) -> None:
    """A client comes, has a job of two batches done, and goes."""
    client = rig.client(f"c{number}")
    sha = rig.put(client, b"program %d" % number)
    body = {"inputs": {"source": sha}, "options": {"shots": 20, "batch": 10, "seed": number}}
    job = rig.ask(client, Type.JOB_SUBMIT, body, key=f"k{number}").body["job"]
    rig.boot()
    for _ in range(2):
        rig.work("stim_adapter")
        rig.work("matching_tracker", {"same": {}, "sum": {"counts": {"0": 10}}, "min": {}, "max": {}})
    assert rig.document(client, job)["state"] == "done"
    rig.feed(PeerGone(Channel.CLIENTS, client, "disconnected"))
    rig.advance(1.0)


def test_jobs_that_have_ended_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "SETTLED_KEPT", 2)
    rig = Rig(*QEC, limits=FORGETFUL)
    counts = []
    for number in range(1, 61):
        live(rig, number)
        counts.append(held(rig.kernel))
    # Cleared alarms are swept in lots. Forty jobs that left one object each would be seen.
    assert max(counts[40:]) <= max(counts[:20]) + 20, counts


def test_the_end_of_a_lease_is_remembered_as_long_as_it_may_be_repeated() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    first = None
    for _ in range(leases.SETTLED_KEPT + 10):
        rig.submit(client, "greeting", target="greeted")
        lease = rig.work("hello")
        first = first or lease
    remembered = rig.kernel.scheduler.leases
    assert remembered.remembered == leases.SETTLED_KEPT
    assert rig.done("hello", lease).type is Type.ACK
    assert first is not None
    body = {"lease": first["lease"], "epoch": first["epoch"], "outputs": {}}
    assert rig.refusal(rig.address("hello"), Type.DONE, body) == "late"
    rig.kill("hello")
    assert remembered.remembered == 0
