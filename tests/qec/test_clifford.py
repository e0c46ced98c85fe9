# SPDX-License-Identifier: Apache-2.0
"""The table of single-qubit Clifford gates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qcosd.qec import clifford


def equal_up_to_phase(first: np.ndarray, second: np.ndarray) -> bool:
    return bool(np.isclose(abs(np.trace(first.conj().T @ second)), 2))


def test_there_are_24_and_each_is_made_by_its_gates() -> None:
    table = clifford._table()
    assert len(table) == 24
    for matrix, gates in table:
        made = np.eye(2)
        for name in gates:
            made = np.array(clifford.GATES[name]).reshape(2, 2) @ made
        assert equal_up_to_phase(made, np.array(matrix).reshape(2, 2))


@pytest.mark.parametrize("name", sorted(clifford.GATES))
@pytest.mark.parametrize("phase", [1, 1j, -1, np.exp(0.3j)])
def test_a_gate_is_written_as_itself(name: str, phase: complex) -> None:
    assert clifford.gates_of(tuple(phase * entry for entry in clifford.GATES[name])) == (name,)


def test_no_gate_takes_more_than_one_s() -> None:
    assert max(sum(name in ("s", "sdg") for name in gates) for _, gates in clifford._table()) == 1


def test_every_quarter_turn_is_clifford_and_nothing_else() -> None:
    for i in range(-4, 5):
        for j in range(-4, 5):
            for k in range(-4, 5):
                angles = [n * math.pi / 2 for n in (i, j, k)]
                assert clifford.gates_of(clifford.rotation(*angles)) is not None
                assert clifford.gates_of(clifford.rotation(angles[0], angles[1] + 0.1, angles[2])) is None
    for angle in (math.pi / 4, 0.3, 1e-6, math.pi / 2 + 1e-7):
        assert clifford.gates_of(clifford.rotation(0, 0, angle)) is None
        assert clifford.deviation(clifford.rotation(0, 0, angle)) > 1e-8
    assert clifford.gates_of(clifford.rotation(0, 0, math.pi / 2 + 1e-12)) == ("s",)
