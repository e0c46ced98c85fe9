# SPDX-License-Identifier: Apache-2.0
"""Programs as they are compared: gates as what they do, not as what they are called; everything else in its place.

A *fence* is a step that is no gate.  Gates are written twice, as a tableau and as a matrix, by two ways that share
nothing: the tables below are textbook matrices, and the tableaus are stim's own gates of these names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import stim

from qcosd.qec.program import Condition, Op

_R = 2**-0.5
MATRICES: Final = {
    "h": np.array([[_R, _R], [_R, -_R]], complex),
    "s": np.diag([1, 1j]),
    "sdg": np.diag([1, -1j]),
    "t": np.diag([1, _R + 1j * _R]),
    "tdg": np.diag([1, _R - 1j * _R]),
    "x": np.array([[0, 1], [1, 0]], complex),
    "y": np.array([[0, -1j], [1j, 0]]),
    "z": np.diag([1, -1]).astype(complex),
    "cx": np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], complex),
}
"""On (first, second), the first qubit being the more significant one."""
_STIM: Final = {"h": "H", "s": "S", "sdg": "S_DAG", "x": "X", "y": "Y", "z": "Z", "cx": "CX"}


@dataclass(frozen=True, slots=True)
class Guard:
    """``low <= value of bits <= high``, or the opposite.  ``bits``: flat, least significant first."""

    bits: tuple[int, ...]
    low: int
    high: int
    opposite: bool = False

    @classmethod
    def of(cls, condition: Condition) -> Guard:
        bits, value = condition.bits, condition.value
        most = (1 << len(bits)) - 1
        low, high, opposite = {
            "==": (value, value, False),
            "!=": (value, value, True),
            "<": (0, value - 1, False),
            "<=": (0, value, False),
            ">": (value + 1, most, False),
            ">=": (value, most, False),
        }[condition.comparison]
        return cls(bits, low, high, opposite)

    def holds(self, values: Sequence[int]) -> bool:
        """``values``: of all bits of the program."""
        number = sum(values[bit] << place for place, bit in enumerate(self.bits))
        return (self.low <= number <= self.high) != self.opposite

    def wish(self, holds: bool) -> dict[int, int] | None:
        """Values of its bits with which it holds, or does not; None if there are none."""
        most = (1 << len(self.bits)) - 1
        inside = holds != self.opposite
        candidates = (self.low, self.high) if inside else (self.low - 1, self.high + 1)
        for number in candidates:
            if 0 <= number <= most and (self.low <= number <= self.high) == inside:
                return {bit: number >> place & 1 for place, bit in enumerate(self.bits)}
        return None


@dataclass(frozen=True, slots=True)
class Step:
    """``kind``: "gate", "measure", "reset", "idle", "barrier", "if", or "let" (a bit becomes what a guard says).

    ``tableau``, ``matrix``: of a gate, the former None if it is no Clifford gate; the first of its qubits is the more significant one of the matrix.
    """

    kind: str
    qubits: tuple[int, ...]
    line: int = 0
    tableau: stim.Tableau | None = None
    matrix: np.ndarray | None = None
    bit: int = -1
    blocks: int = 0
    guard: Guard | None = None
    body: tuple[Step, ...] = ()
    name: str = ""

    @property
    def fence(self) -> bool:
        return self.kind != "gate"

    def text(self) -> str:
        """For people."""
        where = f" of line {self.line}" if self.line else ""
        into = f" into bit {self.bit}" if self.bit >= 0 else ""
        blocks = f" for {self.blocks} blocks" if self.blocks else ""
        return f"{self.name or self.kind}{where} on qubits {list(self.qubits)}{into}{blocks}"

    def key(self) -> tuple[object, ...]:
        """What an equal fence has in common with it."""
        qubits: object = frozenset(self.qubits)
        return (self.kind, qubits, self.bit, self.blocks, self.guard)


@lru_cache(maxsize=64)
def _tableau(kind: str) -> stim.Tableau | None:
    return stim.Tableau.from_named_gate(_STIM[kind]) if kind in _STIM else None


def steps_of(ops: Iterable[Op]) -> tuple[Step, ...]:
    """The steps of a logical program.  A gate that is not known raises KeyError."""
    out = []
    for op in ops:
        if op.kind in ("measure", "reset", "idle", "barrier"):
            out.append(Step(op.kind, op.qubits, op.line, bit=op.bit, blocks=op.blocks))
        elif op.kind == "if":
            assert op.condition is not None
            guard = Guard.of(op.condition)
            out.append(Step("if", op.qubits, op.line, guard=guard, body=steps_of(op.body)))
        else:
            out.append(Step("gate", op.qubits, op.line, _tableau(op.kind), MATRICES[op.kind], name=op.kind))
    return tuple(out)


def gate_of(matrix: np.ndarray, qubits: tuple[int, ...], name: str) -> Step:
    """A gate given as a unitary matrix."""
    return Step("gate", qubits, 0, _clifford(matrix), matrix, name=name)


def _clifford(matrix: np.ndarray) -> stim.Tableau | None:
    """The tableau of a unitary, None if it is no Clifford gate."""
    try:
        tableau = stim.Tableau.from_unitary_matrix(matrix, endian="big")
    except ValueError:
        return None
    # stim looks at single-precision numbers with a wide tolerance.
    overlap = abs(np.vdot(tableau.to_unitary_matrix(endian="big"), matrix)) / len(matrix)
    return tableau if overlap > 1 - 1e-6 else None


def walk(steps: Iterable[Step]) -> Iterator[Step]:
    """All steps, those of bodies after their `if`."""
    for step in steps:
        yield step
        yield from walk(step.body)


def unrolled(steps: Iterable[Step], bits: int, outcome: Callable[[int, int, Step], int]) -> list[Step]:
    """The steps that are done when measurements come out as given, in order, without any `if`.

    ``bits``: number of classical bits.  ``outcome(bit, n, step)``: what the n-th measurement into a bit gives.
    """
    values = [0] * bits
    written = [0] * bits
    out: list[Step] = []

    def do(some: Iterable[Step]) -> None:
        for step in some:
            if step.kind == "if":
                assert step.guard is not None
                if step.guard.holds(values):
                    do(step.body)
            elif step.kind == "let":
                assert step.guard is not None
                values[step.bit] = int(step.guard.holds(values))
            else:
                out.append(step)
                if step.kind == "measure":
                    values[step.bit] = outcome(step.bit, written[step.bit], step)
                    written[step.bit] += 1

    do(steps)
    return out
