# SPDX-License-Identifier: Apache-2.0
"""Messages of a `rounds` stream as they come from the wire: checked field by field, payloads as arrays.

What a header claims is compared with the program later; here a message only has to be one, of the size that it claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from qcos_plugins.matching_tracker.fault import StreamFault
from qcos_plugins.matching_tracker.packed import width

from qcosd.qec.stream import KINDS, MISSING, PAYLOADS, STATUS, Block, Calibrated, Discard

Frames = list[npt.NDArray[Any]]
Message = tuple[Block, Frames] | tuple[Calibrated, bytes] | tuple[Discard, npt.NDArray[np.uint8]]

_PAYLOADS = frozenset(PAYLOADS)
MAX_REASON = 200  # characters of a discard's reason: it becomes a key of the result

_BLOCK = {
    **dict.fromkeys(("batch", "shots", "fragment", "slot", "round", "rec_start", "t_hw_ns", "stalled"), int),
    **dict.fromkeys(("path", "kind", "status"), str),
    "last": bool,
}
_FIELDS, _TYPES = attrgetter(*_BLOCK), [*_BLOCK.values()]


def read(header: Mapping[str, Any], payload: Sequence[bytes]) -> Message:
    """One message with its payload.  Raises StreamFault if it is none."""
    try:
        match header.get("type"):
            case "block":
                block = Block.from_map(dict(header))
                return block, _frames(check_block(block), payload)
            case "calibration":
                calibrated = Calibrated.from_map(dict(header))
                _demand_types(calibrated, {"batch": int, "id": str})
                return calibrated, _only(payload)
            case "discard":
                discard = Discard.from_map(dict(header))
                return discard, np.frombuffer(_only(payload), np.uint8)
    except ValueError as error:
        raise StreamFault(f"not a message of a stream of rounds: {error}") from error
    raise StreamFault(f"a message of type {header.get('type')!r} is not part of a stream of rounds")


def check_block(block: Block) -> Block:
    """The block, if each field is of its type and the names in it exist.  Raises StreamFault."""
    if [*map(type, _FIELDS(block))] != _TYPES:
        _demand_types(block, _BLOCK)
    if block.late_ns is not None:
        _demand_types(block, {"late_ns": int})
    if block.reacted_ns is not None:
        _demand_types(block, {"reacted_ns": int})
    if block.kind not in KINDS or block.status not in STATUS:
        raise StreamFault(f"a block of kind {block.kind!r} and status {block.status!r}", path=block.path)
    if {*map(type, block.m)} - {int} or min(block.m, default=0) < 0:
        raise StreamFault("a block's m is no list of counts", path=block.path)
    if block.status in MISSING:
        allowed = block.payload == ()
    else:
        names = block.payload
        allowed = names == ("bits",) or (
            names[:1] == ("bits",) and len({*names}) == len(names) and {*names} <= _PAYLOADS
        )
    if not allowed:
        raise StreamFault(f"payload {block.payload!r} with status {block.status}", path=block.path, slot=block.round)
    if block.shots < 1 or min(block.fragment, block.slot, block.round, block.rec_start) < 0:
        raise StreamFault("a block counts below zero, or has no shots", path=block.path)
    if min(block.stalled, block.late_ns or 0, block.reacted_ns or 0) < 0:
        raise StreamFault("a block left before its time, or a decision came before its last block", path=block.path)
    return block


def check_discard(discard: Discard) -> Discard:
    """The message, if each field is of its type.  Raises StreamFault."""
    _demand_types(discard, {"path": str, "shots": int, "round": int, "reason": str})
    if not 0 < len(discard.reason) <= MAX_REASON:
        raise StreamFault(f"a reason of {len(discard.reason)} characters", path=discard.path)
    return discard


def _demand_types(header: Block | Calibrated | Discard, types: Mapping[str, type]) -> None:
    for name, expected in types.items():
        # A bool is an int to Python, not to the protocol.
        if type(getattr(header, name)) is not expected:
            raise StreamFault(f"{name} {getattr(header, name)!r} of a message is not of type {expected.__name__}")


def _only(payload: Sequence[bytes]) -> bytes:
    if len(payload) != 1:
        raise ValueError(f"{len(payload)} payload frames, 1 expected")
    return payload[0]


def _frames(block: Block, payload: Sequence[bytes]) -> Frames:
    if len(payload) != len(block.payload):
        raise ValueError(f"{len(payload)} payload frames, {len(block.payload)} announced")
    found = []
    for name, data in zip(block.payload, payload, strict=True):
        shape = (sum(block.m), block.shots if name == "llr" else width(block.shots))
        if len(data) != shape[0] * shape[1]:
            raise ValueError(f"{len(data)} bytes of {name}, {shape[0]} x {shape[1]} expected")
        found.append(np.frombuffer(data, np.int8 if name == "llr" else np.uint8).reshape(shape))
    return found
