# SPDX-License-Identifier: Apache-2.0
"""Constants and parameters of OpenQASM 3: what is known when the program is compiled."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from openqasm3 import ast
from qcos_plugins.pytket_compile.expressions import Expression
from qcos_plugins.pytket_compile.failure import SourceError

Number = int | float
CONSTANTS: Final = {
    **dict.fromkeys(("pi", "π"), math.pi),
    **dict.fromkeys(("tau", "τ"), 2 * math.pi),
    **dict.fromkeys(("euler", "ℇ"), math.e),
}
MOST: Final = 1 << 62
"""Largest whole number."""
# OpenQASM 3's name -> OpenQASM 2's, which parameters are kept in.
_FUNCTIONS: Final = {"sin": "sin", "cos": "cos", "tan": "tan", "exp": "exp", "log": "ln", "sqrt": "sqrt"}
_OPERATORS: Final = {"+": "+", "-": "-", "*": "*", "/": "/", "**": "^"}
_WHOLE: Final[dict[str, Callable[[int, int], int]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    # Whole numbers divide as in C.
    "/": lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1),
    "%": lambda a, b: abs(a) % abs(b) * (1 if a >= 0 else -1),
}


def line_of(node: Any) -> int:
    """The line on which something begins."""
    return node.span.start_line if node.span else 1


def unsupported(node: Any, text: str) -> SourceError:
    """What is OpenQASM 3 and not offered."""
    return SourceError(line_of(node), text, "unsupported")


class Values:
    """``known``: constants and variables of loops."""

    def __init__(self, known: Mapping[str, Number]) -> None:
        self._known = known

    def number(self, node: Any) -> Number:
        """The value of a constant expression.  Raises SourceError."""
        match node:
            case ast.IntegerLiteral() | ast.FloatLiteral():
                return self._finite(node, node.value)
            case ast.Identifier():
                if node.name in self._known:
                    return self._known[node.name]
                if node.name in CONSTANTS:
                    return CONSTANTS[node.name]
                raise SourceError(line_of(node), f"{node.name[:60]} is no constant")
            case ast.UnaryExpression() if node.op.name == "-":
                return -self.number(node.expression)
            case ast.BinaryExpression():
                first, second = self.number(node.lhs), self.number(node.rhs)
                if isinstance(first, int) and isinstance(second, int) and node.op.name in _WHOLE:
                    if node.op.name in "/%" and second == 0:
                        raise SourceError(line_of(node), "a constant divides by zero")
                    return self._finite(node, _WHOLE[node.op.name](first, second))
        value = self.expression(node, ()).value({}, line_of(node))
        whole = isinstance(node, ast.BinaryExpression) and isinstance(first, int) and isinstance(second, int)
        # A power of whole numbers is one, as long as the exponent is not negative.
        return int(value) if whole and second >= 0 and abs(value) < 2**53 else value

    def whole(self, node: Any) -> int:
        """The value of a constant expression that is a whole number."""
        value = self.number(node)
        if not isinstance(value, int):
            raise SourceError(line_of(node), f"a whole number is expected, {value:g} is found")
        return value

    def expression(self, node: Any, parameters: Collection[str]) -> Expression:
        """A parameter of a gate, which may depend on those of the gate that it stands in."""
        return Expression(tuple(self._items(node, parameters)))

    def range_of(self, node: Any, size: int | None = None) -> range | tuple[int, ...]:
        """The numbers of `a:b`, `a:step:b` (ends included) or `{a, b}`; with `size` those of a register, from behind where negative."""
        if isinstance(node, ast.DiscreteSet):
            return tuple(self.whole(value) for value in node.values)
        if not isinstance(node, ast.RangeDefinition):
            raise unsupported(node, "a loop runs over a range [a:b] or a set {a, b} of constants")
        step = 1 if node.step is None else self.whole(node.step)
        if step == 0:
            raise SourceError(line_of(node), "a range with step 0")
        if size is None and (node.start is None or node.end is None):
            raise SourceError(line_of(node), "a range without an end")
        bounds = [None if bound is None else self.whole(bound) for bound in (node.start, node.end)]
        if size is not None:
            forward = ((0, size - 1), (size - 1, 0))[step < 0]
            bounds = [
                default if bound is None else bound + size * (bound < 0)
                for bound, default in zip(bounds, forward, strict=True)
            ]
        start, end = bounds
        assert start is not None and end is not None
        return range(start, end + (1 if step > 0 else -1), step)

    def _items(self, node: Any, parameters: Collection[str]) -> Iterator[float | tuple[str, str]]:
        match node:
            case ast.Identifier() if node.name in parameters:
                yield ("name", node.name)
            case ast.UnaryExpression() if node.op.name == "-":
                yield from self._items(node.expression, parameters)
                yield ("apply", "negate")
            case ast.FunctionCall() if node.name.name in _FUNCTIONS and len(node.arguments) == 1:
                yield from self._items(node.arguments[0], parameters)
                yield ("apply", _FUNCTIONS[node.name.name])
            case ast.BinaryExpression() if node.op.name in _OPERATORS and (
                node.op.name == "**" or _reads(node, parameters) or not self._is_whole(node)
            ):
                yield from self._items(node.lhs, parameters)
                yield from self._items(node.rhs, parameters)
                yield ("apply", _OPERATORS[node.op.name])
            case ast.Identifier() | ast.IntegerLiteral() | ast.FloatLiteral():
                yield float(self.number(node))
            case ast.BinaryExpression() if node.op.name in _WHOLE and self._is_whole(node):
                yield float(self.number(node))
            case _:
                raise unsupported(
                    node, "a number of this kind is not offered: + - * / **, and sin cos tan exp log sqrt"
                )

    def _is_whole(self, node: Any) -> bool:
        """Whether a constant expression is made of whole numbers alone."""
        match node:
            case ast.IntegerLiteral():
                return True
            case ast.Identifier():
                return isinstance(self._known.get(node.name), int)
            case ast.UnaryExpression():
                return self._is_whole(node.expression)
            case ast.BinaryExpression():
                return self._is_whole(node.lhs) and self._is_whole(node.rhs)
        return False

    def _finite(self, node: Any, value: Number) -> Number:
        if (isinstance(value, int) and abs(value) > MOST) or not math.isfinite(value):
            raise SourceError(line_of(node), "a number is too large")
        return value


def _reads(node: Any, parameters: Collection[str]) -> bool:
    match node:
        case ast.Identifier():
            return node.name in parameters
        case ast.UnaryExpression():
            return _reads(node.expression, parameters)
        case ast.BinaryExpression():
            return _reads(node.lhs, parameters) or _reads(node.rhs, parameters)
        case ast.FunctionCall():
            return any(_reads(argument, parameters) for argument in node.arguments)
    return False
