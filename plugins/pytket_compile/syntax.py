# SPDX-License-Identifier: Apache-2.0
"""The statements of a program as they are written. Names are not looked up yet."""

from __future__ import annotations

from dataclasses import dataclass

from qcos_plugins.pytket_compile.expressions import Expression


@dataclass(frozen=True, slots=True)
class Argument:
    """A register, or with `index` one element of it."""

    name: str
    index: int | None
    line: int

    def __str__(self) -> str:
        return self.name if self.index is None else f"{self.name}[{self.index}]"


@dataclass(frozen=True, slots=True)
class Include:
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Register:
    """`quantum` tells a qreg from a creg."""

    quantum: bool
    name: str
    size: int
    line: int


@dataclass(frozen=True, slots=True)
class Call:
    """A gate on arguments; in a gate's body these are bare names."""

    name: str
    parameters: tuple[Expression, ...]
    arguments: tuple[Argument, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Barrier:
    arguments: tuple[Argument, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Measure:
    source: Argument
    target: Argument
    line: int


@dataclass(frozen=True, slots=True)
class Reset:
    argument: Argument
    line: int


@dataclass(frozen=True, slots=True)
class Definition:
    """A gate and its body; `body` is None for an opaque gate."""

    name: str
    parameters: tuple[str, ...]
    qubits: tuple[str, ...]
    body: tuple[Call | Barrier, ...] | None
    line: int


@dataclass(frozen=True, slots=True)
class If:
    """`subject comparison value` guards one operation, which may be an if again, or a block of OpenQASM 3."""

    subject: Argument
    comparison: str
    value: int
    body: Call | Measure | Reset | If | Block
    line: int


@dataclass(frozen=True, slots=True)
class Block:
    """What an if guards as one: it reads its condition once."""

    statements: tuple[Statement, ...]
    line: int


Statement = Include | Register | Call | Barrier | Measure | Reset | Definition | If | Block
