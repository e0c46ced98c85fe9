# SPDX-License-Identifier: Apache-2.0
"""Operations run in the order in which their leases came, and whoever is not wanted any more does not wait for his turn."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from qcosd.sdk.turns import Turns


def test_a_queue_without_places_is_none() -> None:
    with pytest.raises(ValueError, match="a concurrency of 0"):
        Turns(0)


@pytest.mark.parametrize("places", [1, 2])
def test_turns_come_in_the_order_of_joining_whoever_asks_first(places: int) -> None:
    turns, never = Turns(places), threading.Event()
    for who in range(6):
        turns.join(who)
    order: list[int] = []
    running: set[int] = set()
    most = 0
    lock = threading.Lock()

    def run(who: int) -> None:
        nonlocal most
        turns.wait(who, never)
        with lock:
            order.append(who)
            running.add(who)
            most = max(most, len(running))
        with lock:
            running.discard(who)
        turns.leave(who)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(run, who) for who in reversed(range(6))]:
            done.result(30)
    assert most <= places
    if places == 1:
        assert order == [*range(6)]
    assert sorted(order) == [*range(6)]


def test_who_is_not_wanted_any_more_leaves_the_queue_and_holds_nobody_up() -> None:
    turns, never, unwanted = Turns(1), threading.Event(), threading.Event()
    for who in "abc":
        turns.join(who)
    with ThreadPoolExecutor(2) as pool:
        second, third = pool.submit(turns.wait, "b", unwanted), pool.submit(turns.wait, "c", never)
        unwanted.set()
        turns.stir()
        second.result(30)
        turns.leave("b")
        assert not third.done()
        turns.leave("a")
        third.result(30)
