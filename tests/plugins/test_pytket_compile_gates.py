# SPDX-License-Identifier: Apache-2.0
"""Every gate of qelib1.inc, against its textbook matrix: exactly where angles are multiples of pi/4, else as closely as asked."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from qcos_plugins.pytket_compile import unitary
from qcos_plugins.pytket_compile.compiler import SourceError, compile_source
from qcos_plugins.pytket_compile.gates import Expander, _qelib1
from qelib1_matrices import GATES, H, Matrix, S, X, Y, Z, controlled, exponential, is_clifford, on, same_up_to_phase

from qcosd.qec.program import LogicalProgram

T = np.diag([1, np.exp(0.25j * np.pi)])
KINDS = {"t": T, "tdg": T.conj(), "h": H, "s": S, "sdg": S.conj(), "x": X, "y": Y, "z": Z, "cx": controlled(X)}
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
        try:
            program = compiled(call, qubits)
        except SourceError as error:
            # Half of such an angle is no multiple of pi/4.
            assert "turns by an angle that is no multiple of pi/4" in error.text, call
            assert (error.code, error.line) == ("unsupported", 4), call
            assert not is_clifford(matrix)
            outcomes.add("refused")
            continue
        assert same_up_to_phase(unitary_of(program), on(matrix, order, qubits)), call
        t_gates = sum(op.kind in ("t", "tdg") for op in program.ops)
        assert (t_gates == 0) == is_clifford(matrix), call
        outcomes.add("T" if t_gates else "Clifford")
    clifford = name in ("id", "x", "y", "z", "h", "s", "sdg", "sx", "sxdg", "cx", "CX", "cz", "cy", "swap")
    with_t = name in ("t", "tdg", "ch", "ccx", "cswap", "csx", "rccx", "rc3x")
    never = name in ("c3x", "c3sqrtx", "c4x")
    halved = name in ("crz", "crx", "cry", "cu1", "cp", "cu3", "cu")
    # Each gate was really seen on the sides that it has.
    assert outcomes == (
        {"Clifford"} if clifford else {"T"} if with_t else {"refused"} if never
        else {"Clifford", "T", "refused"} if halved else {"Clifford", "T"}
    )  # fmt: skip


@pytest.mark.parametrize(
    ("call", "t_gates"),
    [
        *(("ccx q[0],q[1],q[2];", 7), ("cswap q[0],q[1],q[2];", 7), ("rccx q[0],q[1],q[2];", 4), ("ch q[0],q[1];", 2)),
        *(("csx q[0],q[1];", 3), ("cu1(pi/2) q[0],q[1];", 3), ("rz(pi/4) q[0];", 1), ("rz(3*pi/4) q[0];", 1)),
        *(("u3(pi/4,0,0) q[0];", 1), ("u3(pi,pi/4,pi/2) q[0];", 1), ("u3(pi/4,pi/4,pi/4) q[0];", 3)),
    ],
)
def test_gates_take_few_t_gates(call: str, t_gates: int) -> None:
    assert sum(op.kind in ("t", "tdg") for op in compiled(call, 3).ops) == t_gates


@pytest.mark.parametrize("epsilon", [1e-2, 1e-4])
@pytest.mark.parametrize(
    ("call", "matrix", "approximated"),
    [
        ("rz(0.3) q[0];", lambda: GATES["rz"][2](0.3), 1),
        ("ry(1.1) q[0];", lambda: GATES["ry"][2](1.1), 1),
        ("u3(0.3,1.2,-2.5) q[0];", lambda: GATES["u3"][2](0.3, 1.2, -2.5), 3),
        ("u3(0.3,pi/4,pi/2) q[0];", lambda: GATES["u3"][2](0.3, np.pi / 4, np.pi / 2), 1),
        ("cu1(pi/8) q[0],q[1];", lambda: GATES["cu1"][2](np.pi / 8), 3),
        ("gate g a,b { rz(0.2) a; cx a,b; rz(0.2) b; } g q[0],q[1];", lambda: GATES["cx"][2]() @ np.kron(GATES["rz"][2](0.2), np.eye(2)), 2),
    ],
    ids=lambda value: value.split("(")[0] if isinstance(value, str) else None,
)  # fmt: skip
def test_other_angles_are_approximated_as_closely_as_asked_and_counted(
    call: str, matrix: Callable[[], Matrix], approximated: int, epsilon: float
) -> None:
    qubits = 2 if "q[1]" in call else 1
    program, facts = compile_source(f"{HEADER}qreg q[{qubits}];\n{call}\n".encode(), epsilon)
    wanted = matrix()
    if call.startswith("gate"):
        wanted = np.kron(np.eye(2), GATES["rz"][2](0.2)) @ wanted
    overlap = np.vdot(wanted, unitary_of(program))
    off = np.linalg.norm(unitary_of(program) * (abs(overlap) / overlap) - wanted, 2)
    assert 0 < off <= approximated * epsilon
    assert (facts["approximated"], facts["epsilon"]) == (approximated, epsilon)
    assert facts["epsilon_total"] == pytest.approx(approximated * epsilon)
    assert facts["t_count"] == sum(op.kind in ("t", "tdg") for op in program.ops) > 0
    assert any("rotations are approximated" in said for said in facts["assumptions"])


@pytest.mark.parametrize(("name", "approximated", "exact"), [("c3x", 7, 14), ("c3sqrtx", 13, 8), ("c4x", 13, 30)])
def test_gates_with_three_controls_take_few_rotations_that_are_not_exact(
    name: str, approximated: int, exact: int
) -> None:
    qubits, _, matrix = GATES[name]
    order = list(range(qubits))[::-1]
    call = f"{name} {','.join(f'q[{qubit}]' for qubit in order)};"
    program, facts = compile_source(f"{HEADER}qreg q[{qubits}];\n{call}\n".encode(), 1e-3)
    assert facts["approximated"] == approximated
    wanted, found = on(matrix(), order, qubits), unitary_of(program)
    overlap = np.vdot(wanted, found)
    assert np.linalg.norm(found * (overlap.conjugate() / abs(overlap)) - wanted, 2) <= approximated * 1e-3
    without = Expander(lambda angle: ()).steps(next(gate for gate in _qelib1() if gate.name == name), (), 1)
    assert sum(step.kind in ("t", "tdg") for step in without) == exact


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcos_plugins.pytket_compile.gridsynth.PACKAGE", "no_such_package")
    with pytest.raises(
        SourceError, match=r"gate rx\(0.3\) turns by an angle .* pip install 'qcosd\[angles\]'"
    ) as caught:
        compile_source(f"{HEADER}qreg q[1];\nrx(0.3) q[0];\n".encode(), 1e-3)
    assert (caught.value.code, caught.value.line) == ("unsupported", 4)


def test_a_synthesis_that_is_wrong_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcos_plugins.pytket_compile.gridsynth.Gridsynth._asked", lambda self, angle: ["t"])
    with pytest.raises(SourceError, match="came within"):
        compile_source(f"{HEADER}qreg q[1];\nrz(0.3) q[0];\n".encode(), 1e-3)


def test_a_synthesis_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcos_plugins.pytket_compile.gridsynth.SECONDS", 0.0)
    with pytest.raises(SourceError, match="took more than 0 s"):
        compile_source(f"{HEADER}qreg q[1];\nrx(0.3) q[0];\n".encode(), 1e-3)


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
    assert any("line 4" in text and "multiple of pi/4" in text for text in facts["assumptions"])
    assert compile_source(f"{HEADER}qreg q[1];\nrz(-7*pi/2) q[0];\n".encode())[1]["assumptions"] == []
    with pytest.raises(SourceError, match="no multiple of pi/4"):
        compiled("rz(1.5708) q[0];", 1)


def test_rounded_angles_that_add_up_are_refused() -> None:
    with pytest.raises(SourceError, match="add up"):
        compiled(f"gate g a {{ {'rz(1e-9) a; ' * 500} }} g q[0];", 1)
