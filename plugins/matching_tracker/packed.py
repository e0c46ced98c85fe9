# SPDX-License-Identifier: Apache-2.0
"""Bits packed along the shots: uint8, the last axis holds ceil(shots/8) bytes, bit ``i % 8`` of byte ``i // 8`` is shot ``i``.

Padding bits are zero everywhere except where a docstring says otherwise.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint8]

BLOCKWISE = 4096  # bytes from which on `transpose` is faster by blocks
_SWAPS = [
    (np.uint64(shift), np.uint64(bits))
    for shift, bits in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0))
]


def width(shots: int) -> int:
    """Bytes that hold one bit of each shot."""
    return (shots + 7) // 8


def pack(values: Bits) -> Bits:
    """0/1 values, shots on the last axis, packed."""
    return np.packbits(values, axis=-1, bitorder="little")


def unpack(rows: Bits, shots: int) -> Bits:
    """The 0/1 values of packed rows, shots on the last axis."""
    return np.unpackbits(rows, axis=-1, count=shots, bitorder="little")


@lru_cache(64)
def mask(shots: int) -> Bits:
    """Ones for real shots, zeros for the padding; shared, not to be changed."""
    found = pack(np.ones(shots, np.uint8))
    found.flags.writeable = False
    return found


def select(rows: Bits, shots: int, chosen: npt.NDArray[np.intp]) -> Bits:
    """Some of the shots, in the order given, packed and padded again."""
    if shots == len(chosen) == 1:  # there is nothing to choose, and somebody waits for the decision
        return rows.copy()
    return pack(unpack(rows, shots)[..., chosen])


def members(chosen: npt.NDArray[np.intp], shots: int) -> bytes:
    """Numbers of shots, increasing, as packed bits of all ``shots``."""
    if len(chosen) == shots:
        return mask(shots).tobytes()
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
    """(n, ceil(shots/8)) packed along shots to (shots, ceil(n/8)) packed along the rows, and back.  Padding is zero in both."""
    if shots == 1:
        return pack(rows.reshape(1, -1))
    if len(rows) == 1:
        return unpack(rows[0], shots).reshape(-1, 1)
    if rows.size < BLOCKWISE:
        return pack(np.ascontiguousarray(unpack(rows, shots).T))
    # Blocks of 8 x 8 bits, each a word: byte i is row i of the block, then column i.  Words are few, single bits are many.
    groups = width(len(rows))
    blocks = np.zeros((rows.shape[1], groups, 8), np.uint8)
    blocks.reshape(rows.shape[1], -1)[:, : len(rows)] = rows.T
    words = blocks.view("<u8")
    for shift, bits in _SWAPS:
        moved = (words ^ (words >> shift)) & bits
        words ^= moved ^ (moved << shift)
    return np.ascontiguousarray(blocks.transpose(0, 2, 1)).reshape(-1, groups)[:shots]


def totals(rows: Bits, shots: int) -> npt.NDArray[np.int64]:
    """How many bits of each shot are set, (shots,)."""
    if shots == 1:
        return np.array([ones(rows)])
    found = np.zeros(shots, np.int64)
    for begin in range(0, len(rows), 255):  # as many as a byte can count: wider sums are several times slower
        found += np.add.reduce(unpack(rows[begin : begin + 255], shots), axis=0, dtype=np.uint8)
    return found


def ones(rows: Bits) -> int:
    """How many bits are set."""
    return int.from_bytes(rows.tobytes(), "little").bit_count()
