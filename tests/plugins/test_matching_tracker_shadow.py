# SPDX-License-Identifier: Apache-2.0
"""Somebody looks on while a batch is decoded: what it comes to is compared, and it never makes a difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from threading import Event, Thread
from typing import Any

import pytest
from loopback import TEMPLATES, prepared, said
from qcos_plugins.matching_tracker import shadow as shadows
from qcos_plugins.matching_tracker.follow import follow, take
from qcos_plugins.matching_tracker.looking_on import Onlooker
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.shadow import STREAM, Shadow, differing
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.matching_tracker.window import PARALLEL, SLIDING
from test_universal import written

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.hardware import Said
from qcosd.sdk.streams import StreamReader
from qcosd.sdk.testing import Workers, stream_pair

NOISE = Calibration.uniform(4e-3)
SHOTS = 64
TEMPERED, PLAIN = "pymatching-tempered", "pymatching"
BRANCHES = """OPENQASM 2.0; include "qelib1.inc";
qreg q[2]; creg a[1]; creg b[2];
h q[0]; cx q[0],q[1]; measure q[0] -> a[0]; if (a == 1) h q[1]; measure q[1] -> b[0];
if (b == 1) h q[0]; measure q[0] -> b[1];
"""
PROGRAMS: dict[str, Callable[[], FragmentProgram]] = {
    "branches": lambda: prepared(BRANCHES),
    "T gates": lambda: written("h:0 t:0 cx:01 tdg:1 h:0 h:1 m:0 m:1", 2),
}
Message = tuple[dict[str, Any], Sequence[bytes]]


@cache
def program(name: str) -> FragmentProgram:
    return PROGRAMS[name]()


def plans(name: str, decoder: str = TEMPERED, scheme: str = SLIDING) -> Plans:
    return Plans(program(name), NOISE, decoder=decoder, scheme=scheme, templates=TEMPLATES)


def tracker(name: str, **options: Any) -> Tracker:
    scheme = options.pop("scheme", SLIDING)
    return Tracker(program(name), NOISE, SHOTS, plans=plans(name, scheme=scheme), batch=0, **options)


@cache
def messages(name: str, **losses: float) -> tuple[Message, ...]:
    """All that a machine says in a batch, and the tracker alone decides."""
    follower, found, decided = tracker(name), [], {}
    stream = said("stim_adapter", program(name), NOISE, SHOTS, 7, **losses)
    item = next(stream, None)
    while item is not None:
        answer = None
        if isinstance(item, Said):
            found.append((item.header.to_map(), item.frames))
            decided |= {(r[0].path, r[0].k): r[1].tobytes() for r in take(follower, *found[-1]) if isinstance(r, tuple)}
        else:
            answer = decided[item.path, item.k]
        try:
            item = stream.send(answer)
        except StopIteration:
            item = None
    return tuple(found)


def batch(
    name: str,
    *lives: Callable[[StreamReader], Any],
    main: Tracker | None = None,
    credit: int = 1024,
    sent: Sequence[Message] | None = None,
) -> tuple[Tracker, dict[str, int]]:
    """The batch, decoded while somebody looks on.  Returns its tracker and the verdict."""
    rounds, machine = stream_pair(credit=4)
    workers = Workers(main=rounds, credit=credit, name=STREAM)
    for life in lives:
        workers.hire(life)
    follower = main or tracker(name)
    every = messages(name) if sent is None else sent

    def send() -> None:
        for header, frames in every:
            machine.send(header, *frames)
        machine.drain()

    sender = Thread(target=send, daemon=True)
    sender.start()
    shadow = Shadow(workers.pool.streams)
    follow(follower, rounds, lambda fraction, text: None, shadow=shadow)
    sender.join(30)
    assert not sender.is_alive()
    return follower, shadow.verdict(follower.outcomes().counts)


def looks_on(name: str, decoder: str = TEMPERED, scheme: str = SLIDING) -> Callable[[StreamReader], Any]:
    return lambda reader: Onlooker(plans(name, decoder, scheme), SHOTS, 0, reader).run()


@pytest.mark.parametrize("name", PROGRAMS)
def test_one_that_decodes_in_the_same_way_agrees(name: str) -> None:
    follower, verdict = batch(name, looks_on(name))
    assert verdict == {"agreed": 1}
    assert len(follower.outcomes().counts) > 2


def test_it_agrees_about_discarded_shots_and_missing_records() -> None:
    sent = messages("branches", erasure=0.01, lost=0.1, discard=0.01)
    follower, verdict = batch("branches", looks_on("branches"), sent=sent)
    assert follower.outcomes().records_missing and follower.outcomes().discarded.any()
    assert verdict == {"agreed": 1}


@pytest.mark.parametrize("name", PROGRAMS)
def test_another_decoder_differs_and_follows_what_was_decided(name: str) -> None:
    """Where it would have decided otherwise it goes along with the machine."""
    alone, _ = batch(name)
    follower, verdict = batch(name, looks_on(name, PLAIN))
    assert verdict["differed"] == 1
    assert 0 < verdict["shots"] < SHOTS / 4
    assert follower.outcomes().counts == alone.outcomes().counts


def test_another_scheme_of_windows_may_be_compared() -> None:
    _, verdict = batch("branches", looks_on("branches", scheme=PARALLEL))
    assert verdict.keys() in ({"agreed"}, {"differed", "shots"})
    assert verdict.get("shots", 0) <= 2


def test_a_tracker_that_is_wrong_is_found_out() -> None:
    """Its windows forget what those before have explained, and nothing but its counts shows it."""
    _, verdict = batch("T gates", looks_on("T gates"), main=tracker("T gates", drop_artifacts=True))
    assert verdict["differed"] == 1
    assert verdict["shots"] > 1


def test_one_that_hangs_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadows, "MOMENT", 0.0)
    over = Event()
    alone, _ = batch("branches")
    follower, verdict = batch("branches", lambda reader: (reader.recv(), over.wait(30)), credit=3)
    over.set()
    assert verdict == {"lost": 1}
    assert follower.outcomes().counts == alone.outcomes().counts


@pytest.mark.parametrize("taken", [0, 1, 4])
def test_one_that_dies_changes_nothing(taken: int) -> None:
    def dies(reader: StreamReader) -> None:
        for _ in range(taken):
            reader.recv()
            reader.ack()

    alone, _ = batch("T gates")
    follower, verdict = batch("T gates", dies)
    assert verdict == {"lost": 1}
    assert follower.outcomes().counts == alone.outcomes().counts


def test_where_nobody_comes_the_batch_is_lost_for_the_shadow_alone() -> None:
    _, verdict = batch("branches")
    assert verdict == {"lost": 1}


@pytest.mark.parametrize("verdict", [{"type": "verdict"}, {"type": "verdict", "differ": "none"}, {"type": "ack"}])
def test_an_answer_that_is_none_counts_as_lost(verdict: dict[str, Any]) -> None:
    def odd(reader: StreamReader) -> None:
        for message in reader:
            reader.ack()
            if message.header["type"] == "counts":
                reader.send(verdict)

    assert batch("branches", odd)[1] == {"lost": 1}


def test_a_successor_of_the_tracker_shows_nothing() -> None:
    """It has not seen the beginning itself."""
    first, rest = messages("branches")[:2], messages("branches")[2:]
    before = tracker("branches")
    for message in first:
        take(before, *message)
    state, *_ = before.checkpoint()

    class Resumed:
        """A stream whose earlier reader has died."""

        def __init__(self) -> None:
            self.left = list(rest)

        def resumed(self) -> list[bytes]:
            return [state]

        def recv(self) -> Any:
            header, frames = self.left.pop(0)
            return type("Message", (), {"header": header, "payload": frames})

        def ack(self, *_: Any) -> None: ...

        def send(self, *_: Any) -> None: ...

        def poll(self) -> None: ...

    workers = Workers(credit=1024, name=STREAM)
    shown = Event()
    workers.hire(lambda reader: (reader.recv(), shown.set()))
    shadow, follower = Shadow(workers.pool.streams), tracker("branches")
    follow(follower, Resumed(), lambda fraction, text: None, shadow=shadow)
    assert shadow.verdict(follower.outcomes().counts) == {"lost": 1}
    assert not shown.is_set()


@pytest.mark.parametrize(
    ("mine", "theirs", "shots"),
    [({}, {}, 0), ({"0": 4}, {"0": 4}, 0), ({"0": 4}, {"0": 3, "1": 1}, 1), ({"0": 4}, {"1": 2}, 4), ({}, {"1": 2}, 2)],
)
def test_how_many_shots_differ_at_least(mine: dict[str, int], theirs: dict[str, int], shots: int) -> None:
    assert differing(mine, theirs) == differing(theirs, mine) == shots
