# SPDX-License-Identifier: Apache-2.0
"""The optimiser: what it gives does the same, costs no more, and leaves alone what is no gate."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

import numpy as np
import oracle
import pytest
import stim
from hypothesis import given, settings
from hypothesis import strategies as st
from logical_programs import conditional, idle, measure, op, program, random_program
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.pytket_optimise.optimiser import optimised
from qcos_plugins.pytket_optimise.passes import candidates

from qcosd.qec.clifford import GATES as MATRICES
from qcosd.qec.program import GATES, LogicalProgram, Op
from qcosd.qec.rewriting.cost import Cost, cost_of
from qcosd.qec.rewriting.equivalence import equivalent
from qcosd.qec.rewriting.folding import folded
from qcosd.qec.rewriting.rewriter import Optimiser
from qcosd.qec.rewriting.segments import components_of, segments_of, with_replaced

NAMES = {"h": "H", "s": "S", "sdg": "S_DAG", "x": "X", "y": "Y", "z": "Z", "cx": "CX"}
seeds = st.integers(0, 2**32 - 1)


def never() -> bool:
    return False


def better(given: LogicalProgram) -> LogicalProgram:
    return optimised(given, never)[0]


def random_gates(random: Random, qubits: int, length: int, without: Collection[str] = ("t", "tdg")) -> list[Op]:
    kinds = sorted(kind for kind, width in GATES.items() if width <= qubits and kind not in without)
    return [op(kind := random.choice(kinds), *random.sample(range(qubits), GATES[kind])) for _ in range(length)]


def unitary_of(given: LogicalProgram) -> np.ndarray:
    matrix = np.eye(1 << given.qubits, dtype=complex)
    for each in given.ops:
        matrix = oracle._embed({**oracle.ONE, **oracle.TWO}[each.kind], each.qubits, given.qubits) @ matrix
    return matrix


def same_up_to_phase(first: np.ndarray, second: np.ndarray) -> bool:
    return abs(np.vdot(first, second)) == pytest.approx(len(first), abs=1e-9)


def split_at_fences(given: LogicalProgram) -> tuple[list[Op], list[stim.Tableau]]:
    """The fences of a program, and what the gates between them do to all its qubits; from first principles."""
    fences, tableaus = [], []
    circuit = stim.Circuit(f"I {given.qubits - 1}")
    for each in given.ops:
        if each.kind in GATES:
            circuit.append(NAMES[each.kind], each.qubits)
        else:
            fences.append(each)
            tableaus.append(circuit.to_tableau())
            circuit = stim.Circuit(f"I {given.qubits - 1}")
    return fences, [*tableaus, circuit.to_tableau()]


# ---- the promise


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(2, 5), st.integers(0, 60))
def test_gates_between_fences_do_the_same_and_fences_stay(seed: int, qubits: int, length: int) -> None:
    given = random_program(Random(seed), qubits, 2, length)
    result = better(given)
    assert split_at_fences(result) == split_at_fences(given)
    assert (result.quantum_registers, result.classical_registers) == (
        given.quantum_registers,
        given.classical_registers,
    )


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 6), st.integers(0, 120))
def test_runs_of_gates_do_the_same_at_no_more_cost(seed: int, qubits: int, length: int) -> None:
    given = program(qubits, 0, *random_gates(Random(seed), qubits, length))
    result = better(given)
    assert split_at_fences(result) == split_at_fences(given)
    everything = range(qubits)
    before, after = (cost_of(p.ops, everything, everything) for p in (given, result))
    assert after == before or after.beats(before)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_a_run_and_its_inverse_vanish(seed: int) -> None:
    gates = random_gates(Random(seed), 3, 25)
    back = {"s": "sdg", "sdg": "s"}
    inverse = [op(back.get(each.kind, each.kind), *each.qubits) for each in reversed(gates)]
    assert better(program(3, 0, *gates, *inverse)).ops == ()


def test_it_really_optimises() -> None:
    _, facts = optimised(program(4, 0, *random_gates(Random(1), 4, 200)), never)
    assert 2 * facts["cost"]["after"]["total"] < facts["cost"]["before"]["total"]
    assert sum(facts["gates"]["after"].values()) < sum(facts["gates"]["before"].values()) == 200
    assert not facts["budget_spent"] and "wrong_results" not in facts


@pytest.mark.parametrize("name", ["cu1(pi)", "crz(pi)", "cu3(pi,0,pi)", "cry(pi)", "cp(-pi)"])
def test_controlled_rotations_become_one_cx(name: str) -> None:
    text = f'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; {name} q[0],q[1];'
    result = better(compile_source(text.encode())[0])
    assert sum(each.kind == "cx" for each in result.ops) == 1


def test_a_program_that_is_good_stays_as_it_is() -> None:
    given = program(3, 3, op("h", 0), op("cx", 0, 1), op("cx", 1, 2), *(measure(k, k) for k in range(3)))
    assert better(given) == given


def test_the_same_program_gives_the_same_result() -> None:
    given = random_program(Random(7), 4, 2, 60)
    assert better(given).to_bytes() == better(given).to_bytes()


# ---- what is left alone

FENCES = [
    idle(1, 0),
    idle(3, 0, 1),
    op("barrier", 0),
    op("reset", 1),
    measure(1, 0),
    conditional((0,), "==", 1, op("x", 1)),
]


@pytest.mark.parametrize("fence", FENCES, ids=lambda fence: fence.kind)
def test_nothing_passes_a_fence(fence: Op) -> None:
    given = program(2, 1, op("h", 0), fence, op("h", 0), measure(0, 0))
    assert better(given) == given


def test_idles_are_neither_merged_nor_moved() -> None:
    given = program(2, 0, idle(1, 0), idle(1, 0), op("x", 1), op("x", 1), idle(2, 1), idle(1, 0))
    assert better(given).ops == (idle(1, 0), idle(1, 0), idle(2, 1), idle(1, 0))


def test_the_body_of_an_if_is_left_alone() -> None:
    branch = conditional((0,), "==", 1, op("h", 0), op("h", 0))
    assert better(program(1, 1, branch)).ops == (branch,)


def test_new_gates_have_the_line_of_the_first_one_they_replace() -> None:
    ops = (Op("x", (1,), 3), Op("s", (0,), 4), Op("h", (0,), 5), Op("h", (0,), 6), Op("s", (0,), 7), Op("h", (1,), 8))
    assert better(program(2, 0, *ops)).ops == (Op("x", (1,), 3), Op("z", (0,), 4), Op("h", (1,), 8))


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_no_turn_is_brought_into_a_program_that_needs_none(seed: int) -> None:
    """H only right after preparations and right before read-outs, as a device needs that moves no qubits."""
    random = Random(seed)
    inside = [each for each in random_gates(random, 3, 20) if each.kind != "h"]
    ops = [op("h", 0), *inside, op("h", 1), measure(1, 0), op("h", 1), *inside, measure(0, 0)]
    for segment in segments_of(better(program(3, 1, *ops)).ops):
        if segment.unitary:
            assert cost_of(segment.ops, segment.fresh, segment.read).turns == 0


# ---- the budget


def test_a_spent_budget_leaves_the_program_as_it_is() -> None:
    given = program(3, 0, *random_gates(Random(2), 3, 50))
    result, facts = optimised(given, lambda: True)
    assert result == given
    assert facts["budget_spent"]


def test_a_budget_that_ends_within_keeps_what_was_found() -> None:
    asked = iter([False, False, True])
    given = program(2, 0, op("x", 0), op("x", 0), op("x", 1), op("x", 1))
    result, facts = optimised(given, lambda: next(asked, True))
    assert facts["budget_spent"]
    assert result.ops in ((op("x", 1), op("x", 1)), (op("x", 0), op("x", 0)), ())
    assert split_at_fences(result) == split_at_fences(given)


def test_a_wrong_pass_is_found_out() -> None:
    wrong = [("nothing", []), ("sign", [("x", (0,)), ("h", (0,))])]
    optimiser = Optimiser(lambda gates, qubits: iter(wrong))
    given = program(1, 0, op("z", 0), op("h", 0), op("z", 0), op("z", 0), op("z", 0))
    assert optimiser.program(given) == given
    assert set(optimiser.wrong) == {"nothing", "sign"}


# ---- the parts


def test_segments_are_the_program() -> None:
    given = random_program(Random(11), 4, 2, 80)
    segments = segments_of(given.ops)
    assert sum((segment.ops for segment in segments), ()) == given.ops
    assert all(segment.unitary == all(each.kind in GATES for each in segment.ops) for segment in segments)
    assert all(len(segment.ops) == 1 for segment in segments if not segment.unitary)


def test_long_runs_are_cut() -> None:
    assert [len(segment.ops) for segment in segments_of((op("s", 0),) * 2500)] == [1000, 1000, 500]


def test_segments_know_what_is_prepared_before_and_read_after() -> None:
    ops = (
        *(op("x", 0), op("h", 0), op("s", 1), op("h", 2), measure(0, 0), op("barrier", 0)),
        *(op("h", 0), op("h", 1), op("h", 2), op("z", 1), idle(1, 1), measure(2, 0), measure(1, 0)),
    )
    first, second = (segment for segment in segments_of(ops) if segment.unitary)
    assert (first.fresh, first.read) == ({0, 1, 2}, {0})
    assert (second.fresh, second.read) == ({0}, {0, 2})


def test_a_branch_ends_both() -> None:
    branch = conditional((0,), "==", 1, op("h", 1))
    segments = segments_of((op("s", 0), measure(2, 0), branch, op("s", 0), op("s", 2), measure(0, 0), measure(2, 0)))
    first, second = (segment for segment in segments if segment.unitary)
    assert (first.fresh, first.read) == ({0}, set())
    assert (second.fresh, second.read) == (set(), {0, 2})


def test_components_are_connected_qubits() -> None:
    gates = [op("h", 5), op("cx", 0, 1), op("s", 2), op("cx", 3, 2), op("cx", 1, 3), op("h", 5)]
    assert components_of(gates) == [(0, 5), (1, 2, 3, 4)]
    assert with_replaced(gates, [((0, 5), (op("y", 5),))]) == (op("y", 5), *gates[1:5])


@pytest.mark.parametrize(
    ("gates", "fresh", "read", "cost"),
    [
        ([], (), (), Cost(0, 0, 0, 0)),
        ([op("x", 0), op("z", 1)], (), (), Cost(0, 0, 0, 2)),
        ([op("h", 0)], (), (), Cost(1, 1, 1, 1)),
        ([op("x", 0), op("h", 0)], (0,), (), Cost(0, 0, 0, 2)),
        ([op("h", 0), op("x", 0)], (), (0,), Cost(1, 1, 0, 2)),
        ([op("h", 0), op("s", 0)], (), (0,), Cost(3, 2, 1, 2)),
        ([op("h", 0), op("h", 0)], (0,), (0,), Cost(1, 1, 0, 2)),
        ([op("s", 0), op("h", 0)], (0,), (), Cost(3, 2, 1, 2)),
        ([op("cx", 0, 1), op("cx", 1, 2), op("s", 0)], (), (), Cost(14, 4, 0, 3)),
        ([op("t", 0), op("tdg", 0)], (), (), Cost(12, 6, 0, 2)),
    ],
)
def test_cost(gates: list[Op], fresh: tuple[int, ...], read: tuple[int, ...], cost: Cost) -> None:
    assert cost_of(gates, fresh, read) == cost


def test_a_cost_beats_another_only_where_nothing_is_worse() -> None:
    cost = Cost(10, 5, 2, 7)
    assert Cost(9, 5, 2, 99).beats(cost) and Cost(10, 5, 2, 6).beats(cost)
    assert not any(other.beats(cost) for other in (cost, Cost(9, 6, 2, 1), Cost(9, 5, 3, 1), Cost(11, 1, 0, 1)))


FOLDED = [
    ("t t", "s"),
    ("t t t t t t t t", ""),
    ("t tdg", ""),
    ("t s t", "z"),
    ("t x t", "x"),
    ("t h h t", "s"),
    ("tdg s", "t"),
    ("s h t h sdg h h", "s h t h sdg"),
]


@pytest.mark.parametrize(("before", "after"), FOLDED)
def test_t_gates_around_the_same_axis_are_one(before: str, after: str) -> None:
    assert folded([(kind, (0,)) for kind in before.split()]) == [(kind, (0,)) for kind in after.split()]


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_runs_with_t_gates_do_the_same_with_no_more_of_them(seed: int) -> None:
    """By matrices that share nothing with the optimiser's: those of the oracle."""
    random = Random(seed)
    given = program(3, 0, *random_gates(random, 3, 24, without=()))
    result = Optimiser(candidates).program(given)
    assert same_up_to_phase(unitary_of(given), unitary_of(result))
    count = [sum(each.kind in ("t", "tdg") for each in each_program.ops) for each_program in (given, result)]
    assert count[1] <= count[0]


