# SPDX-License-Identifier: Apache-2.0
"""Records that are missing: decoded where that is possible, and never guessed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import damaged
import numpy as np
import pytest
import sampled
from damaged import losing, records_of, tracked, whole, without
from qcos_plugins.matching_tracker.outcomes import Outcomes
from qcos_plugins.surface_code.builder import Builder

from qcosd.qec.fragment import MEASURE, SPLIT, Merge

D = 3
PROGRAMS = {
    "memory": (lambda: sampled.memory(D, 10), [[0]]),
    "GHZ in Z": (lambda: sampled.ghz(D, 3), [[0, 1], [0, 2]]),
    "GHZ in X": (lambda: sampled.ghz(D, 3, "X"), [[0, 1, 2]]),
    "H H H": (lambda: sampled.hadamards(D, "Z"), [[0]]),
    "S S": (lambda: sampled.phases(D, dagger=False), [[0]]),
}


def recorded(name: str, shots: int, p: float = 0.0, seed: int = 3) -> sampled.Recording:
    program, observables = PROGRAMS[name]
    return sampled.record(program(), p, shots, observables, seed=seed)


def chosen(recording: sampled.Recording, share: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(recording.records.shape) < share


def told(outcomes: Outcomes) -> dict[str, Any]:
    """The summary, but for what the cache of templates does."""
    summary = outcomes.summary()
    del summary["sum"]["templates_missed"]
    return summary


def assert_right_or_discarded(outcomes: Outcomes, clean: Outcomes) -> None:
    """Nothing that counts differs from what the same shots come to with all their records."""
    kept = ~outcomes.discarded
    assert np.array_equal(outcomes.bits[:, kept], clean.bits[:, kept])
    assert sum(outcomes.counts.values()) == kept.sum()
    assert dict(outcomes.discards) == ({"erased": int((~kept).sum())} if not kept.all() else {})


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(("share", "enough"), [(0.05, 0.8), (0.3, 0.02)])
def test_without_noise_every_shot_is_right_or_discarded(name: str, share: float, enough: float) -> None:
    recording = recorded(name, 150)
    clean = whole(recording)
    outcomes = tracked(recording, without(recording, chosen(recording, share, 1)))
    assert_right_or_discarded(outcomes, clean)
    assert enough * recording.shots <= sum(outcomes.counts.values())
    assert outcomes.records_missing > share / 2 * recording.records.size


@pytest.mark.parametrize("name", ["GHZ in X", "H H H", "S S"])
@pytest.mark.parametrize("buffer", [D, 1, 0])
def test_any_single_record_may_be_missing(name: str, buffer: int) -> None:
    """Those at the ends of windows, those of events and of hand-overs included."""
    count = len(records_of(recorded(name, 1)))
    recording = recorded(name, count)
    outcomes = tracked(recording, without(recording, np.eye(count, dtype=bool)), buffer=buffer)
    assert_right_or_discarded(outcomes, whole(recording, buffer=buffer))
    # A seam's record next to a patch that is read out in the same slot is in no detector.
    assert outcomes.discarded.sum() <= (name == "GHZ in X")
    assert outcomes.records_missing == count


@pytest.mark.parametrize("wait", [1, 2, 3])
@pytest.mark.parametrize("buffer", [D, 0])
def test_a_merge_may_begin_in_any_slot_of_a_window(wait: int, buffer: int) -> None:
    """In the last one too: its first records are then in detectors of the next window only."""
    b = Builder(D)
    b.init(0, (0, 0), "Z")
    b.init(1, (1, 1), "Z")
    b.idle(wait)
    b.cnot(0, 1, ancilla=2)
    b.measure(0, "Z", bit=0)
    b.measure(1, "Z", bit=1)
    program = b.program(bits=2)
    count = len(records_of(sampled.record(program, 0.0, 1)))
    recording = sampled.record(program, 0.0, 3 * count)
    missing = np.repeat(np.eye(count, dtype=bool), 3, axis=0)
    outcomes = tracked(recording, without(recording, missing), buffer=buffer)
    assert_right_or_discarded(outcomes, whole(recording, buffer=buffer))
    slots = list(program.fragments[0].sequence())
    joins = [t for t, slot in enumerate(slots) for e in slot.events if isinstance(e, Merge)]
    seams = {(t, x, y, k) for t in joins for e in slots[t].events if isinstance(e, Merge) for _, x, y, k in e.records}
    read = np.repeat([name in seams for name in records_of(recording)], 3)
    assert read.any()
    assert not outcomes.discarded[read].any()


@pytest.mark.parametrize("name", PROGRAMS)
def test_measure_qubits_that_stay_silent_for_long(name: str) -> None:
    recording = recorded(name, 120)
    names = records_of(recording)
    last = names[-1][0]
    rng = np.random.default_rng(6)
    sites = sorted({name[1:] for name in names})
    missing = np.zeros(recording.records.shape, bool)
    for shot in range(recording.shots):
        silent = {sites[i] for i in rng.integers(0, len(sites), 4)}
        begin = int(rng.integers(0, last))
        end = begin + int(rng.integers(2, 3 * D))
        missing[shot] = [name[1:] in silent and begin <= name[0] < end for name in names]
    outcomes = tracked(recording, without(recording, missing))
    assert_right_or_discarded(outcomes, whole(recording))
    assert not outcomes.discarded.all()


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("lost", [1, 2, D])
def test_a_lost_round_never_changes_an_outcome(name: str, lost: int) -> None:
    recording = recorded(name, 13)
    clean = whole(recording)
    slots = list(recording.program.fragments[0].sequence())
    for first in range(len(slots) - lost + 1):
        gone = range(first, first + lost)
        outcomes = tracked(recording, losing(recording, gone))
        assert_right_or_discarded(outcomes, clean)
        assert outcomes.rounds_lost == lost
        assert outcomes.records_missing == recording.shots * sum(len(slots[t].records()) for t in gone)
        # What was read out destructively is gone for ever; a round alone is not.
        read = any(part.rank in (SPLIT, MEASURE) for t in gone for part in slots[t].parts)
        assert read or lost == D or not outcomes.discarded.any()
        if gone.stop == len(slots):
            assert outcomes.discarded.all()


def test_an_erased_read_out_is_a_coin_flip_and_never_counted() -> None:
    recording = recorded("memory", 9)
    final = np.array([name[0] == 10 for name in records_of(recording)])
    assert final.sum() == D * D
    missing = np.zeros(recording.records.shape, bool)
    missing[:4, final] = True
    outcomes = tracked(recording, without(recording, missing))
    assert list(np.flatnonzero(outcomes.discarded)) == [0, 1, 2, 3]
    assert outcomes.counts == {"0": 5}
    summary = outcomes.summary()["sum"]
    assert summary["discards"] == {"erased": 4}
    assert (summary["shots_accepted"], summary["shots_discarded"]) == (5, 4)


def test_a_read_out_lacks_a_logical_operator_or_not() -> None:
    """A row of data qubits of a patch read in Z is a logical X: its records say nothing if all of them are missing."""
    names = records_of(recorded("memory", 1))
    data = [(i, x, y) for i, (t, x, y, _) in enumerate(names) if t == 10]
    cases = []
    for line in (0, 2, 4):
        row = [i for i, _, y in data if y == line]
        cases += [(row, True), (row[:-1], False), ([i for i, x, _ in data if x == line], False)]
    recording = recorded("memory", len(cases))
    missing = np.zeros(recording.records.shape, bool)
    for shot, (absent, _) in enumerate(cases):
        missing[shot, absent] = True
    outcomes = tracked(recording, without(recording, missing))
    assert [bool(d) for d in outcomes.discarded] == [gone for _, gone in cases]
    assert outcomes.counts == {"0": sum(not gone for _, gone in cases)}


@pytest.mark.parametrize("name", ["GHZ in Z", "S S"])
def test_however_it_is_said_and_whatever_the_bits_show(name: str) -> None:
    recording = recorded(name, 60, p=2e-3)
    missing = chosen(recording, 0.03, 4)
    found = [
        tracked(recording, without(recording, missing, how, junk=junk))
        for how, junk in (("erasure", 0), ("erasure", 1), ("valid", 2), ("llr", 3))
    ]
    for outcomes in found[1:]:
        assert told(outcomes) == told(found[0])
        assert np.array_equal(outcomes.bits, found[0].bits)


def test_payloads_add_up() -> None:
    recording = recorded("GHZ in Z", 40)
    a, b, c = (chosen(recording, 0.02, seed) for seed in (1, 2, 3))
    separately = [list(without(recording, m, how)) for m, how in ((a, "valid"), (b, "erasure"), (c, "llr"))]
    together = []
    for (block, (bits, valid)), (_, (_, erasure)), (_, (_, llr)) in zip(*separately, strict=True):
        block = replace(block, payload=("bits", "llr", "valid", "erasure"))
        together.append((block, [bits, llr, valid, erasure]))
    outcomes = tracked(recording, iter(together))
    assert told(outcomes) == told(tracked(recording, without(recording, a | b | c)))
    counted = (a | b | c)[~outcomes.discarded].sum()  # of the others only what came before they were discarded
    assert counted <= outcomes.records_missing <= (a | b | c).sum()


def test_payloads_in_which_nothing_is_missing_change_nothing() -> None:
    recording = recorded("GHZ in Z", 21, p=3e-3)
    nothing = np.zeros(recording.records.shape, bool)
    for how in damaged.HOW:
        assert told(tracked(recording, without(recording, nothing, how))) == told(whole(recording))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_blocks_may_be_cut_anywhere(size: int) -> None:
    recording = recorded("S S", 30, p=3e-3)
    missing = chosen(recording, 0.05, 9)
    outcomes = tracked(recording, without(recording, missing, size=size))
    assert told(outcomes) == told(tracked(recording, without(recording, missing)))


def test_padding_is_nobodys_record() -> None:
    recording = recorded("GHZ in Z", 24, p=2e-3)
    missing = chosen(recording, 0.04, 8)
    most = tracked(recording, without(recording, missing, "valid"))
    for shots in (1, 7, 8, 9, 17):
        few = recording.chosen(np.arange(shots))
        outcomes = tracked(few, without(few, missing[:shots], "valid"))
        assert np.array_equal(outcomes.bits, most.bits[:, :shots])
        assert np.array_equal(outcomes.discarded, most.discarded[:shots])
        assert outcomes.records_missing == missing[:shots].sum()


def test_what_no_record_says_is_in_no_undecoded_count() -> None:
    recording = recorded("memory", 100, p=3e-3)
    missing = chosen(recording, 0.05, 2)
    outcomes = tracked(recording, without(recording, missing))
    (event,) = [e for e in list(recording.program.fragments[0].sequence())[-1].events]
    names = records_of(recording)
    read = [names.index((10, x, y, k)) for _, x, y, k in event.records]
    assert np.array_equal(outcomes.unread, missing[:, read].any(axis=1))
    assert 0 < outcomes.unread.sum() < recording.shots
    counted = ~(outcomes.unread | outcomes.discarded)
    assert sum(outcomes.counts_undecoded.values()) == counted.sum()
    assert np.array_equal(outcomes.undecoded[:, counted], whole(recording).undecoded[:, counted])


def test_without_decoding_of_missing_records_their_shots_are_discarded() -> None:
    recording = recorded("GHZ in Z", 50)
    missing = np.zeros(recording.records.shape, bool)
    for shot in range(0, 20):
        missing[shot, 7 * shot] = True
    outcomes = tracked(recording, without(recording, missing), decode_missing=False)
    assert list(np.flatnonzero(outcomes.discarded)) == list(range(20))
    assert outcomes.summary()["sum"]["discards"] == {"missing records": 20}
    assert outcomes.summary()["same"]["erasures"] == "discarded"
    assert np.array_equal(outcomes.bits[:, 20:], whole(recording).bits[:, 20:])


def test_late_rounds_count_like_any() -> None:
    recording = recorded("memory", 9, p=3e-3)
    late = [
        (replace(block, status="late"), frames) if block.round in (3, 4) else (block, frames)
        for block, frames in losing(recording, ())
    ]
    outcomes = tracked(recording, iter(late))
    assert outcomes.rounds_late == 2
    assert outcomes.counts == whole(recording).counts


def test_kept_records_say_what_is_missing() -> None:
    recording = recorded("memory", 11, p=3e-3)
    missing = chosen(recording, 0.05, 2)
    missing[:, :30] = False  # the first blocks are complete
    outcomes = tracked(recording, without(recording, missing, size=2), keep_records=True)
    assert np.array_equal(outcomes.missing[""], sampled.pack(missing.T))
    assert np.array_equal(outcomes.records[""], sampled.pack((recording.records & ~missing).T))
    assert whole(recording, keep_records=True).missing == {}


@pytest.mark.parametrize(("distance", "p", "shots"), [(3, 2e-3, 4000), (5, 4e-3, 1000)])
def test_records_that_are_known_to_be_missing_cost_less_than_random_bits(distance: int, p: float, shots: int) -> None:
    recording = sampled.record(sampled.memory(distance, 3 * distance), p, shots, seed=5)
    missing = chosen(recording, 0.1, 3)
    decoded = tracked(recording, without(recording, missing), prior=recording.rates)
    unheralded = ((replace(block, payload=("bits",)), frames[:1]) for block, frames in without(recording, missing))
    random = tracked(recording, unheralded, prior=recording.rates)
    perfect = whole(recording, prior=recording.rates)
    errors = [int(o.bits[0, ~o.discarded].sum()) for o in (perfect, decoded, random)]
    assert decoded.discarded.mean() < 0.02
    assert errors[0] < errors[1] < errors[2] / 2
