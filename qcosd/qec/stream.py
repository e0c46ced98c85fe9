# SPDX-License-Identifier: Apache-2.0
"""Messages on the `rounds` stream between hardware and tracker.

Hardware to tracker: at most one `Calibrated`, then `Block` headers, each with its typed payload frames, and `Discard`.
Tracker to hardware: `Acknowledgement` and `Decided`.  Both sides derive the shots of a branch from the decision: the shots of path ``P/k3=1`` are those of ``P``
whose bit of decision 3 is 1, in increasing order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

KINDS = ("planned", "stall", "handover", "final")
STATUS = ("ok", "late", "lost", "aborted")
PAYLOADS = ("bits", "valid", "erasure", "llr")
MISSING = ("lost", "aborted")
"""Statuses of blocks that come without any frame."""

T = TypeVar("T", "Calibrated", "Discard")


@dataclass(frozen=True)
class Block:
    """Header of a block of consecutive slots of one path.

    ``path``: the batch path, "" for the root and e.g. "k0=1/k2=0" below it.  ``shots``: how many of this path are real;
    the payload is padded to a multiple of 8.  ``fragment`` and ``slot``: where in the fragment the block begins.
    ``round``: absolute slot number of its first slot, monotone along a path; a gap is a fault.  ``rec_start``: records
    of the path before this block.  ``m``: records in each slot.  ``last``: the path ends with this block.  ``t_hw_ns``:
    hardware's clock at the end of the block, above 0 and never decreasing along a path.

    ``payload`` names the frames that follow, in their order:

    - ``bits``: uint8 of shape (sum(m), ceil(shots/8)), little-endian bits along the shots, padding zero.
    - ``valid``, of the same shape: 0 where a record was not measured; its bit means nothing.
    - ``erasure``, of the same shape: 1 where the qubit is known to have been maximally mixed when it was read.
    - ``llr``: int8 of shape (sum(m), shots): 8 times the natural logarithm of P(bits | 0) / P(bits | 1); 0 is no information.

    Of a machine whose rounds leave on the clock: ``late_ns``, how long after its time this block left (None: there is no
    clock); ``stalled``, rounds that the machine stood still since the block that was sent before, of whatever path.
    ``reacted_ns``, in the first block after a decision: from when its last block was sent until it was received.

    ``status``: "ok"; "late" (as ok, but the round missed its time); "lost" (no frames: none of the records exists in any
    shot); "aborted" (no frames: the batch is over and must be started again with the same seed; ``last`` is True).
    """

    batch: int
    path: str
    shots: int
    fragment: int
    slot: int
    round: int
    rec_start: int
    m: tuple[int, ...]
    kind: str = "planned"
    status: str = "ok"
    t_hw_ns: int = 0
    last: bool = False
    payload: tuple[str, ...] = ("bits",)
    late_ns: int | None = None
    stalled: int = 0
    reacted_ns: int | None = None

    def to_map(self) -> dict[str, Any]:
        return {"type": "block", **vars(self)}

    @classmethod
    def from_map(cls, header: dict[str, Any]) -> Block:
        """Unknown fields are ignored; a missing one raises ValueError."""
        try:
            values = {name: header[name] for name in cls.__dataclass_fields__ if name in header}
            values["m"] = tuple(values["m"])
            values["payload"] = tuple(values.get("payload", ("bits",)))
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a block header: {error!r}") from error


@dataclass(frozen=True)
class Calibrated:
    """The rates of this batch, in place of those of the job.  Payload: one `calibration` artifact.

    ``id``: its content id.  Comes before the first block or not at all.
    """

    batch: int
    id: str

    def to_map(self) -> dict[str, Any]:
        return {"type": "calibration", **vars(self)}

    @classmethod
    def from_map(cls, header: dict[str, Any]) -> Calibrated:
        """Unknown fields are ignored; a missing one raises ValueError."""
        return _read(cls, header)


@dataclass(frozen=True)
class Discard:
    """Some shots of a path are worthless from here on, and hardware knows it.

    Payload: uint8 (ceil(shots/8),), little-endian bits, 1 where a shot is to be discarded.  Their columns go on in later
    blocks, to keep the shape, and mean nothing.  ``round``: absolute slot at which it was noticed.
    """

    path: str
    shots: int
    round: int
    reason: str

    def to_map(self) -> dict[str, Any]:
        return {"type": "discard", **vars(self)}

    @classmethod
    def from_map(cls, header: dict[str, Any]) -> Discard:
        """Unknown fields are ignored; a missing one raises ValueError."""
        return _read(cls, header)


@dataclass(frozen=True)
class Acknowledgement:
    """The tracker has taken every block up to slot ``received`` of a path and committed windows up to ``committed``.

    It comes with each checkpoint, and not for each block.
    """

    path: str
    received: int
    committed: int

    def to_map(self) -> dict[str, Any]:
        return {"type": "ack", **vars(self)}


@dataclass(frozen=True)
class Decided:
    """Decision ``k`` of a path; payload: uint8 (ceil(shots/8),), little-endian bits, 1 where the condition holds.

    Final: an equal repeat is ignored, a differing one is a fault.  Shots that are discarded have 0.
    """

    path: str
    k: int
    shots: int

    def to_map(self) -> dict[str, Any]:
        return {"type": "decided", **vars(self)}


def child_path(path: str, k: int, value: int) -> str:
    step = f"k{k}={value}"
    return f"{path}/{step}" if path else step


def _read(kind: type[T], header: dict[str, Any]) -> T:
    try:
        return kind(**{name: header[name] for name in kind.__dataclass_fields__})
    except KeyError as error:
        raise ValueError(f"not a {kind.__name__.lower()} header: {error} is missing") from error
