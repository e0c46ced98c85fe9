# SPDX-License-Identifier: Apache-2.0
"""Calls of gates in OpenQASM 3: names of its library, and the modifiers inv, pow, ctrl and negctrl of gates that it knows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from qcos_plugins.pytket_compile.expressions import Expression
from qcos_plugins.pytket_compile.qasm3_values import line_of, unsupported
from qcos_plugins.pytket_compile.syntax import Argument, Call

STANDARD: Final = frozenset(
    [
        "p",
        "x",
        "y",
        "z",
        "h",
        "s",
        "sdg",
        "t",
        "tdg",
        "sx",
        "rx",
        "ry",
        "rz",
        "cx",
        "cy",
        "cz",
        "cp",
        "crx",
        "cry",
        "crz",
        "ch",
        "swap",
        "ccx",
        "cswap",
        "cu",
        "CX",
        "phase",
        "cphase",
        "id",
        "u1",
        "u2",
        "u3",
    ]
)
"""What `include "stdgates.inc"` brings."""
_RENAMED: Final = {"phase": "p", "cphase": "cp"}
_TAKEN: Final = frozenset(("cu1", "cu3", "u0"))
"""Gates of qelib1.inc that are not in stdgates.inc, so that a program may define its own."""
MOST_POWER: Final = 1_000

_OWN_INVERSE: Final = frozenset(
    ["x", "y", "z", "h", "cx", "CX", "cy", "cz", "ch", "swap", "ccx", "cswap", "id", "c3x", "c4x"]
)
_PAIRS: Final = {"s": "sdg", "sdg": "s", "t": "tdg", "tdg": "t", "sx": "sxdg", "sxdg": "sx"}
_TURNS: Final = frozenset(["p", "u1", "rx", "ry", "rz", "cp", "cu1", "crx", "cry", "crz", "rxx", "rzz"])
_CONTROLLED: Final = {
    **{
        "x": "cx",
        "CX": "ccx",
        "cx": "ccx",
        "ccx": "c3x",
        "c3x": "c4x",
        "y": "cy",
        "z": "cz",
        "h": "ch",
        "swap": "cswap",
    },
    **{"p": "cp", "u1": "cp", "rx": "crx", "ry": "cry", "rz": "crz"},
}
_PHASES: Final = {"s": 0.5, "sdg": -0.5, "t": 0.25, "tdg": -0.25}  # in half turns
_PI: Final = 3.141592653589793


def negated(expression: Expression) -> Expression:
    """Minus an expression."""
    return Expression((*expression.items, ("apply", "negate")))


def name_of(name: str) -> str:
    """A gate of a program's own as it is called from here on: no name of the language has an apostrophe."""
    return f"{name}'" if name in _TAKEN else name


class Gates:
    """``own``: gates that the program defines.  ``whole``: the value of a constant."""

    def __init__(self, own: Collection[str], whole: Callable[[Any], int]) -> None:
        self._own = own
        self._whole = whole

    def calls(self, node: Any, parameters: tuple[Expression, ...], arguments: tuple[Argument, ...]) -> list[Call]:
        """What a call with its modifiers comes to.  Raises SourceError."""
        line = line_of(node)
        name = node.name.name
        name = name_of(name) if name in self._own else _RENAMED.get(name, name)
        return self._modified(node, list(node.modifiers), Call(name, parameters, arguments, line))

    def _modified(self, node: Any, modifiers: Sequence[Any], call: Call) -> list[Call]:
        if not modifiers:
            return [call]
        first, *rest = modifiers
        kind = first.modifier.name
        if kind in ("ctrl", "negctrl"):
            count = 1 if first.argument is None else self._whole(first.argument)
            if not 1 <= count <= 8:
                raise unsupported(node, f"a gate with {count} controls is not offered")
            controls, call = call.arguments[:count], Call(call.name, call.parameters, call.arguments[count:], call.line)
            if len(controls) < count:
                raise unsupported(node, "a gate with fewer qubits than controls")
            calls = self._modified(node, rest, call)
            for control in reversed(controls):
                calls = [self._controlled(node, each, control) for each in calls]
            flips = [Call("x", (), (control,), call.line) for control in controls] if kind == "negctrl" else []
            return [*flips, *calls, *flips]
        calls = self._modified(node, rest, call)
        if kind == "inv":
            return [self._inverse(node, each) for each in reversed(calls)]
        power = self._whole(first.argument)
        if abs(power) > MOST_POWER:
            raise unsupported(node, f"a power above {MOST_POWER}")
        if power < 0:
            calls = [self._inverse(node, each) for each in reversed(calls)]
        return calls * abs(power)

    def _inverse(self, node: Any, call: Call) -> Call:
        name, parameters = call.name, call.parameters
        if call.name not in self._own:
            if name in _OWN_INVERSE:
                return call
            if name in _PAIRS:
                return Call(_PAIRS[name], (), call.arguments, call.line)
            if name in _TURNS:
                return Call(name, (negated(parameters[0]),), call.arguments, call.line)
            if name in ("U", "u3", "cu"):
                theta, phi, lam, *gamma = map(negated, parameters)
                return Call(name, (theta, lam, phi, *gamma), call.arguments, call.line)
        raise unsupported(node, f"the inverse of {name} is not offered: write it out")

    def _controlled(self, node: Any, call: Call, control: Argument) -> Call:
        arguments = (control, *call.arguments)
        if call.name not in self._own:
            if call.name in _PHASES:
                return Call("cp", (Expression((_PHASES[call.name] * _PI,)),), arguments, call.line)
            if call.name in _CONTROLLED and _CONTROLLED[call.name] not in self._own:
                return Call(_CONTROLLED[call.name], call.parameters, arguments, call.line)
        raise unsupported(node, f"a control of {call.name} is not offered: write it out")
