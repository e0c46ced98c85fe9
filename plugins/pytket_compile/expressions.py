# SPDX-License-Identifier: Apache-2.0
"""Parameter expressions, kept in postfix order so that neither reading nor evaluating them recurses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from qcos_plugins.pytket_compile.failure import SourceError
from qcos_plugins.pytket_compile.tokens import Token, TokenStream

FUNCTIONS: Final[dict[str, Callable[[float], float]]] = {
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "exp": math.exp,
    "ln": math.log,
    "sqrt": math.sqrt,
}
# math.pow and not **: always a float, never a complex number, never a bomb of digits.
_BINARY: Final[dict[str, Callable[[float, float], float]]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "^": math.pow,
}
_NEGATE: Final = "negate"
# A sign binds less than a power: -2^2 is -4.
_BINDING: Final = {"+": 1, "-": 1, "*": 2, "/": 2, _NEGATE: 3, "^": 4}


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """A real number that may depend on parameters.

    `items` are in postfix order: a float, or ("name", parameter), or ("apply", function or operator).
    """

    items: tuple[float | tuple[str, str], ...]

    def names(self) -> list[str]:
        """The parameters it reads, in order, repeated as they are."""
        return [item[1] for item in self.items if isinstance(item, tuple) and item[0] == "name"]

    def value(self, bindings: Mapping[str, float], line: int) -> float:
        """Its value in radians or whatever it stands for. Raises SourceError at `line` when that is no finite number."""
        stack: list[float] = []
        try:
            for item in self.items:
                if isinstance(item, float):
                    stack.append(item)
                elif item[0] == "name":
                    stack.append(bindings[item[1]])
                elif item[1] == _NEGATE:
                    stack.append(-stack.pop())
                elif item[1] in FUNCTIONS:
                    stack.append(FUNCTIONS[item[1]](stack.pop()))
                else:
                    right = stack.pop()
                    stack.append(_BINARY[item[1]](stack.pop(), right))
        except ZeroDivisionError:
            raise SourceError(line, "a parameter divides by zero") from None
        except (OverflowError, ValueError):
            raise SourceError(line, "a parameter has no finite real value") from None
        if not math.isfinite(stack[0]):
            raise SourceError(line, "a parameter has no finite real value")
        return stack[0]


def parse_expression(tokens: TokenStream) -> Expression:
    """Reads one expression (operator precedence, Dijkstra's shunting yard) and stops before what does not belong to it."""
    items: list[float | tuple[str, str]] = []
    waiting: list[str] = []  # operators, functions and "(" that wait for their operands
    opened = 0  # how many of them are "("
    while True:
        opened += _read_operand(tokens, items, waiting)
        while opened and tokens.skip(")"):
            opened -= 1
            while (operator := waiting.pop()) != "(":
                items.append(("apply", operator))
            if waiting and waiting[-1] in FUNCTIONS:
                items.append(("apply", waiting.pop()))
        if not tokens.at(*_BINARY):
            break
        operator = tokens.take().text
        while waiting and _BINDING.get(waiting[-1], 0) >= _BINDING[operator] + (operator == "^"):
            items.append(("apply", waiting.pop()))
        waiting.append(operator)
    while waiting:
        if (operator := waiting.pop()) == "(":
            raise SourceError(tokens.line, f"')' is expected, {tokens.peek()} is found")
        items.append(("apply", operator))
    return Expression(tuple(items))


def _read_operand(tokens: TokenStream, items: list[float | tuple[str, str]], waiting: list[str]) -> int:
    """Reads signs, opening parentheses and function names up to and including one number or parameter.

    Returns how many parentheses were opened.
    """
    opened = 0
    while True:
        token = tokens.peek()
        if token.kind in ("int", "real"):
            items.append(_number(tokens.take()))
            return opened
        if token.kind == "id" and token.text not in FUNCTIONS:
            tokens.take()
            items.append(math.pi if token.text == "pi" else ("name", token.text))
            return opened
        if tokens.skip("("):
            waiting.append("(")
            opened += 1
        elif tokens.skip("-"):
            waiting.append(_NEGATE)
        elif token.kind == "id":
            waiting.append(tokens.take().text)
            tokens.expect("(")
            waiting.append("(")
            opened += 1
        elif not tokens.skip("+"):
            raise SourceError(token.line, f"a number is expected, {token} is found")


def _number(token: Token) -> float:
    value = float(token.text)
    if not math.isfinite(value):
        raise SourceError(token.line, f"{token} is too large a number")
    return value
