# SPDX-License-Identifier: Apache-2.0
"""Whatever comes that is not due is a fault and changes nothing: never a wrong bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from qcos_plugins.matching_tracker.fault import Aborted, StreamFault
from qcos_plugins.matching_tracker.follow import take
from wire_batch import BLOCKS, OTHER, Message, assert_refused, messages, outcomes_of, recorded, tracker, undisturbed

from qcosd.qec.stream import Block, Discard

few = settings(max_examples=25, deadline=None, derandomize=True)
many = settings(few, max_examples=80)

places = st.integers(1, BLOCKS - 1)  # 0 is the calibration


def test_the_batch_is_what_this_file_takes_it_for() -> None:
    assert len(recorded()) == BLOCKS
    assert undisturbed().records_missing > 0
    assert undisturbed().calibration == OTHER.id
    assert {header["path"] for header, _ in recorded()[1:]} == {"", "k0=0", "k0=1"}


@few
@given(places)
def test_a_gap(place: int) -> None:
    sequence = messages()
    del sequence[place]
    with pytest.raises(StreamFault):
        outcomes_of(sequence)


@few
@given(places, places)
@example(1, 1)
@example(BLOCKS - 1, BLOCKS - 1)
def test_a_repeat(first: int, second: int) -> None:
    """At once or later, after the end included."""
    begin, end = sorted((first, second))
    sequence = messages()
    sequence.insert(end + 1, sequence[begin])
    with pytest.raises(StreamFault):
        outcomes_of(sequence)


def assert_only_branches_change_places(shuffled: list[Message]) -> None:
    """Branches may come in any order among each other; nothing else may."""

    def by_path(sequence: list[Message]) -> list[list[int]]:
        return [[h["round"] for h, _ in sequence[1:] if h["path"] == path] for path in ("", "k0=0", "k0=1")]

    root = by_path(messages())[0]
    due = by_path(shuffled) == by_path(messages()) and all(h["path"] == "" for h, _ in shuffled[1 : 1 + len(root)])
    if due:
        assert np.array_equal(outcomes_of(shuffled).bits, undisturbed().bits)
    else:
        with pytest.raises(StreamFault):
            outcomes_of(shuffled)


@few
@given(st.permutations(range(1, BLOCKS)))
def test_any_reordering(order: list[int]) -> None:
    sequence = messages()
    assert_only_branches_change_places([sequence[0], *(sequence[i] for i in order)])


@few
@given(places, places)
def test_two_blocks_change_places(first: int, second: int) -> None:
    sequence = messages()
    sequence[first], sequence[second] = sequence[second], sequence[first]
    assert_only_branches_change_places(sequence)


INTEGERS = ("batch", "shots", "fragment", "slot", "round", "rec_start")


@many
@given(places, st.sampled_from(INTEGERS), st.integers(-(2**63), 2**64 - 1) | st.integers(-3, 40))
def test_a_number_in_the_header_is_wrong(place: int, field: str, value: int) -> None:
    header, payload = messages()[place]
    if value != header[field]:
        assert_refused(place, ({**header, field: value}, payload))


@many
@given(places, st.sampled_from(sorted(Block.__dataclass_fields__)), st.data())
def test_a_field_of_the_header_is_of_another_type(place: int, field: str, data: st.DataObject) -> None:
    header, payload = messages()[place]
    right = header[field]
    others = st.none() | st.booleans() | st.floats() | st.text() | st.binary() | st.lists(st.integers() | st.text())
    value = data.draw(others.filter(lambda v: type(v) is not type(right)))
    assert_refused(place, ({**header, field: value}, payload))


@few
@given(places, st.sampled_from(("batch", "path", "shots", "fragment", "slot", "round", "rec_start", "m", "type")))
def test_a_field_of_the_header_is_missing(place: int, field: str) -> None:
    header, payload = messages()[place]
    del header[field]
    assert_refused(place, (header, payload))


@few
@given(places, st.lists(st.integers(-2, 60) | st.just(2**40), max_size=5))
def test_other_counts_of_records(place: int, m: list[int]) -> None:
    header, payload = messages()[place]
    if m != header["m"]:
        assert_refused(place, ({**header, "m": m}, payload))


@few
@given(places, st.sampled_from(["", "k0=0", "k0=1", "k0=2", "k1=0", "k0=0/k1=0", "K0=0", " ", "k0=0/"]))
def test_another_path(place: int, path: str) -> None:
    header, payload = messages()[place]
    if path != header["path"]:
        assert_refused(place, ({**header, "path": path}, payload))


@pytest.mark.parametrize(
    "changed",
    [
        {"last": True},
        {"kind": "stall"},
        {"kind": "PLANNED"},
        {"status": "lost"},
        {"status": "good"},
        {"status": "lost", "payload": []},
        {"payload": []},
        {"payload": ["llr"]},
        {"payload": ["erasure", "bits"]},
        {"payload": ["bits", "bits"]},
        {"payload": ["bits", "colour"]},
        {"payload": ["bits", "valid"]},
        {"t_hw_ns": 0},
        {"t_hw_ns": -5},
        {"t_hw_ns": 1},
        {"late_ns": -1},
        {"late_ns": 0.5},
        {"reacted_ns": -1},
        {"reacted_ns": 0.5},
        {"stalled": -1},
        {"stalled": None},
        {"type": "blok"},
        {"type": "decided"},
        {"type": None},
        {"type": "discard"},
        {"type": "calibration"},
    ],
    ids=str,
)
def test_a_word_of_the_header_is_wrong(changed: dict[str, Any]) -> None:
    place = next(i for i, (h, _) in enumerate(recorded()) if h.get("slot") == 6)
    header, payload = messages()[place]
    assert_refused(place, ({**header, **changed}, payload))


def test_the_last_block_says_that_it_is_the_last() -> None:
    header, payload = messages()[-1]
    assert header["last"]
    assert_refused(BLOCKS - 1, ({**header, "last": False}, payload))


@few
@given(places, st.integers(0, 2), st.integers(-40, 40).filter(bool), st.binary(max_size=4))
def test_a_payload_of_another_length(place: int, number: int, change: int, more: bytes) -> None:
    header, payload = messages()[place]
    number %= len(payload)
    data = payload[number]
    payload[number] = data[:change] if -len(data) <= change < 0 else data + (more or b"\0") * max(1, change)
    if len(payload[number]) != len(data):
        assert_refused(place, (header, payload))


@few
@given(places, st.lists(st.binary(max_size=300), max_size=4))
def test_another_number_of_frames(place: int, frames: list[bytes]) -> None:
    header, payload = messages()[place]
    if len(frames) != len(payload):
        assert_refused(place, (header, frames))
    assert_refused(place, (header, [*payload, payload[-1]]))


@few
@given(places, st.integers(0, 2**16), st.integers(0, 7))
def test_bits_in_the_padding(place: int, where: int, bit: int) -> None:
    header, payload = messages()[place]
    bytes_of_a_row = (header["shots"] + 7) // 8
    rows = len(payload[0]) // bytes_of_a_row
    if header["shots"] % 8 and bit >= header["shots"] % 8 and rows:
        for number in range(min(2, len(payload))):  # bits, and erasure where it comes
            spoilt = bytearray(payload[number])
            spoilt[where % rows * bytes_of_a_row + bytes_of_a_row - 1] |= 1 << bit
            assert_refused(place, (header, [*payload[:number], bytes(spoilt), *payload[number + 1 :]]))


@few
@given(places, st.integers(1, 2))
def test_a_block_cut_in_two_needs_two_headers(place: int, slots: int) -> None:
    header, payload = messages()[place]
    if len(header["m"]) <= slots or len(payload) > 1:
        return
    m, records = header["m"], sum(header["m"][:slots])
    at = records * ((header["shots"] + 7) // 8)
    parts = [payload[0][:at], payload[0][at:]]
    first = {**header, "m": m[:slots], "last": False}
    second = {**header, "m": m[slots:], "slot": header["slot"] + slots}
    second |= {"round": header["round"] + slots, "rec_start": header["rec_start"] + records}
    sequence = messages()
    sequence[place : place + 1] = [(first, [parts[0]]), (second, [parts[1]])]
    assert np.array_equal(outcomes_of(sequence).bits, undisturbed().bits)
    for field in ("slot", "round", "rec_start"):
        sequence[place + 1] = ({**second, field: header[field]}, [parts[1]])
        with pytest.raises(StreamFault):
            outcomes_of(sequence)
    assert_refused(place, (header, [parts[0]]))


scalars = st.none() | st.booleans() | st.integers(-9, 2**64) | st.floats() | st.text(max_size=5) | st.binary(max_size=5)


@many
@given(
    places,
    st.dictionaries(
        st.sampled_from(["type", *Block.__dataclass_fields__, "id", "reason"]),
        scalars | st.lists(scalars) | st.sampled_from(["block", "discard", "calibration", "ok", "bits"]),
    ),
    st.lists(st.binary(max_size=50), max_size=3),
)
def test_anything_at_all(place: int, header: dict[str, Any], payload: list[bytes]) -> None:
    assert_refused(place, (header, payload))


@few
@given(places)
def test_hardware_that_gives_up_says_so_in_any_place(place: int) -> None:
    header, _ = messages()[place]
    aborted = {**header, "status": "aborted", "payload": [], "last": True}
    assert_refused(place, (aborted, []), Aborted)
    assert_refused(place, ({**aborted, "last": False}, []))
    assert_refused(place, ({**aborted, "batch": 1}, []))
    assert_refused(place, (aborted, [b"\0"]))


def test_after_the_end_nothing_comes() -> None:
    follower = tracker()
    for header, payload in messages():
        take(follower, header, payload)
    for header, payload in messages():
        with pytest.raises(StreamFault):
            take(follower, header, payload)
    discard = Discard("k0=1", undisturbed().paths["k0=1"], 0, "leakage")
    with pytest.raises(StreamFault, match="no path"):
        take(follower, discard.to_map(), [bytes((discard.shots + 7) // 8)])
    assert follower.outcomes().counts == undisturbed().counts
