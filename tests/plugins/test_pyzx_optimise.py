# SPDX-License-Identifier: Apache-2.0
"""The optimiser by the ZX calculus: what it gives does the same, costs no more, and leaves alone what is no gate."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logical_programs import conditional, idle, measure, op, program, random_program
from qcos_plugins.pytket_compile import main as compiler
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.pytket_optimise import main as other
from qcos_plugins.pyzx_optimise import main
from qcos_plugins.pyzx_optimise.optimiser import optimised
from qcos_plugins.pyzx_optimise.passes import candidates, circuit_of, gates_of

from qcosd.qec.program import GATES, LogicalProgram, Op
from qcosd.qec.rewriting.cost import cost_of
from qcosd.qec.rewriting.equivalence import equivalent
from qcosd.qec.rewriting.segments import segments_of
from qcosd.sdk import Refused
from qcosd.sdk.testing import Bench, make_lease

EXAMPLES = Path(__file__).parents[2] / "etc" / "examples"
seeds = st.integers(0, 2**32 - 1)


def never() -> bool:
    return False


def random_gates(random: Random, qubits: int, length: int) -> list[Op]:
    kinds = [*sorted(kind for kind, width in GATES.items() if width <= qubits), "cx", "cx", "t", "tdg"]
    return [op(kind := random.choice(kinds), *random.sample(range(qubits), GATES[kind])) for _ in range(length)]


def unitary_of(ops: tuple[Op, ...], qubits: int) -> np.ndarray:
    matrix = np.eye(1 << qubits, dtype=complex)
    for each in ops:
        matrix = oracle._embed({**oracle.ONE, **oracle.TWO}[each.kind], each.qubits, qubits) @ matrix
    return matrix


def t_count(ops: tuple[Op, ...]) -> int:
    return sum(each.kind in ("t", "tdg") for each in ops)


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(2, 4), st.integers(1, 60))
def test_runs_of_gates_do_the_same_at_no_more_cost(seed: int, qubits: int, length: int) -> None:
    given = program(qubits, 0, *random_gates(Random(seed), qubits, length))
    result, facts = optimised(given, never)
    overlap = np.vdot(unitary_of(given.ops, qubits), unitary_of(result.ops, qubits))
    assert abs(overlap) == pytest.approx(1 << qubits, abs=1e-9)
    before, after = (cost_of(p.ops, range(qubits), range(qubits)) for p in (given, result))
    assert after == before or after.beats(before)
    assert t_count(result.ops) <= t_count(given.ops)
    assert facts["t_count"] == {"before": t_count(given.ops), "after": t_count(result.ops)}
    assert "wrong_results" not in facts


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_every_strategy_gives_the_same_gates(seed: int) -> None:
    gates = random_gates(Random(seed), 4, 40)
    names = []
    for name, written in candidates([(each.kind, each.qubits) for each in gates], 4):
        names.append(name)
        assert equivalent(gates, [op(kind, *qubits) for kind, qubits in written]), name
    assert len(names) == 7


def test_every_kind_of_gate_is_read_as_it_was_written() -> None:
    for kind, width in GATES.items():
        assert gates_of(circuit_of([(kind, tuple(range(width)))], 2)) == [(kind, tuple(range(width)))]


@pytest.mark.parametrize(
    "fence",
    [idle(1, 0), op("barrier", 0), op("reset", 1), measure(1, 0), conditional((0,), "==", 1, op("t", 1))],
    ids=lambda fence: fence.kind,
)
def test_nothing_passes_a_fence(fence: Op) -> None:
    given = program(2, 1, op("h", 0), op("t", 0), fence, op("t", 0), op("h", 0), measure(0, 0))
    assert optimised(given, never)[0] == given


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_fences_stay_as_they_are(seed: int) -> None:
    given = random_program(Random(seed), 4, 2, 40)
    result, _ = optimised(given, never)
    assert [each for each in result.ops if each.kind not in GATES] == [o for o in given.ops if o.kind not in GATES]
    exact = [oracle.distribution(oracle.from_logical(each)) for each in (given, result)]
    assert exact[0] == pytest.approx(exact[1])


def test_the_same_program_gives_the_same_result() -> None:
    given = program(4, 0, *random_gates(Random(7), 4, 80))
    assert optimised(given, never)[0].to_bytes() == optimised(given, never)[0].to_bytes()


def test_toffoli_gates_that_share_controls_take_fewer_t_gates() -> None:
    source = b'OPENQASM 2.0; include "qelib1.inc"; qreg q[4]; ccx q[0],q[1],q[2]; cx q[0],q[3]; ccx q[0],q[1],q[2];'
    given = compile_source(source)[0]
    result, _ = optimised(given, never)
    assert (t_count(given.ops), t_count(result.ops)) == (14, 0)
    assert sum(each.kind == "cx" for each in result.ops) == 1


def test_the_adder_takes_fewer_t_gates_and_adds() -> None:
    given = compile_source((EXAMPLES / "adder.qasm").read_bytes())[0]
    result, facts = optimised(given, never)
    assert t_count(result.ops) < t_count(given.ops)
    assert oracle.distribution(oracle.from_logical(result)) == pytest.approx({"1 1": 1.0})
    assert sum(s.unitary for s in segments_of(result.ops)) == sum(s.unitary for s in segments_of(given.ops))
    assert facts["cost"]["after"]["total"] < facts["cost"]["before"]["total"]


def test_a_spent_budget_leaves_the_program_as_it_is() -> None:
    given = program(3, 0, *random_gates(Random(2), 3, 50))
    result, facts = optimised(given, lambda: True)
    assert result == given and facts["budget_spent"]


# ---- the plugin


def test_who_is_asked_for_optimises() -> None:
    mains = (compiler, other, main)
    source = b'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; t q[0]; cx q[0],q[1]; t q[0];'
    with Bench(*((each.plugin, Path(each.__file__).parent / "plugin.toml") for each in mains)) as bench:
        for use, package in (({}, "pytket"), ({"use": {"optimise": "pyzx_optimise"}}, "pyzx")):
            document = bench.run({"source": source}, target="optimised", **use).document
            facts = document["facts"]["optimise.optimise"]
            assert facts["t_count"] == {"before": 2, "after": 0}
            assert package in facts["versions"]
            assert document["plan"]["providers"]["optimise.optimise"] == f"{package}_optimise"


def lease(**chosen: object) -> object:
    given = LogicalProgram((("q", 1),), (), (op("t", 0), op("t", 0)))
    return make_lease("optimise.optimise", {"logical": given.to_bytes()}, {"set": chosen})


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "PACKAGE", "no_such_package")
    with pytest.raises(Refused, match=r"pip install 'qcosd\[zx\]'") as caught:
        main.optimise(lease())
    assert caught.value.code == "unsupported"
    handed = main.optimise(lease(optimise="off"))
    assert handed.facts == {"optimise": "off"}


def test_what_is_wrong_is_refused() -> None:
    with pytest.raises(Refused, match="optimise is on or off"):
        main.optimise(lease(optimise="perhaps"))
    with pytest.raises(Refused) as caught:
        main.optimise(make_lease("optimise.optimise", {"logical": b"x"}, {}))
    assert (caught.value.code, caught.value.details) == ("wrong_input", {"kind": "logical"})
