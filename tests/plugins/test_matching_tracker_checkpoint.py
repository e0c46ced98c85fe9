# SPDX-License-Identifier: Apache-2.0
"""A tracker may die between any two messages: its successor comes to the same, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import msgpack
import numpy as np
import pytest
import wire_batch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopback import TEMPLATES, prepared, said
from qcos_plugins.matching_tracker.audit import audit
from qcos_plugins.matching_tracker.fault import StreamFault, WrongCheckpoint
from qcos_plugins.matching_tracker.follow import take
from qcos_plugins.matching_tracker.recording import recorded
from qcos_plugins.matching_tracker.tracker import CHECKPOINT, Tracker

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.hardware import Said
from qcosd.qec.stream import Calibrated, Decided, Discard

RATES = Calibration.uniform(1e-3)
NOISE = Calibration.uniform(4e-3)
MAGIC = """OPENQASM 2.0; include "qelib1.inc";
qreg q[2]; creg a[1]; creg b[2];
h q[0]; cx q[0],q[1]; measure q[0] -> a[0]; if (a == 1) h q[1]; measure q[1] -> b[0];
if (b == 1) h q[0]; measure q[0] -> b[1];
"""
Message = tuple[dict[str, Any], Sequence[bytes]]
Made = dict[str, Any]


@cache
def nested() -> FragmentProgram:
    return prepared(MAGIC)


@cache
def damaged(shots: int, erasure: float = 0.002) -> tuple[Message, ...]:
    """A batch with two decisions, erased records, lost rounds, discarded shots and a calibration of its own."""
    follower = tracker(nested(), shots)
    found: list[Message] = [(Calibrated(0, NOISE.id).to_map(), [NOISE.to_bytes()])]
    take(follower, *found[0])
    decided: dict[str, bytes] = {}
    stream = said("stim_adapter", nested(), NOISE, shots, 3, erasure=erasure, lost=0.15, discard=0.01)
    item = next(stream, None)
    while item is not None:
        answer = None
        if isinstance(item, Said):
            found.append((item.header.to_map(), item.frames))
            for reply in take(follower, *found[-1]):
                if isinstance(reply, tuple):
                    decided[reply[0].path] = reply[1].tobytes()
        else:
            answer = decided[item.path]
        try:
            item = stream.send(answer)
        except StopIteration:
            item = None
    return tuple(found)


def tracker(program: FragmentProgram, shots: int, **options: Any) -> Tracker:
    given: dict[str, Any] = {"batch": 0, "templates": TEMPLATES, "keep_records": True, **options}
    return Tracker(program, RATES, shots, **given)


def made(follower: Tracker, decisions: dict[str, tuple[Decided, bytes]]) -> Made:
    """Everything that a batch comes to."""
    outcomes = follower.outcomes()
    summary = outcomes.summary()
    del summary["sum"]["templates_missed"]
    return {
        "summary": msgpack.packb(summary),
        "bits": outcomes.bits.tolist(),
        "undecoded": outcomes.undecoded.tolist(),
        "applied": outcomes.applied.tolist(),
        "records": recorded(outcomes, 0),
        "audit": audit(outcomes),
        "decisions": decisions,
        "rates": follower.plans.calibration.to_bytes(),
    }


def followed(new: Callable[[], Tracker], messages: Sequence[Message], cuts: Sequence[int], every: int = 1) -> Made:
    """What comes of the messages when the tracker dies before each of the messages ``cuts``, having made a checkpoint of
    every so many messages."""
    follower, kept, covered = new(), [b""], 0
    decisions: dict[str, tuple[Decided, bytes]] = {}

    def tell(replies: Sequence[Any]) -> None:
        for reply in replies:
            if isinstance(reply, tuple):
                said = (reply[0], reply[1].tobytes())
                assert decisions.setdefault(reply[0].path, said) == said

    number = 0
    waiting = list(cuts)
    while number < len(messages):
        if waiting and waiting[0] == number:
            waiting.pop(0)
            follower, number = new(), covered
            if kept[0]:
                tell(follower.restore(*kept))
            continue
        tell(take(follower, *messages[number]))
        number += 1
        if number % every == 0 and not follower.finished:
            state, *pieces = follower.checkpoint()
            kept, covered = [state, *kept[1:], *pieces], number
    return made(follower, decisions)


CASES: dict[str, tuple[Callable[[], FragmentProgram], Callable[[], Sequence[Message]], int]] = {
    "every kind of payload": (wire_batch.program, wire_batch.recorded, wire_batch.SHOTS),
    "two decisions": (nested, lambda: damaged(21), 21),
    "one shot": (nested, lambda: damaged(1, 0.0), 1),
}


@cache
def undisturbed(case: str) -> Made:
    program, messages, shots = CASES[case]
    return followed(lambda: tracker(program(), shots), messages(), ())


@pytest.mark.parametrize("case", CASES)
def test_a_death_between_any_two_messages_changes_nothing(case: str) -> None:
    program, messages, shots = CASES[case]
    assert len(undisturbed(case)["decisions"]) >= 1
    for cut in range(len(messages()) + 1):
        assert followed(lambda: tracker(program(), shots), messages(), [cut]) == undisturbed(case)


def test_the_cases_are_worth_the_name() -> None:
    total = msgpack.unpackb(undisturbed("two decisions")["summary"])["sum"]
    assert total["rounds_lost"] and total["records_missing"] and total["shots_discarded"] and total["shots_accepted"]
    assert NOISE.id in total["calibrations"]
    assert len(undisturbed("two decisions")["decisions"]) > 2
    assert {header["type"] for header, _ in damaged(21)} == {"block", "calibration", "discard"}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 9), st.lists(st.integers(0, 40), max_size=4))
def test_any_deaths_at_any_distance_of_checkpoints_change_nothing(every: int, cuts: list[int]) -> None:
    found = followed(lambda: tracker(nested(), 21), damaged(21), sorted(cuts), every)
    assert found == undisturbed("two decisions")


def test_a_decision_that_was_told_is_told_again_until_hardware_goes_on() -> None:
    follower = tracker(nested(), 21)
    messages = iter(damaged(21))
    replies: list[Any] = []
    while not any(isinstance(reply, tuple) for reply in replies):
        replies = take(follower, *next(messages))
    first = replies[-1]
    for _ in range(2):
        state, *pieces = follower.checkpoint()
        follower = tracker(nested(), 21)
        again = follower.restore(state, *pieces)
        assert [(header, values.tobytes()) for header, values in again] == [(first[0], first[1].tobytes())]
    header, frames = next(messages)
    while header["type"] != "block":  # a discard proves nothing
        take(follower, header, frames)
        header, frames = next(messages)
    take(follower, header, frames)
    assert first[0].path not in [decided.path for decided, _ in tracker(nested(), 21).restore(*follower.checkpoint())]


def other_program() -> FragmentProgram:
    return replace(nested(), registers=(("a", 2), ("b", 1)))


@pytest.mark.parametrize(
    ("what", "successor"),
    [
        ("program", lambda: tracker(other_program(), 21)),
        ("shots", lambda: tracker(nested(), 20)),
        ("batch", lambda: tracker(nested(), 21, batch=1)),
        ("decoder", lambda: tracker(nested(), 21, decoder="pymatching")),
        ("rates", lambda: Tracker(nested(), NOISE, 21, batch=0, templates=TEMPLATES, keep_records=True)),
        ("treatment of missing records", lambda: tracker(nested(), 21, decode_missing=False)),
        ("records", lambda: tracker(nested(), 21, keep_records=False)),
        ("shots whose records are kept", lambda: tracker(nested(), 21, keep_records=False, keep_shots=8)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_checkpoint_of_other_work_is_refused(what: str, successor: Callable[[], Tracker]) -> None:
    follower = tracker(nested(), 21)
    for message in damaged(21)[:5]:
        take(follower, *message)
    with pytest.raises(WrongCheckpoint, match="of another batch, program or version"):
        successor().restore(*follower.checkpoint())


@pytest.mark.parametrize(
    "spoiled", [b"", b"\x02rest", CHECKPOINT, CHECKPOINT + b"\x93\x01\x02\x03", CHECKPOINT + b"\xc1"]
)
def test_what_is_no_checkpoint_is_refused(spoiled: bytes) -> None:
    with pytest.raises(WrongCheckpoint, match="checkpoint"):
        tracker(nested(), 21).restore(spoiled)


def test_hardware_s_clock_does_not_go_back_because_the_tracker_died() -> None:
    follower, messages = tracker(nested(), 21), damaged(21)
    for message in messages[:3]:
        take(follower, *message)
    successor = tracker(nested(), 21)
    successor.restore(*follower.checkpoint())
    header, frames = messages[3]
    with pytest.raises(StreamFault, match="clock went from"):
        take(successor, {**header, "t_hw_ns": messages[2][0]["t_hw_ns"] - 1}, frames)


def test_a_discard_after_a_death_hits_the_right_shots() -> None:
    chosen = np.packbits(np.arange(21) % 3 == 0, bitorder="little")
    messages = [(header, frames) for header, frames in damaged(21) if header["type"] == "block"]
    late = [*messages[:2], (Discard("", 21, 2, "leakage").to_map(), [chosen.tobytes()]), *messages[2:]]
    new: Callable[[], Tracker] = lambda: tracker(nested(), 21)  # noqa: E731
    # What is decided differs from what the machine was told, so that only the first fragment can be followed.
    first = [message for message in late if not message[0].get("path")]
    dying, living = new(), new()
    for number, message in enumerate(first):
        successor = new()
        successor._batch = 0
        if number:
            successor.restore(*dying.checkpoint())
        dying = successor
        assert [str(r) for r in take(dying, *message)] == [str(r) for r in take(living, *message)]
    assert dying.checkpoint()[0] == living.checkpoint()[0]
