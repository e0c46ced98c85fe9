# SPDX-License-Identifier: Apache-2.0
"""Programs keep their exact distribution through compiler and optimiser."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import distribution, from_logical, random_circuit
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.pytket_optimise.optimiser import optimised


def both(source: bytes) -> list[dict[str, float]]:
    compiled, _ = compile_source(source)
    result, _ = optimised(compiled, lambda: False)
    return [distribution(from_logical(program)) for program in (compiled, result)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_random_programs_keep_their_distribution(seed: int) -> None:
    circuit = random_circuit(seed, length=14)
    exact = distribution(circuit)
    for found in both(circuit.qasm().encode()):
        assert found == pytest.approx(exact)
