# SPDX-License-Identifier: Apache-2.0
"""Kinds of values that a message may carry, and their checks.

A check raises ``Violation`` with the path of the offending value. Fields that a table does not name are left alone:
a newer peer may send more than this version knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

UINT_MAX = 2**63 - 1
_HEX = frozenset("0123456789abcdef")
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class Violation(ValueError):
    """A value does not match its table. The message names the field."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A named kind of value. ``check(value, path)`` returns None or raises Violation; what ``accepts`` takes needs no check."""

    name: str
    check: Callable[[Any, str], None]
    accepts: Callable[[Any], bool] | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """One named value of a table: its kind, whether it must be there, and what it means."""

    name: str
    kind: Kind
    doc: str
    required: bool = True


def check_fields(fields: tuple[Field, ...], value: dict[str, Any], path: str) -> None:
    """Check the known fields of a map; unknown ones are ignored."""
    for field in fields:
        name = field.name
        if name not in value:
            if field.required:
                raise Violation(f"{path}.{name} is missing")
            continue
        kind, found = field.kind, value[name]
        accepts = kind.accepts
        if accepts is None or not accepts(found):  # nearly always all is well, and then nobody needs the path
            kind.check(found, f"{path}.{name}")


def _simple(name: str, accepts: Callable[[Any], bool]) -> Kind:
    def check(value: Any, path: str) -> None:
        if not accepts(value):
            raise Violation(f"{path} is not {name}")

    return Kind(name, check, accepts)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_instance(name: str, colon: str, number: str) -> bool:
    return name != "" and _NAME.issuperset(name) and (number.isascii() and number.isdigit() if colon else True)


UINT = _simple("uint", lambda v: type(v) is int and 0 <= v <= UINT_MAX)
INT = _simple("int", lambda v: type(v) is int)
NUMBER = _simple("number", _is_number)
SECONDS = _simple("seconds", lambda v: _is_number(v) and 0 <= v <= 1e9)
FRACTION = _simple("fraction", lambda v: _is_number(v) and 0 <= v <= 1)
FLAG = _simple("flag", lambda v: type(v) is bool)
TEXT = _simple("text", lambda v: type(v) is str and len(v) <= 65536)
NAME = _simple("name", lambda v: type(v) is str and 0 < len(v) <= 128 and _NAME.issuperset(v))
INSTANCE = _simple(
    "name or name:number", lambda v: type(v) is str and 0 < len(v) <= 128 and _is_instance(*v.partition(":"))
)
KEY = _simple("key", lambda v: type(v) is str and 0 < len(v) <= 128)
SHA256 = _simple("sha256", lambda v: type(v) is str and len(v) == 64 and _HEX.issuperset(v))
MAP = _simple("map", lambda v: type(v) is dict and set(map(type, v)) <= {str})


def list_of(kind: Kind) -> Kind:
    """A list whose elements are all of one kind."""

    def check(value: Any, path: str) -> None:
        if type(value) is not list:
            raise Violation(f"{path} is not a list")
        for i, element in enumerate(value):
            kind.check(element, f"{path}[{i}]")

    return Kind(f"list of {kind.name}", check)


def map_of(kind: Kind) -> Kind:
    """A map from text to values of one kind."""

    def check(value: Any, path: str) -> None:
        MAP.check(value, path)
        for key, element in value.items():
            kind.check(element, f"{path}[{key!r}]")

    return Kind(f"map of {kind.name}", check)


def maybe(kind: Kind) -> Kind:
    """The kind, or nil."""

    def check(value: Any, path: str) -> None:
        if value is not None:
            kind.check(value, path)

    return Kind(f"{kind.name} or nil", check)


def one_of(*words: str) -> Kind:
    """One of the given words."""
    return _simple("one of " + ", ".join(f"`{word}`" for word in words), lambda v: type(v) is str and v in words)


def table(name: str, *fields: Field) -> Kind:
    """A map with named fields."""

    def check(value: Any, path: str) -> None:
        MAP.check(value, path)
        check_fields(fields, value, path)

    return Kind(name, check)
