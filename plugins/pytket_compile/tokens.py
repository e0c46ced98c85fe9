# SPDX-License-Identifier: Apache-2.0
"""OpenQASM 2.0 text as tokens with lines. Tokens are made one by one, so that an error is found where reading stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from qcos_plugins.pytket_compile.failure import SourceError

MAX_SOURCE: Final = 8 * 1024 * 1024
"""Bytes of source: a program of this size holds more operations than are accepted anyway."""
MAX_DIGITS: Final = 300
"""Longest number: 2**997 has 300 digits, and Python refuses to convert more than 4300."""
MAX_NAME: Final = 200

_TOKEN: Final = re.compile(
    r"""
      (?P<space>   [ \t\r\f\v]+ | //[^\n]* )
    | (?P<newline> \n )
    | (?P<real>    (?: [0-9]+\.[0-9]* | \.[0-9]+ ) (?: [eE][+-]?[0-9]+ )? | [0-9]+[eE][+-]?[0-9]+ )
    | (?P<int>     [0-9]+ )
    | (?P<id>      [A-Za-z_][A-Za-z0-9_]* )
    | (?P<string>  "[^"\n]*" | '[^'\n]*' )
    | (?P<symbol>  -> | == | != | <= | >= | [-+*/^()\[\]{};,<>] )
    """,
    re.VERBOSE,
)


class Token(NamedTuple):
    """`kind` is id, int, real, string, symbol or end. `text` is as written, a string without its quotes."""

    kind: str
    text: str
    line: int

    def __str__(self) -> str:
        if self.kind == "end":
            return "the end of the file"
        return f'"{self.text}"' if self.kind == "string" else f"'{self.text[:40]}'"


def decoded(data: bytes) -> str:
    """The text of a source file. Raises SourceError for what is no text, with the line of the first wrong byte."""
    if len(data) > MAX_SOURCE:
        raise SourceError(1, f"the file has {len(data)} bytes, more than {MAX_SOURCE}")
    if not data.strip():
        raise SourceError(1, "the file is empty")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SourceError(line, f"byte {data[error.start]:#04x} is not text: this is no OpenQASM program") from None
    return text


def tokens_of(text: str) -> Iterator[Token]:
    """The tokens of a text; the last one is of kind `end`, again and again."""
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise SourceError(line, _wrong_character(text, position))
        position = match.end()
        kind, word = match.lastgroup or "", match.group()
        if kind == "newline":
            line += 1
        elif kind == "string":
            yield Token(kind, word[1:-1], line)
        elif kind != "space":
            if kind in ("int", "real") and len(word) > MAX_DIGITS:
                raise SourceError(line, f"a number of {len(word)} digits is too long")
            if kind == "id" and len(word) > MAX_NAME:
                raise SourceError(line, f"a name of {len(word)} characters is too long")
            yield Token(kind, word, line)
    while True:
        yield Token("end", "", line)


def _wrong_character(text: str, position: int) -> str:
    character = text[position]
    if character in "\"'":
        return "a string does not end on its line"
    if character == "=":
        return "'=' has no meaning here (a comparison is '==')"
    if not character.isprintable():
        return f"character {ord(character):#04x} is not text: this is no OpenQASM program"
    return f"character {character!r} has no meaning in OpenQASM 2.0"


class TokenStream:
    """Tokens with a look at the next one."""

    def __init__(self, text: str) -> None:
        self._tokens = tokens_of(text)
        self._next = next(self._tokens)

    @property
    def line(self) -> int:
        """The line of the next token."""
        return self._next.line

    def peek(self) -> Token:
        return self._next

    def take(self) -> Token:
        token = self._next
        self._next = next(self._tokens)
        return token

    def at(self, *texts: str) -> bool:
        """Whether the next token is one of these words or symbols."""
        return self._next.kind in ("id", "symbol") and self._next.text in texts

    def skip(self, text: str) -> bool:
        """Takes the next token if it is this one."""
        if self.at(text):
            self.take()
            return True
        return False

    def expect(self, text: str) -> Token:
        """Takes this word or symbol, or raises SourceError."""
        if not self.at(text):
            raise SourceError(self._next.line, f"'{text}' is expected, {self._next} is found")
        return self.take()

    def expect_kind(self, kind: str, meaning: str) -> Token:
        """Takes a token of a kind, or raises SourceError saying that `meaning` is expected."""
        if self._next.kind != kind:
            raise SourceError(self._next.line, f"{meaning} is expected, {self._next} is found")
        return self.take()
