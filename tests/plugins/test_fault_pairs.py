# SPDX-License-Identifier: Apache-2.0
"""Two faults in one shot at distance 5, on a machine that is perfect otherwise: no outcome may change.

Half of the pairs are drawn anywhere, half close together (same or neighbouring slots, neighbouring sites): faults far
apart are decoded one by one, while two that touch are what could add up to a logical error.

Plain matching stands every pair that was ever drawn.  The default decoder looks at correlations, and trades a few pairs
for many likelier threes: of 360,000 pairs it mistakes 2, both beside an H.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from random import Random

import numpy as np
import pytest
from loopback import prepared, run
from qcos_plugins.matching_tracker.model import DEFAULT_DECODER
from qcos_plugins.matching_tracker.window import PARALLEL, SCHEMES, SLIDING
from qcos_plugins.stim_adapter.faults import Fault, faults_of
from qcos_plugins.surface_code.builder import Builder

from qcosd.qec.fragment import FragmentProgram

D = 5
PER_BATCH = 1024

Pair = tuple[Fault, Fault]


def cnot(distance: int, basis: str) -> FragmentProgram:
    b = Builder(distance)
    b.init(0, (0, 0), basis)
    b.init(1, (2, 1), basis)
    b.idle(1)
    b.cnot(0, 1, ancilla=9)
    b.idle(1)
    b.measure(0, basis, 0)
    b.measure(1, basis, 1)
    return b.program(bits=2)


def phases(distance: int, basis: str) -> FragmentProgram:
    """S S = Z: 0 on |0>, 1 on |+>."""
    b = Builder(distance)
    b.init(0, (0, 0), basis)
    b.idle(1)
    b.phase(0, ancilla=1)
    b.phase(0, ancilla=2)
    b.idle(1)
    b.measure(0, basis, 0)
    return b.program(bits=1)


def hadamards(distance: int, basis: str) -> FragmentProgram:
    """Two H with no more than a window between them."""
    b = Builder(distance)
    b.init(0, (0, 0), basis)
    for _ in range(2):
        b.idle(distance)
        b.hadamard(0)
    b.idle(distance)
    b.measure(0, basis, 0)
    return b.program(bits=1)


CASES = [(f, basis, int(f is phases and basis == "X")) for f in (cnot, phases, hadamards) for basis in "ZX"]
IDS = [f"{f.__name__} {basis}" for f, basis, _ in CASES]

# A branch that is always taken, and one that never is: what is certain stays certain on every path.
TAKEN = """
OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg a[1]; creg c[2];
x q[0]; measure q[0] -> a[0];
if(a==1) cx q[0],q[1];
if(a==0) h q[1];
measure q -> c;
"""
# A branch on a fair coin; after either the rest is certain: q1 is |0>, and q0 is what was measured.
COIN = """
OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg a[1]; creg c[2];
h q[0]; measure q[0] -> a[0];
if(a==1) h q[1];
if(a==1) h q[1];
measure q -> c;
"""


class Draw:
    """Pairs of the faults of one path."""

    def __init__(self, faults: Sequence[Fault], seed: int) -> None:
        self._random = Random(f"pairs/{seed}")
        self._faults = faults
        self._near: dict[tuple[int, int, int], list[Fault]] = defaultdict(list)
        for fault in faults:
            for dt, dx, dy in self._cells(fault, reach=1):
                self._near[dt, dx, dy].append(fault)

    def pairs(self, count: int) -> list[Pair]:
        """Every other one close together."""
        return [self._close() if i % 2 else self._anywhere() for i in range(count)]

    def _anywhere(self) -> Pair:
        one, two = self._random.sample(self._faults, 2)
        return one, two

    def _close(self) -> Pair:
        one = self._random.choice(self._faults)
        (cell,) = self._cells(one, reach=0)
        return one, self._random.choice(self._near[cell])

    @staticmethod
    def _cells(fault: Fault, reach: int) -> Iterator[tuple[int, int, int]]:
        """Cells of spacetime, a slot and four by four coordinates, that a fault is in or next to."""
        (x, y), _ = fault.paulis[0]
        for dt in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                for dy in range(-reach, reach + 1):
                    yield fault.slot + dt, x // 4 + dx, y // 4 + dy


def changed(
    program: FragmentProgram, pairs: Sequence[Pair], right: Callable[[np.ndarray], np.ndarray], **options: object
) -> tuple[list[Pair], int]:
    """Pairs that changed an outcome, and how many would have without decoding.  ``right``: bits (bits, shots) -> (shots,)."""
    wrong: list[Pair] = []
    undecoded = 0
    for start in range(0, len(pairs), PER_BATCH):
        some = pairs[start : start + PER_BATCH]
        done = run(program, shots=len(some), seed=start, faults=some, **options).outcomes
        wrong += [some[i] for i in np.flatnonzero(~right(done.bits))]
        undecoded += int((~right(done.undecoded)).sum())
    return wrong, undecoded


def always(answer: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda bits: (bits == answer).all(0)


@pytest.mark.long
@pytest.mark.parametrize("scheme", [SLIDING, pytest.param(PARALLEL, marks=pytest.mark.long)])
@pytest.mark.parametrize(("build", "basis", "answer"), CASES, ids=IDS)
def test_no_pair_of_faults_changes_an_outcome(
    build: Callable[[int, str], FragmentProgram], basis: str, answer: int, scheme: str
) -> None:
    program = build(D, basis)
    pairs = Draw(faults_of(program), seed=1).pairs(1400)
    wrong, undecoded = changed(program, pairs, always(answer), scheme=scheme)
    assert wrong == []
    assert undecoded > 50  # the faults were there


@pytest.mark.long
def test_no_pair_of_faults_changes_what_a_decision_leads_to() -> None:
    program = prepared(TAKEN, D)
    (taken,) = run(program, shots=1).outcomes.paths  # the path of all shots
    decisions = [int(step[-1]) for step in taken.split("/")]
    pairs = Draw(faults_of(program, decisions), seed=2).pairs(1000)
    wrong, undecoded = changed(program, pairs, lambda bits: (bits == [[1], [1], [1]]).all(0))
    assert (wrong, undecoded > 50) == ([], True)


@pytest.mark.long
def test_no_pair_of_faults_changes_what_follows_a_coin() -> None:
    """Which way a shot goes depends on the seed; its faults are drawn from the path that it takes without them."""
    program = prepared(COIN, D)
    shots = 1000
    coins = run(program, shots=shots, seed=4).outcomes.bits[0]
    drawn = [iter(Draw(faults_of(program, [value] * 2), seed=3).pairs(shots)) for value in (0, 1)]
    done = run(program, shots=shots, seed=4, faults=[next(drawn[coin]) for coin in coins]).outcomes
    assert 400 < coins.sum() < 600
    assert len(done.paths) == 2
    assert (done.bits[0] == done.bits[1]).all()
    assert not done.bits[2].any()
    assert ((done.undecoded[0] != done.undecoded[1]) | (done.undecoded[2] == 1)).sum() > 50


@pytest.mark.long
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("build", "basis", "answer"), CASES, ids=IDS)
def test_no_single_fault_changes_an_outcome(
    build: Callable[[int, str], FragmentProgram], basis: str, answer: int, scheme: str
) -> None:
    """All of them, at distance 5; those of distance 3 are in test_stim_adapter_faults."""
    program = build(D, basis)
    faults = faults_of(program)
    for start in range(0, len(faults), 4 * PER_BATCH):
        some = faults[start : start + 4 * PER_BATCH]
        done = run(program, shots=len(some), seed=start, faults=some, scheme=scheme).outcomes
        assert [some[i] for i in np.flatnonzero((done.bits != answer).any(0))] == []


@pytest.mark.long
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("decoder", "allowed"), [("pymatching", 0), (DEFAULT_DECODER, 3)])
@pytest.mark.parametrize(("build", "basis", "answer"), CASES, ids=IDS)
def test_a_campaign_of_pairs(
    build: Callable[[int, str], FragmentProgram], basis: str, answer: int, decoder: str, allowed: int, scheme: str
) -> None:
    """``allowed``: of 20,000."""
    program = build(D, basis)
    pairs = Draw(faults_of(program), seed=5).pairs(20_000)
    wrong, undecoded = changed(program, pairs, always(answer), decoder=decoder, scheme=scheme)
    assert len(wrong) <= allowed, wrong
    assert undecoded > 1000


def test_pairs_that_correlations_mistake_are_nothing_to_plain_matching() -> None:
    """One of the pairs that the default decoder got wrong."""
    b = Builder(D)
    b.init(0, (0, 0), "Z")
    b.idle(D)
    b.hadamard(0)
    b.idle(D)
    b.measure(0, "X", 0)
    pair = (
        Fault(0, 1, 4, True, (((1, 1), "Z"), ((0, 2), "X"))),
        Fault(1, 0, 5, True, (((3, 3), "Z"), ((4, 2), "Y"))),
    )
    program = b.program(bits=1)
    assert set(pair) <= set(faults_of(program))
    done = run(program, shots=1, faults=[pair], decoder="pymatching").outcomes
    assert done.detection_events > 2
    assert not done.bits.any()


def test_pairs_at_distance_three_do_change_outcomes() -> None:
    """The negative control: the same draw finds what two faults can do to a code that stands only one."""
    program = cnot(3, "Z")
    wrong, _ = changed(program, Draw(faults_of(program), seed=1).pairs(3000), always(0))
    assert len(wrong) > 20


def test_three_faults_in_a_row_change_an_outcome() -> None:
    """Distance 5 does not stand every three: a flip of each of three data qubits of one logical operator."""
    program = cnot(D, "Z")
    line = [(0, 0), (2, 0), (4, 0)]  # of the logical X of the control
    last = program.fragments[0].length - 1
    flips = [fault for fault in faults_of(program) if fault.slot == last and not fault.after]
    three = [fault for site in line for fault in flips if fault.paulis == ((site, "X"),)]
    assert len(three) == 3
    done = run(program, shots=2, seed=1, faults=[three, three[:2]])
    assert done.outcomes.bits.tolist() == [[1, 0], [0, 0]]


def test_two_equal_faults_undo_each_other() -> None:
    program = cnot(3, "Z")
    fault = faults_of(program)[100]
    done = run(program, shots=3, seed=1, faults=[(fault, fault), (), (fault,)])
    assert done.outcomes.detection_events == run(program, shots=1, seed=1, faults=[fault]).outcomes.detection_events > 0


def test_the_default_decoder_is_the_one_that_is_tried() -> None:
    program = cnot(3, "Z")
    assert run(program, shots=1).outcomes.summary()["same"]["decoder"] == DEFAULT_DECODER
