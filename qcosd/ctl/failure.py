# SPDX-License-Identifier: Apache-2.0
"""How a command ends badly: the exit codes, and the one exception that carries them.

Every way to fail ends in a `Failure`. `main.py` turns it into one line on stderr (and one JSON document on stdout
under `--json`) and into the exit code, so no command prints its own errors and no traceback reaches a user.
"""

from __future__ import annotations

from typing import Any

DONE = 0
FAILED = 1
USAGE = 2
NO_DAEMON = 3
TIMED_OUT = 4
INTERRUPTED = 130

# Errors of a job that the file and the options alone decide: another attempt with the same words ends the same way.
BAD_INPUT_NAMES = frozenset({"bad_input", "unsupported"})
TIMEOUT_NAMES = frozenset({"deadline", "no_reply"})


class Failure(Exception):
    """A command cannot do what was asked: exit `code`, say `message` in one line."""

    def __init__(
        self, code: int, message: str, *, name: str = "failed", document: dict[str, Any] | None = None, hint: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.name = name
        self.document = document
        self.hint = hint

    def as_json(self) -> dict[str, Any]:
        """The JSON document of this failure: the job's own document where a job ran, else only the error."""
        if self.document is not None:
            return self.document
        return {"error": {"name": self.name, "message": self.message, "exit": self.code}}


def bad_usage(message: str, *, name: str = "bad_input") -> Failure:
    """A failure that the file or the options alone decide (exit 2)."""
    return Failure(USAGE, message, name=name)


def exit_code_of(state: str, error: dict[str, Any] | None) -> int:
    """The exit code for a job that ended in `state` with `error` ({code, name, message, ..} or None)."""
    if state == "done":
        return DONE
    name = str(error.get("name", "")) if error else ""
    if name in BAD_INPUT_NAMES:
        return USAGE
    if name in TIMEOUT_NAMES:
        return TIMED_OUT
    return FAILED
