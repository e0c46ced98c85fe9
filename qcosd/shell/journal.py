# SPDX-License-Identifier: Apache-2.0
"""The journal: for now an order of positions without a file behind it. What it keeps on disk is the boot number.

An append is durable at once, as far as the kernel can tell. The place of the real one is here: records go to a thread of its
own, and `durable(position)` is called when they are safe.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from qcosd.core.records import Record


class JournalError(Exception):
    """The journal cannot be read or written."""


class Journal:
    """`durable(position)` is called, in order, when every record up to there is safe."""

    def __init__(self, durable: Callable[[int], None]) -> None:
        self._durable = durable
        self.position = 0

    def append(self, records: Sequence[Record], position: int) -> None:
        """Append the records of which the kernel numbered the last one `position`. Positions increase."""
        if position <= self.position:
            raise JournalError(f"position {position} of a {records[-1].type.name} record comes after {self.position}")
        self.position = position
        self._durable(position)


def next_boot(state: Path) -> int:
    """The number of this life of the kernel: one more than the last one's, and on disk before it is used."""
    path = state / "boot"
    try:
        boot = int(path.read_text(encoding="ascii")) + 1
    except FileNotFoundError:
        boot = 1
    except (OSError, ValueError) as error:
        raise JournalError(f"{path}: {error}") from error
    aside = path.with_suffix(".new")
    with open(aside, "w", encoding="ascii") as file:
        file.write(f"{boot}\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return boot
