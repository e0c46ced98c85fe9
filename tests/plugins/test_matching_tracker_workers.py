# SPDX-License-Identifier: Apache-2.0
"""A tracker and its workers, joined by streams in memory: each in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import sampled
from loopback import TEMPLATES
from qcos_plugins.matching_tracker.fault import StreamFault
from qcos_plugins.matching_tracker.follow import follow
from qcos_plugins.matching_tracker.handing import question
from qcos_plugins.matching_tracker.helpers import Key
from qcos_plugins.matching_tracker.outcomes import Outcomes
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.pool import Pool
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.matching_tracker.window import PARALLEL
from qcos_plugins.matching_tracker.worker import serve

from qcosd.qec.calibration import Calibration
from qcosd.qec.stream import Calibrated
from qcosd.sdk import StreamClosed
from qcosd.sdk.links import MemoryLink, memory_pair
from qcosd.sdk.stream_session import Grant
from qcosd.sdk.streams import StreamReader, StreamWriter
from qcosd.sdk.testing import stream_pair

D, SHOTS = 3, 9
Serve = Callable[[StreamReader], Any]


RECORDING = sampled.record(sampled.memory(D, 40 * D), 6e-3, SHOTS)


def fresh_plans(rates: Calibration | None = None) -> Plans:
    return Plans(RECORDING.program, rates or RECORDING.rates, scheme=PARALLEL, templates=TEMPLATES)


@cache
def alone() -> Outcomes:
    return sampled.track(RECORDING, scheme=PARALLEL, templates=TEMPLATES)


class Crew:
    """Workers that take each other's place: ``lives``: what serves a stream, one life after the other."""

    def __init__(self, *lives: Serve, number: int = 1) -> None:
        self._lives = list(lives)
        self._grant = Grant(number, 1, "windows", "connect", "memory", "5" * 64, 4, resumes=True)
        self._links: dict[int, tuple[MemoryLink, MemoryLink]] = {
            1: memory_pair(),
            **{n + 1: memory_pair() for n in range(len(lives))},
        }
        self.writer = StreamWriter(self._grant, self._links[1][1], lambda grant: self._links[grant.epoch][1])
        self._thread = Thread(target=self._live, daemon=True)
        self._thread.start()

    def _live(self) -> None:
        for epoch, life in enumerate(self._lives, 1):
            if epoch > 1:
                self.writer.regrant(replace(self._grant, epoch=epoch))
            link = self._links[epoch][0]
            reader = StreamReader(replace(self._grant, epoch=epoch, role="bind"), link)
            with suppress(StreamFault, StreamClosed):
                life(reader)
                reader.close(final=True)
                return

    def join(self) -> None:
        self.writer.close(final=True)
        for link, _ in self._links.values():
            link.wake(StreamClosed("the batch is over"))  # a life for which there was nothing left to do
        self._thread.join(30)
        assert not self._thread.is_alive()


def whole(reader: StreamReader) -> int:
    return serve(fresh_plans(), reader)


def dies_after(windows: int) -> Serve:
    """It takes so many, answers all but the last one, and is gone."""

    def life(reader: StreamReader) -> None:
        answered = iter(range(windows))

        def clock() -> float:
            if next(answered, None) is None:
                raise StreamClosed("killed")
            return 0.0

        serve(fresh_plans(), reader, clock)

    return life


def liar(reader: StreamReader, wrong: Callable[[np.ndarray], np.ndarray] = lambda right: right ^ 1) -> None:
    """Answers at once, with something else than it should."""
    plans = fresh_plans()
    for message in reader:
        if message.header["type"] == "window":
            plan, syndrome, shots = question(plans, message.header, message.payload)
            found = wrong(plan.decode(syndrome, shots))
            reader.send({"type": "found", "key": message.header["key"], "us": 1}, found)
        reader.ack(None, b"x")


