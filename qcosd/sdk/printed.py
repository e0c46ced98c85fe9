# SPDX-License-Identifier: Apache-2.0
"""What a plugin prints goes to a file on a disk that may be full.  A line that is lost is no reason to lose work."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from typing import TextIO

LOG = logging.getLogger("qcosd.sdk")
FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"


class _Best(io.FileIO):
    """A file that takes what the disk has room for, and says that it has taken all."""

    def write(self, data: object) -> int:
        size = memoryview(data).nbytes  # type: ignore[arg-type]
        with contextlib.suppress(OSError):
            super().write(data)  # type: ignore[arg-type]
        return size


def print_at_best() -> None:
    """Let ``print`` and tracebacks never fail from now on, nor wait in a buffer for the end of the process.

    What is logged says when, in the local time that the daemon's own log has.
    """
    sys.stdout, sys.stderr = _opened(sys.stdout, 1), _opened(sys.stderr, 2)
    logging.basicConfig(stream=sys.stderr, format=FORMAT, datefmt="%Y-%m-%dT%H:%M:%S")
    LOG.setLevel(logging.INFO)


def _opened(before: TextIO, descriptor: int) -> TextIO:
    with contextlib.suppress(OSError, ValueError):
        before.flush()
    raw = _Best(descriptor, "wb", closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)
