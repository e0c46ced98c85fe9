# SPDX-License-Identifier: Apache-2.0
"""Bits packed along the shots: uint8, the last axis holds ceil(shots/8) bytes, bit ``i % 8`` of byte ``i // 8`` is shot ``i``.

Padding bits are zero everywhere except where a docstring says otherwise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint8]


def width(shots: int) -> int:
    """Bytes that hold one bit of each shot."""
    return (shots + 7) // 8


def pack(values: Bits) -> Bits:
    """0/1 values, shots on the last axis, packed."""
    return np.packbits(values, axis=-1, bitorder="little")


def unpack(rows: Bits, shots: int) -> Bits:
    """The 0/1 values of packed rows, shots on the last axis."""
    return np.unpackbits(rows, axis=-1, count=shots, bitorder="little")


def mask(shots: int) -> Bits:
    """Ones for real shots, zeros for the padding."""
    return pack(np.ones(shots, np.uint8))


def select(rows: Bits, shots: int, chosen: npt.NDArray[np.intp]) -> Bits:
    """Some of the shots, in the order given, packed and padded again."""
    return pack(unpack(rows, shots)[..., chosen])


def members(chosen: npt.NDArray[np.intp], shots: int) -> bytes:
    """Numbers of shots, increasing, as packed bits of all ``shots``."""
    flags = np.zeros(shots, np.uint8)
    flags[chosen] = 1
    return pack(flags).tobytes()


def numbers(data: bytes, shots: int) -> npt.NDArray[np.intp]:
    """What `members` was made of."""
    return np.flatnonzero(unpack(np.frombuffer(data, np.uint8), shots))


def read_rows(data: bytes, shots: int) -> Bits:
    """Packed rows, (n, ceil(shots/8)), out of their bytes; may be changed."""
    return np.frombuffer(data, np.uint8).reshape(-1, width(shots)).copy()


def transpose(rows: Bits, shots: int) -> Bits:
    """(n, ceil(shots/8)) packed along shots to (shots, ceil(n/8)) packed along the rows, and back."""
    return pack(np.ascontiguousarray(unpack(rows, shots).T))


def totals(rows: Bits, shots: int) -> npt.NDArray[np.integer]:
    """How many bits of each shot are set, (shots,)."""
    kind = np.uint8 if len(rows) < 256 else np.uint32
    return np.add.reduce(unpack(rows, shots), axis=0, dtype=kind)


def ones(rows: Bits) -> int:
    """How many bits are set."""
    return int.from_bytes(rows.tobytes(), "little").bit_count()
