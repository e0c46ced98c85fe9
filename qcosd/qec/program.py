# SPDX-License-Identifier: Apache-2.0
"""The logical program: what `compile` and `optimise` produce and `qecc` consumes.

A program is a list of operations on numbered qubits and numbered classical bits. Registers only name ranges of them:
the first declared register holds indices 0..size-1, the next one goes on from there. Classical bits start at 0 and
keep 0 until something is measured into them.

Meaning of an operation, in program order:

- gates `h s sdg t tdg x y z` act on one qubit, `cx` on (control, target); `t` is diag(1, e^(i pi/4));
- `measure` reads qubits[0] in the Z basis into the flat classical bit `bit`; the qubit may be used afterwards;
- `reset` puts its qubit into |0>, whatever it was;
- `idle` holds all its qubits for `blocks` blocks of d rounds each (d = code distance). Never removed or merged away;
- `barrier` separates what stands before it from what stands after it, on its qubits;
- `if` reads its condition once, when it is reached, and then does its whole body or nothing. A body may hold further
  `if`s, at most MAX_DEPTH of them inside one another: each reads its own condition when it is reached, so what the body
  has measured before counts.

`line` is the line of the source that asked for the operation, from 1; 0 where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import msgpack

VERSION: Final = 2
"""2: an `if` may stand in the body of an `if`."""
FORMAT: Final = "qcos.logical"

PAULIS: Final = frozenset({"x", "y", "z"})
GATES: Final = {"h": 1, "s": 1, "sdg": 1, "t": 1, "tdg": 1, "x": 1, "y": 1, "z": 1, "cx": 2}
"""Unitary kinds and the number of qubits of each. New gates are added here."""
KINDS: Final = frozenset(GATES) | {"measure", "reset", "idle", "barrier", "if"}
COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")

MAX_DEPTH: Final = 32
"""How many `if`s may stand inside one another."""
MAX_VALUE_BYTES: Final = 1024
"""Longest constant that a condition may hold: far above any register."""


class ProgramError(ValueError):
    """The bytes or the values are no valid logical program. The message says what is wrong and where."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A register (or one bit) compared with a constant: `value of bits` `comparison` `value`."""

    bits: tuple[int, ...]
    """Flat classical bits, least significant first."""
    comparison: str
    value: int

    def holds(self, values: Sequence[int]) -> bool:
        """Whether the condition is true. `values[i]` is the 0 or 1 of `bits[i]`."""
        if len(values) != len(self.bits):
            raise ValueError(f"{len(self.bits)} bits expected, {len(values)} given")
        number = sum(1 << place for place, bit in enumerate(values) if bit)
        if self.comparison == "==":
            return number == self.value
        if self.comparison == "!=":
            return number != self.value
        if self.comparison == "<":
            return number < self.value
        if self.comparison == "<=":
            return number <= self.value
        if self.comparison == ">":
            return number > self.value
        return number >= self.value

    def packed(self) -> tuple[tuple[int, ...], str, bytes]:
        """For msgpack, whose integers end at 64 bits, which registers do not."""
        return (self.bits, self.comparison, self.value.to_bytes((self.value.bit_length() + 7) // 8, "big"))

    @classmethod
    def unpacked(cls, bits: Sequence[int], comparison: str, value: bytes) -> Condition:
        """What `packed` said."""
        return cls(tuple(bits), comparison, int.from_bytes(value, "big"))


@dataclass(frozen=True, slots=True)
class Op:
    """One operation. Fields that its kind does not use keep their defaults."""

    kind: str
    qubits: tuple[int, ...]
    line: int
    bit: int = -1
    """Flat classical bit of a measure, else -1."""
    blocks: int = 0
    """Blocks of d rounds of an idle, else 0."""
    condition: Condition | None = None
    body: tuple[Op, ...] = ()
    """What an `if` does; `qubits` of the `if` are those of its body, sorted."""


@dataclass(frozen=True)
class LogicalProgram:
    """A whole program. Valid by construction: a wrong one raises ProgramError."""

    quantum_registers: tuple[tuple[str, int], ...]
    classical_registers: tuple[tuple[str, int], ...]
    ops: tuple[Op, ...]
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ProgramError(f"logical program of version {self.version}, this reads version {VERSION}")
        names: set[str] = set()
        for name, size in (*self.quantum_registers, *self.classical_registers):
            if not name or name in names:
                raise ProgramError(f"register {name!r} is named twice or not at all")
            if size < 1:
                raise ProgramError(f"register {name!r} has size {size}")
            names.add(name)
        for place, op in enumerate(self.ops):
            _check(op, self.qubits, self.bits, f"operation {place}", depth=0)

    @cached_property
    def qubits(self) -> int:
        """Number of qubits of all registers."""
        return sum(size for _, size in self.quantum_registers)

    @cached_property
    def bits(self) -> int:
        """Number of classical bits of all registers."""
        return sum(size for _, size in self.classical_registers)

    def to_bytes(self) -> bytes:
        """The artifact: equal programs give equal bytes."""
        document = {
            "format": FORMAT,
            "version": self.version,
            "quantum_registers": self.quantum_registers,
            "classical_registers": self.classical_registers,
            "ops": [_packed(op) for op in self.ops],
        }
        data: bytes = msgpack.packb(document)
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> LogicalProgram:
        """Reads and checks an artifact. Raises ProgramError."""
        try:
            document = msgpack.unpackb(data)
        except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError) as error:
            raise ProgramError(f"not a logical program: {error or type(error).__name__}") from None
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise ProgramError(f"not a logical program: no format {FORMAT!r}")
        version = document.get("version")
        if type(version) is not int or version != VERSION:
            raise ProgramError(f"logical program of version {version!r}, this reads version {VERSION}")
        ops = document.get("ops")
        if not isinstance(ops, list):
            raise ProgramError("ops is no list")
        return cls(
            quantum_registers=_registers(document.get("quantum_registers"), "quantum_registers"),
            classical_registers=_registers(document.get("classical_registers"), "classical_registers"),
            ops=tuple(_unpacked(op, f"operation {place}", depth=0) for place, op in enumerate(ops)),
        )


def qubits_of(body: Sequence[Op]) -> tuple[int, ...]:
    """The qubits that some operations touch, sorted, each once."""
    return tuple(sorted({qubit for op in body for qubit in op.qubits}))


def _packed(op: Op) -> list[Any]:
    # Positional and cut at the last field that is not a default: programs are long and most operations are gates.
    fields: list[Any] = [op.kind, op.qubits, op.line, op.bit, op.blocks]
    if op.kind == "if":
        assert op.condition is not None
        fields += [op.condition.packed(), [_packed(inner) for inner in op.body]]
    elif op.blocks == 0:
        del fields[3 if op.bit == -1 else 4 :]
    return fields


def _unpacked(fields: Any, where: str, *, depth: int) -> Op:
    if not isinstance(fields, list) or not 3 <= len(fields) <= 7 or not isinstance(fields[0], str):
        raise ProgramError(f"{where} is malformed")
    kind = fields[0]
    qubits = _integers(fields[1], f"qubits of {where}")
    (line,) = _integers([fields[2]], f"line of {where}")
    bit, blocks = -1, 0
    if len(fields) > 3:
        (bit,) = _integers([fields[3]], f"bit of {where}")
    if len(fields) > 4:
        (blocks,) = _integers([fields[4]], f"blocks of {where}")
    condition: Condition | None = None
    body: tuple[Op, ...] = ()
    if len(fields) > 5:
        if kind != "if" or len(fields) != 7 or not isinstance(fields[6], list):
            raise ProgramError(f"{where} is malformed")
        _check_depth(depth, where)
        condition = _condition(fields[5], where)
        body = tuple(_unpacked(inner, f"{where}, body", depth=depth + 1) for inner in fields[6])
    return Op(kind, qubits, line, bit, blocks, condition, body)


def _condition(fields: Any, where: str) -> Condition:
    if not isinstance(fields, list) or len(fields) != 3:
        raise ProgramError(f"condition of {where} is malformed")
    bits, comparison, number = fields
    if not isinstance(comparison, str) or not isinstance(number, bytes) or len(number) > MAX_VALUE_BYTES:
        raise ProgramError(f"condition of {where} is malformed")
    return Condition.unpacked(_integers(bits, f"condition of {where}"), comparison, number)


def _integers(values: Any, where: str) -> tuple[int, ...]:
    # type() and not isinstance: True and False are no indices.
    if not isinstance(values, list) or any(type(value) is not int for value in values):
        raise ProgramError(f"{where}: integers expected")
    return tuple(values)


def _registers(value: Any, where: str) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, list):
        raise ProgramError(f"{where} is no list")
    registers = []
    for entry in value:
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str) or type(entry[1]) is not int:
            raise ProgramError(f"{where}: an entry is not [name, size]")
        registers.append((entry[0], entry[1]))
    return tuple(registers)


