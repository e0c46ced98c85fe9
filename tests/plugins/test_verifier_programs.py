# SPDX-License-Identifier: Apache-2.0
"""Programs that are the same pass, programs that are not are refused; lies are told by changing one thing of a right one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from logical_programs import conditional, idle, measure, op, program, random_program
from oracle import distribution, from_logical, random_circuit
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.pytket_optimise.optimiser import optimised
from qcos_plugins.verifier.finding import TooLarge, Wrong
from qcos_plugins.verifier.lockstep import run_side_by_side
from qcos_plugins.verifier.logical import check_logical, check_optimised
from qcos_plugins.verifier.residue import compare
from qcos_plugins.verifier.steps import steps_of

from qcosd.qec.program import Condition, LogicalProgram, Op

EXAMPLES = sorted((Path(__file__).parents[2] / "etc" / "examples").glob("*.qasm"))
HEAD = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'


def shown(*ops: Op, bits: int = 2) -> LogicalProgram:
    return program(1 + max(q for o in ops for q in o.qubits), bits, *ops)


def simulated(first: LogicalProgram, second: LogicalProgram) -> int:
    return run_side_by_side(steps_of(first.ops), steps_of(second.ops), first.bits)


# ---- equal programs


@pytest.mark.slow
def test_every_result_of_the_optimiser_passes():
    changed = 0
    for seed in range(50):
        random = Random(seed)
        logical = random_program(random, random.randint(2, 5), 3, random.randint(5, 30))
        result, _ = optimised(logical, lambda: False)
        changed += result != logical
        assert check_optimised(logical, result)["method"] in ("unitary", "tableau")
        if seed % 10 == 0:
            assert simulated(logical, result) >= 1
    assert changed > 15


def test_gates_may_pass_a_measurement_that_does_not_mind_them():
    first = shown(op("h", 0), op("s", 0), measure(0, 0), op("h", 0), measure(0, 1))
    second = shown(op("h", 0), measure(0, 0), op("h", 0), measure(0, 1))
    assert check_optimised(first, second)["method"] == "simulation"


def test_what_a_reset_forgets_may_change():
    first = shown(op("h", 1), op("cx", 1, 0), op("x", 0), Op("reset", (0,), 1), op("h", 0), measure(0, 0))
    second = shown(op("h", 1), op("cx", 1, 0), Op("reset", (0,), 1), op("h", 0), measure(0, 0))
    assert check_optimised(first, second)["method"] == "simulation"
    with pytest.raises(Wrong, match="another state"):
        check_optimised(first, replace(second, ops=second.ops[:1] + second.ops[2:]))


def test_operations_on_other_qubits_may_change_places():
    first = shown(op("h", 0), measure(0, 0), op("h", 1), idle(2, 1), measure(1, 1))
    second = shown(op("h", 1), idle(2, 1), measure(1, 1), op("h", 0), measure(0, 0))
    assert check_optimised(first, second)["method"] == "unitary"
    # Not past what reads the bit.
    first = shown(measure(0, 0), conditional((0,), "==", 1, op("x", 1)), measure(1, 1))
    second = shown(conditional((0,), "==", 1, op("x", 1)), measure(0, 0), measure(1, 1))
    with pytest.raises(Wrong):
        check_optimised(first, second)


def test_two_conditions_may_be_read_in_any_order():
    ones = [conditional((0,), "==", 1, op("x", 1)), conditional((0,), "==", 0, op("h", 2))]
    last = [measure(1, 1)]
    assert check_optimised(shown(measure(0, 0), *ones, *last), shown(measure(0, 0), *ones[::-1], *last))


def test_nested_branches_are_compared_too():
    def nested(gate: str) -> LogicalProgram:
        inner = conditional((1,), "==", 1, op(gate, 2), op("h", 2))
        outer = conditional((0,), "==", 1, measure(1, 1), inner)
        return shown(op("h", 0), measure(0, 0), op("h", 1), outer, measure(2, 1))

    assert check_optimised(nested("s"), nested("s"))
    with pytest.raises(Wrong):
        check_optimised(nested("s"), nested("sdg"))


def test_many_qubits_are_compared_by_tableau():
    ops = [op("h", 0), *(op("cx", q, q + 1) for q in range(199))]
    facts = check_optimised(program(200, 0, *ops, *ops[::-1]), program(200, 0))
    assert facts == {"method": "tableau"}


# ---- lies


def gates_at(logical: LogicalProgram, *kinds: str) -> list[int]:
    return [place for place, each in enumerate(logical.ops) if each.kind in kinds]


def changed(logical: LogicalProgram, place: int, *instead: Op) -> LogicalProgram:
    return replace(logical, ops=(*logical.ops[:place], *instead, *logical.ops[place + 1 :]))


def lies(logical: LogicalProgram, random: Random) -> dict[str, LogicalProgram]:
    """One change of each kind that the program allows."""
    found: dict[str, LogicalProgram] = {}

    def tell(name: str, kinds: tuple[str, ...], *instead) -> None:
        places = gates_at(logical, *kinds)
        if places:
            place = random.choice(places)
            found[name] = changed(logical, place, *(make(logical.ops[place]) for make in instead))

    other = {"s": "sdg", "sdg": "s"}
    tell("dropped gate", ("h", "s", "sdg", "x", "y", "z", "cx"))
    tell("wrong sign", ("s", "sdg"), lambda o: replace(o, kind=other[o.kind]))
    tell("swapped cx", ("cx",), lambda o: replace(o, qubits=o.qubits[::-1]))
    tell("removed idle", ("idle",))
    tell("longer idle", ("idle",), lambda o: replace(o, blocks=o.blocks + 1))
    tell("removed barrier", ("barrier",))
    tell("removed measurement", ("measure",))
    tell("removed reset", ("reset",))
    tell("other bit", ("measure",), lambda o: replace(o, bit=(o.bit + 1) % 3))
    tell(
        "changed condition", ("if",), lambda o: replace(o, condition=replace(o.condition, value=o.condition.value + 1))
    )
    tell("condition on other bits", ("if",), lambda o: replace(o, condition=replace(o.condition, bits=(2,))))
    tell("unconditional", ("if",), *[lambda o, i=i: o.body[i] for i in range(1)])
    return found


ALWAYS = {"removed idle", "longer idle", "removed barrier", "removed measurement", "removed reset", "other bit"}
"""Lies that change what is done, whatever comes out."""


def test_every_lie_is_found():
    told: dict[str, int] = {}
    harmless = 0
    for seed in range(16):
        random = Random(f"lies/{seed}")
        logical = random_program(random, 3, 3, 14)
        right, _ = optimised(logical, lambda: False)
        for name, lie in lies(right, random).items():
            try:
                check_optimised(logical, lie)
            except Wrong:
                told[name] = told.get(name, 0) + 1
                continue
            # What passes must be no lie: a sign right before a measurement, a condition that never holds.
            assert name not in ALWAYS
            harmless += 1
            mine, other = distribution(from_logical(logical)), distribution(from_logical(lie))
            assert mine.keys() == other.keys()
            assert all(abs(mine[key] - other[key]) < 1e-9 for key in mine)
    assert min(told.values()) >= 2 and len(told) == 12, told
    assert harmless < sum(told.values()) / 2


def test_the_simulation_alone_tells_programs_apart():
    """Where the exact comparison finds a difference, the simulation finds it too, unless nobody can see it."""
    found = unseen = 0
    for seed in range(40):
        random = Random(f"both/{seed}")
        logical = random_program(random, 3, 3, 12)
        for name in ("wrong sign", "swapped cx", "dropped gate"):
            lie = lies(logical, random).get(name)
            if lie is None:
                continue
            sides = steps_of(logical.ops), steps_of(lie.ops)
            with pytest.raises(Wrong):
                compare(*sides)
            try:
                run_side_by_side(*sides, logical.bits)
            except Wrong:
                found += 1
            else:
                unseen += 1
                mine, other = distribution(from_logical(logical)), distribution(from_logical(lie))
                assert all(abs(mine.get(key, 0) - other.get(key, 0)) < 1e-9 for key in {**mine, **other})
    assert found > 60 and unseen < found / 2


def test_a_barrier_or_an_idle_that_has_passed_a_gate_is_found():
    for fence in (op("barrier", 0), idle(1, 0)):
        first = shown(op("h", 0), fence, op("s", 0), measure(0, 0))
        second = shown(op("h", 0), op("s", 0), fence, measure(0, 0))
        with pytest.raises(Wrong, match=fence.kind):
            check_optimised(first, second)


def test_merged_idles_are_found():
    barrier = op("barrier", 0)
    first = shown(op("h", 0), barrier, idle(1, 0), barrier, idle(1, 0), barrier, measure(0, 0))
    second = shown(op("h", 0), barrier, idle(2, 0), barrier, measure(0, 0))
    with pytest.raises(Wrong, match="idle"):
        check_optimised(first, second)


def test_swapped_bits_and_registers_are_found():
    first = shown(op("h", 0), op("cx", 0, 1), measure(0, 0), measure(1, 1))
    second = shown(op("h", 0), op("cx", 0, 1), measure(0, 1), measure(1, 0))
    with pytest.raises(Wrong):
        check_optimised(first, second)
    with pytest.raises(Wrong, match="registers"):
        check_optimised(first, replace(first, classical_registers=(("a", 1), ("b", 1))))


def test_a_condition_that_is_rarely_true_is_looked_at():
    measures = [each for q in range(8) for each in (op("h", q), measure(q, q))]
    bits = tuple(range(8))

    def ends(gate: str, before: bool) -> LogicalProgram:
        # The s before the measurement keeps the exact comparison from deciding.
        last = [op("s", 7)] if before else []
        branch = Op("if", (8,), 1, condition=Condition(bits, "==", 173), body=(op(gate, 8),))
        return shown(*measures[:-1], *last, measures[-1], op("h", 8), branch, op("h", 8), measure(8, 8), bits=9)

    assert check_optimised(ends("z", True), ends("z", False))["method"] == "simulation"
    with pytest.raises(Wrong):
        check_optimised(ends("z", True), ends("x", False))


def test_what_is_too_large_is_said_and_not_refused():
    wide = [each for q in range(300) for each in (op("h", q), op("s", q), measure(q, q))]
    without = [each for each in wide if each.kind != "s"]
    facts = check_optimised(program(300, 300, *wide), program(300, 300, *without))
    assert "too large" in facts["skipped"][0]
    with pytest.raises(TooLarge):
        simulated(program(300, 300, *wide), program(300, 300, *without))


# ---- sources


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_what_their_source_says(path):
    source = path.read_bytes()
    logical, _ = compile_source(source, 0.001)
    facts = check_logical(source, logical, epsilon=0.001)
    # pytket reads no `if` within an `if`.
    assert ("skipped" if path.stem == "nested" else "method") in facts, facts


def test_random_sources_pass_and_their_lies_do_not():
    told = 0
    for seed in range(60):
        source = random_circuit(seed).qasm().encode()
        logical, _ = compile_source(source)
        facts = check_logical(source, logical)
        if "method" not in facts:  # pytket compares only whole registers by < and >
            assert "pytket" in facts["skipped"][0]
            continue
        for name, lie in lies(logical, Random(seed)).items():
            # A gate on qubits that are only measured then changes nothing that the source asks for; others do.
            if name in ("removed idle", "longer idle", "removed measurement", "other bit", "removed reset"):
                told += 1
                with pytest.raises(Wrong):
                    check_logical(source, lie)
    assert told > 40


@pytest.mark.parametrize(
    ("source", "lie"),
    [
        ("qreg q[1]; creg c[1]; h q[0]; s q[0]; h q[0]; measure q[0]->c[0];", "sdg"),
        ("qreg q[1]; creg c[1]; gate g a { h a; s a; h a; } g q[0]; measure q[0]->c[0];", "sdg"),
        ("qreg q[1]; creg c[1]; u3(pi/2,0,pi/2) q[0]; h q[0]; measure q[0]->c[0]; if(c==1) x q[0];", "z"),
    ],
)
def test_meaning_is_read_by_another_parser(source, lie):
    text = (HEAD + source).encode()
    logical, _ = compile_source(text)
    assert "method" in check_logical(text, logical)
    place = max(gates_at(logical, "s", "sdg", "h", "x"))
    with pytest.raises(Wrong, match="does not do what its source says"):
        check_logical(text, changed(logical, place, op(lie, 0), op("h", 0)))


def test_idles_of_a_source_are_counted():
    text = (
        HEAD + "qreg q[2]; creg c[1]; id q; id q; x q[0]; u0(3) q[0]; barrier q; id q[1]; measure q[0]->c[0];"
    ).encode()
    logical, _ = compile_source(text)
    assert "method" in check_logical(text, logical)
    place = gates_at(logical, "idle")[0]
    with pytest.raises(Wrong, match="idle"):
        check_logical(text, changed(logical, place, replace(logical.ops[place], blocks=1)))


def test_what_is_approximated_too_coarsely_is_said_and_not_refused():
    text = (HEAD + "qreg q[2]; creg c[2]; cu1(pi/8) q[0],q[1]; cu1(pi/16) q[1],q[0]; measure q -> c;").encode()
    logical, _ = compile_source(text, 0.05)
    assert "too much to compare" in check_logical(text, logical, epsilon=0.05)["skipped"][0]
    with pytest.raises(Wrong):
        check_logical(text, logical)


def test_openqasm_3_is_read_by_the_compiler_alone():
    text = b"// OPENQASM 2.0;\nOPENQASM 3.0;\nqubit q;\nbit c;\nU(pi, 0, pi) q;\nc = measure q;\n"
    logical = compile_source(text)[0]
    assert check_logical(text, logical) == {
        "lines": 7,
        "skipped": ["meaning: OpenQASM 3, which pytket does not read"],
    }
    with pytest.raises(Wrong, match="has 7 lines"):
        check_logical(text, replace(logical, ops=(replace(logical.ops[0], line=8), logical.ops[1])))


def test_registers_keep_the_order_of_the_source():
    text = (HEAD + "qreg b[1]; qreg a[1]; creg z[1]; creg y[1]; x b[0]; measure b -> z; measure a -> y;").encode()
    logical, _ = compile_source(text)
    assert "method" in check_logical(text, logical)
    sorted_ = LogicalProgram((("a", 1), ("b", 1)), (("y", 1), ("z", 1)), logical.ops)
    with pytest.raises(Wrong, match="registers"):
        check_logical(text, sorted_)
    # The names in their order, and qubits taken for one another.
    swapped = {0: 1, 1: 0}
    crossed = [Op(o.kind, tuple(swapped[q] for q in o.qubits), o.line, o.bit) for o in logical.ops]
    with pytest.raises(Wrong):
        check_logical(text, replace(logical, ops=tuple(crossed)))


def test_lines_beyond_the_source_are_found():
    text = (HEAD + "qreg q[1]; creg c[1]; x q[0];").encode()
    with pytest.raises(Wrong, match="3 lines"):
        check_logical(text, program(1, 1, Op("x", (0,), 99)))


@pytest.mark.parametrize(
    "source",
    [
        "qreg Q[1]; creg c[1]; x Q[0]; measure Q -> c;",
        "qreg q[1]; creg c[2]; measure q[0] -> c[0]; if (c[0] > 0) x q[0];",
        "qreg q[2]; creg c[2]; h q; measure q -> c; if (c == 0) measure q -> c;",
    ],
)
def test_what_pytket_does_not_read_is_not_refused(source):
    text = (HEAD + source).encode()
    logical, _ = compile_source(text)
    facts = check_logical(text, logical)
    assert facts["registers"] == "same" and facts["skipped"]
    with pytest.raises(Wrong):
        check_logical(text, replace(logical, classical_registers=(("d", logical.bits),)))
