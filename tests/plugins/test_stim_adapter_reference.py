# SPDX-License-Identifier: Apache-2.0
"""References by their interface: one that keeps a state vector per shot, as T gates will need, must do as well."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from loopback import prepared, run
from test_stim_adapter import BRANCHES
from test_stim_adapter_records import SHOTS, Affine, half_phase, machine_records, phases, physical_records

AMPLITUDES = {"Z": (1, 0), "X": (2**-0.5, 2**-0.5), "Y": (2**-0.5, 1j * 2**-0.5)}


class StateVectors:
    """Outcomes of every shot drawn on their own; slow and plain."""

    def __init__(self, shots: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.patches: list[int] = []
        self.states = np.ones((shots, 1), complex)

    def prepare(self, patch: int, state: str) -> None:
        assert patch not in self.patches, "every patch is measured before it is born again"
        self.patches.append(patch)
        self.states = np.kron(self.states, np.array(AMPLITUDES[state]))

    def hadamard(self, patch: int) -> None:
        self._on(patch, np.array([[1, 1], [1, -1]]) / 2**0.5)

    def parity(self, product: tuple[tuple[int, str], ...]) -> np.ndarray:
        before = self.states.copy()
        for patch, basis in product:
            self._on(patch, np.array([[0, 1], [1, 0]]) if basis == "X" else np.diag([1, -1]))
        odd = self.rng.random(len(before)) >= (1 + (before.conj() * self.states).sum(1).real) / 2
        self.states = before + np.where(odd, -1, 1)[:, None] * self.states
        self.states /= np.linalg.norm(self.states, axis=1)[:, None]
        return np.packbits(odd, bitorder="little")

    def measure(self, patch: int, basis: str) -> np.ndarray:
        outcome = self.parity(((patch, basis),))
        if basis == "X":
            self.hadamard(patch)
        value = np.unpackbits(outcome, count=len(self.states), bitorder="little")
        k = self.patches.index(patch)
        split = self.states.reshape(len(value), 2**k, 2, -1)
        self.states = split[np.arange(len(value)), :, value].reshape(len(value), -1)
        self.patches.remove(patch)
        return outcome

    def select(self, keep: np.ndarray, seed: int) -> StateVectors:
        child = StateVectors(int(keep.sum()), seed)
        child.patches, child.states = list(self.patches), self.states[keep].copy()
        return child

    def _on(self, patch: int, matrix: np.ndarray) -> None:
        k = self.patches.index(patch)
        split = self.states.reshape(len(self.states), 2**k, 2, -1)
        self.states = np.einsum("ij,sajb->saib", matrix, split).reshape(len(self.states), -1)


@pytest.mark.parametrize("build", [phases, half_phase], ids=lambda f: f.__name__)
def test_records_span_the_same_space(build: Any) -> None:
    program = build().program(bits=1)
    mine = Affine(machine_records(program, SHOTS, seed=1, reference=StateVectors))
    real = Affine(physical_records(program, SHOTS, seed=2))
    assert mine.rank == real.rank
    assert mine.holds(real)
    assert real.holds(mine)


def test_programs_give_their_exact_distribution() -> None:
    for seed in range(15):
        circuit = oracle.random_circuit(seed, qubits=1 + seed % 3)
        done = run(prepared(circuit.qasm()), shots=500, seed=seed, machine={"reference": StateVectors})
        oracle.check_counts(done.counts, oracle.distribution(circuit), alpha=1e-5)
        assert done.outcomes.detection_events == 0


def test_branches_take_their_own_states_along() -> None:
    done = run(prepared(BRANCHES), shots=800, seed=1, machine={"reference": StateVectors})
    oracle.check_counts(done.counts, {"0 0 00": 0.5, "1 0 01": 0.25, "1 1 10": 0.125, "1 1 11": 0.125}, alpha=1e-5)
