# SPDX-License-Identifier: Apache-2.0
"""What is refused: with the right line, in words, and never by any other exception."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qcos_plugins.pytket_compile.compiler import SourceError, compile_source

HEADER = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'
REGISTERS = "qreg q[3]; creg c[3];\n"  # line 3


def refusal(source: str | bytes) -> SourceError:
    data = source.encode() if isinstance(source, str) else source
    with pytest.raises(SourceError) as caught:
        compile_source(data)
    error = caught.value
    assert "\n" not in error.text and error.text and len(error.text) < 300
    assert 1 <= error.line <= data.count(b"\n") + 1
    return error


@pytest.mark.parametrize(
    ("data", "line", "text"),
    [
        (b"", 1, "the file is empty"),
        (b" \n\n ", 1, "the file is empty"),
        (b"// only a remark\n", 2, "begins with 'OPENQASM 2.0;', not with the end of the file"),
        (b"\x7fELF\x02\x01\x01\x00", 1, "0x7f is not text"),
        (b"\x89PNG\r\n\x1a\n", 1, "0x89 is not text"),
        (b"OPENQASM 2.0;\n\nqreg q[1];\x00", 3, "0x00 is not text"),
        (b"OPENQASM 2.0;\n\xff\xfe", 2, "0xff is not text"),
        (b"hello world\n", 1, "begins with 'OPENQASM 2.0;', not with 'hello'"),
        (b"\n\nqreg q[1];\n", 3, "begins with 'OPENQASM 2.0;'"),
        (b"OPENQASM two;", 1, "the version of OpenQASM is expected, 'two' is found"),
        (b"OPENQASM 2.0\nqreg q[1];", 2, "';' is expected, 'qreg' is found"),
        (b"OPENQASM 2.0;", 1, "declares no qubits"),
        (b"OPENQASM 2.0;\ncreg c[1];\n", 3, "declares no qubits"),
        ("OPENQASM 2.0;\nqreg é[1];".encode(), 2, "'é' has no meaning"),
        (b"OPENQASM 2.0;\ninclude qelib1;", 2, "in quotes is expected"),
        (b'OPENQASM 2.0;\ninclude "qelib1.inc;\n', 2, "a string does not end"),
        (b'OPENQASM 2.0;\ngate x a { }\ninclude "qelib1.inc";\n', 3, "defines gate x, which is defined at line 2"),
        (b"OPENQASM 2.0;\nqreg q[1];\nh q;\n", 3, 'unknown gate h (include "qelib1.inc" is missing)'),
    ],
)
def test_what_is_no_program(data: bytes, line: int, text: str) -> None:
    error = refusal(data)
    assert (error.line, error.code) == (line, "bad_input")
    assert text in error.text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("foo q[0];", "unknown gate foo"),
        ("H q[0];", "unknown gate H"),
        ("h;", "a register is expected, ';' is found"),
        ("h q[0]", "';' is expected, the end of the file is found"),
        ("h q[0] q[1];", "';' is expected, 'q' is found"),
        ("h(pi) q[0];", "gate h takes 0 parameters, not 1"),
        ("rz q[0];", "gate rz takes 1 parameter, not 0"),
        ("u3(pi,0) q[0];", "gate u3 takes 3 parameters, not 2"),
        ("cx q[0];", "gate cx takes 2 qubits, not 1"),
        ("h q[0],q[1];", "gate h takes 1 qubit, not 2"),
        ("U(0,0,0) q[0],q[1];", "gate U takes 1 qubit, not 2"),
        ("h q[3];", "q[3] is out of range: q has 3 qubits"),
        ("h q[-1];", "an index is expected, '-' is found"),
        ("h q[1.0];", "an index is expected, '1.0' is found"),
        ("h q[0;", "']' is expected"),
        ("h r;", "unknown register r"),
        ("h c[0];", "c is no quantum register"),
        ("cx q[1],q[1];", "qubit q[1] stands twice in gate cx"),
        ("cx q,q;", "qubit q[0] stands twice"),
        ("cx q[2],q;", "qubit q[2] stands twice"),
        ("qreg r[2]; cx q,r;", "differ in size: q has 3, r has 2"),
        ("barrier q,q[0];", "qubit q[0] stands twice"),
        ("barrier c;", "c is no quantum register"),
        ("barrier;", "a register is expected"),
        ("qreg q[1];", "q is already a register, since line 3"),
        ("creg q[1];", "q is already a register, since line 3"),
        ("qreg r[0];", "register r has no qubits"),
        ("creg r[0];", "register r has no bits"),
        ("qreg r;", "'[' is expected"),
        ("qreg r[n];", "the size of the register is expected, 'n' is found"),
        ("qreg pi[2];", "'pi' is a word of the language"),
        ("qreg r[99999999999];", "more than 10000 qubits"),
        ("creg r[99999999999];", "more than 100000 bits"),
        ("measure q[0] -> c;", "1 qubits of q[0] cannot be measured into 3 bits of c"),
        ("creg d[2]; measure q -> d;", "3 qubits of q cannot be measured into 2 bits of d"),
        ("measure q[0] -> c[3];", "c[3] is out of range: c has 3 bits"),
        ("measure q[0], c[0];", "'->' is expected"),
        ("measure q -> q;", "q is no classical register"),
        ("measure c -> c;", "c is no quantum register"),
        ("measure q;", "'->' is expected, ';' is found"),
        ("reset c;", "c is no quantum register"),
        ("reset q[7];", "out of range"),
        ("if (q==1) x q[0];", "q is no classical register"),
        ("if (d==1) x q[0];", "unknown register d"),
        ("if (c[5]==1) x q[0];", "c[5] is out of range"),
        ("if (c=1) x q[0];", "a comparison is '=='"),
        ("if (c+1) x q[0];", "'==' is expected, '+' is found"),
        ("if (c==-1) x q[0];", "a whole number is expected"),
        ("if (c==1.5) x q[0];", "a whole number is expected"),
        ("if c==1 x q[0];", "'(' is expected"),
        ("if (c==1) if (d==2) x q[0];", "unknown register d"),
        ("if (c==1) if x q[0];", "'(' is expected"),
        ("if (c==1) if (c==2) barrier q;", "a reset or another if, no barrier"),
        ("if (c==1) if (c==2) foo q[0];", "unknown gate foo"),
        ("if (c==1) barrier q;", "no barrier"),
        ("if (c==1) qreg r[1];", "'qreg' cannot stand here"),
        ("if (c==1) foo q[0];", "unknown gate foo"),
        ("gate g a { x a; } gate g a { y a; }", "g is already a gate, since line 4"),
        ("gate h a { }", "h is already a gate, of qelib1.inc"),
        ("gate U a { }", "'U' is a word of the language"),
        ("gate g { }", "the name of a qubit is expected"),
        ("gate g a,a { }", "gate g names a twice"),
        ("gate g(x,x) a { }", "gate g names x twice"),
        ("gate g(a) a { }", "gate g names a twice"),
        ("gate g a { x b; }", "b is no qubit of gate g"),
        ("gate g a { x q; }", "q is no qubit of gate g"),
        ("gate g a { x a[0]; }", "a qubit of a gate has no index: a[0]"),
        ("gate g a { foo a; }", "unknown gate foo"),
        ("gate g a { g a; }", "unknown gate g"),
        ("gate g a,b { cx a,a; }", "qubit a stands twice"),
        ("gate g a,b { barrier a,a; }", "qubit a stands twice"),
        ("gate g a { rz(x) a; }", "x is no parameter of gate g"),
        ("gate g a { cx a; }", "gate cx takes 2 qubits, not 1"),
        ("gate g a { measure a -> c[0]; }", "the body of a gate holds gates and barriers, no measure"),
        ("gate g a { reset a; }", "no reset"),
        ("gate g a { if (c==1) x a; }", "no if"),
        ("gate g a { x a;", "a gate is expected, the end of the file is found"),
        ("gate g a", "'{' is expected"),
        ("gate g(x a { }", "')' is expected"),
        ("opaque g a { }", "';' is expected"),
        ("rz(1/0) q[0];", "a parameter divides by zero"),
        ("rz(0^-1) q[0];", "no finite real value"),
        ("rz((-8)^(1/3)) q[0];", "no finite real value"),
        ("rz(ln(0)) q[0];", "no finite real value"),
        ("rz(sqrt(-1)) q[0];", "no finite real value"),
        ("rz(exp(1e9)) q[0];", "no finite real value"),
        ("rz(9^9^9^9) q[0];", "no finite real value"),
        ("rz(1e308*10-1e308*10) q[0];", "no finite real value"),
        ("u3(0,1e308,1e308) q[0];", "an angle of 1e+308 is too large to be exact"),
        ("rz(1e7*pi) q[0];", "an angle of 3.14e+07 is too large to be exact"),
        ("cu3(0,1.7e308,1.7e308) q[0],q[1];", "no finite real value"),
        ("rz(1e999) q[0];", "too large a number"),
        ("rz() q[0];", "takes 1 parameter, not 0"),
        ("rz(,) q[0];", "a number is expected, ',' is found"),
        ("rz(pi pi) q[0];", "')' is expected, 'pi' is found"),
        ("rz(2pi) q[0];", "')' is expected, 'pi' is found"),
        ("rz((pi) q[0];", "')' is expected, 'q' is found"),
        ("rz(pi)) q[0];", "a register is expected, ')' is found"),
        ("rz(pi/) q[0];", "a number is expected, ')' is found"),
        ("rz(sin) q[0];", "'(' is expected"),
        ("rz(sin()) q[0];", "a number is expected"),
        ("rz(theta) q[0];", "unknown parameter theta"),
        ("rz(c) q[0];", "unknown parameter c"),
        ("u0(0.5) q[0];", "u0 idles for a whole number of blocks"),
        ("u0(-1) q[0];", "u0 idles for a whole number of blocks"),
        ("u0(1e300) q[0];", "u0 idles for a whole number of blocks"),
        ("x q[0]; @", "'@' has no meaning in OpenQASM 2.0"),
        ("5;", "a statement is expected, '5' is found"),
        ("pi;", "'pi' cannot stand here"),
        ("OPENQASM 2.0;", "'OPENQASM' cannot stand here"),
        ("qubit[2] r;", "a register is expected, '[' is found"),
        (f"creg d[{'9' * 400}];", "a number of 400 digits is too long"),
        ("/* remark */", "a statement is expected, '/' is found"),
    ],
)
def test_what_is_wrong_in_a_program(body: str, text: str) -> None:
    error = refusal(HEADER + REGISTERS + body)
    assert error.line == 4
    assert text in error.text
    assert error.code == "bad_input"


@pytest.mark.parametrize(
    ("body", "line", "text"),
    [
        ("u1(-3*pi/8) q[0];", 4, "gate u1(-3*pi/8) turns by an angle that is no multiple of pi/4"),
        ("x q;\nrx(0.3) q[0];", 5, "gate rx(0.3) turns by an angle"),
        ("U(0,0,1) q[0];", 4, "gate U(0,0,1) turns by an angle"),
        ("cu1(pi/4) q[0],q[1];", 4, "gate cu1(pi/4) turns by an angle"),
        ("if (c==1)\nif (c[0]==1)\nrz(1) q[0];", 6, "gate rz(1) turns by an angle"),
        ("gate g a {\nx a;\nrz(1) a; }\ngate k a { g a; }\n\nk q[0];", 9, "multiple of pi/4 (by rz(1) at line 6)"),
        ("gate g a { rz(1) a; id a; rz(1) a; }\ng q[0];", 5, "multiple of pi/4 (by rz(1) at line 4)"),
        ("gate g(x) a { rz(x) a; }\ng(pi);", 5, "a register is expected"),
        ("opaque magic(x) a;\nopaque other a,b;\nmagic(1) q[0];", 6, "gate magic is opaque"),
        ("opaque magic a;\ngate g a { magic a; }\n\ng q;", 7, "gate magic is opaque"),
    ],
)
def test_what_is_legal_but_not_offered(body: str, line: int, text: str) -> None:
    error = refusal(HEADER + REGISTERS + body)
    assert error.line == line
    assert text in error.text
    assert error.code == ("bad_input" if "expected" in text else "unsupported")


@pytest.mark.parametrize(
    ("source", "line", "text"),
    [
        ('OPENQASM 4.0;\ninclude "stdgates.inc";', 1, "OpenQASM 4.0 is not read, only OpenQASM 2.0 and 3"),
        ("OPENQASM 1;", 1, "OpenQASM 1 is not read"),
        ('OPENQASM 2.0;\ninclude "mine.inc";', 2, '"mine.inc" cannot be included'),
        ('OPENQASM 2.0;\ninclude "/etc/passwd";', 2, '"/etc/passwd" cannot be included'),
    ],
)
def test_other_languages_and_files(source: str, line: int, text: str) -> None:
    error = refusal(source)
    assert (error.line, error.code) == (line, "unsupported")
    assert text in error.text


# ---- programs that are small and mean something huge


def doubling(leaf: str, depth: int) -> str:
    gates = [f"gate g0 a {{ {leaf} }}"]
    gates += [f"gate g{n} a {{ g{n - 1} a; g{n - 1} a; }}" for n in range(1, depth)]
    return "\n".join([*gates, f"g{depth - 1} q[0];"])


def nested(depth: int) -> str:
    gates = ["gate g0 a { x a; }", *(f"gate g{n} a {{ g{n - 1} a; }}" for n in range(1, depth))]
    return "\n".join([*gates, f"g{depth - 1} q[0];"])


PARAMETRIC = "\n".join(
    [
        "gate g0(x) a { }",
        *(f"gate g{n}(x) a {{ g{n - 1}(x/2) a; g{n - 1}(x+1) a; }}" for n in range(1, 60)),
        "g59(1) q[0];",
    ]
)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (doubling("x a;", 60), "comes to more than 200000 operations"),
        (doubling("t a;", 60), "comes to more than 200000 operations"),
        (doubling("rz(0.1) a;", 60), "gate g59 turns by an angle"),
        (doubling("id a;", 60), "comes to more than 200000 operations"),
        (PARAMETRIC, "too large when it is written out"),
        (nested(5_000), "gates are nested deeper than 200"),
        ("qreg r[9000];\n" + "h r;\n" * 60, "too large when it is written out"),
        ("qreg r[9000];\n" + "barrier r;\n" * 300, "too large when it is written out"),
        ("creg d[90000];\n" + "if (d==0) x q[0];\n" * 30, "too large when it is written out"),
        ("creg d[90000];\n" + "if (d==0) if (d==1) x q[0];\n" * 15, "too large when it is written out"),
        ("if (c==1) " * 33 + "x q[0];", "more than 32 ifs stand inside one another"),
        ("if (c==1) " * 100_000 + "x q[0];", "more than 32 ifs stand inside one another"),
        ("x" * 1_000_000 + " q[0];", "a name of 1000000 characters is too long"),
        ("gate g " + ",".join(f"a{n}" for n in range(30_000)) + " { }\ng q[0];", "gate g takes 30000 qubits, not 1"),
    ],
)
def test_bombs_are_refused(body: str, text: str) -> None:
    assert text in refusal(HEADER + REGISTERS + body).text


@pytest.mark.parametrize(
    "body",
    [
        doubling("", 60),
        nested(190),
        f"rz({'(' * 50_000}pi{')' * 50_000}) q[0];",
        f"rz({'-' * 50_000}pi) q[0];",
        f"rz({'1^' * 50_000}1*pi) q[0];",
        f"rz({'0+' * 50_000}pi) q[0];",
        f"rz({'cos(' * 20_000}0{')' * 20_000}*0) q[0];",
        "x q[0];" * 20_000,
    ],
)
def test_large_and_deep_programs_are_accepted(body: str) -> None:
    compile_source((HEADER + REGISTERS + body).encode())


def test_a_file_that_is_too_large_is_refused() -> None:
    assert "more than" in refusal(b" " * (8 * 1024 * 1024 + 1)).text


# ---- anything at all

words = st.sampled_from(
    [
        "OPENQASM",
        "2.0",
        ";",
        "include",
        '"qelib1.inc"',
        "qreg",
        "creg",
        "q",
        "c",
        "r",
        "[",
        "]",
        "0",
        "1",
        "3",
        "9",
        "gate",
        "g",
        "opaque",
        "{",
        "}",
        "(",
        ")",
        ",",
        "measure",
        "->",
        "reset",
        "barrier",
        "if",
        "==",
        "!=",
        "<",
        "h",
        "cx",
        "rz",
        "u3",
        "id",
        "t",
        "ccx",
        "U",
        "CX",
        "pi",
        "+",
        "-",
        "*",
        "/",
        "^",
        "sin",
        "ln",
        "sqrt",
        "0.5",
        "1e9",
        "//",
        "\n",
        "\x00",
        "é",
        '"',
    ]
)
soup = st.lists(words, max_size=40).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode), soup.map(str.encode)))
def test_any_file_gives_a_program_or_a_source_error(data: bytes) -> None:
    for prefix in (b"", b"OPENQASM 2.0;\n", (HEADER + REGISTERS).encode()):
        try:
            compile_source(prefix + data)
        except SourceError as error:
            assert error.text


VALID = (
    HEADER
    + REGISTERS
    + (
        "gate g(x,y) a,b { rz(x+y/2) a; cx a,b; barrier a,b; u3(pi/2,-x,pi) b; }\n"
        "h q[0]; g(pi,2*pi) q[0],q[1]; barrier q; measure q[0] -> c[0];\nif (c==1) x q[2]; reset q[1]; id q;\nmeasure q -> c;\n"
    )
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_program_gives_a_program_or_a_source_error(data: st.DataObject) -> None:
    text = VALID
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(start + 8, len(text))))
        text = text[:start] + data.draw(st.one_of(words, st.text(max_size=3))) + text[end:]
    try:
        compile_source(text.encode("utf-8", "replace"))
    except SourceError as error:
        assert error.text and error.line <= text.count("\n") + 1
