# SPDX-License-Identifier: Apache-2.0
"""OpenQASM 3: what maps means the same as what somebody would write in OpenQASM 2, and the rest is refused with its line."""

from __future__ import annotations

import dataclasses

import numpy as np
import oracle
import pytest
from qcos_plugins.pytket_compile.compiler import SourceError, compile_source
from qcos_plugins.pytket_compile.qasm3 import is_edition_3
from qelib1_matrices import GATES, H, Matrix, S, X, Y, Z, controlled, exponential, on, same_up_to_phase
from test_pytket_compile_gates import unitary_of

from qcosd.qec.program import LogicalProgram, Op

HEAD = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
T = np.diag([1, np.exp(0.25j * np.pi)])


def compiled(text: str, head: str = HEAD) -> LogicalProgram:
    return compile_source((head + text).encode())[0]


def without_lines(ops: tuple[Op, ...]) -> list[Op]:
    return [dataclasses.replace(op, line=0, body=tuple(without_lines(op.body))) for op in ops]


PAIRS = [
    ("qubit[2] q; bit[2] c; h q[0]; cx q[0], q[1]; c = measure q;", "qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;"),
    ("qubit q; bit c; h q; c = measure q;", "qreg q[1]; creg c[1]; h q[0]; measure q[0] -> c[0];"),
    ("qubit[2] q; bit[2] c; measure q[1] -> c[0];", "qreg q[2]; creg c[2]; measure q[1] -> c[0];"),
    ("qubit[2] q; bit r = measure q[1];", "qreg q[2]; creg r[1]; measure q[1] -> r[0];"),
    ('qubit q; bit[2] c = "00"; bit d = false; reset q;', "qreg q[1]; creg c[2]; creg d[1]; reset q[0];"),
    ("const int n = 3; qubit[n] q; for int i in [0:n - 1] h q[i];", "qreg q[3]; h q[0]; h q[1]; h q[2];"),
    ("qubit[5] q; for uint i in [4:-2:0] { x q[i]; }", "qreg q[5]; x q[4]; x q[2]; x q[0];"),
    ("qubit[3] q; for int i in {2, 0} for int j in [0:i] z q[j];", "qreg q[3]; z q[0]; z q[1]; z q[2]; z q[0];"),
    ("qubit[4] q; x q[1:2]; y q[{3, 0}]; z q[-1]; h q[0:2:3];", "qreg q[4]; x q[1]; x q[2]; y q[3]; y q[0]; z q[3]; h q[0]; h q[2];"),
    ("qubit[3] q; let a = q[1:2] ++ q[0]; x a[0]; cx a[0:1], q[0];", "qreg q[3]; x q[1]; cx q[1],q[0]; cx q[2],q[0];"),
    ("qubit[2] q; qubit r; cx q, r; barrier; barrier q[0], r;", "qreg q[2]; qreg r[1]; cx q[0],r[0]; cx q[1],r[0]; barrier q,r; barrier q[0],r;"),
    ("qubit q; const float a = pi / 2; const int k = 7 / 2 - 1; rz(k * a) q; rz(tau / 8) q; rz(5 / 4 * pi) q;", "qreg q[1]; rz(pi) q[0]; rz(pi/4) q[0]; rz(pi) q[0];"),
    ("qubit q; rx(-sqrt(4) ** 2 * pi / 8 + sin(0)) q; rz(2 ** 3 * pi / 16) q; rz(7 % 4 * pi / 2) q;", "qreg q[1]; rx(-pi/2) q[0]; rz(pi/2) q[0]; rz(3*pi/2) q[0];"),
    ("gate g(a) x, y { cp(a / 2) x, y; barrier x; inv @ t y; gphase(a); } qubit[2] q; g(pi) q[1], q[0];", "gate g(a) x,y { cu1(a/2) x,y; barrier x; tdg y; } qreg q[2]; g(pi) q[1],q[0];"),
    ("gate cu1(a) x, y { cx x, y; } qubit[2] q; cu1(0.1) q[0], q[1]; phase(pi) q[0];", "qreg q[2]; cx q[0],q[1]; z q[0];"),
    ("gate rzz(a) x, y { cx x, y; } qubit[2] q; rzz(0.1) q[0], q[1];", "qreg q[2]; cx q[0],q[1];"),
    ("qubit[2] q; bit[2] c; if (c == 2) x q[0]; if (c[1]) z q[0]; if (3 > c) h q[1];", "qreg q[2]; creg c[2]; if(c==2) x q[0]; if(c[1]==1) z q[0]; if(c<3) h q[1];"),
    ("qubit q; bit c; bit d; if (c) { x q; } else { z q; } if (!c && d == 1) t q;", "qreg q[1]; creg c[1]; creg d[1]; if(c[0]==1) x q[0]; if(c[0]==0) z q[0]; if(c[0]==0) if(d[0]==1) t q[0];"),
    ("qubit q; bit[2] c; if (c[0] || c[1]) x q; if (true) y q; if (false) z q; else h q;", "qreg q[1]; creg c[2]; if(c[0]==1) x q[0]; if(c[0]==0) if(c[1]==1) x q[0]; y q[0]; h q[0];"),
    ('qubit q; bit[2] c; if (c == "10") x q; if (c) y q; if (!(c <= 1)) z q;', "qreg q[1]; creg c[2]; if(c==2) x q[0]; if(c!=0) y q[0]; if(c>1) z q[0];"),
    ("qubit q; { h q; } pow(3) @ s q; pow(-2) @ t q; inv @ pow(2) @ sx q; pow(0) @ x q;", "qreg q[1]; h q[0]; s q[0]; s q[0]; s q[0]; tdg q[0]; tdg q[0]; sxdg q[0]; sxdg q[0];"),
    ("qubit[4] q; ctrl @ x q[0], q[1]; ctrl(2) @ x q[0], q[1], q[2]; ctrl @ swap q[3], q[1], q[2];", "qreg q[4]; cx q[0],q[1]; ccx q[0],q[1],q[2]; cswap q[3],q[1],q[2];"),
]  # fmt: skip


