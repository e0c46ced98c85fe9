# SPDX-License-Identifier: Apache-2.0
"""The algorithm of the example.  It takes bytes and gives bytes, so it can be tested without any bus."""

from __future__ import annotations


class NotAName(ValueError):
    """The input names nobody.  ``line``: where, from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def greet(names: bytes, word: str = "Hello") -> bytes:
    """One greeting, UTF-8, for one name in each line.  Raises NotAName for a line without one."""
    try:
        lines = names.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise NotAName(names[: error.start].count(b"\n") + 1, "not UTF-8 text") from error
    if not lines:
        raise NotAName(1, "the file is empty")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise NotAName(number, "a name is missing")
    return "".join(f"{word}, {line.strip()}!\n" for line in lines).encode()
