# SPDX-License-Identifier: Apache-2.0
"""Branches from source to counts: whatever decides, and however deep, gives what an exact simulation gives."""

from __future__ import annotations

from random import Random

import numpy as np
import oracle
import pytest
from logical_programs import conditional, measure, op, program, random_program
from loopback import prepared, run
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.pytket_optimise.optimiser import optimised
from qcos_plugins.stim_adapter.faults import faults_of
from qcos_plugins.surface_code.prepare import MANY, facts, prepare

from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.program import LogicalProgram

SHOTS = 256


def check(fragments: FragmentProgram, circuit: oracle.Circuit, seed: int = 1, shots: int = SHOTS) -> set[str]:
    """Compares counts with the exact distribution; returns the paths that were met."""
    done = run(fragments, shots=shots, seed=seed)
    assert sum(done.counts.values()) == shots == sum(done.outcomes.paths.values())
    oracle.check_counts(done.counts, oracle.distribution(circuit))
    assert done.counts == done.outcomes.counts_undecoded  # nothing to decode without noise
    assert len(done.outcomes.paths) <= facts(fragments)["paths"]
    return set(done.outcomes.paths)


def check_logical(logical: LogicalProgram, seed: int = 1, shots: int = SHOTS) -> set[str]:
    return check(prepare(logical, 3), oracle.from_logical(logical), seed, shots)


@pytest.mark.parametrize("seed", range(10))
def test_random_nested_programs(seed: int) -> None:
    circuit = oracle.random_circuit(seed, qubits=1 + seed % 3, ifs="nested")
    check(prepared(circuit.qasm()), circuit, seed)


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=pytest.mark.long) for seed in range(10, 50)])
def test_more_random_nested_programs_through_the_optimiser(seed: int) -> None:
    circuit = oracle.random_circuit(seed, qubits=1 + seed % 3, ifs="nested")
    logical, _ = optimised(compile_source(circuit.qasm().encode())[0], lambda: False)
    check(prepare(logical, 3), circuit, seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(60, 63))
def test_nested_programs_on_the_machine_that_simulates_every_shot(seed: int) -> None:
    circuit = oracle.random_circuit(seed, qubits=1 + seed % 3, ifs="nested")
    done = run(prepared(circuit.qasm()), shots=80, seed=seed, hardware="tableau_adapter")
    oracle.check_counts(done.counts, oracle.distribution(circuit))
    assert done.outcomes.detection_events == 0


@pytest.mark.parametrize("seed", range(8))
def test_random_logical_programs_whose_bodies_are_read_as_a_whole(seed: int) -> None:
    check_logical(random_program(Random(seed), 1 + seed % 3, 2, 8) if seed % 3 else body_that_overwrites(seed), seed)


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=pytest.mark.long) for seed in range(8, 40)])
def test_more_random_logical_programs(seed: int) -> None:
    check_logical(random_program(Random(seed), 2 + seed % 2, 2, 10), seed)


def body_that_overwrites(seed: int) -> LogicalProgram:
    """The condition is read once: what the body measures into its bits changes the body of no `if` that is under way."""
    inner = conditional((0,), "==", seed % 2, op("x", 1), op("h", 1))
    outer = conditional((0,), "==", 1, measure(1, 0), op("h", 0), inner, measure(0, 1))
    return program(2, 3, op("h", 0), op("h", 1), measure(0, 0), outer, measure(1, 2))


# ---- what single programs must show


def test_measure_and_reset_under_an_if_decide_what_follows() -> None:
    logical = program(
        3,
        4,
        op("h", 0),
        measure(0, 0),
        op("h", 1),
        op("cx", 1, 2),
        conditional((0,), "==", 1, measure(1, 1), op("reset", 1)),
        conditional((0, 1), "==", 3, op("h", 2), measure(2, 2)),
        measure(1, 3),
    )
    paths = check_logical(logical, shots=1024)
    # The second bit is 1 only where it was measured.
    assert paths == {"k0=0/k1=0", "k0=1/k1=0", "k0=1/k1=1"}


def test_decisions_in_a_row_on_one_bit() -> None:
    logical = program(
        2,
        3,
        op("h", 0),
        measure(0, 0),
        *[conditional((0,), "==", k % 2, op("h", 1), op("s", 1)) for k in range(5)],
        measure(1, 1),
    )
    assert check_logical(logical, shots=1024) == {"k0=1/k1=0/k2=1/k3=0/k4=1", "k0=0/k1=1/k2=0/k3=1/k4=0"}


@pytest.mark.parametrize("value", [0, 1])
def test_a_branch_that_is_empty_on_one_side(value: int) -> None:
    """Nothing stands behind the `if`, and the qubit of the body is not seen again."""
    logical = program(2, 2, op("h", 0), measure(0, 0), conditional((0,), "==", value, op("h", 1), measure(1, 1)))
    assert check_logical(logical, shots=512) == {"k0=0", "k0=1"}
    alone = program(1, 1, op("h", 0), measure(0, 0), conditional((0,), "==", value, op("h", 0)))
    assert check_logical(alone) == {"k0=0", "k0=1"}


