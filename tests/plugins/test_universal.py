# SPDX-License-Identifier: Apache-2.0
"""T gates from the logical program to decoded bits: machine, decisions and tracker in a loop, against exact distributions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np
import oracle
import pytest
import stim
from loopback import PERFECT, TEMPLATES, run, said
from qcos_plugins.matching_tracker.follow import take
from qcos_plugins.matching_tracker.model import DEFAULT_DECODER
from qcos_plugins.matching_tracker.outcomes import keys
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.matching_tracker.window import SCHEMES
from qcos_plugins.stim_adapter import frames
from qcos_plugins.stim_adapter.faults import faults_of
from qcos_plugins.stim_adapter.states import StateReference, largest_factor
from qcos_plugins.surface_code.prepare import prepare

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.hardware import Said
from qcosd.qec.program import LogicalProgram, Op


def logical(text: str, qubits: int = 1) -> LogicalProgram:
    """ "h t cx:01 m:0": gates of single digits, qubit 0 by default; a measurement goes into the bit of its qubit."""
    ops = []
    for word in text.split():
        kind, _, digits = word.partition(":")
        where = tuple(map(int, digits or "0"))
        ops.append(Op("measure", where, 1, bit=where[0]) if kind == "m" else Op(kind, where, 1))
    return LogicalProgram((("q", qubits),), (("c", qubits),), tuple(ops))


def written(text: str, qubits: int = 1, distance: int = 3) -> FragmentProgram:
    return prepare(logical(text, qubits), distance)


# ---- without noise


class EveryOutcome(StateReference):
    """Shot number s is the branch in which the n-th measurement gives bit n of s; ``weights``: how likely each is."""

    def __init__(self, shots: int, seed: int, weights: np.ndarray, measured: list[int]) -> None:
        super().__init__(shots, seed)
        self._weights = weights
        self._measured = measured

    def _drawn(self, ones: np.ndarray) -> np.ndarray:
        outcome = (np.arange(len(ones)) >> self._measured[0] & 1).astype(bool)
        self._measured[0] += 1
        probability = np.where(outcome, ones, 1 - ones)
        impossible = probability < 1e-12
        self._weights *= np.where(impossible, 0.0, probability)
        return outcome ^ impossible  # whatever follows counts for nothing


EXACT = [
    ("h t h m", 1, 5),
    ("h tdg h m", 1, 5),
    ("t h m", 1, 5),
    ("h t t h m", 1, 9),
    ("h t:0 cx:01 h:0 h:1 m:0 m:1", 2, 9),
    ("h t h t h t h s h m", 1, 15),
]


@pytest.mark.parametrize(("text", "qubits", "measured"), EXACT, ids=[text for text, *_ in EXACT])
def test_every_branch_of_every_measurement_adds_up_to_the_exact_distribution(
    text: str, qubits: int, measured: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Random stabilisers say of each shot by chance how it goes on: without them the shots are a tree.
    quiet = partial(stim.FlipSimulator, disable_stabilizer_randomization=True)
    monkeypatch.setattr(frames.stim, "FlipSimulator", quiet)
    shots = 1 << measured
    weights, counted = np.ones(shots), [0]
    program = written(text, qubits)
    reference = partial(EveryOutcome, weights=weights, measured=counted)
    done = run(program, shots=shots, machine={"reference": reference})
    assert counted == [measured], "every outcome is gone through"
    found: dict[str, float] = defaultdict(float)
    for shot, weight in enumerate(weights):
        (key,) = keys(done.outcomes.bits[:, shot : shot + 1], program.registers)
        found[key] += weight
    exact = oracle.distribution(oracle.from_logical(logical(text, qubits)))
    assert sum(weights) == pytest.approx(1, abs=1e-12)
    for key in {*found, *exact}:
        assert found[key] == pytest.approx(exact.get(key, 0.0), abs=1e-12)
    assert done.outcomes.detection_events == 0


SAMPLED = [
    ("h t h m", 1),
    ("h:0 t:0 cx:01 tdg:1 h:1 s:1 h:0 m:0 m:1", 2),
    # A Toffoli on |110>, and a qubit that is measured, reset and used again.
    (
        "x:0 x:1 h:2 cx:12 tdg:2 cx:02 t:2 cx:12 tdg:2 cx:02 t:1 t:2 h:2 cx:01 t:0 tdg:1 cx:01 m:0 m:1 m:2",
        3,
    ),
    ("h t h m reset h t t h m", 1),
]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("text", "qubits"), SAMPLED, ids=[text[:24] for text, _ in SAMPLED])
def test_counts_fit_an_independent_simulation(text: str, qubits: int, scheme: str) -> None:
    done = run(written(text, qubits), shots=1024, seed=3, scheme=scheme)
    oracle.check_counts(done.counts, oracle.distribution(oracle.from_logical(logical(text, qubits))))
    assert done.outcomes.detection_events == 0


def test_a_random_circuit_and_its_inverse_is_never_wrong() -> None:
    """Clifford+T on up to three qubits.  A wrong choice or frame anywhere leaves silent detectors and a wrong bit."""
    wrong = shots = 0
    for seed in range(6):
        circuit = oracle.mirrored(seed, 1 + seed % 3, 6 + seed % 3, ("t", "tdg", "h", "t", "t"))
        words = [f"{'m' if g.name == 'measure' else g.name}:{''.join(map(str, g.qubits))}" for g in circuit.gates]
        program = written(" ".join(words), circuit.qubits)
        done = run(program, shots=1700 + seed, seed=seed)
        assert program.choices, "there is a T in it"
        wrong += int(done.outcomes.bits.any(0).sum())
        shots += len(done.outcomes.rounds)
    assert shots > 10_000
    assert wrong == 0


# ---- without one of the three: every detector is silent, and every answer wrong


class Zero(StateReference):
    """An S that nobody needs is made with |0> in place of |+>, which measures the qubit."""

    def prepare(self, patch: int, state: str, chosen: np.ndarray | None = None) -> None:
        if state != "YX":
            super().prepare(patch, state)
            return
        assert chosen is not None
        super().prepare(patch, "Y")
        self._factors[patch].states[frames.unpack(chosen, self._shots) == 0] = (1, 0)


CONTROLS: list[tuple[str, dict[str, object], float]] = [
    ("no gauge fix", {"gauge_fix": False}, 0.675),
    ("no steering", {"steer": False}, 0.502),
    ("|0> instead of |+>", {"reference": Zero}, 0.676),
]


@pytest.mark.parametrize(("what", "machine", "expected"), CONTROLS, ids=[what for what, *_ in CONTROLS])
def test_what_no_detector_can_find_is_found_by_the_answer(
    what: str, machine: dict[str, object], expected: float
) -> None:
    done = run(written("h t h m"), shots=1024, seed=5, machine=machine)
    assert done.outcomes.detection_events == 0
    zeros = done.counts.get("0", 0) / 1024
    assert zeros == pytest.approx(expected, abs=0.07)
    assert abs(zeros - np.cos(np.pi / 8) ** 2) > 0.1


# ---- faults


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["pymatching", DEFAULT_DECODER])
@pytest.mark.parametrize(("text", "answer"), [("h tdg t h m", 0), ("h t t t t h m", 1)])
def test_no_single_fault_around_a_gadget_and_its_decision_changes_the_answer(
    text: str, answer: int, decoder: str
) -> None:
    program = written(text)
    faults = faults_of(program)
    wrong, undecoded = [], 0
    for start in range(0, len(faults), 1024):
        some = faults[start : start + 1024]
        done = run(program, shots=len(some), seed=start, faults=some, decoder=decoder)
        wrong += [some[i] for i in np.flatnonzero(done.outcomes.bits[0] != answer)]
        undecoded += int((done.outcomes.undecoded[0] != answer).sum())
    assert wrong == []
    assert undecoded > 100, "the faults were there"


@pytest.mark.long
@pytest.mark.parametrize("decoder", ["pymatching", DEFAULT_DECODER])
@pytest.mark.parametrize(
    ("text", "good", "expected"),
    # Prototypes with the same gadgets, decoded by plain matching.
    [("h tdg t h m", "0", (1.5e-2, 2.3e-3, 3.0e-4)), ("h t t t t h m", "1", (2.9e-2, 4.6e-3, 5.4e-4))],
)
def test_errors_fall_with_the_distance(text: str, good: str, expected: Sequence[float], decoder: str) -> None:
    rates = []
    for distance, shots in ((3, 40_960), (5, 81_920), (7, 122_880)):
        program, failed = written(text, distance=distance), 0
        for batch in range(shots // 1024):
            done = run(program, Calibration.uniform(1e-3), Calibration.uniform(1e-3), 1024, batch, decoder=decoder)
            failed += 1024 - done.counts.get(good, 0)
        rates.append(failed / shots)
    for rate, of_prototype in zip(rates, expected, strict=True):
        # These gadgets take some more rounds than those of the prototype.
        assert rate < 1.35 * of_prototype
    assert rates[0] > 4 * rates[1] > 16 * rates[2]


# ---- the same answer, whoever dies and however rounds are sent


def test_windows_schemes_and_block_sizes_give_the_same_bits() -> None:
    program, rates = written("h:0 t:0 cx:01 tdg:1 h:0 h:1 m:0 m:1", 2), Calibration.uniform(2e-3)
    sliding, parallel = (run(program, rates, rates, 512, seed=9, scheme=scheme) for scheme in SCHEMES)
    assert sliding.outcomes.detection_events == parallel.outcomes.detection_events > 0
    # Other windows may explain a few shots in another way, and a decision that differs changes what follows.
    assert (sliding.outcomes.bits != parallel.outcomes.bits).any(0).mean() < 0.02


def test_choices_are_told_as_soon_as_their_window_is_committed_and_repeated_by_a_successor() -> None:
    follower = Tracker(written("h t h tdg h m"), PERFECT, 21, batch=0, templates=TEMPLATES)
    told: dict[int, list[int]] = defaultdict(list)  # decision -> slots that had been received each time
    stream = said("stim_adapter", follower.plans.program, PERFECT, 21, 3)
    item, values = next(stream), {}
    while not follower.finished:
        answer = None
        if isinstance(item, Said):
            replies = take(follower, item.header.to_map(), item.frames)
            if not follower.finished:
                state, *_ = follower.checkpoint()
                follower = Tracker(follower.plans.program, PERFECT, 21, batch=0, templates=TEMPLATES)
                replies += follower.restore(state)
            for reply in replies:
                if isinstance(reply, tuple):
                    assert values.setdefault(reply[0].k, reply[1].tobytes()) == reply[1].tobytes()
                    told[reply[0].k].append(item.header.round + len(item.header.m))
        else:
            answer = values[item.k]
        item = stream.send(answer) if not follower.finished else item
    # Told by whoever commits, and by each successor until hardware goes on with what was handed over.
    assert dict(told) == {0: [6, 6], 1: [18, 18]}


def test_missing_records_and_lost_rounds_leave_most_shots_right() -> None:
    losses = {"erasure": 0.003, "lost": 0.02, "discard": 0.002}
    done = run(written("h t tdg h m", distance=5), shots=512, seed=6, machine=losses)
    accepted = int((~done.outcomes.discarded).sum())
    assert done.outcomes.records_missing > 0
    assert accepted > 256
    assert done.counts.get("0", 0) > 0.97 * accepted


def test_the_rounds_are_the_same_for_all_shots_whatever_was_decided() -> None:
    done = run(written("h t h m"), shots=256, seed=1)
    assert set(done.outcomes.paths) == {""}
    assert len(set(done.outcomes.rounds.tolist())) == 1
    undecoded = Counter(done.outcomes.undecoded[0].tolist())
    assert undecoded == Counter(done.outcomes.bits[0].tolist()), "without noise the decoder has nothing to do"


def test_parallel_windows_wait_no_longer_for_a_choice_than_sliding_ones() -> None:
    program = written("h t h t h m", distance=5)
    (fragment,) = program.fragments
    for scheme in SCHEMES:
        plans = Plans(program, Calibration.uniform(1e-3), scheme=scheme, templates=TEMPLATES)
        windows = plans.windows(0, 0, fragment)
        for slot, _ in fragment.choices:
            merge = slot - 2 * program.distance
            assert any(w.commit >= merge + 2 and w.needs <= slot for w in windows), (scheme, slot)


@pytest.mark.parametrize(
    ("text", "qubits", "most"),
    [
        ("h t h m", 1, 2),
        ("h:0 h:1 t:0 t:1 m:0 m:1", 2, 2),
        ("h:0 cx:01 t:1 m:0 m:1", 2, 3),
        ("h:0 cx:01 cx:12 t:0 t:1 t:2 m:0 m:1 m:2", 3, 6),
    ],
)
def test_states_are_as_large_as_what_is_entangled(text: str, qubits: int, most: int) -> None:
    assert largest_factor(written(text, qubits)) == most
