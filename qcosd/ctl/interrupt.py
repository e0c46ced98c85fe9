# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, SIGTERM and SIGHUP on a command that has something to clean up.

The first signal raises `Interrupted` in the main thread, so that the command can cancel its job. The second one exits
at once, after `last_resort`, whatever the first one is still waiting for.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from qcosd.ctl.failure import Failure

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """The user, or the system, asked the command to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.document: dict[str, Any] | None = None  # the public one of the job that was cancelled for it

    @property
    def failure(self) -> Failure:
        """How the command ends."""
        return Failure(128 + self.signum, "interrupted", name="interrupted", document=self.document)


class Interrupts:
    """Catches the signals inside its `with` block, and gives them back to whoever had them before at its end."""

    def __init__(self) -> None:
        self.last_resort: Callable[[], None] = lambda: None
        self._first: int | None = None
        self._deferred = False
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Interrupts:
        for signum in SIGNALS:
            before = signal.getsignal(signum)
            if before != signal.SIG_IGN:  # nohup, or a shell's background job: leave ignored what was ignored
                self._before[signum] = before
                signal.signal(signum, self._caught)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, before in self._before.items():
            signal.signal(signum, before)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, the first signal is only noted; it is raised at the end. For steps that must not be half done."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self._first is not None:
            raise Interrupted(self._first)

    def _caught(self, signum: int, frame: FrameType | None) -> None:
        if self._first is not None:
            self.last_resort()
            os._exit(128 + signum)
        self._first = signum
        if not self._deferred:
            raise Interrupted(signum)
