# SPDX-License-Identifier: Apache-2.0
"""Calibrations and discards that do not fit the batch they come in."""

from __future__ import annotations

from typing import Any

import pytest
from qcos_plugins.matching_tracker.fault import StreamFault
from qcos_plugins.matching_tracker.follow import take
from wire_batch import BLOCKS, OTHER, RATES, SHOTS, assert_refused, messages, tracker

from qcosd.qec.stream import Calibrated, Discard

CHOSEN = bytes([0b101, 0, 0b10000])


@pytest.mark.parametrize(
    ("changed", "payload"),
    [
        ({"path": "k0=0"}, [CHOSEN]),
        ({"shots": SHOTS - 1}, [CHOSEN]),
        ({"shots": 0}, [b""]),
        ({"round": -1}, [CHOSEN]),
        ({"round": 10**6}, [CHOSEN]),
        ({"reason": ""}, [CHOSEN]),
        ({"reason": "x" * 201}, [CHOSEN]),
        ({"reason": None}, [CHOSEN]),
        ({"path": 0}, [CHOSEN]),
        ({}, [CHOSEN[:2]]),
        ({}, [CHOSEN + b"\0"]),
        ({}, [bytes([0, 0, 0b100000])]),
        ({}, []),
        ({}, [CHOSEN, CHOSEN]),
    ],
)
def test_a_discard_that_does_not_fit(changed: dict[str, Any], payload: list[bytes]) -> None:
    header = Discard("", SHOTS, 3, "leakage").to_map()
    assert_refused(3, ({**header, **changed}, payload))


@pytest.mark.parametrize(
    ("changed", "data"),
    [
        ({"id": RATES.id}, OTHER.to_bytes()),
        ({"batch": 1}, OTHER.to_bytes()),
        ({"batch": "0"}, OTHER.to_bytes()),
        ({"id": 7}, OTHER.to_bytes()),
        ({}, OTHER.to_bytes()[:-1]),
        ({}, b""),
        ({}, b"\x80"),
    ],
)
def test_a_calibration_that_is_none(changed: dict[str, Any], data: bytes) -> None:
    assert_refused(0, ({**Calibrated(0, OTHER.id).to_map(), **changed}, [data]))


def test_a_calibration_comes_first_and_once() -> None:
    for place in (1, 2, 5, BLOCKS - 1):
        assert_refused(place, messages()[0])
    follower = tracker()
    take(follower, Discard("", SHOTS, 0, "leakage").to_map(), [CHOSEN])
    with pytest.raises(StreamFault, match="before anything else"):
        take(follower, *messages()[0])


def test_faults_travel_as_details() -> None:
    header, payload = messages()[2]
    follower = tracker()
    with pytest.raises(StreamFault, match="round 9 came, 0 is due") as fault:
        take(follower, {**header, "slot": 0, "round": 9}, payload)
    assert fault.value.details == {"path": "", "slot": 9, "what": "round", "expected": 0, "came": 9}
