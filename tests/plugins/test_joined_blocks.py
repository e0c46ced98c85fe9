# SPDX-License-Identifier: Apache-2.0
"""Small blocks of a machine in virtual time leave as one: fewer messages, the same records; and how long decisions take."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from loopback import PRIOR, TEMPLATES, prepared
from qcos_plugins.matching_tracker.follow import follow
from qcos_plugins.matching_tracker.outcomes import reaction_label
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.stim_adapter import main
from qcos_plugins.stim_adapter.simulator import Compilers, Simulator
from test_stim_adapter import BRANCHES

from qcosd.qec.device import Device
from qcosd.qec.hardware import Awaits, Batch, Control, Said, feed
from qcosd.qec.noise import Noise
from qcosd.qec.placement import Placement
from qcosd.qec.simulated import JOINED, JOINED_BYTES
from qcosd.qec.stream import Block
from qcosd.sdk.testing import make_lease, stream_pair

IDLE = prepared('OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1];' + "id q[0];" * 30 + "measure q[0] -> c[0];")
BRANCHING = prepared(BRANCHES)
PLACEMENT = Placement.of("default", (0, 0), ())
COMPILERS = Compilers()

Items = list[Said | Awaits]


def items(program: Any, shots: int, *, joins: bool, **noise: float) -> Items:
    """All that the machine says; of the shots of each decision every other one goes on with 1."""
    control = Control(Simulator(Device(noise=Noise(**noise)), PRIOR, COMPILERS, joins=joins))
    control.prepare(program, PLACEMENT)
    control.arm(Batch(0, shots, 7))
    control.start(0)
    found: Items = []
    while (item := control.next()) is not None:
        found.append(item)
        if isinstance(item, Awaits):
            values = np.packbits(np.arange(item.shots) % 2 == 1, bitorder="little")
            control.decide(item.path, item.k, values.tobytes())
    return found


def blocks(found: Items) -> list[tuple[Block, bytes]]:
    return [(i.header, i.frames[0]) for i in found if isinstance(i, Said) and isinstance(i.header, Block)]


@pytest.mark.parametrize("program", [IDLE, BRANCHING], ids=["idle", "branching"])
@pytest.mark.parametrize("shots", [1, 9, 100])
def test_fewer_blocks_have_the_same_records_in_the_same_order(program: Any, shots: int) -> None:
    single, together = blocks(items(program, shots, joins=False)), blocks(items(program, shots, joins=True))
    assert len(together) < len(single)
    for part in (lambda b: b.m, lambda b: (b.path,) * len(b.m), lambda b: range(b.slot, b.slot + len(b.m))):
        assert [x for b, _ in together for x in part(b)] == [x for b, _ in single for x in part(b)]
    assert b"".join(bits for _, bits in together) == b"".join(bits for _, bits in single)
    ends = {(b.path, b.round + len(b.m)): b for b, _ in single}
    for block, bits in together:
        last = ends[block.path, block.round + len(block.m)]
        assert (block.last, block.t_hw_ns) == (last.last, last.t_hw_ns)
        assert len(bits) == sum(block.m) * -(-shots // 8) or block.path
    for (before, _), (after, _) in pairwise(together):
        if before.path == after.path:
            assert after.rec_start == before.rec_start + sum(before.m)


def test_decisions_come_where_they_came() -> None:
    def shape(found: Items) -> list[tuple[str, int]]:
        """Each decision, and the slots that were made before it."""
        slots, out = 0, []
        for item in found:
            if isinstance(item, Awaits):
                out.append((item.path, slots))
            elif isinstance(item.header, Block):
                slots += len(item.header.m)
        return out

    assert shape(items(BRANCHING, 9, joins=True)) == shape(items(BRANCHING, 9, joins=False)) != []


def test_what_leaves_as_one_is_bounded() -> None:
    single, few, many = (blocks(items(IDLE, n, joins=joins)) for n, joins in ((1, False), (1, True), (1024, True)))
    longest = max(len(b.m) for b, _ in single)
    assert max(len(b.m) for b, _ in few) == JOINED * longest
    assert max(len(bits) for _, bits in many) <= JOINED_BYTES
    assert len(blocks(items(IDLE, 8 * JOINED_BYTES // 20, joins=True))) == len(single), "they are large enough alone"


def test_what_gets_lost_is_lost_alone() -> None:
    assert items(IDLE, 9, joins=True, lost=0.1) == items(IDLE, 9, joins=False, lost=0.1)


@pytest.mark.parametrize(("settings", "joined"), [({}, True), ({"round_time": "1e-6"}, False), ({"can_pause": "false"}, False)])  # fmt: skip
def test_a_machine_on_the_clock_sends_each_block_when_it_is_over(settings: dict[str, str], joined: bool) -> None:
    reader, writer = stream_pair(credit=1000)
    inputs = {"fragments": IDLE.to_bytes(), "placement": Placement.of("default", (2, 4), SITES).to_bytes()}
    inputs |= {"calibration": PRIOR.to_bytes()}
    options = {"set": settings}
    inputs["ready"] = main.prepare(make_lease("hardware.prepare", inputs, options)).outputs["ready"]
    lease = make_lease("hardware.run", inputs, options, shots=1, batch=0, stream=writer)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(main.run, lease)
        message = reader.recv()
        assert (len(message.header["m"]) > IDLE.distance) == joined
        while not message.header["last"]:
            message = reader.recv()
        reader.ack()
        running.result()
    reader.close()


SITES = {site for slot in IDLE.fragments[0].slots for part in slot.parts for _, t in part.instructions for site in t}


def test_the_first_block_after_a_decision_says_how_long_it_took() -> None:
    reader, writer = stream_pair(credit=1000)
    control = Control(Simulator(Device(), PRIOR, COMPILERS))
    control.prepare(BRANCHING, PLACEMENT)
    tracker = Tracker(BRANCHING, PRIOR, 9, templates=TEMPLATES)
    heard: list[Block] = []
    receive = tracker.receive
    tracker.receive = lambda block, *frames: (heard.append(block), receive(block, *frames))[1]  # type: ignore[method-assign]
    with ThreadPoolExecutor() as pool:
        running = pool.submit(feed, control, writer, Batch(0, 9, 3))
        follow(tracker, reader, lambda fraction, text: None)
        running.result()
    reader.close()
    told = [before.path != after.path for before, after in pairwise(heard)]
    timed = [block.reacted_ns is not None for block in heard[1:]]
    decisions = {block.path.rpartition("/")[0] for block in heard if block.path}
    assert heard[0].reacted_ns is None
    assert sum(timed) == len(decisions) > 0
    assert all(new for new, known in zip(told, timed, strict=True) if known), "with the first block behind it"
    assert all(block.reacted_ns > 0 for block in heard if block.reacted_ns is not None)
    reactions = tracker.outcomes().summary()["sum"]["reaction_us"]
    assert sum(reactions.values()) == len(decisions)
    assert set(reactions) == {reaction_label(b.reacted_ns) for b in heard if b.reacted_ns is not None}


@pytest.mark.parametrize(
    ("nanoseconds", "label"),
    [(0, "0"), (1, "1"), (1000, "1"), (1001, "2"), (99_000, "99"), (99_001, "100"), (100_001, "110"), (991_000, "1000"), (1_234_567, "1300")],
)  # fmt: skip
def test_reactions_are_rounded_up_to_two_digits(nanoseconds: int, label: str) -> None:
    assert reaction_label(nanoseconds) == label


def test_the_counters_survive_a_checkpoint() -> None:
    tracker = Tracker(BRANCHING, PRIOR, 9, templates=TEMPLATES)
    first = items(BRANCHING, 9, joins=False)[0]
    assert isinstance(first, Said)
    assert isinstance(first.header, Block)
    tracker.receive(replace(first.header, reacted_ns=5000), np.frombuffer(first.frames[0], np.uint8).reshape(-1, 2))
    other = Tracker(BRANCHING, PRIOR, 9, plans=tracker.plans)
    other.restore(*tracker.checkpoint())
    assert other._outcomes.reaction_us == {"5": 1}