def _check_depth(depth: int, where: str) -> None:
    if depth >= MAX_DEPTH:
        raise ProgramError(f"{where}: more than {MAX_DEPTH} ifs stand inside one another")


def _check(op: Op, qubits: int, bits: int, where: str, *, depth: int) -> None:
    where = f"{where} ({op.kind}, line {op.line})"
    if op.kind not in KINDS:
        raise ProgramError(f"{where}: unknown kind")
    if op.line < 0:
        raise ProgramError(f"{where}: negative line")
    if len(set(op.qubits)) != len(op.qubits):
        raise ProgramError(f"{where}: a qubit stands twice")
    if any(not 0 <= qubit < qubits for qubit in op.qubits):
        raise ProgramError(f"{where}: a qubit is not one of the {qubits} of the program")
    wanted = 1 if op.kind in ("measure", "reset") else GATES.get(op.kind)
    if wanted is not None and len(op.qubits) != wanted:
        raise ProgramError(f"{where}: {len(op.qubits)} qubits, {wanted} expected")
    if not op.qubits and op.kind != "if":
        raise ProgramError(f"{where}: no qubits")
    if (not 0 <= op.bit < bits) if op.kind == "measure" else op.bit != -1:
        raise ProgramError(f"{where}: bit {op.bit} is out of place")
    if (op.blocks < 1) if op.kind == "idle" else op.blocks != 0:
        raise ProgramError(f"{where}: {op.blocks} blocks")
    if op.kind != "if":
        if op.condition is not None or op.body:
            raise ProgramError(f"{where}: only an if has a condition and a body")
        return
    _check_depth(depth, where)
    _check_condition(op.condition, bits, where)
    for inner in op.body:
        _check(inner, qubits, bits, where, depth=depth + 1)
    if op.qubits != qubits_of(op.body):
        raise ProgramError(f"{where}: its qubits are not those of its body")


def _check_condition(condition: Condition | None, bits: int, where: str) -> None:
    if condition is None:
        raise ProgramError(f"{where}: no condition")
    if condition.comparison not in COMPARISONS:
        raise ProgramError(f"{where}: unknown comparison {condition.comparison!r}")
    if not condition.bits or any(not 0 <= bit < bits for bit in condition.bits):
        raise ProgramError(f"{where}: the condition reads a bit that is not there")
    if len(set(condition.bits)) != len(condition.bits):
        raise ProgramError(f"{where}: the condition reads a bit twice")
    if condition.value < 0 or condition.value.bit_length() > 8 * MAX_VALUE_BYTES:
        raise ProgramError(f"{where}: the constant of the condition is out of range")
