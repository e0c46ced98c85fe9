# SPDX-License-Identifier: Apache-2.0
"""Prepared programs mean what the logical program means: run without noise, shot by shot."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lattice_machine import Shot, agrees
from logical_programs import conditional, measure, op, program, programs
from qcos_plugins.surface_code.prepare import prepare
from qcos_plugins.surface_code.schedule import Unsupported

from qcosd.qec.program import Op


def run(logical, *, shots=6, distance=3, movement=True):
    prepared = prepare(logical, distance, movement)
    results = [Shot(prepared, seed).run() for seed in range(shots)]
    for shot in results:
        assert agrees(logical, shot), (shot.written, shot.decisions)
    return results


@settings(max_examples=60, deadline=None)
@given(programs(qubits=3, length=14))
def test_random_programs_give_only_possible_outcomes(logical):
    run(logical, shots=3)


@settings(max_examples=25, deadline=None)
@given(programs(qubits=3, length=12, hadamards=False))
def test_random_programs_without_movement(logical):
    run(logical, shots=3, movement=False)


@pytest.mark.parametrize("distance", [3, 5])
def test_each_gate_and_its_inverse(distance):
    gates = [
        op("h", 0),
        op("s", 0),
        op("h", 0),
        op("sdg", 0),
        op("h", 1),
        op("cx", 0, 1),
        op("y", 1),
        op("s", 1),
        op("h", 1),
    ]
    opposite = {"s": "sdg", "sdg": "s"}
    back = [Op(opposite.get(gate.kind, gate.kind), gate.qubits, 1) for gate in reversed(gates)]
    results = run(program(2, 2, *gates, *back, measure(0, 0), measure(1, 1)), distance=distance)
    assert [shot.bits for shot in results] == [[0, 0]] * len(results)


def test_random_outcomes_are_random():
    results = run(program(2, 2, op("h", 0), op("cx", 0, 1), measure(0, 0), measure(1, 1)), shots=60)
    ones = sum(shot.bits[0] for shot in results)
    assert all(shot.bits[0] == shot.bits[1] for shot in results)
    assert 10 < ones < 50


def test_decisions_go_both_ways_and_branches_join():
    logical = program(
        2,
        3,
        op("h", 0),
        measure(0, 0),
        conditional((0,), "==", 1, op("h", 1), op("s", 1)),
        conditional((0,), "!=", 1, op("cx", 0, 1), measure(0, 1)),
        op("h", 1),
        measure(1, 2),
    )
    results = run(logical, shots=30)
    assert {tuple(shot.decisions) for shot in results} == {(0, 1), (1, 0)}


def test_conditional_paulis_need_no_decision():
    logical = program(1, 2, op("h", 0), measure(0, 0), conditional((0,), "==", 1, op("x", 0)), measure(0, 1))
    results = run(logical, shots=20)
    assert {tuple(shot.bits) for shot in results} == {(0, 0), (1, 0)}
    assert not any(shot.decisions for shot in results)


def test_paulis_wait_in_program_order_for_the_bits_they_read():
    logical = program(
        3,
        3,
        op("h", 0),
        measure(0, 0),
        conditional((0,), "==", 1, op("x", 1)),
        measure(2, 0),
        conditional((0,), "==", 1, op("x", 1)),
        measure(1, 1),
    )
    results = run(logical, shots=20)
    assert {(shot.written[0][0], shot.bits[0], shot.bits[1]) for shot in results} == {(0, 0, 0), (1, 0, 1)}


def test_hadamards_fold_where_nothing_moves():
    logical = program(
        1, 2, op("h", 0), op("z", 0), op("h", 0), op("x", 0), measure(0, 0), op("x", 0), op("h", 0), measure(0, 1)
    )
    for movement in (False, True):
        results = run(logical, shots=20, movement=movement)
        assert {shot.bits[0] for shot in results} == {0}
        assert {shot.bits[1] for shot in results} == {0, 1}
    names = {
        i.name for f in prepare(logical, 3, False).fragments for s in f.slots for p in s.parts for i in p.instructions
    }
    assert not names & {"H", "PERM"}


def test_a_hadamard_that_cannot_fold_is_refused_with_its_line():
    logical = program(1, 1, op("h", 0), op("s", 0), Op("h", (0,), 7), op("s", 0), measure(0, 0))
    with pytest.raises(Unsupported) as refused:
        prepare(logical, 3, movement=False)
    assert refused.value.line == 7


@settings(max_examples=15, deadline=None)
@given(programs(qubits=3, length=8), st.sampled_from([3, 5]))
def test_all_paths_end_and_records_are_numbered_by_slot(logical, distance):
    prepared = prepare(logical, distance)
    for shot in (Shot(prepared, seed).run() for seed in range(2)):
        counted = sum(len(slot.records()) for f in prepared.path(shot.decisions) for slot in f.sequence())
        assert counted == len(shot.records)
