# SPDX-License-Identifier: Apache-2.0
"""State vectors, which T gates need, do as well as the tableau for programs that need none."""

from __future__ import annotations

from typing import Any

import oracle
import pytest
from loopback import prepared, run
from qcos_plugins.stim_adapter.states import StateReference
from test_stim_adapter import BRANCHES
from test_stim_adapter_records import SHOTS, Affine, half_phase, machine_records, phases, physical_records


@pytest.mark.parametrize("build", [phases, half_phase], ids=lambda f: f.__name__)
def test_records_span_the_same_space(build: Any) -> None:
    program = build().program(bits=1)
    mine = Affine(machine_records(program, SHOTS, seed=1, reference=StateReference))
    real = Affine(physical_records(program, SHOTS, seed=2))
    assert mine.rank == real.rank
    assert mine.holds(real)
    assert real.holds(mine)


def test_programs_give_their_exact_distribution() -> None:
    for seed in range(15):
        circuit = oracle.random_circuit(seed, qubits=1 + seed % 3)
        done = run(prepared(circuit.qasm()), shots=500, seed=seed, machine={"reference": StateReference})
        oracle.check_counts(done.counts, oracle.distribution(circuit), alpha=1e-5)
        assert done.outcomes.detection_events == 0


def test_branches_take_their_own_states_along() -> None:
    done = run(prepared(BRANCHES), shots=800, seed=1, machine={"reference": StateReference})
    oracle.check_counts(done.counts, {"0 0 00": 0.5, "1 0 01": 0.25, "1 1 10": 0.125, "1 1 11": 0.125}, alpha=1e-5)
