# SPDX-License-Identifier: Apache-2.0
"""Raw records of a batch that are kept for somebody who asks for them at its end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgpack
import numpy as np
from qcos_plugins.matching_tracker.packed import Bits

Rows = tuple[Bits, Bits | None]
"""Records of a block, and those of them that are missing."""


class Keeping:
    """``width``: of the packed shots that are kept, the first ones of each path; None: of all."""

    def __init__(self, width: int | None) -> None:
        self._width = width
        self._blocks: dict[str, list[Rows]] = {}  # by path
        self._unsaved: list[tuple[str, Bits, Bits | None]] = []  # those of them that no checkpoint has

    def keep(self, path: str, bits: Bits, missing: Bits | None) -> None:
        missing = None if missing is None else missing[:, : self._width]
        bits = bits[:, : self._width]
        self._blocks.setdefault(path, []).append((bits, missing))
        self._unsaved.append((path, bits, missing))

    def take(self) -> dict[str, Rows]:
        """The records of each path, which are kept no longer; what is missing is None where nothing is."""
        found: dict[str, Rows] = {}
        for path, blocks in self._blocks.items():
            missing = None
            if any(rows is not None for _, rows in blocks):
                missing = np.concatenate([np.zeros_like(bits) if rows is None else rows for bits, rows in blocks])
            found[path] = (np.concatenate([bits for bits, _ in blocks]), missing)
        self._blocks.clear()
        return found

    def piece(self) -> list[bytes]:
        """What was kept since the last call, as opaque bytes; nothing for nothing."""
        unsaved, self._unsaved = self._unsaved, []
        return [msgpack.packb([[path, *map(_saved, rows)] for path, *rows in unsaved])] if unsaved else []

    def restore(self, pieces: Iterable[bytes]) -> None:
        """What a predecessor has kept: all pieces that it gave.  Raises as msgpack for what is none."""
        for path, bits, missing in (row for piece in pieces for row in msgpack.unpackb(piece)):
            self._blocks.setdefault(path, []).append((_read(bits), None if missing is None else _read(missing)))


def _saved(rows: Bits | None) -> list[Any] | None:
    return None if rows is None else [rows.shape[1], rows.tobytes()]


def _read(saved: list[Any]) -> Bits:
    size, data = saved
    return np.frombuffer(data, np.uint8).reshape(-1, size)
