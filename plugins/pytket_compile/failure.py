# SPDX-License-Identifier: Apache-2.0
"""What a program may be refused for."""

from __future__ import annotations


class SourceError(Exception):
    """The program is refused. `line` counts from 1; `text` is one sentence without file and line.

    `code` is `bad_input` (not OpenQASM 2.0, or a wrong program) or `unsupported` (legal, but not offered).
    """

    def __init__(self, line: int, text: str, code: str = "bad_input") -> None:
        super().__init__(f"{line}: {text}")
        self.line = line
        self.text = text
        self.code = code
