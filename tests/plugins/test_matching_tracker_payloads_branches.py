# SPDX-License-Identifier: Apache-2.0
"""Missing records and discards where a batch splits: shots keep their columns, and what is worthless decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

import damaged
import numpy as np
import oracle
import pytest
import sampled
from damaged import losing, records_of, tracked, whole, without
from loopback import PERFECT, PRIOR, TEMPLATES, prepared, run, said
from qcos_plugins.matching_tracker.follow import take
from qcos_plugins.matching_tracker.tracker import Tracker

from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.hardware import Said
from qcosd.qec.stream import Block, Decided, Discard

SHOTS = 53

TELEPORT = """OPENQASM 2.0; include "qelib1.inc";
qreg q[2]; creg a[1]; creg b[1];
h q[0]; cx q[0],q[1]; measure q[0] -> a[0];
if (a == 1) h q[0];
measure q[1] -> b[0];
"""


@cache
def teleport() -> FragmentProgram:
    return prepared(TELEPORT)


Change = Callable[[Block, tuple[bytes, ...]], Iterable[Said]]


def driven(
    change: Change, shots: int = SHOTS, seed: int = 0, **options: object
) -> tuple[Tracker, dict[str, np.ndarray]]:
    """A batch whose messages are changed on their way to the tracker; and what the tracker decided."""
    tracker = Tracker(teleport(), PRIOR, shots, templates=TEMPLATES, **options)
    stream = said("stim_adapter", teleport(), PERFECT, shots, seed)
    decided: dict[str, bytes] = {}
    item = next(stream, None)
    while item is not None:
        answer = None
        if isinstance(item, Said):
            for message in change(item.header, item.frames):
                for reply in take(tracker, message.header.to_map(), message.frames):
                    if isinstance(reply, tuple) and isinstance(reply[0], Decided):
                        decided[reply[0].path] = reply[1].tobytes()
        else:
            answer = decided[item.path]
        try:
            item = stream.send(answer)
        except StopIteration:
            item = None
    values = {path: np.unpackbits(np.frombuffer(v, np.uint8), bitorder="little") for path, v in decided.items()}
    return tracker, values


def unchanged(block: Block, frames: tuple[bytes, ...]) -> Iterable[Said]:
    yield Said(block, frames)


def discarding(path: str, slot: int, chosen: np.ndarray, reason: str = "leakage") -> Change:
    """These shots of a path are discarded before the block that begins at a slot of its fragment."""

    def change(block: Block, frames: tuple[bytes, ...]) -> Iterable[Said]:
        if (block.path, block.slot) == (path, slot):
            yield Said(Discard(path, block.shots, block.round, reason), (sampled.pack(chosen).tobytes(),))
        yield Said(block, frames)

    return change


def assert_complete(tracker: Tracker, shots: int = SHOTS) -> None:
    """Every shot is accounted for, once, and no outcome is one that the program does not have."""
    total = tracker.outcomes().summary()["sum"]
    assert total["shots_accepted"] + total["shots_discarded"] == shots
    assert sum(total["counts"].values()) == total["shots_accepted"]
    assert sum(total["discards"].values()) == total["shots_discarded"]
    assert sum(tracker.outcomes().paths.values()) == shots
    assert set(total["counts"]) <= {"0 0", "1 1"}


def test_undisturbed_the_batch_splits() -> None:
    tracker, decided = driven(unchanged)
    assert_complete(tracker)
    assert set(tracker.outcomes().paths) == {"k0=0", "k0=1"}
    assert np.array_equal(decided[""][:SHOTS], tracker.outcomes().bits[0])


@pytest.mark.parametrize(
    "losses", [{"erasure": 0.02}, {"lost": 0.08}, {"discard": 0.02}, {"erasure": 0.1, "lost": 0.05}]
)
@pytest.mark.parametrize("shots", [1, 13, 100])
def test_a_machine_that_loses_records(losses: dict[str, float], shots: int) -> None:
    for seed in range(3):
        done = run(teleport(), shots=shots, seed=seed, machine=losses)
        assert_complete(done.tracker, shots)
        if "erasure" in losses:
            assert done.outcomes.records_missing > 0


@pytest.mark.parametrize("seed", range(5))
def test_random_programs_never_give_what_they_cannot_give(seed: int) -> None:
    circuit = oracle.random_circuit(seed, qubits=1 + seed % 3, ifs="nested")
    possible = {key for key, p in oracle.distribution(circuit).items() if p > 1e-12}
    done = run(prepared(circuit.qasm()), shots=120, seed=seed, machine={"erasure": 0.01, "discard": 1e-3, "lost": 1e-3})
    assert set(done.counts) <= possible
    assert done.outcomes.records_missing
    assert sum(done.counts.values()) + int(done.outcomes.discarded.sum()) == 120
    assert sum(done.counts.values()) > 12


@pytest.mark.parametrize("path", ["", "k0=0", "k0=1"])
def test_a_lost_round_in_any_slot_of_any_path(path: str) -> None:
    lengths: dict[str, int] = {}

    def measured(block: Block, frames: tuple[bytes, ...]) -> Iterable[Said]:
        lengths[block.path] = max(lengths.get(block.path, 0), block.slot + len(block.m))
        yield Said(block, frames)

    driven(measured)
    for slot in range(lengths[path]):

        def lose(block: Block, frames: tuple[bytes, ...], slot: int = slot) -> Iterable[Said]:
            within = block.slot <= slot < block.slot + len(block.m)
            hit = block.path == path and within
            yield Said(replace(block, status="lost", payload=()), ()) if hit else Said(block, frames)

        assert_complete(driven(lose)[0])


def test_discarded_shots_decide_zero_and_travel_on() -> None:
    _, before = driven(unchanged)
    chosen = np.zeros(SHOTS, np.uint8)
    chosen[np.flatnonzero(before[""][:SHOTS])[::2]] = 1
    chosen[:5] = 1
    tracker, decided = driven(discarding("", 3, chosen))
    assert_complete(tracker)
    outcomes = tracker.outcomes()
    assert np.array_equal(outcomes.discarded, chosen.astype(bool))
    assert outcomes.discards == {"leakage": chosen.sum()}
    assert not (decided[""][:SHOTS] & chosen).any()
    assert np.array_equal(decided[""][:SHOTS], before[""][:SHOTS] & ~chosen)
    assert outcomes.paths["k0=1"] == decided[""].sum()


def test_shots_that_are_discarded_after_their_read_out_decide_zero_too() -> None:
    _, before = driven(unchanged)
    last = teleport().fragments[0].length - 3
    tracker, decided = driven(discarding("", last, np.ones(SHOTS, np.uint8)))
    assert before[""].any()
    assert not decided[""].any()
    assert tracker.outcomes().paths == {"k0=0": SHOTS}


def test_what_was_missing_before_a_decision_is_missing_after_it() -> None:
    seen: list[np.ndarray] = []
    shots = 40
    root = teleport().fragments[0]
    rng = np.random.default_rng(2)
    tracker = Tracker(teleport(), PRIOR, shots, templates=TEMPLATES)
    for item in said("stim_adapter", teleport(), PERFECT, shots, 0):
        if not isinstance(item, Said):
            break
        block, bits = item.header, item.frames
        rows = sum(block.m)
        erased = rng.random((rows, shots)) < 0.1
        seen.append(erased[-block.m[-1] :].sum(axis=0))
        take(tracker, replace(block, payload=("bits", "erasure")).to_map(), [bits[0], sampled.pack(erased).tobytes()])
    assert tracker.progress < 1
    kept = tracker.open
    assert set(kept) == {"k0=0", "k0=1"}
    for path in kept.values():
        assert path.received == root.length
        last = np.unpackbits(path._missing[root.length - 1], axis=1, count=len(path.shots), bitorder="little").sum(
            axis=0
        )
        counted = np.unpackbits(path.live, count=len(path.shots), bitorder="little").astype(bool)
        assert np.array_equal(last[counted], seen[-1][path.shots][counted])


@pytest.mark.parametrize("path", ["", "k0=0", "k0=1"])
def test_a_path_in_which_every_shot_is_discarded_runs_to_its_end(path: str) -> None:
    whole, _ = driven(unchanged)
    shots = {**whole.outcomes().paths, "": SHOTS}[path]
    tracker, _ = driven(discarding(path, 0, np.ones(shots, np.uint8)))
    assert_complete(tracker)
    total = tracker.outcomes().summary()
    assert total["sum"]["shots_discarded"] == shots
    if path == "":
        assert tracker.outcomes().paths == {"k0=0": SHOTS}
        assert total["sum"]["counts"] == total["sum"]["counts_undecoded"] == {}
        assert (total["sum"]["rounds_total"], total["sum"]["detectors_total"]) == (0, 0)
        assert total["min"] == total["max"] == {}


def test_a_shot_is_discarded_once_and_for_its_first_reason() -> None:
    first, second = np.arange(SHOTS) % 2, np.arange(SHOTS) % 3 == 0

    def both(block: Block, frames: tuple[bytes, ...]) -> Iterable[Said]:
        if (block.path, block.slot) == ("", 0):
            for reason, chosen in (("leakage", first), ("cosmic ray", second), ("leakage", first)):
                packed = sampled.pack(chosen.astype(np.uint8)).tobytes()
                yield Said(Discard("", SHOTS, 0, reason), (packed,))
        yield Said(block, frames)

    tracker, _ = driven(both)
    assert_complete(tracker)
    assert tracker.outcomes().discards == {"leakage": first.sum(), "cosmic ray": (second & (first == 0)).sum()}


def test_discarded_shots_are_in_no_total() -> None:
    """A batch that has lost shots half way is, in all that is counted, the batch of the others."""
    recording = sampled.record(sampled.ghz(3, 3), 3e-3, 41, [[0, 1], [0, 2]])
    chosen = np.random.default_rng(3).random(41) < 0.4
    tracker = Tracker(recording.program, damaged.PRIOR, 41, templates=damaged.TEMPLATES)
    for block, frames in losing(recording, ()):
        if block.round == 7:
            tracker.discard(Discard("", 41, 7, "leakage"), sampled.pack(chosen.astype(np.uint8)))
        if block.round >= 7:  # what comes for them now means nothing
            junk = np.random.default_rng(block.round).integers(0, 256, frames[0].shape, np.uint8)
            frames = [frames[0] ^ junk & sampled.pack(chosen.astype(np.uint8))]
        tracker.receive(block, *frames)
    others = whole(recording.chosen(np.flatnonzero(~chosen))).summary()
    counted = tracker.outcomes().summary()
    for key in ("counts", "counts_undecoded", "detection_events", "detectors_total", "shots_accepted", "rounds_total"):
        assert counted["sum"][key] == others["sum"][key], key
    assert (counted["min"], counted["max"]) == (others["min"], others["max"])
    assert counted["sum"]["discards"] == {"leakage": chosen.sum()}


def test_missing_records_of_discarded_shots_are_not_looked_at() -> None:
    recording = sampled.record(sampled.memory(3, 9), 0.0, 10)
    missing = np.zeros(recording.records.shape, bool)
    missing[:5] = np.array([name[0] > 2 for name in records_of(recording)])
    tracker = Tracker(recording.program, damaged.PRIOR, 10, templates=damaged.TEMPLATES)
    tracker.discard(Discard("", 10, 0, "leakage"), sampled.pack((np.arange(10) < 5).astype(np.uint8)))
    for block, frames in without(recording, missing):
        tracker.receive(block, *frames)
    assert tracker.outcomes().discards == {"leakage": 5}
    assert tracker.outcomes().records_missing == 0
    assert tracker.outcomes().counts == {"0": 5}
    assert tracked(recording, without(recording, missing)).discards == {"erased": 5}
