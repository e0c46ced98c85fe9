# SPDX-License-Identifier: Apache-2.0
"""The progress bar of a running job: one line on stderr, redrawn in place, only when a person is looking.

Nothing is drawn unless stderr is a terminal, so logs and pipes stay clean; there, only a job that is held says why.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TextIO

BAR_CELLS = 24


class Progress:
    """Use as a context manager; `show` redraws, leaving the block erases the line."""

    def __init__(self, job: str, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._job = job
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet
        self._held: object = None
        self._active = not quiet and self._stream.isatty()
        self._drawn = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw("")

    def show(self, job: Mapping[str, Any]) -> None:
        """Draw where `job` stands, as the events of its topic tell it. Other jobs (topics are prefixes) are passed over."""
        if job.get("job") != self._job:
            return
        if self._active:
            self._draw(line_of(job, shutil.get_terminal_size().columns - 1))
        elif not self._quiet and job.get("state") == "held" and job.get("cause") != self._held:
            self._held = job.get("cause")
            self._stream.write(f"qcosctl: job {self._job} is held: {self._held}\n")
            self._stream.flush()

    def _draw(self, line: str) -> None:
        if not self._active or line == self._drawn:
            return
        self._drawn = line
        self._stream.write("\r\x1b[K" + line)  # to the first column, erase to the end of the line
        self._stream.flush()


def line_of(job: Mapping[str, Any], width: int) -> str:
    """The progress line for `job`, at most `width` characters: state, bar, batches, and what is being done."""
    batches = job.get("batches")
    done, total = (
        (int(batches.get("done", 0)), int(batches.get("total", 0))) if isinstance(batches, Mapping) else (0, 0)
    )
    parts = [f"{job.get('state', '')!s:<8}"]
    if total:
        fraction = min(1.0, max(0.0, (done + _under_way(job)) / total))
        filled = int(fraction * BAR_CELLS)
        parts.append(f"[{'#' * filled}{'.' * (BAR_CELLS - filled)}] {fraction:>4.0%} batch {done}/{total}")
    text = job.get("cause") or job.get("stage") or ""
    if text:
        parts.append(str(text).replace("\n", " "))
    return " ".join(parts)[: max(width, 0)]


def _under_way(job: Mapping[str, Any]) -> float:
    """The part of the present batch that is done, as its operation reported it, below one whole batch."""
    fraction = job.get("fraction")
    return min(float(fraction), 0.999) if isinstance(fraction, int | float) else 0.0
