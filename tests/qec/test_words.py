# SPDX-License-Identifier: Apache-2.0
"""Unitaries of one qubit as words of Clifford gates and T gates."""

from __future__ import annotations

import cmath
from random import Random

import numpy as np
import pytest

from qcosd.qec import clifford
from qcosd.qec.rewriting.folding import folded
from qcosd.qec.rewriting.words import MOST_T, T, word_of

KINDS = {**{name: np.array(matrix).reshape(2, 2) for name, matrix in clifford.GATES.items()}, "t": np.diag([1, T[3]])}
KINDS["tdg"] = KINDS["t"].conj()


def matrix_of(kinds: list[str]) -> np.ndarray:
    matrix = np.eye(2, dtype=complex)
    for kind in kinds:
        matrix = KINDS[kind] @ matrix
    return matrix


def same(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(abs(abs(np.vdot(first, second)) - 2) < 1e-9)


@pytest.mark.parametrize("t_gates", range(MOST_T + 1))
def test_a_matrix_becomes_a_word_with_no_more_t_gates(t_gates: int) -> None:
    random = Random(t_gates)
    for _ in range(40):
        kinds = [*(["t", "tdg"] * t_gates)[:t_gates], *random.choices([*clifford.GATES], k=2 * t_gates + 3)]
        random.shuffle(kinds)
        wanted = matrix_of(kinds)
        turned = wanted * cmath.exp(1j * random.uniform(0, 6))
        word = word_of(tuple(turned.flatten()))
        assert word is not None and len(word) - 1 <= t_gates
        found = matrix_of([])
        for place, each in enumerate(word):
            found = np.array(each).reshape(2, 2) @ (KINDS["t"] @ found if place else found)
        assert same(wanted, found)
        gates = folded([(tuple(turned.flatten()), (0,))])
        assert gates is not None and same(wanted, matrix_of([kind for kind, _ in gates]))
        assert sum(kind in ("t", "tdg") for kind, _ in gates) == len(word) - 1


def test_what_is_no_word_or_too_long_is_not_found() -> None:
    assert word_of((1, 0, 0, 0.6 + 0.8j)) is None
    assert word_of((1, 0, 0, cmath.exp(0.25j * cmath.pi + 1e-4j))) is None
    assert word_of(tuple(matrix_of(["t", "h"] * (MOST_T + 1)).flatten())) is None
