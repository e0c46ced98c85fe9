# SPDX-License-Identifier: Apache-2.0
"""The small registries by themselves: alarms, quota, results, secrets, seeds; and the order of scheduling."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_rig import HELLO, QEC, Rig

from qcosd.core.alarms import Alarms
from qcosd.core.batches import seed_of
from qcosd.core.entropy import Entropy
from qcosd.core.events import Address, Limits
from qcosd.core.quota import Quota, Resource
from qcosd.core.results import SummaryError, merge
from qcosd.protocol import Type

PEER = Address("uid:1", b"r")


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 20)))))
def test_alarms_are_a_map_from_key_to_time(steps: list[tuple[int, int | None]]) -> None:
    alarms, model = Alarms(), dict[tuple[int], int]()
    for key, at in steps:
        if at is None:
            alarms.clear((key,))
            model.pop((key,), None)
        else:
            alarms.set((key,), at)
            model[key,] = at
        assert alarms.next() == min(model.values(), default=None)
        assert len(alarms) == len(model)
    due = []
    while (taken := alarms.take_due(10)) is not None:
        due.append(taken)
    assert sorted(due) == sorted(key for key, at in model.items() if at <= 10)
    assert [model[key] for key in due] == sorted(model[key] for key in due)


def test_alarms_that_were_cleared_are_not_kept_until_their_time() -> None:
    alarms = Alarms()
    alarms.set(("first",), 0.0)
    for number in range(10_000):
        alarms.set((number,), 3600.0)
        alarms.clear((number,))
    assert alarms.entries < 200
    assert alarms.next() == 0.0


def test_quota() -> None:
    quota = Quota(Limits(requests=2))
    assert quota.charge(PEER, Resource.REQUESTS) and quota.charge(PEER, Resource.REQUESTS)
    assert not quota.charge(PEER, Resource.REQUESTS)
    assert quota.used(PEER, Resource.REQUESTS) == 2
    quota.release(PEER, Resource.REQUESTS, 2)
    assert len(quota) == 0
    with pytest.raises(KeyError):
        quota.release(PEER, Resource.REQUESTS)


counts = st.dictionaries(st.text(max_size=2), st.integers(0, 100), max_size=4)
summaries = st.fixed_dictionaries(
    {"same": st.just({"d": 3}), "sum": st.fixed_dictionaries({"counts": counts}), "min": counts, "max": counts}
)


@given(st.lists(summaries, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_batches_leaves_no_trace(batches: list[dict[str, Any]], order: random.Random) -> None:
    def total(parts: list[dict[str, Any]]) -> dict[str, Any]:
        merged = None
        for part in parts:
            merged = merge(merged, part)
        assert merged is not None
        return merged

    shuffled = order.sample(batches, len(batches))
    assert total(batches) == total(shuffled)
    keys = {key for batch in batches for key in batch["sum"]["counts"]}
    expected = {key: sum(batch["sum"]["counts"].get(key, 0) for batch in batches) for key in keys}
    assert total(batches)["sum"]["counts"] == expected


@pytest.mark.parametrize(
    "bad",
    [{"other": {}}, {"same": {"d": 5}}, {"same": 3}, {"sum": {"x": 1.5}}, {"sum": {"x": True}}, {"sum": 1}, {"sum": {"n": 1}},
     {"sum": {"x": 2**63 - 1}}, {"min": {"x": "a"}}, {"min": 1}, {"max": {"x": float("nan")}}],
)  # fmt: skip
def test_a_summary_that_cannot_be_merged(bad: dict[str, Any]) -> None:
    first = merge(None, {"same": {"d": 3}, "sum": {"x": 1, "n": {"a": 1}}})
    with pytest.raises(SummaryError):
        merge(first, bad)


def test_batches_that_differ_in_keys_of_other_types_are_no_bug_of_the_kernel() -> None:
    with pytest.raises(SummaryError, match="differ in"):
        merge(merge(None, {"same": {"d": 3}}), {"same": {b"d": 3}})


def test_secrets_differ_and_depend_on_the_seed() -> None:
    one, two = Entropy(b"a" * 32), Entropy(b"b" * 32)
    drawn = [source.secret() for source in (one, two) for _ in range(100)]
    assert len(set(drawn)) == 200
    assert all(len(secret) == 64 for secret in drawn)
    assert Entropy(b"a" * 32).secret() == drawn[0]
    with pytest.raises(ValueError, match="32 bytes"):
        Entropy(b"short")


def test_seeds() -> None:
    assert seed_of(5, None) == 5
    assert seed_of(5, 0) == 6293342720575725481  # sha256("5/0"), 63 bits
    assert len({seed_of(seed, batch) for seed in range(10) for batch in range(10)}) == 100


def test_the_same_events_give_the_same_effects() -> None:
    def run() -> list[object]:
        rig = Rig(*QEC)
        rig.submit(rig.client(), shots=10, seed=1)
        rig.boot()
        rig.kill("stim_adapter")
        rig.advance(100.0)
        return list(rig.effects)

    assert run() == run()


# Scheduling


def order_of_work(rig: Rig, count: int) -> list[str]:
    return [str(rig.work("hello")["job"]) for _ in range(count)]


def test_priority_then_deadline_then_age() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    first = rig.submit(client, "greeting", target="greeted")  # has the plugin
    plain = rig.submit(client, "greeting", target="greeted")
    late = rig.submit(client, "greeting", target="greeted", deadline=500)
    soon = rig.submit(client, "greeting", target="greeted", deadline=100)
    high = rig.submit(client, "greeting", target="greeted", priority=2)
    assert order_of_work(rig, 5) == [first, high, soon, late, plain]


def test_waiting_raises_priority_up_to_one_above_the_highest_class() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    running = rig.submit(client, "greeting", target="greeted")
    old = rig.submit(client, "greeting", target="greeted")
    rig.advance(rig.kernel.limits.ageing_period * 100)
    high = rig.submit(client, "greeting", target="greeted", priority=1)
    higher = rig.submit(client, "greeting", target="greeted", priority=50)
    assert order_of_work(rig, 4) == [running, old, higher, high]


def test_a_plugin_takes_as_many_leases_as_it_has_slots() -> None:
    rig = Rig(HELLO, hello=False)
    rig.feed(rig.greeting("hello", 1, slots=2))
    client = rig.client()
    for _ in range(3):
        rig.submit(client, "greeting", target="greeted")
    leases = [rig.lease("hello"), rig.lease("hello")]
    assert not rig.has_lease("hello")
    rig.done("hello", leases[0])
    assert rig.has_lease("hello")


def test_jobs_that_have_not_ended_are_bounded() -> None:
    rig = Rig(HELLO, limits=Limits(jobs_waiting=2))
    client = rig.client()
    for _ in range(2):
        rig.submit(client, "greeting", target="greeted")
    sha = rig.put(client, b"program")
    assert (
        rig.refusal(client, Type.JOB_SUBMIT, {"inputs": {"greeting": sha}, "options": {"target": "greeted"}})
        == "over_quota"
    )
