# SPDX-License-Identifier: Apache-2.0
"""Whether two runs of gates do the same, and T gates that cancel far apart: against matrices that share nothing with either."""

from __future__ import annotations

from functools import reduce
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcosd.qec.program import GATES, Op
from qcosd.qec.rewriting.equivalence import equivalent, matrix_of
from qcosd.qec.rewriting.request import Request
from qcosd.qec.rewriting.rotations import merged, rotations_of

seeds = st.integers(0, 2**32 - 1)
R = 2**-0.5
ONE = {
    "h": np.array([[R, R], [R, -R]]),
    "s": np.diag([1, 1j]),
    "sdg": np.diag([1, -1j]),
    "t": np.diag([1, R + 1j * R]),
    "tdg": np.diag([1, R - 1j * R]),
    "x": np.array([[0, 1], [1, 0]]),
    "y": np.array([[0, -1j], [1j, 0]]),
    "z": np.diag([1, -1]),
}
Gate = tuple[str, tuple[int, ...]]


def gates_of(text: str) -> list[Gate]:
    """`cx 0 1; t 1`"""
    words = [part.split() for part in text.split(";") if part.strip()]
    return [(kind, tuple(map(int, qubits))) for kind, *qubits in words]


def ops(gates: list[Gate]) -> list[Op]:
    return [Op(kind, qubits, 1) for kind, qubits in gates]


def unitary(gates: list[Gate], qubits: int) -> np.ndarray:
    """Kronecker products; qubit 0 is the most significant."""

    def on(places: dict[int, np.ndarray]) -> np.ndarray:
        return reduce(np.kron, [places.get(q, np.eye(2)) for q in range(qubits)])

    matrix = np.eye(1 << qubits, dtype=complex)
    for kind, targets in gates:
        if kind == "cx":
            control, target = targets
            factor = on({control: np.diag([1, 0])}) + on({control: np.diag([0, 1]), target: ONE["x"]})
        else:
            factor = on({targets[0]: ONE[kind]})
        matrix = factor @ matrix
    return matrix


def same(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(abs(abs(np.vdot(first, second)) - len(first)) < 1e-9)


def random_gates(random: Random, qubits: int, length: int) -> list[Gate]:
    kinds = ["h", "s", "sdg", "x", "y", "z", *["cx"] * 4, *["t"] * 3, *["tdg"] * 3]
    return [(kind := random.choice(kinds), tuple(random.sample(range(qubits), GATES[kind]))) for _ in range(length)]


def t_count(gates: list[Gate]) -> int:
    return sum(kind in ("t", "tdg") for kind, _ in gates)


def commuted(random: Random, gates: list[Gate]) -> list[Gate]:
    """The same gates in another order, with gates and their inverses put in."""
    gates = list(gates)
    for _ in range(60):
        place = random.randrange(len(gates) - 1)
        first, second = gates[place], gates[place + 1]
        if not set(first[1]) & set(second[1]):
            gates[place : place + 2] = [second, first]
    for pair in ("t {0}; tdg {0}", "h {0}; h {0}", "s {0}; tdg {0}; tdg {0}", "cx {0} {1}; cx {0} {1}"):
        place = random.randrange(len(gates))
        gates[place:place] = gates_of(pair.format(*random.sample(range(4), 2)))
    return gates


@settings(max_examples=150, deadline=None)
@given(seeds, st.integers(5, 60))
def test_merged_t_gates_do_the_same_and_are_fewer(seed: int, length: int) -> None:
    gates = random_gates(Random(seed), 4, length)
    found = merged(gates, 4)
    assert same(unitary(gates, 4), unitary(found, 4))
    assert t_count(found) <= t_count(gates)
    assert merged(found, 4) == found
    places = {qubit: qubit for qubit in range(4)}
    assert rotations_of(gates, places).same_as(rotations_of(found, places))


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_rotations_are_the_same_where_matrices_are(seed: int) -> None:
    random = Random(seed)
    gates = random_gates(random, 4, 40)
    other = commuted(random, gates)
    assert same(unitary(gates, 4), unitary(other, 4))
    places = {qubit: qubit for qubit in range(4)}
    assert rotations_of(gates, places).same_as(rotations_of(other, places))
    assert equivalent(ops(gates), ops(other))


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_what_differs_is_told(seed: int) -> None:
    random = Random(seed)
    gates = random_gates(random, 4, 30)
    place, change = random.randrange(30), random.choice(["t", "tdg", "z", "h", "s", "x"])
    other = [*gates[:place], (change, (random.randrange(4),)), *gates[place:]]
    assert equivalent(ops(gates), ops(other)) is same(unitary(gates, 4), unitary(other, 4)) is False


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_matrices_are_those_of_kronecker_products(seed: int) -> None:
    gates = random_gates(Random(seed), 3, 20)
    # There the last qubit is the least significant.
    found = matrix_of(ops(gates), {0: 2, 1: 1, 2: 0})
    assert np.allclose(found, unitary(gates, 3))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("h 0; z 0; h 0", "x 0", True),
        ("s 0; s 0", "z 0", True),
        ("s 0", "sdg 0", False),
        ("x 0", "", False),
        ("cx 0 1", "cx 1 0", False),
        ("x 3; x 3", "", True),
        ("t 0; t 0", "s 0", True),
        ("t 0", "tdg 0", False),
        ("t 0; cx 0 1", "cx 0 1; t 0", True),
        ("t 1; cx 0 1", "cx 0 1; t 1", False),
        ("tdg 0; s 0; x 0", "x 0; tdg 0", True),
        ("h 0; t 0; h 0; t 0", "t 0; h 0; t 0; h 0", False),
    ],
)
def test_equivalence_knows_signs_and_not_phases(first: str, second: str, same: bool) -> None:
    assert equivalent(ops(gates_of(first)), ops(gates_of(second))) is same


