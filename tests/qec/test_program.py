# SPDX-License-Identifier: Apache-2.0
"""The logical program artifact: what goes in comes out, and nothing wrong gets in."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcosd.qec.program import (
    COMPARISONS,
    GATES,
    MAX_DEPTH,
    VERSION,
    Condition,
    LogicalProgram,
    Op,
    ProgramError,
    qubits_of,
)

QUBITS, BITS = 5, 70
REGISTERS = {"quantum_registers": (("a", 2), ("b", 3)), "classical_registers": (("c", 68), ("d", 2))}

lines = st.integers(0, 10_000)
bit = st.integers(0, BITS - 1)


def some_qubits(least: int = 1, most: int = QUBITS) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(0, QUBITS - 1), min_size=least, max_size=most, unique=True).map(tuple)


gates = st.sampled_from(sorted(GATES)).flatmap(
    lambda kind: st.builds(Op, st.just(kind), some_qubits(GATES[kind], GATES[kind]), lines)
)
plain_ops = st.one_of(
    gates,
    st.builds(Op, st.just("measure"), some_qubits(1, 1), lines, bit),
    st.builds(Op, st.just("reset"), some_qubits(1, 1), lines),
    st.builds(Op, st.just("barrier"), some_qubits(), lines),
    st.builds(lambda qubits, line, n: Op("idle", qubits, line, blocks=n), some_qubits(), lines, st.integers(1, 9**9)),
)
conditions = st.builds(
    Condition,
    st.lists(bit, min_size=1, max_size=70, unique=True).map(tuple),
    st.sampled_from(COMPARISONS),
    st.one_of(st.integers(0, 9), st.integers(0, 2**80)),
)


def guarded(bodies: st.SearchStrategy[list[Op]]) -> st.SearchStrategy[Op]:
    return st.builds(
        lambda condition, body, line: Op("if", qubits_of(body), line, condition=condition, body=tuple(body)),
        conditions,
        bodies,
        lines,
    )


branches = st.recursive(
    guarded(st.lists(plain_ops, max_size=4)),
    lambda inner: guarded(st.lists(plain_ops | inner, max_size=4)),
    max_leaves=6,
)
programs = st.builds(
    lambda ops: LogicalProgram(ops=tuple(ops), **REGISTERS), st.lists(st.one_of(plain_ops, branches), max_size=12)
)


@given(programs)
def test_from_bytes_undoes_to_bytes(program: LogicalProgram) -> None:
    data = program.to_bytes()
    again = LogicalProgram.from_bytes(data)
    assert again == program
    assert again.to_bytes() == data


def test_totals() -> None:
    program = LogicalProgram(ops=(), **REGISTERS)
    assert (program.qubits, program.bits) == (QUBITS, BITS)


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("value", range(5))
@pytest.mark.parametrize("number", range(4))
def test_condition_reads_the_least_significant_bit_first(comparison: str, value: int, number: int) -> None:
    condition = Condition((7, 3), comparison, value)
    assert condition.holds([number & 1, number >> 1]) == eval(f"{number} {comparison} {value}")


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_raise_only_program_error(data: bytes) -> None:
    with pytest.raises(ProgramError):
        LogicalProgram.from_bytes(data)


json_like = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 5), st.text(max_size=3), st.binary(max_size=3)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(programs, st.data())
def test_a_wrong_field_raises_only_program_error(program: LogicalProgram, data: st.DataObject) -> None:
    document = msgpack.unpackb(program.to_bytes())
    key = data.draw(st.sampled_from(sorted(document)))
    if key == "ops" and document["ops"] and data.draw(st.booleans()):
        op = data.draw(st.sampled_from(document["ops"]))
        op[data.draw(st.integers(0, len(op) - 1))] = data.draw(json_like)
    else:
        document[key] = data.draw(json_like)
    try:
        read = LogicalProgram.from_bytes(msgpack.packb(document))
    except ProgramError:
        return
    # What was accepted is a valid program that says the same.
    assert LogicalProgram.from_bytes(read.to_bytes()) == read


GOOD = Op("x", (0,), 1)
WHEN = Condition((0,), "==", 1)


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (Op("ccx", (0,), 1), "unknown kind"),
        (Op("x", (5,), 1), "not one of the 5"),
        (Op("x", (-1,), 1), "not one of the 5"),
        (Op("x", (0, 1), 1), "1 expected"),
        (Op("cx", (0,), 1), "2 expected"),
        (Op("cx", (0, 0), 1), "twice"),
        (Op("x", (0,), -1), "negative line"),
        (Op("x", (0,), 1, bit=0), "out of place"),
        (Op("measure", (0,), 1), "out of place"),
        (Op("measure", (0,), 1, bit=70), "out of place"),
        (Op("idle", (0,), 1), "0 blocks"),
        (Op("reset", (0,), 1, blocks=2), "2 blocks"),
        (Op("barrier", (), 1), "no qubits"),
        (Op("x", (0,), 1, condition=WHEN), "only an if"),
        (Op("x", (0,), 1, body=(GOOD,)), "only an if"),
        (Op("if", (0,), 1, body=(GOOD,)), "no condition"),
        (Op("if", (1,), 1, condition=WHEN, body=(GOOD,)), "not those of its body"),
        (Op("if", (0,), 1, condition=Condition((), "==", 1), body=(GOOD,)), "not there"),
        (Op("if", (0,), 1, condition=Condition((70,), "==", 1), body=(GOOD,)), "not there"),
        (Op("if", (0,), 1, condition=Condition((0, 0), "==", 1), body=(GOOD,)), "twice"),
        (Op("if", (0,), 1, condition=Condition((0,), "=", 1), body=(GOOD,)), "comparison"),
        (Op("if", (0,), 1, condition=Condition((0,), "==", -1), body=(GOOD,)), "out of range"),
        (Op("if", (0,), 1, condition=WHEN, body=(Op("if", (0,), 1, body=(GOOD,)),)), "no condition"),
    ],
)
def test_a_wrong_operation_is_refused(op: Op, text: str) -> None:
    with pytest.raises(ProgramError, match=text):
        LogicalProgram(ops=(GOOD, op), **REGISTERS)


@pytest.mark.parametrize("registers", [(("a", 0),), (("a", 1), ("a", 1)), (("", 1),)])
def test_wrong_registers_are_refused(registers: tuple[tuple[str, int], ...]) -> None:
    with pytest.raises(ProgramError, match="register"):
        LogicalProgram(quantum_registers=registers, classical_registers=(), ops=())


def test_another_version_is_refused() -> None:
    document = msgpack.unpackb(LogicalProgram(ops=(), **REGISTERS).to_bytes())
    for version in (VERSION - 1, VERSION + 1):
        with pytest.raises(ProgramError, match=f"version {version}, this reads version {VERSION}"):
            LogicalProgram.from_bytes(msgpack.packb(document | {"version": version}))


def nested(depth: int) -> Op:
    op = GOOD
    for _ in range(depth):
        op = Op("if", (0,), 1, condition=WHEN, body=(op,))
    return op


def test_ifs_stand_inside_one_another_to_a_bound() -> None:
    program = LogicalProgram(ops=(nested(MAX_DEPTH),), **REGISTERS)
    assert LogicalProgram.from_bytes(program.to_bytes()) == program
    with pytest.raises(ProgramError, match=f"more than {MAX_DEPTH} ifs"):
        LogicalProgram(ops=(nested(MAX_DEPTH + 1),), **REGISTERS)


def test_an_artifact_that_nests_deeper_is_refused_before_it_is_built() -> None:
    document = msgpack.unpackb(LogicalProgram(ops=(nested(1),), **REGISTERS).to_bytes())
    for depth in (MAX_DEPTH, 200):
        packed = document["ops"][0]
        for _ in range(depth):
            packed = [*packed[:6], [packed]]
        with pytest.raises(ProgramError, match=f"more than {MAX_DEPTH} ifs"):
            LogicalProgram.from_bytes(msgpack.packb(document | {"ops": [packed]}))