@pytest.mark.parametrize(("third", "second"), PAIRS)
def test_it_means_what_somebody_would_write_in_openqasm_2(third: str, second: str) -> None:
    one, other = compiled(third), compiled(second, 'OPENQASM 2.0;\ninclude "qelib1.inc";\n')
    assert without_lines(one.ops) == without_lines(other.ops)
    assert one.quantum_registers == other.quantum_registers
    assert one.classical_registers == other.classical_registers


def projector_flip(matrix: Matrix) -> Matrix:
    """Controlled by 0 of the first qubit."""
    return np.kron(X, np.eye(len(matrix))) @ controlled(matrix) @ np.kron(X, np.eye(len(matrix)))


@pytest.mark.parametrize(
    ("call", "matrix"),
    [
        ("ctrl @ h q[0], q[1];", controlled(H)),
        ("ctrl @ s q[0], q[1];", controlled(S)),
        ("ctrl @ inv @ s q[0], q[1];", controlled(S.conj())),
        ("inv @ ctrl @ s q[0], q[1];", controlled(S.conj())),
        ("ctrl @ pow(2) @ s q[0], q[1];", controlled(Z)),
        ("ctrl @ p(pi/2) q[1], q[0];", on(controlled(S), [1, 0], 2)),
        ("ctrl @ rz(pi/2) q[0], q[1];", controlled(exponential(np.pi / 2, Z))),
        ("ctrl @ rx(pi) q[0], q[1];", controlled(exponential(np.pi, X))),
        ("inv @ ctrl @ ry(pi) q[0], q[1];", controlled(exponential(-np.pi, Y))),
        ("negctrl @ z q[0], q[1];", projector_flip(Z)),
        ("negctrl @ ctrl @ x q[0], q[2], q[1];", on(projector_flip(controlled(X)), [0, 2, 1], 3)),
        ("ctrl @ negctrl @ x q[2], q[0], q[1];", on(controlled(projector_flip(X)), [2, 0, 1], 3)),
        ("inv @ U(pi/2, pi/4, -pi/2) q[0];", GATES["u3"][2](np.pi / 2, np.pi / 4, -np.pi / 2).conj().T),
        ("inv @ cu(pi/2, pi, pi/2, pi/4) q[0], q[1];", GATES["cu"][2](np.pi / 2, np.pi, np.pi / 2, np.pi / 4).conj().T),
        ("sx q[0]; ch q[0], q[1]; t q[1];", np.kron(np.eye(2), T) @ controlled(H) @ np.kron(GATES["sx"][2](), np.eye(2))),
    ],
)  # fmt: skip
def test_modifiers_do_what_they_say(call: str, matrix: Matrix) -> None:
    qubits = len(matrix).bit_length() - 1
    program = compiled(f"qubit[{max(qubits, 1)}] q; {call}" if qubits > 1 else f"qubit[1] q; {call}")
    assert same_up_to_phase(unitary_of(program), matrix)


def test_a_block_reads_its_condition_once() -> None:
    """Both branches measure into another bit, one of them writes what was read: it comes last."""
    text = "qubit[2] q; bit c; bit d; h q[0]; c = measure q[0]; if (c) { x q[0]; c = measure q[0]; x q[1]; } else { z q[1]; } d = measure q[1];"
    program = compiled(text)
    assert [op.condition.value for op in program.ops if op.condition] == [0, 1]
    assert [op.kind for op in program.ops[3].body] == ["x", "measure", "x"]
    assert oracle.distribution(oracle.from_logical(program)) == pytest.approx({"0 0": 0.5, "0 1": 0.5})


