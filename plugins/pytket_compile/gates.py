# SPDX-License-Identifier: Apache-2.0
"""Gates by name, and what a gate is in the gates of a logical program (its *steps*).

A gate becomes what its definition holds, one by one; angles that are multiples of pi/4 are exact. One with T gates in it may
still be Clifford as a whole (`gate root q { t q; t q; }`): then its unitary is written anew. Other angles are refused.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple, TypeVar

from qcos_plugins.pytket_compile import qelib1, rotations, unitary
from qcos_plugins.pytket_compile.expressions import Expression
from qcos_plugins.pytket_compile.failure import SourceError
from qcos_plugins.pytket_compile.grammar import definitions_of
from qcos_plugins.pytket_compile.syntax import Barrier, Definition

from qcosd.qec import clifford
from qcosd.qec.program import GATES

T = TypeVar("T", bound=Hashable)

MAX_STEPS: Final = 200_000
"""Operations that one gate, and the whole program, may come to."""
MAX_WORK: Final = 2_000_000
"""Calls and terms of expressions looked at while gates are expanded: about two seconds."""
MAX_DEPTH: Final = 200
"""Gates within gates."""
MAX_PRIMITIVES: Final = 4_096
"""Calls within a gate whose unitary is multiplied out."""
MAX_BLOCKS: Final = 1_000_000
"""Longest idle."""
MAX_ANGLE: Final = 1e6
"""Radians. Beyond that, neighbouring floating-point numbers are too far apart to tell a multiple of pi/4."""
MAX_DIFFERENCE: Final = 1e-7
"""Largest entry of the difference between a gate and its steps: some rounded angles add up."""
_ROUNDING: Final = 1e-12


class Step(NamedTuple):
    """A gate of the logical program, or "idle" or "barrier", on qubits counted within the gate at hand."""

    kind: str
    qubits: tuple[int, ...]
    blocks: int = 0


class OtherAngle(Exception):
    """An angle is no multiple of pi/4. `gate` is the innermost gate that has it, `line` where it is called, 0 if built in."""

    def __init__(self, gate: str, line: int) -> None:
        super().__init__(gate)
        self.gate = gate
        self.line = line


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """`body` is None for opaque gates and for the built-in U, CX, id and u0. `line` is 0 for what no program defines."""

    name: str
    parameters: tuple[str, ...]
    qubits: tuple[str, ...]
    body: tuple[BodyCall, ...] | None = None
    line: int = 0
    opaque: bool = False
    replaceable: bool = False


class BodyCall(NamedTuple):
    """A call in a body; a barrier has no gate."""

    gate: Gate | None
    parameters: tuple[Expression, ...]
    qubits: tuple[int, ...]
    line: int


U: Final = Gate("U", ("theta", "phi", "lambda"), ("q",))
CX: Final = Gate("CX", (), ("c", "t"))
ID: Final = Gate("id", (), ("q",))
U0: Final = Gate("u0", ("gamma",), ("q",), replaceable=True)


class Library:
    """The gates that are known at one point of a program."""

    def __init__(self) -> None:
        self._gates: dict[str, Gate] = {"U": U, "CX": CX}

    def include(self, line: int) -> None:
        """Adds the gates of qelib1.inc; what the program defined before and a later edition adds stays the program's."""
        for gate in _qelib1():
            known = self._gates.get(gate.name)
            if known is not None and known is not gate:
                if not gate.replaceable:
                    raise SourceError(
                        line, f"qelib1.inc defines gate {gate.name}, which is defined at line {known.line}"
                    )
                continue
            self._gates[gate.name] = gate

    def define(self, definition: Definition) -> None:
        """Adds a gate of the program after checking its name and body. Raises SourceError."""
        known = self._gates.get(definition.name)
        if known is not None and not known.replaceable:
            since = f"since line {known.line}" if known.line else "of qelib1.inc"
            raise SourceError(definition.line, f"{definition.name} is already a gate, {since}")
        self._gates[definition.name] = self.checked(definition, definition.line)

    def checked(self, definition: Definition, line: int, *, replaceable: bool = False) -> Gate:
        """The gate that a definition describes. Raises SourceError."""
        repeated = first_repeated((*definition.parameters, *definition.qubits))
        if repeated is not None:
            raise SourceError(definition.line, f"gate {definition.name} names {repeated} twice")
        if definition.body is None:
            return Gate(definition.name, definition.parameters, definition.qubits, None, line, opaque=True)
        places = {name: place for place, name in enumerate(definition.qubits)}
        body = []
        for call in definition.body:
            repeated = first_repeated([argument.name for argument in call.arguments])
            if repeated is not None:
                raise SourceError(call.line, f"qubit {repeated} stands twice")
            qubits = []
            for argument in call.arguments:
                if argument.index is not None:
                    raise SourceError(argument.line, f"a qubit of a gate has no index: {argument}")
                if argument.name not in places:
                    raise SourceError(argument.line, f"{argument} is no qubit of gate {definition.name}")
                qubits.append(places[argument.name])
            if isinstance(call, Barrier):
                body.append(BodyCall(None, (), tuple(qubits), call.line))
                continue
            gate = self.called(call.name, len(call.parameters), len(qubits), call.line)
            for expression in call.parameters:
                for name in expression.names():
                    if name not in definition.parameters:
                        raise SourceError(call.line, f"{name} is no parameter of gate {definition.name}")
            body.append(BodyCall(gate, call.parameters, tuple(qubits), call.line))
        return Gate(
            definition.name, definition.parameters, definition.qubits, tuple(body), line, replaceable=replaceable
        )

    def called(self, name: str, parameters: int, qubits: int, line: int) -> Gate:
        """The gate of a call with so many parameters and qubits. Raises SourceError when there is none."""
        gate = self._gates.get(name)
        if gate is None:
            hint = ' (include "qelib1.inc" is missing)' if any(name == g.name for g in _qelib1()) else ""
            raise SourceError(line, f"unknown gate {name}{hint}")
        if parameters != len(gate.parameters):
            raise SourceError(line, f"gate {name} takes {_count(len(gate.parameters), 'parameter')}, not {parameters}")
        if qubits != len(gate.qubits):
            raise SourceError(line, f"gate {name} takes {_count(len(gate.qubits), 'qubit')}, not {qubits}")
        return gate


