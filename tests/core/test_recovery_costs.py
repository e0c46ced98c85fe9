# SPDX-License-Identifier: Apache-2.0
"""What the kernel does not look at, however much of it there is."""

from __future__ import annotations

from typing import Any

from kernel_rig import HELLO, QEC, Rig
from recovery_rig import submit

from qcosd.core.events import Tick
from qcosd.core.given_plan import GivenPlan
from qcosd.core.urgency import Urgency
from qcosd.protocol import Type


def test_ten_thousand_jobs_wait_and_nobody_looks_at_them() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    submit(rig, client)
    sha = rig.put(client, b"program")
    for number in range(9_998):
        options = {"target": "greeted", "priority": number % 7}
        job = rig.kernel.jobs.submit("uid:0", {"greeting": sha}, options, rig.now, GivenPlan())
        rig.kernel.scheduler.replan(job, rig.now)
    rig.feed(Tick())
    looked: list[Any] = []
    ready = rig.kernel.scheduler._ready

    def counted(job: Any, now: float) -> Any:
        looked.append(job)
        return ready(job, now)

    rig.kernel.scheduler._ready = counted  # type: ignore[method-assign]
    for _ in range(100):
        rig.kernel.scheduler.stir()
        rig.kernel.scheduler.fill(rig.now)
    assert len(looked) <= 100 * 4, "only those for whom room could be made"
    looked.clear()
    rig.work("hello")  # the next one is the most urgent, and then the first
    assert rig.lease("hello")["job"] == "8"
    assert len(looked) <= 20


def test_the_order_forgets_jobs_that_have_left() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    submit(rig, client)
    for _ in range(300):
        rig.ask(client, Type.JOB_CANCEL, {"job": submit(rig, client)})
        rig.advance(0.1)
    urgency: Urgency = rig.kernel.scheduler._urgency
    assert sum(map(len, urgency._order.values())) < 50
    assert set(urgency._needs) == set(rig.kernel.jobs.active) == {"1"}
    assert len(rig.kernel.scheduler.leases) == 1


def test_a_silent_plugin_that_has_ended_is_not_looked_at_any_more() -> None:
    rig = Rig(HELLO)
    rig.silent = True
    rig.advance(5.0)
    rig.kernel.liveness.seen(1, 0.0, rig.now)
    assert rig.kernel.liveness._looks
    rig.hello = False
    rig.kill("hello")
    rig.advance(5.0)
    assert not rig.kernel.liveness._looks


def test_a_batch_costs_the_same_however_many_there_are() -> None:
    """Sources of artifacts that the kernel looks at while a batch is done: not those of the batches before."""
    rig = Rig(*QEC)
    client = rig.client()
    job = rig.submit(client, shots=60, batch=1)
    rig.boot()
    active = rig.kernel.jobs.active[job]
    looked = [0]

    class Counted(dict[Any, Any]):
        def values(self) -> Any:
            looked[0] += len(self)
            return super().values()

    active.sources = Counted(active.sources)
    costs = []
    for _ in range(50):
        looked[0] = 0
        rig.work("stim_adapter")
        rig.work("matching_tracker", {"sum": {"counts": {"0": 1}}})
        costs.append(looked[0])
    assert costs[-1] == costs[0]
