# SPDX-License-Identifier: Apache-2.0
"""Where words go: results on stdout, everything said along the way on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any


def write(text: str) -> None:
    """A result for a person, on stdout."""
    sys.stdout.write(text + "\n")


def write_json(document: Any, *, lines: bool = False) -> None:
    """A result for a program, on stdout: one JSON document; with `lines`, one of a stream of them, on a line of its own."""
    json.dump(document, sys.stdout, indent=None if lines else 2, ensure_ascii=False, allow_nan=False, default=_encode)
    sys.stdout.write("\n")
    if lines:
        sys.stdout.flush()


def note(text: str) -> None:
    """One remark on the way, on stderr."""
    sys.stderr.write(f"qcosctl: {text}\n")
    sys.stderr.flush()


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as aligned text under the names of the columns. None is shown as `-`."""
    cells = [list(columns), *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def clock(wall: Any) -> str:
    """A time stamp (seconds since 1970) as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall)) if isinstance(wall, int | float) else "-"


def duration(seconds: float) -> str:
    """A time span in its two largest units, such as `3 h 12 min`."""
    whole = int(seconds)
    parts = [(whole // 86_400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((i for i, (n, _) in enumerate(parts) if n), len(parts) - 1)
    return " ".join(f"{n} {unit}" for n, unit in parts[first : first + 2])


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _encode(value: Any) -> Any:
    """What msgpack can carry and JSON cannot: bytes become hex."""
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")
