# SPDX-License-Identifier: Apache-2.0
"""From the payload of a block to records, and to those that have no value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from qcos_plugins.matching_tracker.fault import StreamFault
from qcos_plugins.matching_tracker.packed import Bits, mask, pack, width

from qcosd.qec.stream import PAYLOADS, Block


def records(block: Block, frames: Sequence[npt.NDArray[Any]]) -> tuple[Bits, Bits | None]:
    """The records of a block, and where they are missing: both uint8 (sum(block.m), ceil(block.shots/8)).

    A missing record is one that was not measured, whose qubit was erased, or that comes with no information.  Its bit is
    0 here, whatever came.  The second is None if nothing is missing.  Raises StreamFault for a frame that does not fit.
    """
    shape = (sum(block.m), width(block.shots))
    if block.status == "lost":
        found = np.zeros(shape, np.uint8)
        return found, found | mask(block.shots) if len(found) else None
    if len(frames) != len(block.payload):
        raise StreamFault(
            f"{len(frames)} payload frames came, {len(block.payload)} are announced", path=block.path, slot=block.round
        )
    by_name = dict(zip(block.payload, frames, strict=True))
    for name, frame in by_name.items():
        _check(block, name, frame, shape)
    bits = by_name["bits"]
    missing: Bits | None = None
    for name in block.payload[1:]:
        match name:
            case "valid":
                without = ~by_name[name] & mask(block.shots)
            case "erasure":
                without = by_name[name]
            case _:
                without = pack(by_name[name] == 0)
        missing = without if missing is None else missing | without
    if missing is None or not missing.any():
        return bits, None
    return bits & ~missing, missing


_KINDS = {name: np.dtype(np.int8 if name == "llr" else np.uint8) for name in PAYLOADS}


def _check(block: Block, name: str, frame: npt.NDArray[Any], shape: tuple[int, int]) -> None:
    def refuse(what: str, expected: object, came: object) -> NoReturn:
        message = f"path {block.path!r}, slot {block.round}: {what} of {name} {came!r} came, {expected!r} is due"
        raise StreamFault(message, path=block.path, slot=block.round, what=what, expected=expected, came=came)

    kind = _KINDS[name]
    if frame.dtype != kind:
        refuse("type", str(kind), str(frame.dtype))
    if name == "llr":
        shape = (shape[0], block.shots)
    if frame.shape != shape:
        refuse("shape", shape, frame.shape)
    if name != "llr" and block.shots % 8 and np.bitwise_or.reduce(frame[:, -1]) >> block.shots % 8:
        refuse("bits beyond the last shot", False, True)
