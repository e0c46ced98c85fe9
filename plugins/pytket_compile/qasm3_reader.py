# SPDX-License-Identifier: Apache-2.0
"""Statements of OpenQASM 3, as the reference parser gives them, to those of the compiler."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from openqasm3 import ast
from qcos_plugins.pytket_compile.failure import SourceError
from qcos_plugins.pytket_compile.gates import MAX_STEPS
from qcos_plugins.pytket_compile.qasm3_conditions import Comparison, Conditions, Way
from qcos_plugins.pytket_compile.qasm3_gates import STANDARD, Gates, name_of
from qcos_plugins.pytket_compile.qasm3_values import Number, Values, line_of, unsupported
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

from qcosd.qec.program import MAX_DEPTH

MOST_ELEMENTS: Final = 100_000
"""Of a register."""


class Reader:
    """Reads one program."""

    def __init__(self) -> None:
        self._registers: dict[str, tuple[bool, int | None]] = {}  # quantum?, size; None for a single qubit or bit
        self._aliases: dict[str, list[Argument]] = {}
        self._known: dict[str, Number] = {}
        self._values = Values(self._known)
        self._conditions = Conditions(self._subject, self._values.whole)
        self._own: set[str] = set()
        self._gates = Gates(self._own, self._values.whole)
        self._standard = False
        self._depth = 0  # of ifs
        self._nested = 0  # of blocks of any kind
        self._work = 0

    def statements(self, nodes: Iterable[Any]) -> Iterator[Statement]:
        """What some statements come to, as they are asked for.  Raises SourceError."""
        for node in nodes:
            self._count(node)
            yield from self._statement(node)

    def _count(self, node: Any) -> None:
        self._work += 1
        if self._work > MAX_STEPS:
            raise SourceError(
                line_of(node), f"the program is too large when it is written out: over {MAX_STEPS} operations"
            )

    def _statement(self, node: Any) -> Iterator[Statement]:
        line = line_of(node)
        match node:
            case ast.QuantumGate():
                yield from self._call(node)
            case ast.QuantumMeasurementStatement():
                if node.target is None:
                    raise unsupported(node, "a measurement that goes into no bit is not offered")
                yield from self._measure(node.measure, node.target)
            case ast.QuantumReset():
                yield from self._each(node.qubits, lambda argument: Reset(argument, line))
            case ast.QuantumBarrier():
                everything = [ast.Identifier(name) for name, (quantum, _) in self._registers.items() if quantum]
                elements = [e for each in node.qubits or everything for e in self._operand(each, quantum=True)]
                yield Barrier(tuple(elements), line)
            case ast.BranchingStatement():
                yield from self._if(node)
            case ast.ForInLoop():
                yield from self._loop(node)
            case ast.CompoundStatement():
                yield from self._scope(node.statements)
            case ast.QuantumPhase():
                if node.modifiers:
                    raise unsupported(node, "a controlled gphase is not offered: it is a p of the control")
            case _:
                yield from self._declaration(node, line)

    def _declaration(self, node: Any, line: int) -> Iterator[Statement]:
        match node:
            case ast.Include():
                if node.filename != "stdgates.inc":
                    text = f'"{node.filename[:80]}" cannot be included, only "stdgates.inc"'
                    raise unsupported(node, text)
                self._standard = True
                yield Include("qelib1.inc", line)
            case ast.QubitDeclaration():
                yield self._register(node.qubit.name, node.size, True, node)
            case ast.ClassicalDeclaration() if isinstance(node.type, ast.BitType):
                yield self._register(node.identifier.name, node.type.size, False, node)
                initial = node.init_expression
                if isinstance(initial, ast.QuantumMeasurement):
                    yield from self._measure(initial, node.identifier)
                elif initial is not None and not (
                    isinstance(initial, ast.BitstringLiteral | ast.BooleanLiteral | ast.IntegerLiteral)
                    and int(initial.value) == 0
                ):
                    raise unsupported(node, "bits begin as 0, or with a measurement")
            case ast.ConstantDeclaration():
                self._new(node.identifier.name, node)
                self._known[node.identifier.name] = self._typed(node)
            case ast.AliasStatement():
                self._new(node.target.name, node)
                self._aliases[node.target.name] = self._elements(node.value)
            case ast.QuantumGateDefinition():
                yield self._definition(node)
            case _:
                raise unsupported(node, f"{_name_of(node)} is not offered")

    # ---- names

    def _new(self, name: str, node: Any) -> None:
        if name in self._registers or name in self._aliases or (name in self._known and not self._nested):
            raise SourceError(line_of(node), f"{name[:60]} is declared twice")

    def _register(self, name: str, size: Any, quantum: bool, node: Any) -> Register:
        if self._nested:
            raise unsupported(node, "qubits and bits are declared outside of blocks")
        self._new(name, node)
        number = None if size is None else self._values.whole(size)
        if number is not None and not 1 <= number <= MOST_ELEMENTS:
            raise SourceError(line_of(node), f"register {name[:60]} has {number} elements")
        self._registers[name] = (quantum, number)
        return Register(quantum, name, 1 if number is None else number, line_of(node))

    def _typed(self, node: Any) -> Number:
        value = self._values.number(node.init_expression)
        if isinstance(node.type, ast.IntType | ast.UintType):
            return self._values.whole(node.init_expression)
        if isinstance(node.type, ast.FloatType | ast.AngleType):
            return float(value)
        raise unsupported(node, "constants are whole numbers, floats and angles")

    # ---- parts of registers

    def _operand(self, node: Any, *, quantum: bool) -> list[Argument]:
        """A whole register as it is, or single elements."""
        if (
            isinstance(node, ast.Identifier)
            and node.name in self._registers
            and self._registers[node.name][1] is not None
        ):
            found = [Argument(node.name, None, line_of(node))]
        else:
            found = self._elements(node)
        for argument in found:
            if self._registers[argument.name][0] != quantum:
                raise SourceError(line_of(node), f"{argument} is no {'qubit' if quantum else 'bit'}")
        return found

    def _elements(self, node: Any) -> list[Argument]:
        line = line_of(node)
        match node:
            case ast.Identifier():
                if node.name in self._aliases:
                    return [Argument(each.name, each.index, line) for each in self._aliases[node.name]]
                if node.name not in self._registers:
                    raise SourceError(line, f"unknown register {node.name[:60]}")
                size = self._registers[node.name][1]
                return [Argument(node.name, place, line) for place in range(1 if size is None else size)]
            case ast.IndexedIdentifier():
                found = self._elements(node.name)
                for index in node.indices:
                    found = self._indexed(found, index, node)
                return found
            case ast.IndexExpression():
                return self._indexed(self._elements(node.collection), node.index, node)
            case ast.Concatenation():
                return self._elements(node.lhs) + self._elements(node.rhs)
        raise unsupported(node, "only registers and parts of them stand here")

    def _indexed(self, found: list[Argument], index: Any, node: Any) -> list[Argument]:
        if isinstance(index, list):
            if len(index) != 1:
                raise unsupported(node, "registers have one dimension")
            (index,) = index
        size = len(found)
        if isinstance(index, ast.DiscreteSet | ast.RangeDefinition):
            places = self._values.range_of(index, size)
        else:
            places = (self._values.whole(index),)
        wrong = next((place for place in places if not -size <= place < size), None)
        if wrong is not None:
            raise SourceError(line_of(node), f"{found[0].name if found else 'a register'}[{wrong}] is out of range")
        return [found[place] for place in places]

    def _subject(self, node: Any) -> Argument | None:
        """What a condition looks at: a register of bits or one of its bits."""
        if isinstance(node, ast.Identifier) and node.name not in self._registers and node.name not in self._aliases:
            return None
        if not isinstance(node, ast.Identifier | ast.IndexExpression):
            return None
        found = self._operand(node, quantum=False)
        if len(found) != 1:
            raise unsupported(node, "a condition compares a bit or a whole register with a constant")
        (subject,) = found
        single = subject.index is None and self._registers[subject.name][1] == 1
        return Argument(subject.name, 0, subject.line) if single else subject

    # ---- operations

    def _each(self, node: Any, made: Any) -> Iterator[Statement]:
        for argument in self._operand(node, quantum=True):
            yield made(argument)

    def _measure(self, measure: Any, target: Any) -> Iterator[Statement]:
        sources, targets = self._operand(measure.qubit, quantum=True), self._operand(target, quantum=False)
        if len(sources) != len(targets) or sources[0].index is not targets[0].index is None:
            sources, targets = self._elements(measure.qubit), self._elements(target)
        if len(sources) != len(targets):
            raise SourceError(line_of(target), f"{len(sources)} qubits cannot be measured into {len(targets)} bits")
        for source, bit in zip(sources, targets, strict=True):
            yield Measure(source, bit, line_of(target))

    def _call(self, node: Any) -> Iterator[Call]:
        if node.duration is not None:
            raise unsupported(node, "a gate with a duration is not offered")
        self._check_known(node)
        parameters = tuple(self._values.expression(each, ()) for each in node.arguments)
        operands = [self._operand(each, quantum=True) for each in node.qubits]
        sizes = {len(operand) for operand in operands} - {1}
        if not sizes:
            yield from self._gates.calls(node, parameters, tuple(operand[0] for operand in operands))
            return
        operands = [self._elements(each) for each in node.qubits]
        sizes = {len(operand) for operand in operands} - {1}
        if len(sizes) != 1:
            raise SourceError(line_of(node), f"parts of registers differ in size: {sorted(sizes)}")
        for place in range(sizes.pop()):
            arguments = tuple(operand[place] if len(operand) > 1 else operand[0] for operand in operands)
            yield from self._gates.calls(node, parameters, arguments)

    def _check_known(self, node: Any) -> None:
        name = node.name.name
        if name == "U" or name in self._own or (self._standard and name in STANDARD):
            return
        hint = ' (include "stdgates.inc" is missing)' if name in STANDARD else ""
        raise SourceError(line_of(node), f"unknown gate {name[:60]}{hint}")

    def _definition(self, node: Any) -> Definition:
        if self._nested:
            raise SourceError(line_of(node), "gates are defined outside of blocks")
        name, line = node.name.name, line_of(node)
        parameters = tuple(each.name for each in node.arguments)
        qubits = tuple(each.name for each in node.qubits)
        body: list[Call | Barrier] = []
        for each in node.body:
            match each:
                case ast.QuantumGate():
                    self._check_known(each)
                    values = tuple(self._values.expression(value, parameters) for value in each.arguments)
                    arguments = tuple(self._formal(qubit, qubits, name) for qubit in each.qubits)
                    body += self._gates.calls(each, values, arguments)
                case ast.QuantumBarrier():
                    body.append(Barrier(tuple(self._formal(q, qubits, name) for q in each.qubits), line_of(each)))
                case ast.QuantumPhase() if not each.modifiers:
                    pass  # of the whole gate, which nothing controls
                case _:
                    raise unsupported(
                        each, f"the body of a gate holds gates and barriers, {_name_of(each)} is not offered"
                    )
        self._own.add(name)
        return Definition(name_of(name), parameters, qubits, tuple(body), line)

    def _formal(self, node: Any, qubits: Sequence[str], gate: str) -> Argument:
        if not isinstance(node, ast.Identifier) or node.name not in qubits:
            raise SourceError(line_of(node), f"this is no qubit of gate {gate[:60]}")
        return Argument(node.name, None, line_of(node))

    # ---- blocks

    def _scope(self, nodes: Iterable[Any]) -> Iterator[Statement]:
        known, aliases = dict(self._known), dict(self._aliases)
        self._nested += 1
        yield from self.statements(nodes)
        self._nested -= 1
        self._known.clear()
        self._known.update(known)
        self._aliases = aliases

    def _loop(self, node: Any) -> Iterator[Statement]:
        if not isinstance(node.type, ast.IntType | ast.UintType):
            raise unsupported(node, "a loop counts whole numbers")
        name = node.identifier.name
        before = dict(self._known)
        for value in self._values.range_of(node.set_declaration):
            self._count(node)
            self._known[name] = value
            yield from self._scope(node.block)
        self._known.clear()
        self._known.update(before)

    def _if(self, node: Any) -> Iterator[Statement]:
        line = line_of(node)
        yes, no = self._conditions.ways(node.condition)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise SourceError(line, f"more than {MAX_DEPTH} ifs stand inside one another")
        branches = [
            (ways, Block(tuple(self._scope(block)), line))
            for ways, block in ((yes, node.if_block), (no, node.else_block))
        ]
        self._depth -= 1
        # Each way reads its bits when it is reached: who writes into them comes last.
        parts = [(way, body) for ways, body in branches if body.statements for way in ways]
        read = {each.subject.name for way, _ in parts for each in way}
        parts.sort(key=lambda part: bool(_written(part[1]) & read))
        if any(_written(body) & read for _, body in parts[:-1]):
            raise unsupported(node, "an if whose branches measure into bits that it reads, in more than one way")
        for way, body in parts:
            yield from self._guarded(way, body, line)

    def _guarded(self, way: Way, body: Block, line: int) -> Iterator[Statement]:
        inner: Statement = body
        comparison: Comparison
        for comparison in reversed(way):
            inner = If(comparison.subject, comparison.comparison, comparison.value, inner, line)
        if way:
            yield inner
        else:
            yield from body.statements


def _written(statement: Any) -> set[str]:
    """Registers that a statement measures into."""
    match statement:
        case Block():
            return {name for each in statement.statements for name in _written(each)}
        case If():
            return _written(statement.body)
        case Measure():
            return {statement.target.name}
    return set()


def _name_of(node: Any) -> str:
    names = {
        "WhileLoop": "a while loop", "SubroutineDefinition": "def", "ExternDeclaration": "extern", "Box": "box",
        "DelayInstruction": "delay", "ClassicalDeclaration": "a classical variable", "ClassicalAssignment": "an assignment",
        "IODeclaration": "input or output", "SwitchStatement": "switch", "ExpressionStatement": "an expression alone",
        "EndStatement": "end", "BreakStatement": "break", "ContinueStatement": "continue", "ReturnStatement": "return",
    }  # fmt: skip
    return names.get(type(node).__name__, type(node).__name__)
