# SPDX-License-Identifier: Apache-2.0
"""Conditions of OpenQASM 3 as comparisons of registers and bits: ways in which they come true, of which one at most does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from openqasm3 import ast
from qcos_plugins.pytket_compile.failure import SourceError
from qcos_plugins.pytket_compile.qasm3_values import line_of, unsupported
from qcos_plugins.pytket_compile.syntax import Argument

MOST_WAYS: Final = 64
_OPPOSITE: Final = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_MIRRORED: Final = {"==": "==", "!=": "!=", "<": ">", ">": "<", "<=": ">=", ">=": "<="}


class Comparison(NamedTuple):
    """A register, or one bit of it, and a number that is not negative."""

    subject: Argument
    comparison: str
    value: int

    def opposite(self) -> Comparison:
        if self.subject.index is not None and self.comparison == "==" and self.value in (0, 1):
            return self._replace(
                value=1 - self.value
            )  # of a bit: an equality is what an if of Paulis costs nothing for
        return self._replace(comparison=_OPPOSITE[self.comparison])


Way = tuple[Comparison, ...]
"""Comparisons that all hold."""


class Conditions:
    """``subject``: the bits of an expression, or None if it is none; ``whole``: the value of a constant."""

    def __init__(self, subject: Callable[[Any], Argument | None], whole: Callable[[Any], int]) -> None:
        self._subject = subject
        self._whole = whole

    def ways(self, node: Any) -> tuple[list[Way], list[Way]]:
        """In which ways it holds, and in which it does not.  Raises SourceError."""
        match node:
            case ast.BooleanLiteral():
                return ([()], []) if node.value else ([], [()])
            case ast.UnaryExpression() if node.op.name == "!":
                yes, no = self.ways(node.expression)
                return no, yes
            case ast.BinaryExpression() if node.op.name in ("&&", "||"):
                first, second = self.ways(node.lhs), self.ways(node.rhs)
                # What decides without the second comes alone, the other before each way of the second.
                on = 0 if node.op.name == "&&" else 1
                both = [left + right for left in first[on] for right in second[on]]
                rest = first[1 - on] + [left + right for left in first[on] for right in second[1 - on]]
                if len(both) + len(rest) > MOST_WAYS:
                    raise unsupported(node, f"a condition with more than {MOST_WAYS} ways to hold or not")
                return (both, rest) if on == 0 else (rest, both)
            case ast.BinaryExpression() if node.op.name in _OPPOSITE:
                found = self._comparison(node)
            case _:
                subject = self._subject(node)
                if subject is None:
                    raise unsupported(node, "a condition compares a bit or a register with a constant")
                found = Comparison(subject, "!=", 0) if subject.index is None else Comparison(subject, "==", 1)
        return [(found,)], [(found.opposite(),)]

    def _comparison(self, node: Any) -> Comparison:
        subject, other, comparison = self._subject(node.lhs), node.rhs, node.op.name
        if subject is None:
            subject, other, comparison = self._subject(node.rhs), node.lhs, _MIRRORED[node.op.name]
        if subject is None or self._subject(other) is not None:
            raise unsupported(node, "a condition compares a bit or a register with a constant")
        value = self._constant(other)
        if value < 0:
            raise SourceError(line_of(node), "bits are compared with a negative number")
        return Comparison(subject, comparison, value)

    def _constant(self, node: Any) -> int:
        if isinstance(node, ast.BooleanLiteral | ast.BitstringLiteral):
            return int(node.value)
        return self._whole(node)
