# SPDX-License-Identifier: Apache-2.0
"""Programs keep their exact distribution through compiler and optimiser, and the examples do what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import distribution, from_logical, random_circuit
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.pytket_optimise.optimiser import optimised

EXAMPLES = Path(__file__).parents[2] / "etc" / "examples"
EXPECTED = {
    "bell": {"00": 0.5, "11": 0.5},
    "ghz": {"000": 0.5, "111": 0.5},
    "ghz4": {"0000": 0.5, "1111": 0.5},
    "teleport": {"0 0 0": 0.25, "0 1 0": 0.25, "1 0 0": 0.25, "1 1 0": 0.25},
    "superdense": {"11": 1.0},
    "repetition": {"10 00 111": 1.0},
    "branch": {"0 0": 0.5, "1 1": 0.5},
    "nested": {"0 0 0 0": 0.25, "0 1 0 0": 0.25, "1 0 0 0": 0.25, "1 1 0 0": 0.125, "1 1 1 1": 0.125},
    "idle": {"01": 1.0},
}


def both(source: bytes) -> list[dict[str, float]]:
    compiled, _ = compile_source(source)
    result, _ = optimised(compiled, lambda: False)
    return [distribution(from_logical(program)) for program in (compiled, result)]


def test_every_example_is_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.qasm")} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_examples_do_what_they_say(name: str) -> None:
    for found in both((EXAMPLES / f"{name}.qasm").read_bytes()):
        assert found == pytest.approx(EXPECTED[name])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_random_programs_keep_their_distribution(seed: int) -> None:
    circuit = random_circuit(seed, length=14)
    exact = distribution(circuit)
    for found in both(circuit.qasm().encode()):
        assert found == pytest.approx(exact)
