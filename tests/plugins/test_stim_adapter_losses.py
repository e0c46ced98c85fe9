# SPDX-License-Identifier: Apache-2.0
"""What the simulated machine loses and says that it has lost: erased qubits, rounds, shots."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from loopback import prepared
from qcos_plugins.stim_adapter.machine import Machine
from qcos_plugins.stim_adapter.simulator import Compilers, Simulator
from test_stim_adapter import BRANCHES

from qcosd.qec.calibration import Calibration
from qcosd.qec.device import Device
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.hardware import Awaits, Batch, Control, Said
from qcosd.qec.noise import Noise
from qcosd.qec.placement import Placement
from qcosd.qec.stream import Block, Discard

NOISY = Calibration.uniform(2e-3)
IDLE = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; ' + "id q[0];" * 12 + "measure q[0] -> c[0];"
LONG = prepared(IDLE)
BRANCHING = prepared(BRANCHES)
COMPILERS = Compilers()
PLACEMENT = Placement.of("default", (0, 0), ())


def said(
    program: FragmentProgram,
    shots: int,
    seed: int = 1,
    decide: Callable[[Awaits], int] = lambda awaited: 0xAA,
    **losses: float,
) -> list[Said]:
    """All that the machine says in a batch; decisions are a byte, repeated."""
    device = Device(noise=Noise(**losses))
    control = Control(Simulator(device, NOISY, COMPILERS))
    control.prepare(program, PLACEMENT)
    control.arm(Batch(0, shots, seed))
    control.start(0)
    found = []
    while (item := control.next()) is not None:
        if isinstance(item, Said):
            found.append(item)
        else:
            values = np.packbits(
                np.unpackbits(np.full(64, decide(item), np.uint8), count=item.shots, bitorder="little"),
                bitorder="little",
            )
            control.decide(item.path, item.k, values.tobytes())
    return found


def blocks(items: list[Said]) -> list[Block]:
    return [item.header for item in items if isinstance(item.header, Block)]


def frame(items: list[Said], name: str) -> np.ndarray:
    """A payload of all blocks, unpacked: uint8 (records, shots); zeros where it was left out."""
    rows = []
    for item in items:
        if isinstance(block := item.header, Block) and block.status != "lost":
            shape = (sum(block.m), -(-block.shots // 8))
            packed = np.zeros(shape, np.uint8)
            if name in block.payload:
                packed = np.frombuffer(item.frames[block.payload.index(name)], np.uint8).reshape(shape)
            padding = np.unpackbits(packed, axis=1, bitorder="little")[:, block.shots :]
            assert not padding.any()
            rows.append(np.unpackbits(packed, axis=1, count=block.shots, bitorder="little"))
    return np.concatenate(rows)


@pytest.mark.parametrize("program", [LONG, BRANCHING], ids=["idle", "branches"])
def test_without_losses_a_seed_gives_the_bits_of_the_bare_machine(program: FragmentProgram) -> None:
    raw, answer, shots, found = Machine(program, NOISY, 100, 1).run(), None, {}, []
    while True:
        try:
            item = raw.send(answer)
        except StopIteration:
            break
        answer = None
        if item[0] == "block":
            found.append((item[1], item[2].tobytes()))
            shots[item[1].path] = item[1].shots
        else:
            bits = np.unpackbits(np.full(64, 0xAA, np.uint8), count=shots[item[1]], bitorder="little")
            answer = np.packbits(bits, bitorder="little")
    assert [(one.header, one.frames[0]) for one in said(program, 100)] == found


def test_erased_records_are_coins_and_all_others_stay() -> None:
    plain, erased = said(LONG, 1024), said(LONG, 1024, erasure=0.05)
    assert [replace(b, payload=("bits",)) for b in blocks(erased)] == blocks(plain)
    lost = frame(erased, "erasure").astype(np.bool_)
    n = lost.size
    assert abs(lost.mean() - 0.05) < 5 * (0.05 * 0.95 / n) ** 0.5
    before, after = frame(plain, "bits"), frame(erased, "bits")
    assert (before[~lost] == after[~lost]).all()
    flipped = (before != after)[lost]
    assert abs(flipped.mean() - 0.5) < 5 * 0.5 / flipped.size**0.5
    # No record and no shot is spared.
    assert lost.any(axis=1).all()
    assert lost.any(axis=0).all()


def test_the_records_of_a_state_that_arrives_are_not_erased() -> None:
    program = prepared(
        'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; s q[0]; h q[0]; s q[0]; h q[0]; '
        "measure q[0] -> c[0];"
    )
    names = [name for fragment in program.fragments for slot in fragment.sequence() for name in slot.records()]
    arrives = np.array([k == 1 for _, _, k in names])
    assert arrives.any()
    lost = frame(said(program, 512, erasure=0.5), "erasure").astype(np.bool_)
    assert not lost[arrives].any()
    assert abs(lost[~arrives].mean() - 0.5) < 5 * 0.5 / lost[~arrives].size ** 0.5


def test_where_qubits_are_erased_does_not_depend_on_what_is_measured() -> None:
    machine = [said(LONG, 64, seed, erasure=0.1) for seed in (1, 1, 2)]
    assert (frame(machine[0], "erasure") == frame(machine[1], "erasure")).all()
    assert (frame(machine[0], "erasure") != frame(machine[2], "erasure")).any()
    both = said(LONG, 64, 1, erasure=0.1, discard=0.1)
    assert (frame(both, "erasure") == frame(machine[0], "erasure")).all()


def test_lost_rounds_are_blocks_of_their_own_and_the_rest_stays() -> None:
    plain = said(LONG, 64)
    bits = frame(plain, "bits")
    starts = np.cumsum([0, *(m for block in blocks(plain) for m in block.m)])
    total = lost = 0
    for seed in range(40):
        items = said(LONG, 64, seed, lost=0.2)
        slot = record = time = 0
        for item in items:
            block = item.header
            assert (block.round, block.slot, block.rec_start) == (slot, slot, record)
            assert block.t_hw_ns > time
            assert block.m
            slot, record, time = slot + len(block.m), record + sum(block.m), block.t_hw_ns
            assert block.t_hw_ns == slot * 1000
            if block.status == "lost":
                assert (len(block.m), block.payload, item.frames) == (1, (), ())
                lost += 1
        assert [b.last for b in blocks(items)] == [False] * (len(items) - 1) + [True]
        assert blocks(items)[-1].status == "ok"  # the read-out at the end is no round
        total += slot - 1
        if seed == 1:
            kept = [range(starts[b.round], starts[b.round + len(b.m)]) for b in blocks(items) if b.status == "ok"]
            assert (frame(items, "bits") == bits[np.concatenate(kept)]).all()
    assert abs(lost / total - 0.2) < 5 * (0.2 * 0.8 / total) ** 0.5


def test_every_round_may_be_lost() -> None:
    items = said(LONG, 8, lost=1.0)
    assert [b.status for b in blocks(items)] == ["lost"] * (len(items) - 1) + ["ok"]


def discarded(items: list[Said]) -> dict[str, np.ndarray]:
    """Path -> how often each of its shots was called worthless."""
    found: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(0, np.int64))
    for item in items:
        if isinstance(item.header, Discard):
            shots = np.unpackbits(np.frombuffer(item.frames[0], np.uint8), count=item.header.shots, bitorder="little")
            previous = found[item.header.path]
            found[item.header.path] = shots + (previous if len(previous) else 0)
    return found


def test_a_discarded_shot_is_told_once_before_its_block_and_noise_from_then_on() -> None:
    plain, items = said(LONG, 1024), said(LONG, 1024, discard=0.02)
    assert blocks(items) == blocks(plain)
    known = np.zeros(1024, np.bool_)
    columns = iter(frame([item], "bits") for item in plain)
    fresh = np.zeros(1024, np.bool_)
    for item in items:
        if isinstance(item.header, Discard):
            mask = np.unpackbits(np.frombuffer(item.frames[0], np.uint8), count=1024, bitorder="little").astype(
                np.bool_
            )
            assert not (mask & known).any()
            fresh, announced = mask, item.header.round
            known |= mask
        else:
            if fresh.any():
                assert announced == item.header.round
            fresh = np.zeros(1024, np.bool_)
            changed = frame([item], "bits") != next(columns)
            assert not changed[:, ~known].any()
            assert abs(changed[:, known].mean() - 0.5) < 0.1
    due = 1 - 0.98 ** len(plain)
    assert abs(known.mean() - due) < 5 * (due * (1 - due) / 1024) ** 0.5


def test_a_discarded_shot_is_told_once_also_when_paths_part() -> None:
    items = said(BRANCHING, 400, discard=0.05)
    paths = {block.path: block.shots for block in blocks(items)}
    assert len(paths) > 3
    found = discarded(items)
    assert found[""].max() == 1
    first = found[""].astype(np.bool_)
    odd = np.arange(400) % 2 == 1  # 0xAA
    for path, taken in (("k0=0", ~odd), ("k0=1", odd)):
        assert len(found[path]) == taken.sum()
        assert not (found[path] * first[taken]).any()
        assert found[path].any()


@pytest.mark.parametrize("shots", [1, 7, 8, 9])
def test_masks_have_no_padding(shots: int) -> None:
    items = said(BRANCHING, shots, discard=0.5, erasure=0.5, lost=0.1)
    for item in items:
        if isinstance(item.header, Block) and item.header.status == "ok":
            frame([item], "bits")
            frame([item], "erasure")
        if isinstance(item.header, Discard):
            mask = np.unpackbits(np.frombuffer(item.frames[0], np.uint8), bitorder="little")
            assert mask.any()
            assert not mask[item.header.shots :].any()


def test_a_program_without_a_round_loses_none() -> None:
    nothing = prepared('OPENQASM 2.0; include "qelib1.inc"; qreg q[1];')
    (only,) = said(nothing, 4, lost=1.0, erasure=1.0)
    assert (only.header.m, only.header.last, only.header.status) == ((0,), True, "ok")
    assert only.header.t_hw_ns > 0
