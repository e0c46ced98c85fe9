# SPDX-License-Identifier: Apache-2.0
"""Every gate of qelib1.inc, against its textbook matrix: Clifford ones are compiled exactly, all others are refused."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
from qcos_plugins.pytket_compile import unitary
from qcos_plugins.pytket_compile.compiler import SourceError, compile_source
from qcos_plugins.pytket_compile.gates import Expander, _qelib1
from qelib1_matrices import GATES, H, Matrix, S, X, Y, Z, controlled, exponential, is_clifford, on, same_up_to_phase

from qcosd.qec.program import LogicalProgram

KINDS = {"h": H, "s": S, "sdg": S.conj(), "x": X, "y": Y, "z": Z, "cx": controlled(X)}
HEADER = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'


def compiled(body: str, qubits: int) -> LogicalProgram:
    return compile_source(f"{HEADER}qreg q[{qubits}];\n{body}\n".encode())[0]


def unitary_of(program: LogicalProgram) -> Matrix:
    matrix = np.eye(1 << program.qubits, dtype=complex)
    for op in program.ops:
        if op.kind not in ("barrier", "idle"):
            matrix = on(KINDS[op.kind], op.qubits, program.qubits) @ matrix
    return matrix


def settings_of(name: str) -> list[tuple[int, ...]]:
    """Parameters in units of pi/4: all within two turns where they are few, else those that matter and a sample."""
    parameters = GATES[name][1]
    if parameters <= 1:
        return [(k,) * parameters for k in range(-16, 17)] if parameters else [()]
    quarter_turns = list(product(range(-2, 7, 2), repeat=parameters))
    eighths = list(product(range(-8, 9), repeat=parameters))
    chosen = random.Random(name)
    return chosen.sample(quarter_turns, min(len(quarter_turns), 40)) + chosen.sample(eighths, 40)


def test_the_table_holds_every_gate() -> None:
    assert {gate.name for gate in _qelib1()} | {"U", "CX"} == set(GATES)


@pytest.mark.parametrize("name", sorted(set(GATES) - {"u0"}))
def test_a_gate_is_what_the_textbook_says(name: str) -> None:
    qubits, _, matrix_of = GATES[name]
    order = random.Random(name).sample(range(qubits), qubits)
    arguments = ",".join(f"q[{qubit}]" for qubit in order)
    outcomes = set()
    for setting in settings_of(name):
        matrix = matrix_of(*(k * np.pi / 4 for k in setting))
        values = ",".join(f"{k}*pi/4" for k in setting)
        call = f"{name}({values}) {arguments};" if setting else f"{name} {arguments};"
        clifford = is_clifford(matrix)
        outcomes.add(clifford)
        if clifford:
            assert same_up_to_phase(unitary_of(compiled(call, qubits)), on(matrix, order, qubits)), call
        else:
            with pytest.raises(SourceError, match=rf"gate {name}.* needs T gates") as caught:
                compiled(call, qubits)
            assert (caught.value.code, caught.value.line) == ("unsupported", 4), call
    always = name in ("id", "x", "y", "z", "h", "s", "sdg", "sx", "sxdg", "cx", "CX", "cz", "cy", "swap")
    never = name in ("t", "tdg", "ch", "ccx", "cswap", "csx", "rccx", "rc3x", "c3x", "c3sqrtx", "c4x")
    # Each gate was really seen on the sides that it has.
    assert outcomes == ({True} if always else {False} if never else {True, False})


@pytest.mark.parametrize("name", sorted(set(GATES) - {"u0", "id"}))
def test_a_gate_and_its_inverse_within_one_gate_are_clifford(name: str) -> None:
    """The bodies of the gates that are never Clifford are checked too: u ... u dagger as a whole is the identity."""
    qubits, parameters, matrix_of = GATES[name]
    rng = random.Random(name)
    angles = [rng.uniform(-3, 3) for _ in range(parameters)]
    matrix = matrix_of(*angles)
    arguments = [f"a{place}" for place in range(qubits)]
    call = f"{name}({','.join(map(repr, angles))})" if angles else name
    period = next(
        n for n in range(1, 9) if angles or same_up_to_phase(np.linalg.matrix_power(matrix, n), np.eye(1 << qubits))
    )
    if angles:
        # The inverse of a rotation, by its matrix: found on the other side of a controlled or plain rotation.
        inverse = {1: lambda a: [-a[0]], 2: lambda a: [np.pi - a[1], -np.pi - a[0]], 3: lambda a: [-a[0], -a[2], -a[1]]}
        back = inverse.get(parameters, lambda a: [-a[0], -a[2], -a[1], -a[3]])(angles)
        assert same_up_to_phase(matrix_of(*back) @ matrix, np.eye(1 << qubits))
        body = f"{call} {','.join(arguments)}; {name}({','.join(map(repr, back))}) {','.join(arguments)};"
    else:
        body = f"{call} {','.join(arguments)}; " * period
    text = f"gate whole {','.join(arguments)} {{ {body} }}\nwhole {','.join(f'q[{k}]' for k in range(qubits))};"
    assert same_up_to_phase(unitary_of(compiled(text, qubits)), np.eye(1 << qubits))


@pytest.mark.parametrize("name", ["t", "ch", "ccx", "cswap", "csx", "rccx", "rc3x", "c3x", "c3sqrtx", "c4x"])
def test_the_definition_of_a_gate_that_is_never_clifford_is_right(name: str) -> None:
    """What is refused today is written out all the same: its unitary is the textbook's."""
    gate = next(gate for gate in _qelib1() if gate.name == name)
    primitives = Expander()._primitives(gate, (), 1)
    assert primitives is not None
    assert same_up_to_phase(unitary.of_primitives(primitives, len(gate.qubits)), GATES[name][2]())


@pytest.mark.parametrize(
    ("body", "matrix"),
    [
        ("gate g a { t a; t a; } g q[0];", on(S, [0], 2)),
        (
            "gate g a,b { t b; cx a,b; t b; cx a,b; t a; t a; t b; cx a,b; t b; cx a,b; } g q[1],q[0];",
            np.diag([1, -1, -1, -1]),
        ),
        ("gate g(x) a { rz(x/2) a; rz(x/2) a; } g(pi/2) q[1];", on(S, [1], 2)),
        (
            "gate g(x,y) a,b { rx(x) a; cx b,a; rx(-x) a; ry(y) b; } g(0.3,pi/2) q[0],q[1];",
            on(exponential(np.pi / 2, Y), [1], 2) @ on(controlled(X), [1, 0], 2),
        ),
    ],
)
def test_definitions_of_a_program(body: str, matrix: Matrix) -> None:
    assert same_up_to_phase(unitary_of(compiled(body, 2)), matrix)


def test_angles_are_rounded_within_reason_and_this_is_said() -> None:
    program, facts = compile_source(f"{HEADER}qreg q[1];\nrz(1.57079632679) q[0];\n".encode())
    assert [op.kind for op in program.ops] == ["s"]
    assert any("line 4" in text and "multiple of pi/2" in text for text in facts["assumptions"])
    assert compile_source(f"{HEADER}qreg q[1];\nrz(-7*pi/2) q[0];\n".encode())[1]["assumptions"] == []
    with pytest.raises(SourceError, match="needs T gates"):
        compiled("rz(1.5708) q[0];", 1)


def test_rounded_angles_that_add_up_are_refused() -> None:
    with pytest.raises(SourceError, match="add up"):
        compiled(f"gate g a {{ {'rz(1e-9) a; ' * 500} }} g q[0];", 1)
