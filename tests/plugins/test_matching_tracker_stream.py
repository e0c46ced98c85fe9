# SPDX-License-Identifier: Apache-2.0
"""The tracker as a partner on the stream: what it accepts, what it answers, how it goes on after a decision."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import sampled
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.model import DEFAULT_DECODER
from qcos_plugins.matching_tracker.tracker import StreamFault, Tracker
from qcos_plugins.surface_code.builder import Builder

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import Decision, Fragment, FragmentProgram
from qcosd.qec.program import Condition
from qcosd.qec.stream import Acknowledgement, Decided

D = 3
TEMPLATES = TemplateCache()
RATES = Calibration.uniform(1e-3)


def teleported(extra: int = 0) -> FragmentProgram:
    """A Bell pair; one half is measured, and the other waits, or is turned twice, as that bit says; then it is measured."""
    tags = count()
    b = Builder(D, tags=tags)
    b.init(0, (0, 0), "X")
    b.init(1, (1, 1), "Z")
    b.idle(D)
    b.cnot(0, 1, ancilla=2)
    b.measure(0, "Z", bit=0)
    b.until(5 * D + extra)
    first = b.fragment(0, Decision(0, Condition((0,), "==", 1), otherwise=1, then=2))
    fragments = [first]
    for index, turns in ((1, 0), (2, 2)):
        b = Builder(D, entry={1: (1, 1)}, tags=tags)
        for _ in range(turns):
            b.idle(D)
            b.hadamard(1)
        b.idle(D)
        b.measure(1, "Z", bit=1)
        fragments.append(b.fragment(index))
    return FragmentProgram(D, 2, (("a", 1), ("b", 1)), tuple(fragments), (2, 2))


def branches(p: float, shots: int) -> tuple[list[sampled.Recording], np.ndarray]:
    """Recordings of both paths, of shots that really decide so, and where in a mixed batch they stand.

    Both paths begin with the same slots.  A shot's decision depends on its own records only, so shots of a path that
    would have decided otherwise can be left out.
    """
    kept = []
    for value in (0, 1):
        recording = sampled.record(teleported(), p, 3 * shots + 50, [[0, 1]], decisions=[value], seed=7 + value)
        values = sampled.decided(
            Tracker(recording.program, recording.rates, recording.shots, templates=TEMPLATES), recording
        )
        kept.append(recording.chosen(np.flatnonzero(values == value)[: shots - value]))
        assert kept[-1].shots == shots - value
    return kept, np.random.default_rng(5).permutation(np.repeat([0, 1], [shots, shots - 1]))


def run_branches(p: float, shots: int, size: int = D) -> tuple[Tracker, list[sampled.Recording], np.ndarray]:
    kept, order = branches(p, shots)
    program = teleported()
    tracker = Tracker(program, kept[0].rates, len(order), templates=TEMPLATES)
    mixed = np.zeros((len(order), sum(len(s.records()) for s in program.fragments[0].sequence())), bool)
    for value, recording in enumerate(kept):
        mixed[order == value] = recording.records[:, : mixed.shape[1]]
    whole = [sampled.blocks(program, r.records, size, decisions=[v]) for v, r in enumerate(kept)]
    first = sampled.blocks(program, mixed, size, decisions=[0])
    for block, bits in first:
        if block.path:
            break
        replies = tracker.receive(block, bits)
    header, values = replies[-1]
    assert header == Decided("", 0, len(order))
    assert np.array_equal(np.unpackbits(values, count=len(order), bitorder="little"), order)
    for blocks in whole:
        for block, bits in blocks:
            if block.path and block.shots:
                tracker.receive(block, bits)
    return tracker, kept, order


@pytest.mark.parametrize("shots", [1, 5, 40])
def test_a_batch_splits_and_every_branch_is_right(shots: int) -> None:
    tracker, _, order = run_branches(0.0, shots)
    outcomes = tracker.outcomes()
    assert np.array_equal(outcomes.bits, np.array([order, order]))
    assert np.array_equal(outcomes.undecoded, outcomes.bits)
    assert outcomes.paths == {k: n for k, n in {"k0=0": shots, "k0=1": shots - 1}.items() if n}
    assert outcomes.counts == {k: n for k, n in {"0 0": shots, "1 1": shots - 1}.items() if n}
    assert set(outcomes.rounds[order == 0]) == {6 * D}
    assert set(outcomes.rounds[order == 1]) <= {8 * D}


@pytest.mark.slow
def test_windows_across_a_decision_equal_global_decoding() -> None:
    tracker, kept, order = run_branches(3e-3, 6000)
    outcomes = tracker.outcomes()
    for value, recording in enumerate(kept):
        live = recording.parities(outcomes.bits[:, order == value])
        globally = recording.decoded_globally(DEFAULT_DECODER)
        assert np.array_equal(recording.parities(outcomes.undecoded[:, order == value]), recording.undecoded())
        assert (live != globally).mean() <= 0.006
        assert abs(live.mean() - globally.mean()) <= 0.05 * globally.mean()


def test_a_split_batch_gives_what_unsplit_ones_give() -> None:
    tracker, kept, order = run_branches(5e-3, 37, size=1)
    outcomes = tracker.outcomes()
    for value, recording in enumerate(kept):
        alone = Tracker(recording.program, recording.rates, recording.shots, templates=TEMPLATES)
        for block, bits in sampled.blocks(recording.program, recording.records, D, decisions=[value]):
            alone.receive(block, bits)
        assert np.array_equal(outcomes.bits[:, order == value], alone.outcomes().bits)
        assert np.array_equal(outcomes.undecoded[:, order == value], alone.outcomes().undecoded)


def test_a_branch_that_nobody_takes_is_never_opened_and_never_missed() -> None:
    recording = branches(0.0, 12)[0][1]
    tracker = Tracker(recording.program, recording.rates, recording.shots, templates=TEMPLATES)
    blocks = sampled.blocks(recording.program, recording.records, D, decisions=[1])
    for block, bits in blocks:
        if block.path:
            with pytest.raises(StreamFault, match="no path 'k0=0'"):
                tracker.receive(replace(block, path="k0=0"), bits)
        tracker.receive(block, bits)
    assert tracker.finished
    assert tracker.outcomes().paths == {"k0=1": recording.shots}


def test_decisions_in_a_row_without_slots_between_them() -> None:
    """Fragments of length 0: the second decision falls with the first, and a path may end at once."""
    tags = count()
    b = Builder(D, tags=tags)
    b.init(0, (0, 0), "X")
    b.idle(D)
    b.measure(0, "Z", bit=0)
    b.init(1, (0, 0), "Z")
    b.until(3 * D)
    fragments = [
        b.fragment(0, Decision(0, Condition((0,), "==", 1), otherwise=1, then=1)),
        Fragment(1, ((1, b.rect(1)),), (), (), Decision(1, Condition((0,), "<", 1), otherwise=2, then=2)),
        Fragment(2, ((1, b.rect(1)),), (), ()),
    ]
    program = FragmentProgram(D, 1, (("c", 1),), tuple(fragments), (1, 1))
    recording = sampled.record(FragmentProgram(D, 1, (("c", 1),), (replace(fragments[0], decision=None),)), 0.0, 20)
    tracker = Tracker(program, RATES, 20, templates=TEMPLATES)
    for block, bits in sampled.blocks(recording.program, recording.records, D):
        replies = tracker.receive(replace(block, last=False), bits)
    first = next(values for header, values in (r for r in replies if isinstance(r, tuple)) if header.path == "")
    taken = np.unpackbits(first, count=20, bitorder="little").astype(bool)
    assert 0 < taken.sum() < 20
    paths = {"k0=0/k1=1": int((~taken).sum()), "k0=1/k1=0": int(taken.sum())}
    assert {header.path for header, _ in (r for r in replies if isinstance(r, tuple))} == {"", "k0=0", "k0=1"}
    for path, shots in paths.items():
        empty = np.zeros((0, (shots + 7) // 8), np.uint8)
        block = replace(block, path=path, shots=shots, fragment=2, slot=0, round=3 * D, m=(), last=True)
        tracker.receive(replace(block, rec_start=recording.records.shape[1]), empty)
    outcomes = tracker.outcomes()
    assert outcomes.paths == paths
    assert np.array_equal(outcomes.bits[0], taken)


def memory_blocks(shots: int = 13) -> tuple[Tracker, list[tuple[sampled.Block, np.ndarray]]]:
    recording = sampled.record(sampled.memory(D, 12), 5e-3, shots)
    return (
        Tracker(recording.program, recording.rates, shots, templates=TEMPLATES),
        sampled.blocks(recording.program, recording.records, D),
    )


def test_every_block_is_acknowledged() -> None:
    tracker, blocks = memory_blocks()
    replies = [tracker.receive(block, bits) for block, bits in blocks]
    assert replies == [
        [Acknowledgement("", 3, 0)],
        [Acknowledgement("", 6, 3)],
        [Acknowledgement("", 9, 6)],
        [Acknowledgement("", 12, 9)],
        [Acknowledgement("", 13, 13)],
    ]
    assert tracker.finished


def test_outcomes_have_to_wait_for_the_end() -> None:
    tracker, blocks = memory_blocks()
    tracker.receive(*blocks[0])
    with pytest.raises(StreamFault, match="1 paths have not ended"):
        tracker.outcomes()


WRONG = {
    "gap": lambda block: replace(block, round=block.round + 1),
    "gap in the fragment": lambda block: replace(block, slot=block.slot + 1),
    "other fragment": lambda block: replace(block, fragment=1),
    "other path": lambda block: replace(block, path="k0=1"),
    "fewer shots": lambda block: replace(block, shots=12),
    "records missing": lambda block: replace(block, m=(*block.m[:-1], block.m[-1] - 1)),
    "slots beyond the end": lambda block: replace(block, m=block.m * 9),
    "records before it": lambda block: replace(block, rec_start=block.rec_start + 1),
    "early end": lambda block: replace(block, last=True),
    "lost": lambda block: replace(block, status="lost"),
    "aborted": lambda block: replace(block, status="aborted"),
    "stall": lambda block: replace(block, kind="stall"),
    "other payload": lambda block: replace(block, payload=("llr",)),
    "other batch": lambda block: replace(block, batch=1),
    "empty": lambda block: replace(block, m=()),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_block_that_is_not_due_is_refused_and_changes_nothing(wrong: str) -> None:
    tracker, blocks = memory_blocks()
    undisturbed, _ = memory_blocks()
    for i, (block, bits) in enumerate(blocks):
        undisturbed.receive(block, bits)
        if i == 2:
            with pytest.raises(StreamFault) as fault:
                tracker.receive(WRONG[wrong](block), bits)
            assert fault.value.details
        tracker.receive(block, bits)
    assert np.array_equal(tracker.outcomes().bits, undisturbed.outcomes().bits)
    assert tracker.outcomes().detection_events == undisturbed.outcomes().detection_events


@pytest.mark.parametrize(
    "spoil",
    [
        lambda bits: bits[:-1],
        lambda bits: bits[:, :1],
        lambda bits: bits.astype(np.int64),
        lambda bits: bits | np.array([0, 128], np.uint8),
    ],
    ids=["rows", "columns", "type", "padding"],
)
def test_a_payload_that_does_not_fit_its_header_is_refused(spoil) -> None:
    tracker, blocks = memory_blocks()
    block, bits = blocks[0]
    with pytest.raises(StreamFault):
        tracker.receive(block, spoil(bits))
    tracker.receive(block, bits)


def test_repeats_and_swaps_are_refused() -> None:
    tracker, blocks = memory_blocks()
    tracker.receive(*blocks[0])
    for other in (blocks[0], blocks[2]):
        with pytest.raises(StreamFault, match="slot"):
            tracker.receive(*other)
    tracker.receive(*blocks[1])


def test_a_late_block_is_as_good_as_any() -> None:
    tracker, blocks = memory_blocks()
    for block, bits in blocks:
        tracker.receive(replace(block, status="late"), bits)
    assert tracker.finished


def test_kept_records_are_what_came() -> None:
    recording = sampled.record(sampled.memory(D, 5), 5e-3, 13)
    outcomes = sampled.track(recording, size=2, keep_records=True)
    assert np.array_equal(outcomes.records[""], sampled.pack(recording.records.T))


def test_what_is_not_offered_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown decoder 'pym'"):
        Tracker(sampled.memory(D, 5), RATES, 1, decoder="pym")
    with pytest.raises(ValueError, match="buffer -1"):
        Tracker(sampled.memory(D, 5), RATES, 1, buffer=-1)
    with pytest.raises(ValueError, match="too little to decide on"):
        Tracker(teleported(), RATES, 1, buffer=D - 1)
    with pytest.raises(ValueError, match="more than programs wait for"):  # and not, later, a fault of the program
        Tracker(teleported(), RATES, 1, buffer=D + 1)
    with pytest.raises(ValueError, match="0 shots"):
        Tracker(sampled.memory(D, 5), RATES, 0)


def test_the_summary_is_what_the_kernel_merges() -> None:
    recording = sampled.record(sampled.ghz(D, 3), 3e-3, 50, [[0, 1], [0, 2]])
    ticks = count()
    outcomes = sampled.track(recording, clock=lambda: next(ticks) * 4e-6, templates=TEMPLATES)
    summary = outcomes.summary()
    detectors = len(sampled.whole_circuit(recording.program, None, recording.observables).detectors)
    assert summary["same"] == {
        "registers": [["c", 3]],
        "bit_order": summary["same"]["bit_order"],
        "decoder": DEFAULT_DECODER,
        "window": {"commit": 3, "buffer": 3, "scheme": "sliding"},
        "detectors": detectors,
        "calibration": recording.rates.id,
        "erasures": "decoded",
    }
    total = summary["sum"]
    assert sum(total["counts"].values()) == sum(total["counts_undecoded"].values()) == total["shots_accepted"] == 50
    assert set(map(len, total["counts"])) == {3}
    assert total["rounds_total"] == 50 * (1 + 4 * D)
    assert total["detectors_total"] == 50 * detectors
    assert sum(total["latency_us"].values()) == total["windows"] == outcomes.windows
    assert set(total["latency_us"]) <= {"5", "10", "20"}
    assert (total["lateness_us"], total["stall_rounds"]) == ({}, 0)
    spent = total["decode_us_per_round"]
    assert 0 < spent["rounds"] <= 1 + 4 * D
    assert spent["busy_us"] % 4 == 0
    assert spent["busy_us"] > 0
    assert summary["min"] == summary["max"] == {"rounds": 1 + 4 * D}
    assert 0 < total["detection_events"] < total["detectors_total"]


def test_a_program_of_nothing_ends_at_once() -> None:
    program = Builder(D).program()
    tracker = Tracker(program, RATES, 5, templates=TEMPLATES)
    ((block, bits),) = sampled.blocks(program, np.zeros((5, 0), bool), D)
    tracker.receive(block, bits)
    assert tracker.outcomes().counts == {"": 5}
    assert tracker.outcomes().summary()["max"] == {"rounds": 0}
