# SPDX-License-Identifier: Apache-2.0
"""Every program in etc/examples comes to what the textbook says, on a machine without noise."""

from __future__ import annotations

import re
from math import cos, pi
from pathlib import Path

import oracle
import pytest
from loopback import run
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.pytket_optimise.optimiser import optimised
from qcos_plugins.surface_code.prepare import prepare

EXAMPLES = Path(__file__).parents[2] / "etc" / "examples"

FAILED = 1 - cos(pi / 8) ** 2
EXPECTED: dict[str, dict[str, float]] = {
    "adder": {"1 1": 1.0},
    "bell": {"00": 0.5, "11": 0.5},
    "bernstein_vazirani": {"101": 1.0},
    "branch": {"0 0": 0.5, "1 1": 0.5},
    "clifford_t": {},
    "deutsch_jozsa": {"001": 0.25, "011": 0.25, "101": 0.25, "111": 0.25},
    "ghz": {"000": 0.5, "111": 0.5},
    "ghz4": {"0000": 0.5, "1111": 0.5},
    "grover": {"101": 121 / 128, **{f"{i:03b}": 1 / 128 for i in range(8) if i != 5}},
    "idle": {"01": 1.0},
    "nested": {"0 0 0 0": 0.25, "0 1 0 0": 0.25, "1 0 0 0": 0.25, "1 1 0 0": 0.125, "1 1 1 1": 0.125},
    "phase_estimation": {"0 0 1": 1.0},
    "qft": {"0000": 0.25, "0010": 0.25, "0001": 0.25, "0011": 0.25},
    "repeat_until_success": {"0 1": 1 - FAILED**2, "1 0": FAILED**2},
    "repetition": {"10 00 111": 1.0},
    "superdense": {"11": 1.0},
    "teleport": {"0 0 0": 0.25, "0 1 0": 0.25, "1 0 0": 0.25, "1 1 0": 0.25},
}
"""The random circuit is simulated."""

EPSILON = {"qft": 0.05}


def test_every_example_is_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.qasm")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_comes_to_what_it_says(name: str) -> None:
    source = (EXAMPLES / f"{name}.qasm").read_bytes()
    program, facts = compile_source(source, EPSILON.get(name))
    exact = EXPECTED[name] or oracle.distribution(oracle.from_logical(program))
    if name not in EPSILON:
        for each in (program, optimised(program, lambda: False)[0]):
            assert oracle.distribution(oracle.from_logical(each)) == pytest.approx(exact)
    done = run(prepare(program, 3), shots=400, seed=4)
    if name in EPSILON:
        # Each rotation may be off by so much: a few shots are what an exact one never gives.
        assert facts["approximated"] == 9
        wrong = sum(count for key, count in done.counts.items() if key not in exact)
        assert wrong <= 400 * facts["epsilon_total"] ** 2 + 8
        counts = {key: count for key, count in done.counts.items() if key in exact}
        assert all(abs(counts.get(key, 0) - 400 * p) < 60 for key, p in exact.items())
    else:
        oracle.check_counts(done.counts, exact)
    assert done.outcomes.detection_events == 0


def test_the_random_circuit_is_simulated_from_its_text() -> None:
    """Gate by gate as it is written, not as it was compiled."""
    text = re.sub(r"//.*", "", (EXAMPLES / "clifford_t.qasm").read_text())
    gates = []
    for name, operands in re.findall(r"\b(h|t|tdg|s|cx)\s+([^;]*);", text):
        gates.append(oracle.Gate(name, tuple(int(q) for q in re.findall(r"q\[(\d)\]", operands))))
    gates += [oracle.Gate("measure", (q,), bit=q) for q in range(3)]
    exact = oracle.distribution(oracle.Circuit(3, (("c", 3),), tuple(gates)))
    assert len(exact) > 4
    program, facts = compile_source((EXAMPLES / "clifford_t.qasm").read_bytes())
    assert facts["t_count"] == sum(gate.name in ("t", "tdg") for gate in gates) == 5
    oracle.check_counts(run(prepare(program, 3), shots=1000, seed=8).counts, exact)
