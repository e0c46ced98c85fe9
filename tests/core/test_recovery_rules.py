# SPDX-License-Identifier: Apache-2.0
"""What a kernel remembers across its death, who pays for a death, who comes first, and what becomes of a journal that has lost something."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from kernel_rig import ADAPTER, FRAGILE, HELLO, QEC, TRACKER, Rig, manifest, plugin, unpacked

from qcosd.core import recovery
from qcosd.core.effects import BlobDelete, Send, Spawn
from qcosd.core.events import Address, Exited, JournalHealth, Limits, Survivor, Tick
from qcosd.core.given_plan import GivenPlan
from qcosd.core.manifest import Operation
from qcosd.core.recovery import image_of
from qcosd.core.urgency import Urgency
from qcosd.protocol import Type
from qcosd.sdk.plugin_session import EXIT_BUS_SILENT

GREET = Operation("hello", "greet", ("greeting",), ("greeted",))
KILLABLE = manifest("hello", dataclasses.replace(GREET, preempt="kill"))


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


def die_of_it(rig: Rig, status: int = -11) -> None:
    """The plugin dies with a lease in hand, and the next one is there and has it."""
    rig.lease("hello")
    rig.kill("hello", status)
    rig.advance(0.0)


# Who pays for a death


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


# Who comes first


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


# What the journal keeps


def test_a_key_is_kept_across_reboots_as_long_as_its_job() -> None:
    rig = Rig(HELLO, limits=Limits(jobs_kept=1))
    client = rig.client()
    sha = rig.put(client, b"program")
    body = {"inputs": {"greeting": sha}, "options": {"target": "greeted"}}
    job = rig.ask(client, Type.JOB_SUBMIT, body, key="k").body["job"]
    rig.work("hello")
    for _ in range(2):
        rig.now += 100_000.0
        rig.reboot()
        client = rig.client()
        assert rig.ask(client, Type.JOB_SUBMIT, body, key="k").body["job"] == job
        assert rig.refusal(client, Type.JOB_SUBMIT, {**body, "options": {}}, key="k") == "key_conflict"
    submit(rig, client)
    rig.work("hello")  # the first one is not remembered any more
    assert rig.ask(client, Type.JOB_SUBMIT, body, key="k").body["job"] != job


def test_a_repeat_waits_for_the_record_of_the_reply() -> None:
    rig = Rig(HELLO)
    client, other = rig.client(), rig.client("c2")
    sha = rig.put(client, b"program")
    body = {"inputs": {"greeting": sha}, "options": {"target": "greeted"}}
    first = rig.ask(client, Type.JOB_SUBMIT, body, key="k")
    again = rig.ask(other, Type.JOB_SUBMIT, body, key="k")
    rows = rig.ask(other, Type.JOB_LIST)
    assert first.body == again.body
    sends = {effect.message.type: effect.after for effect in rig.of(Send) if effect.address == other}
    assert sends[Type.JOB_ACCEPTED] == rig.position
    assert sends[Type.JOB_LISTING] == rig.position
    assert [row["job"] for row in rows.body["jobs"]] == [first.body["job"]]


def test_the_deadline_of_a_job_runs_on_across_reboots() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    job = submit(rig, client, deadline=100.0)
    for _ in range(3):
        rig.now += 30.0  # nobody is there
        rig.reboot()
    client = rig.client()
    rig.advance(9.0)
    assert rig.document(client, job)["state"] == "booting"
    rig.advance(1.5)
    document = rig.document(client, job)
    assert (document["state"], document["error"]["name"]) == ("failed", "deadline")
    rig.reboot()
    assert rig.document(rig.client(), job) == document


def test_unused_artifacts_go_after_their_grace_and_used_ones_stay() -> None:
    rig = Rig(HELLO, limits=Limits(artifact_grace=1000.0, collect_every=100.0, jobs_kept=1))
    client = rig.client()
    ended, active = submit(rig, client), submit(rig, client, seed=1)
    rig.work("hello")
    rig.advance(500.0)
    unused = rig.put(client, b"nobody wants it")
    kept = set(rig.store) - {unused}
    rig.advance(900.0)
    assert set(rig.store) == {unused, *kept}
    rig.advance(300.0)
    assert set(rig.store) == kept
    rig.reboot()
    rig.advance(2000.0)
    client = rig.client()
    assert set(rig.store) == kept, (ended, active)
    rig.work("hello")  # now the first one is forgotten, with what it alone had
    rig.advance(2000.0)
    assert not kept <= set(rig.store)
    assert all(effect.after for effect in rig.of(BlobDelete)), "what forgot them must be durable before"
    assert rig.document(client, active)["state"] == "done"


def test_a_file_that_the_store_has_lost_fails_its_job_and_nothing_else() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    job = submit(rig, client)
    other_sha = rig.put(client, b"another")
    body = {"inputs": {"greeting": other_sha}, "options": {"target": "greeted"}}
    other = rig.ask(client, Type.JOB_SUBMIT, body).body["job"]
    del rig.store[rig.document(client, job)["inputs"]["greeting"]]
    rig.reboot()
    client = rig.client()
    assert rig.document(client, job)["error"]["name"] == "no_such_artifact"
    assert "`greeting`" in rig.document(client, job)["error"]["message"]
    rig.work("hello")
    assert rig.document(client, other)["state"] == "done"


def test_a_journal_that_cannot_be_written_refuses_new_jobs_and_keeps_accepted_ones() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    job = submit(rig, client)
    rig.feed(JournalHealth("no space left on device"))
    body = {"inputs": {"greeting": rig.put(client, b"program")}, "options": {"target": "greeted"}}
    assert rig.refusal(client, Type.JOB_SUBMIT, body) == "no_space"
    assert rig.ask(client, Type.STATUS).body["state"] == "degraded"
    rig.work("hello")
    assert rig.document(client, job)["state"] == "done"
    rig.feed(JournalHealth(""))
    assert rig.ask(client, Type.JOB_SUBMIT, body).type is Type.JOB_ACCEPTED


# Components that are others than before


def test_whose_maker_is_not_installed_any_more_is_done_by_another_one() -> None:
    rig = Rig(*QEC)
    client = rig.client()
    job = rig.submit(client, shots=20, batch=10)
    rig.boot()
    others = [dataclasses.replace(m, name=f"new_{m.name}") if m in (ADAPTER, TRACKER) else m for m in QEC]
    rig.start = dataclasses.replace(rig.start, manifests=tuple(others))
    rig.manifests = {m.name: m for m in others}
    rig.reboot()
    for component in ("new_stim_adapter", "surface_code", "new_stim_adapter", "grid_mapper"):
        rig.work(component)
    for _ in range(2):
        rig.work("new_stim_adapter")
        rig.work("new_matching_tracker", {"sum": {"counts": {"0": 10}}})
    document = rig.document(rig.client(), job)
    assert document["state"] == "done"
    assert document["plan"]["providers"]["hardware.run"] == "new_stim_adapter"
    assert rig.journal() == unpacked(image_of(rig.kernel))


def test_a_producer_does_not_wait_for_a_consumer_that_nobody_will_start() -> None:
    adapter = dataclasses.replace(ADAPTER, operations=tuple(
        dataclasses.replace(o, resumes=True) if o.stream_out else o for o in ADAPTER.operations
    ))  # fmt: skip
    rig = Rig(*QEC[:4], adapter, TRACKER, dataclasses.replace(TRACKER, name="other", rank=-1))
    client = rig.client()
    job = rig.submit(client, shots=10)
    rig.boot()
    rig.lease("matching_tracker")
    rig.lease("stim_adapter")
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "matching_tracker"})
    rig.kill("matching_tracker", status=0)
    rig.give_up("stim_adapter")
    rig.work("stim_adapter")
    rig.work("other", {"sum": {"counts": {"0": 10}}})
    assert rig.document(client, job)["state"] == "done"
    assert rig.journal() == unpacked(image_of(rig.kernel))


def test_a_work_item_whose_provider_is_another_one_is_in_the_journal_as_it_is_here() -> None:
    rig = Rig(HELLO, dataclasses.replace(HELLO, name="other", rank=-1), hello=False)
    greet(rig, "hello", 1)
    client = rig.client()
    submit(rig, client)
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "hello"})
    rig.kill("hello", status=0)
    rig.advance(1.0)  # the other one is not ready yet
    assert rig.journal() == unpacked(image_of(rig.kernel))
    greet(rig, "other", 2)
    assert rig.has_lease("other")
    assert rig.journal() == unpacked(image_of(rig.kernel))


# Adoption and lies in HELLO


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


# Journals that have lost something


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
    numbers = rig.kernel.scheduler.leases.last, rig.kernel.jobs.last, rig.kernel.supervisor.last
    recovery.accept(rig.kernel, rig.now)
    rig.feed(Tick())
    assert rig.work("hello")["lease"] > numbers[0] + 1000
    client = rig.client()
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
