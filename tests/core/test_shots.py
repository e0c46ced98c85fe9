# SPDX-License-Identifier: Apache-2.0
"""From shots to batches: how they are cut, added to and counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_rig import QEC, Rig

from qcosd.core.batches import Batches, seed_of
from qcosd.core.events import Address
from qcosd.protocol import Type


def report(shots: int, discarded: int = 0) -> dict[str, Any]:
    accepted = shots - discarded
    return {"sum": {"counts": {"0": accepted}, "shots_accepted": accepted, "shots_discarded": discarded}}


def ready(**options: Any) -> tuple[Rig, Address, str]:
    """A job of the QEC path whose batches can start."""
    rig = Rig(*QEC)
    client = rig.client()
    job = rig.submit(client, **options)
    rig.boot()
    return rig, client, job


def batch(rig: Rig, discarded: int = 0) -> tuple[int, int, int]:
    """Do the next batch; its index, shots and seed."""
    lease = rig.lease("matching_tracker")
    rig.work("stim_adapter")
    assert rig.done("matching_tracker", lease, report(lease["shots"], discarded)).type is Type.ACK
    return lease["batch"], lease["shots"], lease["seed"]


def test_discarded_shots_are_made_up_for() -> None:
    rig, client, job = ready(shots=25, batch=10, seed=3)
    discards = iter([4, 0, 5, 2, 1, 0])  # also in the last batch, and among those that were added
    done = []
    while rig.document(client, job)["state"] == "running" or not done:
        done.append(batch(rig, next(discards)))
    assert [(index, shots) for index, shots, _ in done] == [(0, 10), (1, 10), (2, 5), (3, 9), (4, 2), (5, 1)]
    assert [seed for _, _, seed in done] == [seed_of(3, index) for index in range(6)]
    document = rig.document(client, job)
    assert document["state"] == "done"
    assert document["summary"]["sum"] == {"counts": {"0": 25}, "shots_accepted": 25, "shots_discarded": 12}
    assert (document["batches"], len(document["outputs"])) == ({"done": 6, "total": 6}, 6)
    assert (document["degraded"], document["shots_restarted"]) == ([], 0)


def test_many_missing_shots_make_several_batches() -> None:
    rig, client, job = ready(shots=30, batch=10)
    for _ in range(3):
        batch(rig, 8)
    assert rig.document(client, job)["batches"] == {"done": 3, "total": 6}
    assert [batch(rig)[:2] for _ in range(3)] == [(3, 10), (4, 10), (5, 4)]
    assert rig.document(client, job)["summary"]["sum"]["shots_accepted"] == 30


@pytest.mark.parametrize(("budget", "batches"), [(0, 1), (5, 1), (6, 2), (9, 2), (10, 3), (100, 4), (None, 3)])
def test_a_budget_that_is_spent_ends_the_job_with_what_there_is(budget: int | None, batches: int) -> None:
    rig, client, job = ready(shots=10, batch=10, discard_budget=budget)
    done = 0
    for discarded in (6, 4, 3, 0):  # 10, 6, 4 and 3 shots
        if rig.document(client, job)["state"] == "done":
            break
        batch(rig, discarded)
        done += 1
    document = rig.document(client, job)
    assert (document["state"], done) == ("done", batches)
    accepted, discarded = ({1: (4, 6), 2: (6, 10), 3: (7, 13), 4: (10, 13)})[batches]
    assert document["summary"]["sum"]["shots_accepted"] == accepted
    spent = f"{accepted} of 10 shots were accepted: {discarded} were discarded, the budget is {10 if budget is None else budget}"
    assert document["degraded"] == ([] if accepted == 10 else [spent])


@pytest.mark.parametrize(("budget", "batches"), [(0, 1), (10, 2)])
def test_a_budget_that_is_spent_without_a_single_shot_fails_the_job(budget: int, batches: int) -> None:
    rig, client, job = ready(shots=10, batch=10, discard_budget=budget)
    for _ in range(batches):
        assert rig.document(client, job)["state"] == "running"
        batch(rig, 10)
    document = rig.document(client, job)
    assert (document["state"], document["error"]["name"]) == ("failed", "budget")
    spent = f"0 of 10 shots were accepted: {10 * batches} were discarded, the budget is {budget}"
    assert document["error"]["message"] == document["cause"] == spent
    assert document["summary"]["sum"]["shots_discarded"] == 10 * batches
    assert len(rig.kernel.scheduler.leases) == 0


def test_a_tracker_that_counts_no_shots_gets_no_more() -> None:
    rig, client, job = ready(shots=10, batch=10)
    rig.work("stim_adapter")
    rig.work("matching_tracker", {"sum": {"counts": {"0": 3}}})
    assert rig.document(client, job)["state"] == "done"


@pytest.mark.parametrize(
    "total",
    [
        {"shots_accepted": 11},
        {"shots_accepted": -1},
        {"shots_accepted": 7, "shots_discarded": 2},
        {"shots_accepted": 10, "shots_discarded": 1},
        {"shots_accepted": {"a": 1}},
        {"shots_accepted": 10, "shots_discarded": {}},
    ],
)
def test_a_batch_whose_shots_do_not_add_up_is_a_wrong_output(total: dict[str, Any]) -> None:
    rig, client, job = ready(shots=10, batch=10)
    rig.work("stim_adapter")
    answer = rig.done("matching_tracker", rig.lease("matching_tracker"), {"sum": total})
    assert answer.body["error"]["name"] == "wrong_output"
    assert "matching_tracker" in rig.document(client, job)["error"]["message"]


def boot_with(rig: Rig, **facts: Any) -> None:
    for component in ("pytket_compile", "pytket_optimise", "stim_adapter", "surface_code", "stim_adapter"):
        rig.work(component)
    rig.work("grid_mapper", **facts)


def test_an_operation_of_the_whole_job_may_limit_batches() -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=7, batch=5)
    assert rig.document(client, job)["batches"]["total"] == 2
    boot_with(rig, batch_limit=3)
    assert rig.document(client, job)["batches"]["total"] == 3
    assert [batch(rig)[:2] for _ in range(3)] == [(0, 3), (1, 3), (2, 1)]
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=7, batch=5)
    boot_with(rig, batch_limit=300)
    assert batch(rig)[1] == 5


@pytest.mark.parametrize("limit", [0, -1, 1.0, "2", True, None])
def test_a_limit_that_makes_no_sense_is_a_wrong_output(limit: Any) -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=7)
    lease = rig.lease("pytket_compile")
    assert rig.done("pytket_compile", lease, batch_limit=limit).body["error"]["name"] == "wrong_output"
    assert "batch_limit" in rig.document(client, job)["error"]["message"]


def test_a_limit_that_makes_too_many_batches_fails_the_job() -> None:
    rig = Rig(*QEC)
    job = rig.submit(client := rig.client(), shots=200_001)
    boot_with(rig, batch_limit=2)
    error = rig.document(client, job)["error"]
    assert error["name"] == "unsupported"
    assert "200001 shots make more than 100000 batches of 2" in error["message"]


def test_shots_that_were_started_again_are_counted() -> None:
    rig, client, job = ready(shots=10, batch=10)
    rig.lease("stim_adapter")
    lease = rig.lease("matching_tracker")
    rig.fail("matching_tracker", lease, "retry_later", "aborted by hardware")
    assert rig.document(client, job)["shots_restarted"] == 10
    rig.give_up("stim_adapter")
    rig.advance(0.2)
    rig.lease("stim_adapter")
    inn = rig.lease("matching_tracker")
    assert (inn["seed"], inn["epoch"]) == (lease["seed"], lease["epoch"] + 1)
    rig.kill("stim_adapter")
    rig.give_up("matching_tracker")
    rig.advance(1.0)
    assert rig.document(client, job)["shots_restarted"] == 20
    assert batch(rig) == (0, 10, lease["seed"])
    document = rig.document(client, job)
    assert (document["state"], document["shots_restarted"], document["restarts"]) == ("done", 20, 1)
    assert document["summary"]["sum"]["shots_accepted"] == 10


def test_facts_of_both_sides_of_a_stream_are_kept() -> None:
    rig, client, job = ready(shots=10)
    rig.work("stim_adapter", stall_rounds=3)
    rig.work("matching_tracker", report(10), window=4)
    facts = rig.document(client, job)["facts"]
    assert (facts["hardware.run"], facts["track.run"]) == ({"stall_rounds": 3}, {"window": 4})


def test_a_result_that_was_given_out_does_not_change() -> None:
    rig, client, job = ready(shots=10)
    out = rig.lease("stim_adapter")
    rig.work("matching_tracker", report(10))
    before = rig.document(client, job)
    rig.done("stim_adapter", out, stall_rounds=3)
    assert rig.document(client, job) == before


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.randoms(use_true_random=False))
def test_batches_do_not_depend_on_the_order_in_which_they_end(shots: int, size: int, random: Any) -> None:
    """What is reported for a batch depends on its index alone here; the batches must do so too."""
    runs = []
    for wide in (1, 4):
        rig = Rig(*QEC, hello=False)
        for name, component in rig.kernel.supervisor.components.items():
            rig.feed(rig.greeting(name, component.incarnation, slots=wide if name != "surface_code" else 1))
        client = rig.client()
        job = rig.submit(client, shots=shots, batch=size, seed=5)
        rig.boot()
        seen = {}
        while rig.document(client, job)["state"] == "running":
            in_hand = []
            while rig.has_lease("matching_tracker"):
                in_hand.append((rig.lease("matching_tracker"), rig.lease("stim_adapter")))
            random.shuffle(in_hand)
            for inn, out in in_hand:
                seen[inn["batch"]] = inn["shots"], inn["seed"]
                rig.done("stim_adapter", out)
                rig.done("matching_tracker", inn, report(inn["shots"], (7 * inn["batch"] + 3) % (inn["shots"] + 1)))
        runs.append((seen, rig.document(client, job)["summary"], rig.document(client, job)["degraded"]))
    assert runs[0] == runs[1]
    total = runs[0][1]["sum"]
    assert total["shots_accepted"] + total["shots_discarded"] == sum(size for size, _ in runs[0][0].values())
    assert total["shots_accepted"] == shots or total["shots_discarded"] > shots


@given(st.lists(st.integers(1, 50), min_size=1, max_size=4), st.integers(1, 10))
def test_cutting_and_adding(amounts: list[int], size: int) -> None:
    batches = Batches()
    batches.cut(amounts[0], size)
    for amount in amounts[1:]:
        batches.add(amount)
    assert sum(batches.sizes) == sum(amounts)
    assert all(0 < shots <= size for shots in batches.sizes)
    assert len(batches.sizes) == sum(-(-amount // size) for amount in amounts)
    assert list(batches.unfinished()) == list(range(len(batches.sizes)))
