# SPDX-License-Identifier: Apache-2.0
"""Parallel windows: they fail no more than sliding ones do, and whoever decodes them, in whatever order, they come to the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import logical_programs
import numpy as np
import pytest
import sampled
from loopback import PRIOR, TEMPLATES, prepared, run, said
from qcos_plugins.matching_tracker.follow import take
from qcos_plugins.matching_tracker.helpers import Key
from qcos_plugins.matching_tracker.task import Task
from qcos_plugins.matching_tracker.tracker import Reply, Tracker
from qcos_plugins.matching_tracker.window import PARALLEL, SLIDING, Window, schedule
from qcos_plugins.surface_code.builder import Builder
from qcos_plugins.surface_code.prepare import prepare

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.hardware import Said

D = 3
NOISE = Calibration.uniform(3e-3)


def windows(start: int, step: int, buffer: int, stop: int, last: bool) -> tuple[Window, ...]:
    return schedule(PARALLEL, start, step, buffer, stop, last)


def needs(found: tuple[Window, ...], number: int) -> set[int]:
    """The windows that one cannot do without, itself included."""
    window = found[number]
    if window.lead:
        return {number}
    before = needs(found, number - 1) if number else set()
    return {number} | before | (needs(found, number + 1) if window.closed else set())


@pytest.mark.parametrize("buffer", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("step", [1, 3, 5])
@pytest.mark.parametrize("start", [0, 4])
@pytest.mark.parametrize("last", [False, True])
def test_commits_follow_each_other_and_no_chain_of_windows_is_long(
    start: int, step: int, buffer: int, last: bool
) -> None:
    for stop in range(start + 1, start + 60):
        found = windows(start, step, buffer, stop, last)
        sliding = schedule(SLIDING, start, step, buffer, stop, last)
        assert [w.first for w in found[:1]] == [start] * bool(found)
        assert all(a.commit == b.first for a, b in pairwise(found))
        assert all(a.needs <= b.needs <= stop for a, b in pairwise(found)), "in the order in which they can be decoded"
        assert [w.commit for w in found[-1:]] == [w.commit for w in sliding[-1:]], "a program waits as long either way"
        for number, window in enumerate(found):
            beyond = found[number + 1] if number + 1 < len(found) else None
            assert not window.lead or window.start >= found[number - 1].start
            if window.closed:
                assert beyond is not None
                assert beyond.lead == buffer
                assert window.end == window.commit
                assert window.ghost
            elif window.commit < stop or not last:
                assert window.end - window.commit == buffer
        sandwiched = [n for n, w in enumerate(found) if w.closed]
        assert all(len(needs(found, n)) <= 3 for n in sandwiched)
        if last:
            assert stop - start <= 2 * (step + buffer) + buffer or sandwiched


def test_parallel_windows_need_a_buffer() -> None:
    with pytest.raises(ValueError, match="a buffer of at least one"):
        windows(0, 3, 0, 30, True)
    with pytest.raises(ValueError, match="buffer 0 is too little for parallel windows"):
        sampled.track(sampled.record(sampled.memory(3, 9), 1e-3, 8), scheme=PARALLEL, buffer=0)
    with pytest.raises(ValueError, match="windows 'both': sliding or parallel"):
        sampled.track(sampled.record(sampled.memory(3, 9), 1e-3, 8), scheme="both")


@dataclass
class Workers:
    """Others who decode, when and in the order that chance wants, sometimes never and sometimes twice."""

    chance: Random
    hands: list[tuple[Key, Task, int]] = field(default_factory=list)
    most: int = 4
    taken: int = 0

    @property
    def count(self) -> int:
        return 2

    def take(self, key: Key, task: Task, shots: int) -> bool:
        if len(self.hands) >= self.most or self.chance.random() < 0.2:
            return False
        self.taken += 1
        self.hands.append((key, task._replace(syndrome=task.syndrome.copy()), shots))
        return True

    def answers(self) -> Iterator[tuple[Key, np.ndarray]]:
        while self.hands and self.chance.random() < 0.6:
            key, task, shots = self.hands.pop(self.chance.randrange(len(self.hands)))
            if self.chance.random() < 0.2:
                continue  # whoever had it has died
            for _ in range(1 + (self.chance.random() < 0.2)):
                yield key, task.decode(shots)[0]


def helped(recording: sampled.Recording, seed: int, **options: object) -> tuple[Tracker, list[Reply], Workers]:
    """The recording, tracked with such workers."""
    workers = Workers(Random(seed))
    tracker = Tracker(
        recording.program,
        recording.rates,
        recording.shots,
        scheme=PARALLEL,
        helpers=workers,
        templates=TEMPLATES,
        **options,
    )
    replies: list[Reply] = []
    for block, bits in sampled.blocks(recording.program, recording.records, 1, decisions=recording.decisions):
        while block.path not in tracker.open:  # the decision before it is on its way
            replies += _more(tracker, workers)
        replies += tracker.receive(block, bits)
        for key, predictions in workers.answers():
            replies += tracker.answered(key, predictions)
    while not tracker.finished:
        replies += _more(tracker, workers)
    return tracker, replies, workers


def _more(tracker: Tracker, workers: Workers) -> list[Reply]:
    replies = [reply for key, predictions in workers.answers() for reply in tracker.answered(key, predictions)]
    return replies if replies or tracker.finished else tracker.help_out() or []


def entangled() -> FragmentProgram:
    """Two patches that are joined twice, with many rounds between."""
    b = Builder(D)
    for patch, basis in enumerate("XZ"):
        b.init(patch, (patch, patch), basis)
    for _ in range(3):
        b.idle(5 * D)
        b.cnot(0, 1, ancilla=2)
    b.idle(4 * D)
    for patch in range(2):
        b.measure(patch, "Z", bit=patch)
    return b.program(bits=2)


@pytest.mark.parametrize("seed", range(6))
def test_whoever_decodes_and_whenever_it_comes_to_the_same(seed: int) -> None:
    recording = sampled.record(entangled(), 6e-3, 70, [[0, 1]], seed=seed)
    alone = sampled.track(recording, scheme=PARALLEL, templates=TEMPLATES)
    tracker, _, workers = helped(recording, seed)
    assert workers.taken > 6
    assert np.array_equal(tracker.outcomes().bits, alone.bits)
    assert tracker.outcomes().summary()["same"] == alone.summary()["same"]
    assert tracker.outcomes().windows == alone.windows


def test_a_long_memory_is_not_held_for_ever_for_somebody_who_never_answers() -> None:
    recording = sampled.record(sampled.memory(D, 200 * D), 3e-3, 5)
    alone = sampled.track(recording, scheme=PARALLEL, templates=TEMPLATES)
    workers = Workers(Random(1), most=1)
    tracker = Tracker(recording.program, recording.rates, 5, scheme=PARALLEL, helpers=workers, templates=TEMPLATES)
    most = 0
    for block, bits in sampled.blocks(recording.program, recording.records, D):
        tracker.receive(block, bits)
        for path in tracker.open.values():
            most = max(most, path.received - path.committed)
    assert most < 60 * D
    while tracker.help_out() is not None:
        pass
    assert tracker.finished
    assert np.array_equal(tracker.outcomes().bits, alone.bits)


def test_an_answer_that_no_decoder_gives_is_refused() -> None:
    recording = sampled.record(sampled.memory(D, 30), 3e-3, 5)
    workers = Workers(Random(1), most=100)
    tracker = Tracker(recording.program, recording.rates, 5, scheme=PARALLEL, helpers=workers, templates=TEMPLATES)
    for block, bits in sampled.blocks(recording.program, recording.records, D):
        tracker.receive(block, bits)
    key, task, shots = workers.hands[0]
    right = task.decode(shots)[0]
    with pytest.raises(ValueError, match="predictions of shape"):
        tracker.answered(key, right[:-1])
    with pytest.raises(ValueError, match="padding"):
        tracker.answered(key, right | 0x80)
    assert tracker.agrees(key, right)
    assert not tracker.agrees(key, right ^ 1)
    assert tracker.answered(("nowhere", 0, 0), right) == []


BRANCHES = """OPENQASM 2.0;
include "qelib1.inc";
qreg q[2];
creg c[1];
creg e[2];
h q[0];
measure q[0] -> c[0];
if (c == 1) h q[1];
if (c == 0) x q[1];
h q[1];
measure q[1] -> e[1];
"""


@pytest.mark.parametrize("seed", range(3))
def test_decisions_are_the_same_and_no_later(seed: int) -> None:
    program = prepared(BRANCHES, D)
    parallel = run(program, NOISE, shots=64, seed=seed, scheme=PARALLEL)
    sliding = run(program, NOISE, shots=64, seed=seed)
    assert set(parallel.outcomes.paths) == set(sliding.outcomes.paths)
    perfect = run(program, shots=64, seed=seed, scheme=PARALLEL)
    assert perfect.counts == run(program, shots=64, seed=seed).counts


@pytest.mark.parametrize("seed", range(4))
def test_windows_of_random_programs_protect_what_they_predict(seed: int) -> None:
    """Each template is checked when it is built: distance, silent detectors, nothing unseen."""
    program = prepare(logical_programs.random_program(Random(seed), 3, 3, 8), D)
    noisy = run(program, NOISE, shots=64, seed=seed, scheme=PARALLEL)
    perfect = run(program, shots=64, seed=seed, scheme=PARALLEL)
    assert perfect.outcomes.bits.shape == noisy.outcomes.bits.shape
    assert perfect.counts == run(program, shots=64, seed=seed).counts


def test_a_successor_goes_on_where_windows_were_in_the_hands_of_others() -> None:
    recording = sampled.record(entangled(), 6e-3, 20, [[0, 1]], seed=5)
    alone = sampled.track(recording, scheme=PARALLEL, templates=TEMPLATES)
    blocks = sampled.blocks(recording.program, recording.records, 2)
    for stop in range(0, len(blocks), 3):
        first = Tracker(
            recording.program,
            recording.rates,
            20,
            scheme=PARALLEL,
            helpers=Workers(Random(stop), most=99),
            templates=TEMPLATES,
        )
        for block, bits in blocks[: stop + 1]:
            first.receive(block, bits)
        second = Tracker(recording.program, recording.rates, 20, scheme=PARALLEL, templates=TEMPLATES)
        second.restore(*first.checkpoint())
        for block, bits in blocks[stop + 1 :]:
            second.receive(block, bits)
        assert np.array_equal(second.outcomes().bits, alone.bits), stop


NESTED = """OPENQASM 2.0;
include "qelib1.inc";
qreg q[2];
creg a[1];
creg b[1];
creg c[2];
h q[0];
measure q[0] -> a[0];
if (a == 1) h q[1];
measure q[1] -> b[0];
if (b == 1) h q[0];
measure q -> c;
"""


def run_helped(program: FragmentProgram, seed: int, shots: int, hardware: str) -> Tracker:
    """A batch with decisions, decoded by such workers; what the machine waits for comes when it comes."""
    workers = Workers(Random(seed))
    tracker = Tracker(program, PRIOR, shots, scheme=PARALLEL, helpers=workers, templates=TEMPLATES)
    decided: dict[str, bytes] = {}

    def keep(replies: list[Reply]) -> None:
        decided.update({reply[0].path: reply[1].tobytes() for reply in replies if isinstance(reply, tuple)})

    stream = said(hardware, program, NOISE, shots, seed)
    item = next(stream, None)
    while item is not None:
        answer = None
        if isinstance(item, Said):
            keep(take(tracker, item.header.to_map(), item.frames))
        else:
            while item.path not in decided:
                keep(_more(tracker, workers))
            answer = decided.pop(item.path)
        for key, predictions in workers.answers():
            keep(tracker.answered(key, predictions))
        try:
            item = stream.send(answer)
        except StopIteration:
            item = None
    while not tracker.finished:
        keep(_more(tracker, workers))
    return tracker


@pytest.mark.parametrize("hardware", ["stim_adapter", "tableau_adapter"])
@pytest.mark.parametrize("seed", range(4))
def test_branches_come_to_the_same_whoever_decodes(hardware: str, seed: int) -> None:
    program = prepared(NESTED, D)
    alone = run(program, NOISE, shots=24, seed=seed, scheme=PARALLEL, hardware=hardware)
    tracker = run_helped(program, seed, 24, hardware)
    assert tracker.outcomes().counts == alone.counts
    assert tracker.outcomes().windows == alone.outcomes.windows