def batch(*crews: Crew, messages: list[tuple[Any, ...]] | None = None, answers: bool = False) -> tuple[Outcomes, Pool]:
    """The recording, tracked with these workers.  ``answers``: the machine waits in the middle until one has answered."""
    rounds, machine = stream_pair(credit=4)
    record = RECORDING
    plans = fresh_plans()
    asked = Event()

    def agrees(key: Key, found: np.ndarray) -> bool:
        asked.set()
        return tracker.agrees(key, found)

    pool = Pool(
        lambda: [crew.writer for crew in crews],
        plans.digest,
        lambda: tracker.plans,
        agrees,
    )
    tracker = Tracker(record.program, record.rates, SHOTS, plans=plans, helpers=pool)
    every = [*(messages or []), *sampled.blocks(record.program, record.records, D)]

    def send() -> None:
        for number, (header, frame) in enumerate(every):
            if answers and number == len(every) // 2:
                assert asked.wait(30)
            machine.send(header.to_map(), frame if isinstance(frame, bytes) else frame.tobytes())
        machine.drain()

    sender = Thread(target=send, daemon=True)
    sender.start()
    follow(tracker, rounds, lambda fraction, text: None, pool=pool)
    for crew in crews:
        crew.join()
    sender.join(30)
    assert not sender.is_alive()
    return tracker.outcomes(), pool


def assert_right(found: Outcomes) -> None:
    assert np.array_equal(found.bits, alone().bits)
    assert found.windows == alone().windows


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_results_do_not_depend_on_how_many_workers_there_are(count: int) -> None:
    found, pool = batch(*(Crew(whole, number=n) for n in range(count)), answers=count > 0)
    assert_right(found)
    assert not pool.refused
    assert bool(pool.answered) == bool(count)


@pytest.mark.parametrize("windows", [0, 1, 2, 5])
def test_workers_die_and_others_go_on(windows: int) -> None:
    found, _ = batch(Crew(dies_after(windows), dies_after(windows + 1), whole), Crew(dies_after(3), whole, number=2))
    assert_right(found)


def test_the_last_worker_dies_and_nobody_comes() -> None:
    found, _ = batch(Crew(dies_after(4)))
    assert_right(found)


def test_a_worker_that_answers_wrongly_is_asked_no_more() -> None:
    found, pool = batch(Crew(liar), answers=True)
    assert_right(found)
    assert ["is wrong" in reason for reason in pool.refused] == [True]
    assert pool.answered == 0


@pytest.mark.parametrize("wrong", [lambda right: right[:-1], lambda right: right | 0x80], ids=["short", "padded"])
def test_answers_of_another_size_end_a_stream_and_nothing_else(wrong: Callable[[np.ndarray], np.ndarray]) -> None:
    found, pool = batch(Crew(lambda reader: liar(reader, wrong)))
    assert_right(found)
    assert pool.answered == 0


def test_workers_decode_at_the_rates_of_the_batch_and_so_do_their_successors() -> None:
    rates = Calibration.uniform(2e-2)
    calibration: list[tuple[Any, ...]] = [(Calibrated(0, rates.id), rates.to_bytes())]
    found, pool = batch(Crew(dies_after(3), whole), messages=calibration, answers=True)
    own = sampled.track(replace(RECORDING, rates=rates), scheme=PARALLEL, templates=TEMPLATES)
    assert np.array_equal(found.bits, own.bits)
    assert pool.answered
    assert not pool.refused


def test_a_worker_that_has_planned_something_else_says_so() -> None:
    def other(reader: StreamReader) -> None:
        serve(Plans(RECORDING.program, RECORDING.rates, buffer=4, scheme=PARALLEL, templates=TEMPLATES), reader)

    found, pool = batch(Crew(other))
    assert_right(found)
    assert pool.answered == 0


def questions() -> Iterator[dict[str, Any]]:
    right = {
        "type": "window",
        "key": ["", 0, 1],
        "shots": SHOTS,
        "window": [3, 6, 9, False],
        "before": 0,
        "contents": [0] * 9,
    }
    yield {"type": "plans", "digest": b"other"}
    yield {"type": "plans"}
    yield {"type": "window"}
    yield {**right, "contents": [999] * 9}
    yield {**right, "shots": 1000}
    yield {**right, "window": [3, 6]}
    yield {"type": "what"}


@pytest.mark.parametrize("header", [*questions()], ids=lambda h: str(sorted(h))[:40])
def test_what_is_no_question_is_refused(header: dict[str, Any]) -> None:
    reader, writer = stream_pair(credit=4, name="windows")
    plans = fresh_plans()
    if header["type"] != "plans":
        writer.send({"type": "plans", "digest": plans.digest}, plans.calibration.to_bytes())
    writer.send(header, b"\0")
    with pytest.raises(StreamFault):
        serve(plans, reader)
