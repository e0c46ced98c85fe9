# SPDX-License-Identifier: Apache-2.0
"""A batch as it goes over the wire, for tests that put something wrong into it."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import loopback
import numpy as np
import pytest
import sampled
from qcos_plugins.matching_tracker.fault import StreamFault
from qcos_plugins.matching_tracker.follow import take
from qcos_plugins.matching_tracker.outcomes import Outcomes
from qcos_plugins.matching_tracker.tracker import Tracker

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.hardware import Said
from qcosd.qec.stream import Block, Calibrated

SHOTS = 21
RATES = Calibration.uniform(1e-3)
OTHER = Calibration.uniform(2e-3)
BRANCHING = """OPENQASM 2.0; include "qelib1.inc";
qreg q[2]; creg a[1]; creg b[1];
h q[0]; cx q[0],q[1]; measure q[0] -> a[0]; if (a == 1) h q[0]; measure q[1] -> b[0];
"""
Message = tuple[dict[str, Any], list[bytes]]


@cache
def program() -> FragmentProgram:
    return loopback.prepared(BRANCHING)


def tracker() -> Tracker:
    return Tracker(program(), RATES, SHOTS, batch=0, templates=loopback.TEMPLATES)


@cache
def recorded() -> tuple[Message, ...]:
    """A batch with noise that splits, as it goes over the wire, with a calibration and payloads of every kind."""
    follower = tracker()
    stream = loopback.said("stim_adapter", program(), OTHER, SHOTS, 5)
    messages: list[Message] = [(Calibrated(0, OTHER.id).to_map(), [OTHER.to_bytes()])]
    take(follower, *messages[0])
    decided: dict[str, bytes] = {}
    item = next(stream, None)
    rng = np.random.default_rng(1)
    while item is not None:
        answer = None
        if isinstance(item, Said):
            header, frames = item.header.to_map(), list(item.frames)
            if isinstance(item.header, Block) and header["m"] and header["slot"] == 3:
                rows = sum(header["m"])
                header["payload"] = ["bits", "erasure", "llr"]
                frames.append(sampled.pack((rng.random((rows, header["shots"])) < 0.005).astype(np.uint8)).tobytes())
                frames.append(np.full((rows, header["shots"]), 40, np.int8).tobytes())
            header["m"] = list(header["m"])
            messages.append((header, frames))
            for reply in take(follower, header, frames):
                if isinstance(reply, tuple):
                    decided[reply[0].path] = reply[1].tobytes()
        else:
            answer = decided[item.path]
        try:
            item = stream.send(answer)
        except StopIteration:
            item = None
    assert set(follower.outcomes().paths) == {"k0=0", "k0=1"}
    return tuple(messages)


BLOCKS = 8
"""And the calibration among them."""


def messages() -> list[Message]:
    return copy.deepcopy(list(recorded()))


def outcomes_of(sequence: list[Message]) -> Outcomes:
    follower = tracker()
    for header, payload in sequence:
        take(follower, header, payload)
    return follower.outcomes()


@cache
def undisturbed() -> Outcomes:
    return outcomes_of(messages())


def assert_refused(place: int, wrong: Message, kind: type[Exception] = StreamFault) -> None:
    """The message is refused where another one is due, and the batch would go on as if it had never come."""
    follower = tracker()
    for number, (header, payload) in enumerate(messages()):
        if number == place:
            with pytest.raises(kind):
                take(follower, *wrong)
        take(follower, header, payload)
    found = follower.outcomes()
    assert np.array_equal(found.bits, undisturbed().bits)
    assert np.array_equal(found.discarded, undisturbed().discarded)
    assert found.detection_events == undisturbed().detection_events
