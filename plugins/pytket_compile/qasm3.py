# SPDX-License-Identifier: Apache-2.0
"""OpenQASM 3 to the statements of the compiler: what the reference parser reads, as far as a logical program can say it.

Constants are worked out, loops written out, parts of registers taken one by one, and ifs brought into the form in which one comparison
guards a block.  Whatever is decided while a program runs, but for an if on measured bits, is refused with its line.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from qcos_plugins.pytket_compile.failure import SourceError

PACKAGES: Final = ("openqasm3", "antlr4")
MOST_BYTES: Final = 500_000
"""Of a source: the parser takes .1 ms a byte."""
_VERSION: Final = re.compile(r"\A(?:\s|//[^\n]*|/\*.*?\*/)*OPENQASM\s+3(?:\.\d+)?\s*;", re.DOTALL)


def is_edition_3(text: str) -> bool:
    """Whether a text says that it is OpenQASM 3."""
    return _VERSION.match(text) is not None


def statements_of(text: str) -> Iterator[Any]:
    """The statements of a program in order.  Raises SourceError at the first wrong one, and where the parser is not installed."""
    if any(importlib.util.find_spec(package) is None for package in PACKAGES):
        text = "OpenQASM 3 takes the package openqasm3, which is not installed: pip install 'qcosd[qasm3]'"
        raise SourceError(1, text, "unsupported")
    if len(text) > MOST_BYTES:
        raise SourceError(1, f"the file has {len(text)} characters, more than {MOST_BYTES} of OpenQASM 3")
    # Only here: it is an extra, and slow to load.
    from qcos_plugins.pytket_compile.qasm3_reader import Reader

    try:
        yield from Reader().statements(_parsed(text))
    except RecursionError:
        raise SourceError(1, "the program is nested too deeply") from None


def _parsed(text: str) -> Sequence[Any]:
    from openqasm3.parser import QASM3ParsingError, parse

    try:
        return parse(text).statements
    except QASM3ParsingError as error:
        line, what = _where(error)
        raise SourceError(line, what) from None


def _where(error: Exception) -> tuple[int, str]:
    """Line and text: the parser says them in one of three places."""
    said = re.match(r"L(\d+):C\d+: (.*)", str(error), re.DOTALL)
    if said:
        return int(said[1]), f"this is no OpenQASM 3: {said[2].splitlines()[0][:100]}"
    cause: Any = error.__cause__
    while cause is not None and getattr(cause, "offendingToken", None) is None:
        cause = cause.args[0] if cause.args and isinstance(cause.args[0], Exception) else None
    if cause is None:
        return 1, f"this is no OpenQASM 3: {str(error)[:100] or 'the parser does not say why'}"
    word = cause.offendingToken.text
    return (
        cause.offendingToken.line,
        f"{'the end of the file' if word == '<EOF>' else repr(word[:40])} cannot stand here",
    )
