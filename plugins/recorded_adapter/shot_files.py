# SPDX-License-Identifier: Apache-2.0
"""Files of shots in stim's formats b8 and 01, checked to the last byte."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.uint8]
"""0/1 values of shape (shots, bits)."""


class FileFault(ValueError):
    """A file of the directory is not what it must be.  The message names it, and says what is expected and what it is."""


def found(files: Mapping[str, bytes], stem: str) -> str | None:
    """The name of the file of this stem, in whichever format it is; b8 first."""
    return next((name for name in (f"{stem}.b8", f"{stem}.01") if name in files), None)


def rows(files: Mapping[str, bytes], name: str, bits: int, what: str, shots: int | None = None) -> Rows:
    """The shots in a file.  ``bits``: of a shot, which are ``what`` ("measurements"); ``shots``: how many there must be.

    Raises FileFault.
    """
    data = files[name]
    read = _b8(data, name, bits, what) if name.endswith(".b8") else _text(data, name, bits, what)
    if shots is not None and len(read) != shots:
        size = shots * (-(-bits // 8) if name.endswith(".b8") else bits + 1)
        raise FileFault(
            f"{name} has {len(data)} bytes ({len(read)} shots); {shots} shots of {bits} {what} are {size} bytes"
        )
    return read


def _b8(data: bytes, name: str, bits: int, what: str) -> Rows:
    size = -(-bits // 8)
    if not data or len(data) % size:
        whole = -(-max(len(data), 1) // size) * size
        raise FileFault(
            f"{name} has {len(data)} bytes; shots of {bits} {what} are {size} bytes each, so {whole} or another multiple of "
            f"{size} are expected"
        )
    packed = np.frombuffer(data, np.uint8).reshape(-1, size)
    if bits % 8 and (bad := np.flatnonzero(packed[:, -1] >> (bits % 8))).size:
        raise FileFault(
            f"{name}: shot {bad[0]} has bits set beyond its {bits} {what}: it belongs to another circuit, or is damaged"
        )
    return np.unpackbits(packed, axis=1, count=bits, bitorder="little")


def _text(data: bytes, name: str, bits: int, what: str) -> Rows:
    lines = data.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
    for number, line in enumerate(lines, 1):
        if len(line) != bits:
            raise FileFault(f"{name}:{number}: {len(line)} characters; {bits} {what} are expected in each line")
    values = np.frombuffer(b"".join(lines), np.uint8).reshape(len(lines), bits) - ord("0")
    if (bad := np.flatnonzero((values > 1).any(axis=1))).size:
        raise FileFault(f"{name}:{bad[0] + 1}: only 0 and 1 are expected")
    return values