ERRORS = [
    ("qubit q;\nh q", 4, "the end of the file cannot stand here"),
    ("qubit q;\nh q = 3;", 4, "'=' cannot stand here"),
    ("qubit q;\nh q #;", 4, "this is no OpenQASM 3"),
    ("qubit q;\nint i = 3;", 4, "a classical variable is not offered"),
    ("qubit q; bit c;\nwhile (c) { h q; }", 4, "a while loop is not offered"),
    ("qubit q; bit c;\nc = 1;", 4, "an assignment is not offered"),
    ("qubit q;\nbit c = true;", 4, "bits begin as 0"),
    ("def f(qubit a) { }", 3, "def is not offered"),
    ("qubit q;\nmeasure q;", 4, "goes into no bit"),
    ("qubit q;\nfoo q;", 4, "unknown gate foo"),
    ("qubit q;\nc3x q;", 4, "unknown gate c3x"),
    ("qubit[2] q;\nx q[2];", 4, r"q\[2\] is out of range"),
    ("qubit[2] q;\nx q[0:3];", 4, r"q\[2\] is out of range"),
    ("qubit[4] q;\ncx q[0:1], q[1:3];", 4, "differ in size"),
    ("qubit[4] q; bit[4] c;\nc[0:1] = measure q[0:2];", 4, "3 qubits cannot be measured into 2 bits"),
    ("qubit[2] q;\ncx q[0], q[0];", 4, r"q\[0\] stands twice"),
    ("qubit[2] q; bit[2] c;\nif (c[0:0] == 1 && q == 1) x q[0];", 4, "q is no bit"),
    ("qubit[2] q; bit[3] c;\nif (c[0:1] == 1) x q[0];", 4, "a bit or a whole register"),
    ("qubit q; bit c;\nif (c + 1 == 1) x q;", 4, "a condition compares"),
    ("qubit q; bit[2] c;\nif (c == -1) x q;", 4, "negative number"),
    ("qubit q;\nfor int i in [0:1000000000000] { }", 4, "too large when it is written out"),
    ("qubit q;\nfor int i in [0:0:4] { }", 4, "step 0"),
    ("qubit q;\nconst int n = 1 / 0;", 4, "divides by zero"),
    ("qubit q;\nqubit q;", 4, "declared twice"),
    ("qubit[1.5] q;", 3, "a whole number is expected"),
    ("qubit q;\nrz(x) q;", 4, "x is no constant"),
    ("qubit q;\nrz(5.5 % 2) q;", 4, "a number of this kind"),
    ("qubit q;\nrz(popcount(3)) q;", 4, "a number of this kind"),
    ("qubit q;\nrz(0.3) q;", 4, "no multiple of pi/4"),
    ("gate g a { h a; }\nqubit q;\ninv @ g q;", 5, "the inverse of g is not offered"),
    ("gate g a { h a; }\nqubit[2] q;\nctrl @ g q[0], q[1];", 5, "a control of g is not offered"),
    ("gate g a {\n  reset a; }", 4, "holds gates and barriers|in a gate"),
    ("gate g a {\n  h b; }", 4, "no qubit of gate g"),
    ("qubit q;\nctrl @ gphase(pi) q;", 4, "a controlled gphase"),
    ("qubit q;\nctrl @ x q;", 4, "fewer qubits than controls|takes 1 qubit|takes 2 qubits"),
    ("qubit q;\nif (true) { qubit r; }", 4, "outside of blocks|must be global"),
    ("qubit q; bit c; if (c) {\n c = measure q; } else { x q; c = measure q; }", 3, "in more than one way"),
    ('include "other.inc";', 3, "cannot be included"),
    ("bit c;", 3, "declares no qubits"),
]


@pytest.mark.parametrize(("text", "line", "message"), ERRORS)
def test_the_rest_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        compiled(text)
    assert caught.value.line == line


def test_without_the_include_only_u_is_known() -> None:
    assert [op.kind for op in compiled("qubit q; U(pi, 0, pi) q;", "OPENQASM 3;\n").ops] == ["x"]
    with pytest.raises(SourceError, match=r'include "stdgates.inc" is missing'):
        compiled("qubit q; h q;", "OPENQASM 3;\n")


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(SourceError, match="ifs stand inside one another"):
        compiled("qubit q; bit c; " + "if (c) { " * 40 + "x q; " + "}" * 40)
    with pytest.raises(SourceError, match="too deeply"):
        compiled(f"qubit q; rz({'-(' * 3000}1{')' * 3000}) q;")


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcos_plugins.pytket_compile.qasm3.PACKAGES", ("no_such_package",))
    with pytest.raises(SourceError, match=r"pip install 'qcosd\[qasm3\]'") as caught:
        compiled("qubit q;")
    assert caught.value.code == "unsupported"


@pytest.mark.parametrize(
    ("text", "third"),
    [("// x\n/* OPENQASM 2.0; */ OPENQASM 3;", True), ("OPENQASM 3.1 ;", True), ("OPENQASM 2.0;", False), ("OPENQASM 30;", False), ("qubit q;", False)],
)  # fmt: skip
def test_the_header_says_which_edition(text: str, third: bool) -> None:
    assert is_edition_3(text) is third