def test_t_gates_on_either_side_of_one_that_turns_the_axis_stay_apart() -> None:
    """Random circuits rarely come back to the same axis."""
    for between in ("h 0; t 0; h 0", "cx 1 0; h 0; tdg 0; h 0; cx 1 0"):
        gates = gates_of(f"t 0; {between}; t 0")
        assert t_count(merged(gates, 2)) == 3
        assert same(unitary(merged(gates, 2), 2), unitary(gates, 2))


def test_what_rotations_do_not_show_is_told_by_matrices_where_they_are_small() -> None:
    """Sixteen T gates, about all products of Z on four qubits and once about the identity, are the identity: no two are about the same."""
    text = ""
    for chosen in range(1, 16):
        first, *others = [qubit for qubit in range(4) if chosen >> qubit & 1]
        parity = "".join(f"cx {qubit} {first};" for qubit in others)
        text += f"{parity} t {first}; {parity}"
    gates = gates_of(text)
    assert same(unitary(gates, 4), np.eye(16)) is equivalent(ops(gates), []) is True
    wide = [*gates, *gates_of("".join(f"cx {q} {q + 1};" for q in range(3, 10)))]
    assert t_count(merged(wide, 11)) == 15
    assert not equivalent(ops(wide), ops(wide[len(gates) :]))  # nine qubits and more: not told, so not taken


def test_wide_runs_are_compared_by_rotations() -> None:
    random = Random(5)
    gates = random_gates(random, 40, 400)
    found = merged(gates, 40)
    assert t_count(found) < t_count(gates)
    assert equivalent(ops(gates), ops(found))
    assert not equivalent(ops(gates), ops([*found, ("t", (7,))]))
    assert not equivalent(ops(gates), ops([*found, ("z", (7,))]))


@pytest.mark.parametrize(
    ("chosen", "request_"),
    [
        ({}, (True, 30.0)),
        ({"optimise": "off"}, (False, 30.0)),
        ({"optimise_budget": "2.5"}, (True, 2.5)),
        ({"optimise_budget": 99}, (True, 30.0)),
    ],
)
def test_what_a_job_asks(chosen: dict[str, object], request_: tuple[bool, float]) -> None:
    assert Request.of({"set": chosen}, 60.0) == request_


@pytest.mark.parametrize("chosen", [{"optimise": "perhaps"}, {"optimise_budget": "x"}, {"optimise_budget": -1}])
def test_what_a_job_cannot_ask(chosen: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(chosen))):
        Request.of({"set": chosen}, 60.0)
