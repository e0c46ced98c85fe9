# SPDX-License-Identifier: Apache-2.0
"""Statements to the operations of a logical program: names become numbers, registers single qubits, gates Clifford and T gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qcos_plugins.pytket_compile.failure import SourceError
from qcos_plugins.pytket_compile.gates import (
    ID,
    MAX_STEPS,
    U0,
    Expander,
    Library,
    OtherAngle,
    Step,
    first_repeated,
    written,
)
from qcos_plugins.pytket_compile.gridsynth import CannotApproximate
from qcos_plugins.pytket_compile.rotations import Turn
from qcos_plugins.pytket_compile.syntax import (
    Argument,
    Barrier,
    Block,
    Call,
    Definition,
    If,
    Include,
    Measure,
    Register,
    Reset,
    Statement,
)

from qcosd.qec.program import Condition, LogicalProgram, Op, qubits_of

MAX_QUBITS: Final = 10_000
MAX_BITS: Final = 100_000
MAX_OPERANDS: Final = 2_000_000
"""Qubits and condition bits that all operations name together: bounds the artifact and the time it takes."""


class Lowering:
    """Takes the statements of a program one by one, in order; `program` is what they come to.

    `turn`: see `gates.Expander`. `edition`: of OpenQASM, 2 or 3. `approximated`: how many rotations it has made.
    """

    def __init__(self, turn: Turn | None = None, edition: int = 2) -> None:
        self._edition = edition
        self._library = Library()
        self._expander = Expander(turn)
        self.approximated = 0
        self._registers: dict[str, tuple[Register, int]] = {}  # with the number of its first qubit or bit
        self._totals = {True: 0, False: 0}
        self._ops: list[Op] = []
        self._out = self._ops  # where operations go: the program or the body of an if
        self._count = 0
        self._operands = 0
        self._idle_lines: list[int] = []
        self._extension_lines: list[int] = []
        self._nested_lines: list[int] = []
        self._measured: set[int] = set()

    def add(self, statement: Statement) -> None:
        """Lowers one statement. Raises SourceError."""
        match statement:
            case Register():
                self._declare(statement)
            case Include():
                if statement.path != "qelib1.inc":
                    raise SourceError(
                        statement.line, f'"{statement.path[:80]}" cannot be included, only "qelib1.inc"', "unsupported"
                    )
                self._library.include(statement.line)
            case Definition():
                self._library.define(statement)
            case If():
                self._if(statement)
            case Barrier():
                self._barrier(statement)
            case Call() | Measure() | Reset():
                self._operation(statement)

    def program(self, last_line: int) -> LogicalProgram:
        """The whole program."""
        if not self._totals[True]:
            raise SourceError(last_line, "the program declares no qubits")
        names = [(register.name, register.size) for register, _ in self._registers.values() if register.quantum]
        bits = [(register.name, register.size) for register, _ in self._registers.values() if not register.quantum]
        return LogicalProgram(tuple(names), tuple(bits), tuple(self._ops))

    def assumptions(self) -> list[str]:
        """What the reader of the result should know about how the program was read."""
        said = []
        unmeasured = self._unmeasured()
        if unmeasured:
            said.append(f"bits that nothing is measured into stay 0: {', '.join(unmeasured)}")
        if self._idle_lines:
            said.append(f"id idles for one block of d rounds (first at line {min(self._idle_lines)})")
        if self._edition == 2 and self._extension_lines:
            said.append(
                f"line {min(self._extension_lines)}: an if that does not compare a register by == goes beyond OpenQASM 2.0"
            )
        if self._edition == 2 and self._nested_lines:
            said.append(f"line {min(self._nested_lines)}: an if within an if goes beyond OpenQASM 2.0")
        if self._expander.rounded:
            said.append(
                f"line {min(self._expander.rounded)}: angles within 1e-9 of a multiple of pi/4 were taken as that multiple"
            )
        return said

    def _unmeasured(self) -> list[str]:
        """Registers and bits that nothing is measured into, at most ten of them."""
        said: list[str] = []
        for register, first in self._registers.values():
            if register.quantum:
                continue
            missing = [place for place in range(register.size) if first + place not in self._measured]
            if len(missing) == register.size:
                said.append(register.name)
            else:
                said += [f"{register.name}[{place}]" for place in missing]
            if len(said) > 10:
                return [*said[:10], "..."]
        return said

    # ---- names

    def _declare(self, register: Register) -> None:
        # Registers and gates never stand in the same place, so a register may be called like a gate (`creg s[2];`).
        if register.name in self._registers:
            known = self._registers[register.name][0]
            raise SourceError(register.line, f"{register.name} is already a register, since line {known.line}")
        what, most = ("qubits", MAX_QUBITS) if register.quantum else ("bits", MAX_BITS)
        if register.size < 1:
            raise SourceError(register.line, f"register {register.name} has no {what}")
        first = self._totals[register.quantum]
        if first + register.size > most:
            raise SourceError(register.line, f"more than {most} {what}")
        self._registers[register.name] = (register, first)
        self._totals[register.quantum] += register.size

    def _elements(self, argument: Argument, *, quantum: bool) -> Sequence[int]:
        """The flat qubits or bits of an argument, least significant first."""
        register, first = self._registers.get(argument.name, (None, 0))
        what = "quantum" if quantum else "classical"
        if register is None:
            raise SourceError(argument.line, f"unknown register {argument.name}")
        if register.quantum != quantum:
            raise SourceError(argument.line, f"{argument.name} is no {what} register")
        if argument.index is None:
            return range(first, first + register.size)
        if argument.index >= register.size:
            raise SourceError(
                argument.line,
                f"{str(argument)[:60]} is out of range: {argument.name} has {register.size} "
                f"{'qubits' if quantum else 'bits'}",
            )
        return (first + argument.index,)

    # ---- operations

    def _emit(self, op: Op) -> None:
        self._count += 1
        self._operands += len(op.qubits)
        if self._count > MAX_STEPS or self._operands > MAX_OPERANDS:
            raise SourceError(op.line, f"the program is too large when it is written out: over {MAX_STEPS} operations")
        self._out.append(op)

    def _emit_idle(self, qubits: tuple[int, ...], blocks: int, line: int) -> None:
        """An idle between barriers; one that follows its like makes that one longer."""
        fence = Op("barrier", qubits, line)
        if len(self._out) >= 3:
            before, idle, after = self._out[-3:]
            if (
                idle.kind == "idle"
                and before.kind == after.kind == "barrier"
                and (before.qubits == idle.qubits == after.qubits == qubits)
            ):
                self._out[-2] = Op("idle", qubits, idle.line, blocks=idle.blocks + blocks)
                return
        self._idle_lines.append(line)
        self._emit(fence)
        self._emit(Op("idle", qubits, line, blocks=blocks))
        self._emit(fence)

    def _operation(self, statement: Call | Measure | Reset) -> None:
        match statement:
            case Call():
                self._call(statement)
            case Measure():
                sources = self._elements(statement.source, quantum=True)
                targets = self._elements(statement.target, quantum=False)
                if len(sources) != len(targets):
                    raise SourceError(
                        statement.line,
                        f"{len(sources)} qubits of {statement.source} cannot be measured into "
                        f"{len(targets)} bits of {statement.target}",
                    )
                for qubit, bit in zip(sources, targets, strict=True):
                    self._measured.add(bit)
                    self._emit(Op("measure", (qubit,), statement.line, bit=bit))
            case Reset():
                for qubit in self._elements(statement.argument, quantum=True):
                    self._emit(Op("reset", (qubit,), statement.line))

    def _barrier(self, statement: Barrier) -> None:
        qubits = [qubit for argument in statement.arguments for qubit in self._elements(argument, quantum=True)]
        repeated = first_repeated(qubits)
        if repeated is not None:
            raise SourceError(statement.line, f"qubit {self._qubit_name(repeated)} stands twice")
        self._emit(Op("barrier", tuple(qubits), statement.line))

    def _call(self, call: Call) -> None:
        gate = self._library.called(call.name, len(call.parameters), len(call.arguments), call.line)
        for expression in call.parameters:
            for name in expression.names():
                raise SourceError(
                    call.line, f"unknown parameter {name[:60]}: only numbers and pi stand outside of a gate"
                )
        values = tuple(expression.value({}, call.line) for expression in call.parameters)
        columns = [self._elements(argument, quantum=True) for argument in call.arguments]
        try:
            steps = self._expander.steps(gate, values, call.line)
        except CannotApproximate as error:
            called = written(gate, values)
            raise SourceError(
                call.line, f"gate {called} turns by an angle that has to be approximated: {error}", "unsupported"
            ) from None
        except OtherAngle as error:
            raise _other_angle(written(gate, values), error, call.line) from None
        sizes = {
            len(column) for column, argument in zip(columns, call.arguments, strict=True) if argument.index is None
        }
        if len(sizes) > 1:
            sized = ", ".join(f"{a} has {len(c)}" for a, c in zip(call.arguments, columns, strict=True))
            raise SourceError(call.line, f"registers of gate {call.name} differ in size: {sized}")
        if gate is ID or gate is U0:
            # One idle for all of a register: its qubits wait together.
            self._emit_idle(tuple(columns[0]), steps[0].blocks, call.line)
            return
        self.approximated += max(sizes, default=1) * self._expander.approximated(gate, values)
        for place in range(max(sizes, default=1)):
            qubits = [
                column[place] if argument.index is None else column[0]
                for column, argument in zip(columns, call.arguments, strict=True)
            ]
            repeated = first_repeated(qubits)
            if repeated is not None:
                raise SourceError(call.line, f"qubit {self._qubit_name(repeated)} stands twice in gate {call.name}")
            for step in steps:
                self._emit_step(step, qubits, call.line)

    def _emit_step(self, step: Step, qubits: list[int], line: int) -> None:
        touched = tuple(qubits[place] for place in step.qubits)
        if step.kind == "idle":
            self._emit_idle(touched, step.blocks, line)
        else:
            self._emit(Op(step.kind, touched, line))

    def _if(self, statement: If) -> None:
        bits = tuple(self._elements(statement.subject, quantum=False))
        if statement.comparison != "==" or statement.subject.index is not None:
            self._extension_lines.append(statement.line)
        # 2**len(bits) is above everything the bits can say: all such constants mean the same.
        value = min(statement.value, 1 << len(bits))
        self._operands += len(bits)
        outside, self._out = self._out, []
        try:
            for inner in statement.body.statements if isinstance(statement.body, Block) else (statement.body,):
                if isinstance(inner, If):
                    self._nested_lines.append(inner.line)
                self.add(inner)
            body = tuple(self._out)
        finally:
            self._out = outside
        if body:
            condition = Condition(bits, statement.comparison, value)
            self._emit(Op("if", qubits_of(body), statement.line, condition=condition, body=body))

    def _qubit_name(self, qubit: int) -> str:
        for register, first in self._registers.values():
            if register.quantum and first <= qubit < first + register.size:
                return f"{register.name}[{qubit - first}]"
        raise AssertionError(f"qubit {qubit} is in no register")


def _other_angle(called: str, error: OtherAngle, line: int) -> SourceError:
    inside = f" (by {error.gate} at line {error.line})" if error.line else ""
    return SourceError(
        line,
        f"gate {called} turns by an angle that is no multiple of pi/4{inside}: such angles are not approximated yet",
        "unsupported",
    )
