# SPDX-License-Identifier: Apache-2.0
"""OpenQASM 2.0 as pytket's own parser reads it, in the order of declaration, which pytket does not keep."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import lark
import pytket.qasm.qasm
from pytket.circuit import Circuit, OpType
from pytket.qasm import circuit_from_qasm_str
from qcos_plugins.verifier.steps import Guard, Step, gate_of

# pytket's grammar would be kept as a pickle in the common temporary directory, and taken from there whoever wrote it.
pytket.qasm.qasm.Lark = lambda *args, **options: lark.Lark(*args, **{**options, "cache": False})

MOST_BYTES: Final = 200_000
"""Of a source that is given to pytket, which takes .1 ms a gate."""
MOST_MATRIX: Final = 4
"""Qubits of a gate that is taken as a whole."""
_NO_LIMIT: Final = 2**32 - 1  # what pytket writes for "up to any number"
_NAMES: Final = re.compile(r"\b(qreg|creg)\s+([A-Za-z_]\w*)\s*\[\s*(\d+)\s*\]\s*;")
_COMMENTS: Final = re.compile(r'"[^"\n]*"|//[^\n]*|/\*.*?\*/', re.DOTALL)

_THIRD: Final = re.compile(r"\s*OPENQASM\s+3(\.\d+)?\s*;")

Registers = tuple[tuple[str, int], ...]


class Unreadable(Exception):
    """pytket does not read this, or what it makes of it cannot be compared.  That says nothing about the program."""


def is_edition_3(text: str) -> bool:
    """Whether a source says that it is OpenQASM 3."""
    return _THIRD.match(_COMMENTS.sub(" ", text)) is not None


def registers_of(text: str) -> tuple[Registers, Registers]:
    """Quantum and classical registers, in the order in which a source declares them."""
    bare = _COMMENTS.sub(lambda found: found[0] if found[0].startswith('"') else " ", text)
    found: dict[str, list[tuple[str, int]]] = {"qreg": [], "creg": []}
    for kind, name, size in _NAMES.findall(bare):
        found[kind].append((name, int(size)))
    return tuple(found["qreg"]), tuple(found["creg"])


def steps_of_source(text: str) -> tuple[list[Step], int]:
    """What pytket reads in a source, and the number of bits: those of the program, and behind them pytket's own.

    Raises Unreadable.
    """
    if len(text) > MOST_BYTES:
        raise Unreadable(f"{len(text)} bytes, more than {MOST_BYTES}")
    try:
        circuit = circuit_from_qasm_str(text, maxwidth=1 << 16)
    except Exception as error:  # noqa: BLE001  # pytket raises what its libraries do
        raise Unreadable(
            f"pytket: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from None
    quantum, classical = registers_of(text)
    if {(r.name, r.size) for r in circuit.q_registers} != set(quantum):
        raise Unreadable("pytket finds other registers")
    reader = _Reader(_numbers(quantum), _numbers(classical))
    reader.commands(circuit, reader.steps.append, lambda unit: reader.qubits[unit.reg_name, unit.index[0]])
    return reader.steps, len(reader.bits)


def _numbers(registers: Registers) -> dict[tuple[str, int], int]:
    return {key: number for number, key in enumerate((name, i) for name, size in registers for i in range(size))}


class _Reader:
    """``qubits``, ``bits``: flat numbers of (register, index)."""

    def __init__(self, qubits: dict[tuple[str, int], int], bits: dict[tuple[str, int], int]) -> None:
        self.qubits = qubits
        self.bits = bits
        self.steps: list[Step] = []

    def commands(self, circuit: Circuit, put: Callable[[Step], None], qubit: Callable[[Any], int]) -> None:
        for command in circuit.get_commands():
            self._command(command.op, command.args, put, qubit)

    def _bit(self, unit: Any) -> int:
        # pytket's scratch bits are numbered behind those of the program.
        return self.bits.setdefault((unit.reg_name, unit.index[0]), len(self.bits))

    def _command(self, op: Any, args: Sequence[Any], put: Callable[[Step], None], qubit: Callable[[Any], int]) -> None:
        kind = op.type
        if kind == OpType.Conditional:
            bits, rest = tuple(map(self._bit, args[: op.width])), args[op.width :]
            body: list[Step] = []
            self._command(op.op, rest, body.append, qubit)
            touched = tuple(sorted({q for step in body for q in step.qubits}))
            put(Step("if", touched, guard=Guard(bits, op.value, op.value), body=tuple(body)))
        elif kind == OpType.RangePredicate:
            *bits, scratch = map(self._bit, args)
            high = (1 << len(bits)) - 1 if op.upper == _NO_LIMIT else op.upper
            put(Step("let", (), bit=scratch, guard=Guard(tuple(bits), op.lower, high)))
        elif kind == OpType.Measure:
            put(Step("measure", (qubit(args[0]),), bit=self._bit(args[1])))
        elif kind == OpType.Reset:
            put(Step("reset", (qubit(args[0]),)))
        elif kind == OpType.Barrier:
            put(Step("barrier", tuple(map(qubit, args))))
        elif kind == OpType.noop:
            put(Step("idle", (qubit(args[0]),), blocks=1))
        elif kind == OpType.CustomGate and op.get_name().startswith("u0("):
            # pytket knows no u0, takes it as a gate that does nothing, and counts its parameter in half turns.
            put(Step("idle", (qubit(args[0]),), blocks=round(float(op.params[0]) * 3.141592653589793)))
        elif kind == OpType.CustomGate and not _whole(op.get_circuit()):
            inner = op.get_circuit()
            outer = dict(zip(inner.qubits, args, strict=True))
            self.commands(inner, put, lambda unit: qubit(outer[unit]))
        else:
            self._gate(op, tuple(map(qubit, args)), put)

    def _gate(self, op: Any, qubits: tuple[int, ...], put: Callable[[Step], None]) -> None:
        try:
            matrix = op.get_circuit().get_unitary() if op.type == OpType.CustomGate else op.get_unitary()
            put(gate_of(matrix, qubits, op.get_name()))
        except (ValueError, RuntimeError) as error:
            raise Unreadable(f"{op.get_name()}: {str(error).splitlines()[0]}") from None


def _whole(circuit: Circuit) -> bool:
    """Whether a gate can be taken as one unitary: it is small, and holds nothing but gates."""
    return circuit.n_qubits <= MOST_MATRIX and all(
        command.op.type not in (OpType.Barrier, OpType.noop)
        and (command.op.type != OpType.CustomGate or _whole_gate(command.op))
        for command in circuit.get_commands()
    )


def _whole_gate(op: Any) -> bool:
    return not op.get_name().startswith("u0(") and _whole(op.get_circuit())


def loosened(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Idles one by one for each qubit, without the barriers right around them: how pytket writes them."""
    out: list[Step] = []
    sure = list(steps)
    dropped = set()
    for place, step in enumerate(sure):
        if step.kind == "idle":
            for beside in (place - 1, place + 1):
                if 0 <= beside < len(sure) and sure[beside].kind == "barrier" and sure[beside].qubits == step.qubits:
                    dropped.add(beside)
    for place, step in enumerate(sure):
        if step.kind == "idle":
            out += [Step("idle", (qubit,), step.line, blocks=step.blocks) for qubit in step.qubits]
        elif step.kind == "if":
            out.append(Step("if", step.qubits, step.line, guard=step.guard, body=loosened(step.body)))
        elif place not in dropped:
            out.append(step)
    return tuple(out)


def merged(steps: Iterable[Step]) -> list[Step]:
    """Idles that follow one another on a qubit as one."""
    out: list[Step] = []
    last: dict[int, int] = {}
    for step in steps:
        if step.kind == "idle":
            (qubit,) = step.qubits
            before = last.get(qubit)
            if before is not None and out[before].kind == "idle":
                longer = out[before].blocks + step.blocks
                out[before] = Step("idle", step.qubits, out[before].line, blocks=longer)
                continue
        last.update(dict.fromkeys(step.qubits, len(out)))
        out.append(step)
    return out