def test_an_if_directly_inside_an_if_and_nothing_else() -> None:
    inner = conditional((1,), "==", 1, conditional((2,), "==", 0, op("h", 3)))
    logical = program(
        4,
        5,
        *(gate for q in range(3) for gate in (op("h", q), measure(q, q))),
        conditional((0,), "!=", 0, inner),
        measure(3, 3),
    )
    assert facts(prepare(logical, 3))["paths"] == 4
    assert check_logical(logical, shots=1024) == {"k0=0", "k0=1/k1=0", "k0=1/k1=1/k2=0", "k0=1/k1=1/k2=1"}


EQUAL = [((0,), "==", 1), ((0, 1), "==", 2), ((1,), "!=", 0), ((0, 1), ">=", 3), ((0,), "<", 1), ((0, 1), "<", 0)]
OPEN = [((0, 1), "<", 2), ((0, 1), "!=", 1), ((1, 0), ">", 0), ((0, 1), ">=", 0), ((1,), "<=", 7)]


@pytest.mark.parametrize("first", EQUAL + OPEN, ids=str)
@pytest.mark.parametrize("second", EQUAL + OPEN, ids=str)
def test_paulis_under_two_conditions(first, second) -> None:  # type: ignore[no-untyped-def]
    """Where both conditions are one they change the frame only; elsewhere they are decisions."""
    logical = program(
        3,
        4,
        *(gate for q in range(2) for gate in (op("h", q), measure(q, q))),
        conditional(*first, op("x", 2), conditional(*second, op("y", 2), op("z", 2)), op("z", 2)),
        measure(2, 2),
    )
    fragments = prepare(logical, 3)
    if first in EQUAL and second in EQUAL:
        assert facts(fragments)["decisions"] == 0
    check(fragments, oracle.from_logical(logical), shots=64)


def test_conditions_whose_and_is_no_comparison_decide() -> None:
    logical = program(3, 3, conditional((0, 1), "<", 2, conditional((0, 1), "!=", 1, op("x", 2))), measure(2, 2))
    assert facts(prepare(logical, 3))["decisions"] == 1  # the inner one is a frame within the body
    check_logical(logical, shots=8)


def test_equal_paulis_inside_a_branch_stay_frames() -> None:
    logical = program(
        2,
        3,
        op("h", 0),
        measure(0, 0),
        conditional((0,), "==", 1, op("h", 1), conditional((0,), "==", 1, op("z", 1)), op("h", 1)),
        measure(1, 1),
    )
    assert facts(prepare(logical, 3))["decisions"] == 1
    assert check_logical(logical) == {"k0=0", "k0=1"}


# ---- how many paths


def test_paths_are_counted_and_not_walked() -> None:
    def row(n: int) -> LogicalProgram:
        return program(1, 1, measure(0, 0), *[conditional((0,), "==", 1, op("h", 0)) for _ in range(n)], measure(0, 0))

    nested = program(1, 1, measure(0, 0), conditional((0,), "==", 1, op("h", 0), *row(2).ops))
    assert facts(prepare(row(0), 3))["paths"] == 1
    assert facts(prepare(row(6), 3))["paths"] == 64
    assert "batch_limit" not in facts(prepare(row(6), 3))
    assert facts(prepare(row(7), 3))["batch_limit"] == 64
    assert facts(prepare(nested, 3))["paths"] == 1 + 4
    assert facts(prepare(nested, 3), max_branches=4)["batch_limit"] == 4
    assert "batch_limit" not in facts(prepare(nested, 3), max_branches=5)
    assert facts(prepare(row(200), 3))["paths"] == MANY


# ---- faults


def deep(bits: tuple[int, int]) -> LogicalProgram:
    """Certain outcomes: ``bits`` in c[0], c[1], and in c[2] what the path says."""
    inner = conditional((1,), "==", 1, op("h", 2), op("x", 2))
    return program(
        3,
        3,
        *(op("x", q) for q in range(2) if bits[q]),
        measure(0, 0),
        measure(1, 1),
        conditional((0,), "==", 1, op("h", 2), inner, op("z", 2), op("h", 2) if not bits[1] else op("x", 2)),
        measure(2, 2),
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("bits", "decisions", "last"), [((0, 1), [0], 0), ((1, 0), [1, 0], 1), ((1, 1), [1, 1], 0)], ids=str
)
def test_no_single_fault_in_nested_branches_changes_a_decision_or_an_outcome(
    bits: tuple[int, int], decisions: list[int], last: int
) -> None:
    fragments = prepare(deep(bits), 3)
    faults = faults_of(fragments, decisions)
    wrong, noticed = [], 0
    for start in range(0, len(faults), 4096):
        some = faults[start : start + 4096]
        done = run(fragments, shots=len(some), seed=start, faults=some)
        (path,) = done.outcomes.paths
        assert [int(step[-1]) for step in path.split("/")] == decisions
        failed = (done.outcomes.bits[:2] != np.array([[bits[0]], [bits[1]]])).any(0) | (done.outcomes.bits[2] != last)
        wrong += [some[i] for i in np.flatnonzero(failed)]
        noticed += int((done.outcomes.undecoded != done.outcomes.bits).any(0).sum())
    assert wrong == []
    assert noticed > 100