@cache
def _qelib1() -> tuple[Gate, ...]:
    library = Library()
    gates = [ID, U0]
    for text in (qelib1.PAPER, qelib1.LATER, qelib1.HIDDEN, qelib1.CONTROLLED):
        for definition in definitions_of(text):
            gate = library.checked(definition, 0, replaceable=text is not qelib1.PAPER)
            library._gates[gate.name] = gate
            if text is not qelib1.HIDDEN:
                gates.append(gate)
    return tuple(gates)


class Expander:
    """Turns calls into steps. One for each program: it counts its work and remembers what it has found.

    `turn`: approximates Rz of an angle that is no multiple of pi/4; without one such angles are refused.
    """

    def __init__(self, turn: rotations.Turn | None = None) -> None:
        self._turn = turn
        self._approximated: dict[tuple[Gate, tuple[float, ...]], int] = {}
        self._known: dict[tuple[Gate, tuple[float, ...]], tuple[Step, ...] | OtherAngle] = {}
        self._work = 0
        self.rounded: set[int] = set()
        """Lines where an angle was not a multiple of pi/4 to the last digits, and was taken as one."""

    def steps(self, gate: Gate, values: tuple[float, ...], line: int) -> tuple[Step, ...]:
        """The steps of a call at `line` of the program. Raises OtherAngle and SourceError."""
        return self._steps(gate, values, line, 0)

    def approximated(self, gate: Gate, values: tuple[float, ...]) -> int:
        """How many rotations of a call whose steps are known are approximated."""
        return self._approximated.get((gate, values), 0)

    def _steps(self, gate: Gate, values: tuple[float, ...], line: int, depth: int) -> tuple[Step, ...]:
        if gate is CX:
            return (Step("cx", (0, 1)),)
        found = self._known.get((gate, values))
        if found is None:
            if depth > MAX_DEPTH:
                raise SourceError(line, f"gates are nested deeper than {MAX_DEPTH}")
            found = self._found(gate, values, line, depth)
            self._known[gate, values] = found
        if isinstance(found, OtherAngle):
            # A fresh one: raising the same one again and again would grow its traceback.
            raise OtherAngle(found.gate, found.line)
        return found

    def _found(self, gate: Gate, values: tuple[float, ...], line: int, depth: int) -> tuple[Step, ...] | OtherAngle:
        if gate.opaque:
            raise SourceError(line, f"gate {gate.name} is opaque: nothing says what it does", "unsupported")
        if gate is ID or gate is U0:
            return (Step("idle", (0,), _blocks(values, line)),)
        if gate is U:
            if max(map(abs, values)) > MAX_ANGLE:
                raise SourceError(line, f"an angle of {max(values, key=abs):.3g} is too large to be exact")
            turned = self._rotation(values, line)
            if turned is None:
                return OtherAngle(written(gate, values), 0)
            steps, self._approximated[gate, values] = turned
            return steps
        written_out: list[Step] = []
        approximated = 0
        try:
            for call, inner in self._calls(gate, values, line):
                if call.gate is None:
                    written_out.append(Step("barrier", call.qubits))
                else:
                    for step in self._steps(call.gate, inner, line, depth + 1):
                        written_out.append(step._replace(qubits=tuple(call.qubits[qubit] for qubit in step.qubits)))
                    approximated += self.approximated(call.gate, inner)
                if len(written_out) > MAX_STEPS:
                    raise SourceError(line, f"gate {gate.name} comes to more than {MAX_STEPS} operations")
        except OtherAngle as error:
            whole = self._whole(gate, values, line)
            if whole is not None:
                return tuple(Step(*each) for each in whole)
            # A gate that only renames U, and everything in qelib1, is called by its own name.
            inner_line = error.line or call.line
            return OtherAngle(written(gate, values), 0) if gate.line == 0 else OtherAngle(error.gate, inner_line)
        if any(step.kind in ("t", "tdg") for step in written_out):
            whole = self._whole(gate, values, line)
            if whole is not None:
                return tuple(Step(*each) for each in whole)
        self._approximated[gate, values] = approximated
        if depth == 0 and not approximated:
            self._verify(gate, values, written_out, line)
        return tuple(written_out)

    def _rotation(self, values: tuple[float, ...], line: int) -> tuple[tuple[Step, ...], int] | None:
        """The built-in U, and how many of its angles are approximated; None if one would have to be, and nobody does that."""
        matrix = clifford.rotation(*values)
        names, off, approximated = clifford.gates_of(matrix), clifford.deviation(matrix), 0
        if names is None:
            off = 0.0

            def turn(angle: float) -> Sequence[str]:
                nonlocal off, approximated
                if rotations.is_multiple(angle):
                    off = max(off, rotations.off_by(angle))
                    return rotations.exact_turn(angle)
                if self._turn is None:
                    raise LookupError
                approximated += 1
                return self._turn(angle)

            try:
                names = rotations.gates_of(*values, turn)
            except LookupError:
                return None
        if off > _ROUNDING:
            self.rounded.add(line)
        return tuple(Step(name, (0,)) for name in names), approximated

    def _verify(self, gate: Gate, values: tuple[float, ...], steps: list[Step], line: int) -> None:
        """Multiplies a gate of the program and its steps out and compares: rounded angles add up. Raises SourceError."""
        primitives = self._primitives(gate, values, line)
        if primitives is None or any(step.kind not in GATES for step in steps):
            return
        found = unitary.of_gates([(step.kind, step.qubits) for step in steps], len(gate.qubits))
        off = unitary.difference(unitary.of_primitives(primitives, len(gate.qubits)), found)
        if off > MAX_DIFFERENCE:
            raise SourceError(
                line, f"the angles of gate {gate.name} add up to {off:.1g} away from a gate of multiples of pi/4"
            )

    def _calls(self, gate: Gate, values: tuple[float, ...], line: int) -> Iterator[tuple[BodyCall, tuple[float, ...]]]:
        """The calls of a gate's body with the values of their parameters; work is counted."""
        bindings = dict(zip(gate.parameters, values, strict=True))
        for call in gate.body or ():
            self._work += 1 + len(call.qubits) + sum(len(expression.items) for expression in call.parameters)
            if self._work > MAX_WORK:
                raise SourceError(line, f"gate {gate.name} is too large when it is written out")
            yield call, tuple(expression.value(bindings, line) for expression in call.parameters)

    def _whole(self, gate: Gate, values: tuple[float, ...], line: int) -> list[unitary.Gate] | None:
        """The gate's unitary in Clifford gates; None if it is not one, too large, or holds an idle or a barrier."""
        primitives = self._primitives(gate, values, line)
        if primitives is None:
            return None
        return unitary.clifford_gates(unitary.of_primitives(primitives, len(gate.qubits)))

    def _primitives(self, gate: Gate, values: tuple[float, ...], line: int) -> list[unitary.Primitive] | None:
        """The gate in U and CX; None if it is too large, or holds an idle or a barrier."""
        primitives: list[unitary.Primitive] = []
        qubits = tuple(range(len(gate.qubits)))
        if len(qubits) > unitary.MAX_QUBITS or not self._flatten(gate, values, qubits, line, primitives, [0]):
            return None
        return primitives

    def _flatten(
        self,
        gate: Gate,
        values: tuple[float, ...],
        qubits: tuple[int, ...],
        line: int,
        out: list[unitary.Primitive],
        calls: list[int],
    ) -> bool:
        """Writes a gate out in U and CX; False when it holds something else or too much."""
        calls[0] += 1
        if calls[0] > MAX_PRIMITIVES or (gate.body is None and gate is not U and gate is not CX):
            return False
        if gate.body is None:
            out.append((values, qubits))
            return True
        for call, inner in self._calls(gate, values, line):
            if call.gate is None:
                return False
            if not self._flatten(call.gate, inner, tuple(qubits[q] for q in call.qubits), line, out, calls):
                return False
        return True


def written(gate: Gate, values: tuple[float, ...]) -> str:
    """A call as people write it: angles as fractions of pi where they are."""
    if not values:
        return gate.name
    return f"{gate.name}({','.join(_angle(value) for value in values)})"


def _angle(value: float) -> str:
    for denominator in (1, 2, 3, 4, 6, 8, 16, 32):
        numerator = value / math.pi * denominator
        if 0.5 < abs(numerator) < 100 and abs(numerator - round(numerator)) < 1e-9:
            sign, size = ("-" if numerator < 0 else ""), abs(round(numerator))
            return f"{sign}{'' if size == 1 else f'{size}*'}pi{'' if denominator == 1 else f'/{denominator}'}"
    return f"{value:.6g}"


def _blocks(values: tuple[float, ...], line: int) -> int:
    """Length of an idle: one block for id, the parameter of u0."""
    length = values[0] if values else 1.0
    if length != int(length) or not 1 <= length <= MAX_BLOCKS:
        raise SourceError(line, f"u0 idles for a whole number of blocks from 1 to {MAX_BLOCKS}, not {length:g}")
    return int(length)


def first_repeated(names: Sequence[T]) -> T | None:
    """The first that stands there a second time."""
    seen: set[T] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