def test_t_gates_far_apart_on_many_qubits_are_one_gate() -> None:
    chain = [op("cx", q, q + 1) for q in range(30)]
    given = program(31, 0, *chain, op("t", 30), *reversed(chain), op("h", 3), op("h", 3), *chain, op("t", 30))
    result, facts = optimised(given, never)
    assert facts["t_count"] == {"before": 2, "after": 0}
    assert sum(each.kind == "s" for each in result.ops) == 1


def test_folding_refuses_what_is_not_clifford() -> None:
    assert folded([((1, 0, 0, 0.6 + 0.8j), (0,))]) is None
    assert folded([((1, 0, 0, 0.6 + 0.8j), (0,)), ("cx", (0, 1))]) is None
    assert folded([(MATRICES["s"], (1,)), ("s", (1,)), ("cx", (0, 1))]) == [("z", (1,)), ("cx", (0, 1))]


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_every_pass_gives_the_same_gates(seed: int) -> None:
    for without, ways in ((("t", "tdg"), 6), ((), 7)):
        gates = random_gates(Random(seed), 4, 40, without)
        names = []
        for name, written in candidates([(each.kind, each.qubits) for each in gates], 4):
            names.append(name)
            assert equivalent(gates, [op(kind, *qubits) for kind, qubits in written]), name
        assert ways - 1 <= len(names) <= ways  # FullPeepholeOptimise may bring in other angles
