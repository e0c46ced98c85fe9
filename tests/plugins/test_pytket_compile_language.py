# SPDX-License-Identifier: Apache-2.0
"""OpenQASM 2.0 programs that are accepted, and what they mean."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytket.qasm import circuit_from_qasm_str
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.pytket_compile.expressions import parse_expression
from qcos_plugins.pytket_compile.failure import SourceError
from qcos_plugins.pytket_compile.tokens import TokenStream
from qelib1_matrices import on, same_up_to_phase
from test_pytket_compile_gates import HEADER, KINDS

from qcosd.qec.program import Condition, LogicalProgram, Op

EXAMPLES = sorted((Path(__file__).parents[2] / "etc" / "examples").glob("*.qasm"))


def ops_of(body: str, header: str = HEADER) -> tuple[Op, ...]:
    return compile_source((header + body).encode())[0].ops


def brief(body: str, header: str = HEADER) -> list[tuple[str, tuple[int, ...]]]:
    return [(op.kind, op.qubits) for op in ops_of(body, header)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_compile(path: Path) -> None:
    program, facts = compile_source(path.read_bytes(), 0.1)
    assert any(op.kind == "measure" for op in program.ops)
    assert LogicalProgram.from_bytes(program.to_bytes()) == program
    assert facts["qubits"] == program.qubits


def test_registers_keep_the_order_of_declaration() -> None:
    text = "qreg z[2]; creg y[1]; qreg a[1]; creg b[2]; x a[0]; measure z -> b; measure a -> y;"
    program, _ = compile_source((HEADER + text).encode())
    assert program.quantum_registers == (("z", 2), ("a", 1))
    assert program.classical_registers == (("y", 1), ("b", 2))
    assert [(op.kind, op.qubits, op.bit) for op in program.ops] == [
        ("x", (2,), -1),
        ("measure", (0,), 1),
        ("measure", (1,), 2),
        ("measure", (2,), 0),
    ]


def test_lines_are_those_of_the_statements() -> None:
    text = "qreg q[2];\ngate g a,b {\n h a;\n cx a,b; }\n\n// nothing\ng q[0],\n  q[1]; x q[1];\n\nz q;\r\ny q[0];"
    assert [(op.kind, op.line) for op in ops_of(text)] == [
        *(("h", 9), ("cx", 9), ("x", 10)),
        *(("z", 12), ("z", 12), ("y", 13)),
    ]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("cx q,r;", [(0, 3), (1, 4), (2, 5)]),
        ("cx q[1],r;", [(1, 3), (1, 4), (1, 5)]),
        ("cx q,r[0];", [(0, 3), (1, 3), (2, 3)]),
        ("cx r[2],q[0];", [(5, 0)]),
        ("CX q[0],q[2];", [(0, 2)]),
    ],
)
def test_gates_are_broadcast_over_registers(call: str, expected: list[tuple[int, int]]) -> None:
    assert brief(f"qreg q[3]; qreg r[3]; {call}") == [("cx", pair) for pair in expected]


def test_builtins_need_no_include() -> None:
    text = "qreg q[2]; U(pi/2,0,pi) q[0]; CX q[0],q[1]; gate h a { x a; }"
    header = "OPENQASM 2.0; gate x a { U(pi,0,pi) a; }"
    assert brief(text, header) == [("h", (0,)), ("cx", (0, 1))]


def test_a_later_addition_to_qelib1_may_be_defined_by_the_program() -> None:
    assert brief("gate swap a,b { x a; } qreg q[2]; swap q[0],q[1];") == [("x", (0,))]
    before = 'OPENQASM 2.0; gate sx a { U(0,0,pi) a; } include "qelib1.inc"; include "qelib1.inc";'
    assert brief("qreg q[1]; sx q[0];", before) == [("z", (0,))]


def test_a_register_may_be_called_like_a_gate() -> None:
    assert brief("qreg x[1]; creg s[1]; x x; measure x -> s; if (s==1) x x[0];") == [
        *(("x", (0,)), ("measure", (0,)), ("if", (0,))),
    ]


def test_names_within_a_gate_are_its_own() -> None:
    text = "qreg q[1]; creg c[1]; gate g(c) q { rz(c) q; } g(pi) q[0]; opaque never(a,b) q,c;"
    assert brief(text) == [("z", (0,))]


@pytest.mark.parametrize(
    ("expression", "kinds"),
    [
        ("-pi/2", ["sdg"]),
        ("pi/2*3", ["sdg"]),
        ("pi-pi/2", ["s"]),
        ("-(pi)/-2", ["s"]),
        ("2*(1+1)*pi/4/2", ["s"]),
        ("pi*2^-1", ["s"]),
        ("pi/2^1^9", ["s"]),
        ("-2^2*pi/8", ["sdg"]),
        ("+-+-pi/2", ["s"]),
        ("pi/2-pi/2-pi/2", ["sdg"]),
        ("pi*sin(pi/6)", ["s"]),
        ("pi*cos(0)/2", ["s"]),
        ("pi*tan(pi/4)/2", ["s"]),
        ("pi*exp(ln(0.5))", ["s"]),
        ("pi*sqrt(.25)", ["s"]),
        ("pi*sqrt(sqrt((1.6e1)))/4", ["s"]),
        ("1.5707963267948966", ["s"]),
        ("0", []),
        ("4e0*pi", []),
    ],
)
def test_expressions(expression: str, kinds: list[str]) -> None:
    assert [op.kind for op in ops_of(f"qreg q[1]; rz({expression}) q[0];")] == kinds


operators = st.sampled_from(["+", "-", "*", "/"])
numbers = st.one_of(st.integers(1, 9).map(str), st.just("pi"), st.sampled_from(["0.5", "2.", ".25", "1e1"]))
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, operators, inner).map("".join),
        inner.map(lambda e: f"({e})"),
        inner.map(lambda e: f"-({e})"),
        inner.map(lambda e: f"cos({e})"),
    ),
    max_leaves=8,
)


@given(expressions)
def test_expressions_have_the_value_that_python_gives_them(text: str) -> None:
    tokens = TokenStream(text + ";")
    expression = parse_expression(tokens)
    assert tokens.at(";")
    try:
        wanted = eval(text, {"pi": np.pi, "cos": np.cos})
    except ZeroDivisionError:
        with pytest.raises(SourceError, match="zero"):
            expression.value({}, 1)
        return
    assert expression.value({}, 1) == pytest.approx(wanted)


# ---- what takes time


def test_id_idles_between_barriers_and_repeats_are_counted() -> None:
    ops = ops_of("qreg q[2];\nid q[0];\nid q[0];\nid q[1];\nid q;\nid q;\nu0(7) q;")
    assert [(op.kind, op.qubits, op.blocks, op.line) for op in ops] == [
        *(("barrier", (0,), 0, 4), ("idle", (0,), 2, 4), ("barrier", (0,), 0, 4)),
        *(("barrier", (1,), 0, 6), ("idle", (1,), 1, 6), ("barrier", (1,), 0, 6)),
        *(("barrier", (0, 1), 0, 7), ("idle", (0, 1), 9, 7), ("barrier", (0, 1), 0, 7)),
    ]


def test_a_barrier_or_a_gate_between_idles_keeps_them_apart() -> None:
    assert [op.blocks for op in ops_of("qreg q[1]; id q; barrier q; id q; x q; id q;") if op.kind == "idle"] == [1] * 3


def test_id_within_a_gate_idles() -> None:
    text = "gate hold(x) a,b { h a; id a; id a; barrier b,a; rz(x) b; } qreg q[3]; hold(pi) q[2],q[0];"
    assert brief(text) == [
        *(("h", (2,)), ("barrier", (2,)), ("idle", (2,)), ("barrier", (2,))),
        *(("barrier", (0, 2)), ("z", (0,))),
    ]


def test_a_turn_by_zero_is_no_idle() -> None:
    assert brief("qreg q[1]; u1(0) q; rz(2*pi) q; U(0,0,0) q;") == []


def test_many_idles_are_one() -> None:
    (idle,) = (op for op in ops_of("qreg q[1];" + "id q[0];" * 20_000) if op.kind == "idle")
    assert idle.blocks == 20_000


# ---- measure, reset, if


def test_the_body_of_an_if_is_done_as_a_whole() -> None:
    text = "qreg q[2]; creg c[2]; creg d[1];\nif (c==2) x q;\nif(d==1) measure q -> c;\nif(d==0) reset q[1];\nif(c==0) cz q[0],q[1];"
    first, second, third, fourth = ops_of(text)
    assert first.condition == Condition((0, 1), "==", 2)
    assert [(op.kind, op.qubits) for op in first.body] == [("x", (0,)), ("x", (1,))]
    assert (first.qubits, first.line) == ((0, 1), 4)
    assert second.condition == Condition((2,), "==", 1)
    assert [(op.kind, op.qubits, op.bit) for op in second.body] == [("measure", (0,), 0), ("measure", (1,), 1)]
    assert third.body == (Op("reset", (1,), 6),)
    assert [op.kind for op in fourth.body] == ["h", "cx", "h"]


@pytest.mark.parametrize("comparison", ["==", "!=", "<", "<=", ">", ">="])
@pytest.mark.parametrize("value", [0, 3, 4, 17, 10**200])
def test_any_constant_and_comparison_keep_their_meaning(comparison: str, value: int) -> None:
    (op,) = ops_of(f"qreg q[1]; creg c[2]; if (c{comparison}{value}) x q;")
    assert op.condition is not None
    for number in range(4):
        assert op.condition.holds([number & 1, number >> 1]) == eval(f"{number}{comparison}{value}")


def test_one_bit_may_be_compared() -> None:
    program, facts = compile_source(f"{HEADER}qreg q[1]; creg b[1]; creg c[3];\nif (c[2] == 1) x q[0];".encode())
    assert program.ops[0].condition == Condition((3,), "==", 1)
    assert any("line 4" in text and "beyond OpenQASM 2.0" in text for text in facts["assumptions"])


def test_an_if_may_guard_an_if() -> None:
    program, facts = compile_source(
        f"{HEADER}qreg q[2]; creg c[2]; creg d[1];\nif(c==1)\nif(d==0)\nif(c[1]<1) cx q[1],q[0];\nx q[0];".encode()
    )
    outer, after = program.ops
    (middle,) = outer.body
    (inner,) = middle.body
    assert [(op.kind, op.line, op.qubits) for op in (outer, middle, inner)] == [
        ("if", 4, (0, 1)),
        ("if", 5, (0, 1)),
        ("if", 6, (0, 1)),
    ]
    assert outer.condition == Condition((0, 1), "==", 1)
    assert middle.condition == Condition((2,), "==", 0)
    assert inner.condition == Condition((1,), "<", 1)
    assert inner.body == (Op("cx", (1, 0), 6),)
    assert after == Op("x", (0,), 7)
    assert "line 5: an if within an if goes beyond OpenQASM 2.0" in facts["assumptions"]


def test_ifs_around_nothing_are_left_out() -> None:
    assert ops_of("qreg q[1]; creg c[1]; if (c==1) if (c==0) rz(0) q[0];") == ()


def test_an_if_may_guard_an_idle_and_one_that_guards_nothing_is_left_out() -> None:
    (op,) = ops_of("qreg q[1]; creg c[1]; if (c==1) id q[0]; if (c==1) rz(0) q[0];")
    assert [inner.kind for inner in op.body] == ["barrier", "idle", "barrier"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("measure q -> c;", []),
        ("", ["c", "d"]),
        ("measure q[0] -> c[1];", ["c[0]", "d"]),
        ("if (c==0) measure q[0] -> d[0];", ["c"]),
    ],
)
def test_unmeasured_bits_are_told(body: str, said: list[str]) -> None:
    registers = "creg c[2];" if body == "measure q -> c;" else "creg c[2]; creg d[1];"
    _, facts = compile_source(f"{HEADER}qreg q[2]; {registers} {body}".encode())
    assert facts["assumptions"] == ([f"bits that nothing is measured into stay 0: {', '.join(said)}"] if said else [])


def test_facts_count_operations() -> None:
    _, facts = compile_source((HEADER + "qreg q[3]; creg c[3]; h q; cx q[0],q[1]; measure q -> c;").encode())
    assert facts == {"qubits": 3, "bits": 3, "gates": {"cx": 1, "h": 3, "measure": 3}, "t_count": 0, "assumptions": []}


# ---- against pytket's own reader of OpenQASM, on random programs. One qubit broadcast over a register is not among
# them: pytket 2.18 keeps only the first gate of `cx a[0],b;`.

SINGLE = [
    "h",
    "s",
    "sdg",
    "x",
    "y",
    "z",
    "sx",
    "rz(pi/2)",
    "rx(-pi/2)",
    "ry(3*pi/2)",
    "u2(0,pi/2)",
    "u3(pi/2,pi,-pi/2)",
]
DOUBLE = ["cx", "cz", "cy", "swap", "crz(pi)", "cu1(pi)", "cu3(pi,0,pi)", "rzz(pi/2)", "mine(pi)", "mine(-pi)"]
MINE = "gate mine(x) a,b { rz(x/2) b; cx a,b; h a; cu1(-x) b,a; }\n"


def random_text(seed: int) -> str:
    rng = random.Random(seed)
    places = ["a[0]", "a[1]", "b[0]", "b[1]"]
    lines = []
    for _ in range(rng.randint(1, 25)):
        if rng.random() < 0.5:
            lines.append(f"{rng.choice(SINGLE)} {rng.choice([*places, 'a', 'b'])};")
        else:
            pair = rng.choice([*([x, y] for x in places for y in places if x != y), ["a", "b"], ["b", "a"]])
            lines.append(f"{rng.choice(DOUBLE)} {','.join(pair)};")
    return f"{HEADER}{MINE}qreg a[2];\nqreg b[2];\n" + "\n".join(lines)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_random_programs_are_what_pytket_reads(seed: int) -> None:
    text = random_text(seed)
    program, _ = compile_source(text.encode())
    matrix = np.eye(16, dtype=complex)
    for op in program.ops:
        matrix = on(KINDS[op.kind], op.qubits, 4) @ matrix
    assert same_up_to_phase(matrix, circuit_from_qasm_str(text).get_unitary()), text
