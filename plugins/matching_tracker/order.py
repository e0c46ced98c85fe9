# SPDX-License-Identifier: Apache-2.0
"""Whether a block of rounds is the one that must come next."""

from __future__ import annotations

from collections.abc import Mapping

from qcos_plugins.matching_tracker.fault import Aborted, StreamFault
from qcos_plugins.matching_tracker.messages import check_block
from qcos_plugins.matching_tracker.path import Path
from qcos_plugins.matching_tracker.syndrome import BlockSyndrome

from qcosd.qec.stream import Block


def path_of(name: str, paths: Mapping[str, Path]) -> Path:
    """The open path of that name.  Raises StreamFault."""
    path = paths.get(name)
    if path is None:
        raise StreamFault(f"no path {name!r} is open", path=name, open=sorted(paths))
    return path


def expect(block: Block, batch: int | None, paths: Mapping[str, Path]) -> tuple[Path, BlockSyndrome]:
    """The path of a block and what its records say.  ``batch``: None if any will do; ``paths``: those that are open.

    Raises StreamFault if it is not due; Aborted if it says that none will come.
    """

    def demand(what: str, expected: object, came: object) -> None:
        if expected != came:
            message = f"path {block.path!r}, slot {block.round}: {what} {came!r} came, {expected!r} is due"
            raise StreamFault(message, path=block.path, slot=block.round, what=what, expected=expected, came=came)

    check_block(block)
    if batch is not None:
        demand("batch", batch, block.batch)
    if block.status == "aborted":
        demand("end of path", True, block.last)
        raise Aborted(f"hardware gave the batch up in slot {block.round}", path=block.path, slot=block.round)
    path = path_of(block.path, paths)
    if block.kind == "stall":
        raise StreamFault("stall rounds are not tracked yet", path=block.path, slot=block.round)
    fragment, slot, due = path.fragment, path.slot, path.block(len(block.m))
    demand("fragment", fragment.index, block.fragment)
    demand("slot", slot, block.slot)
    demand("round", path.received, block.round)
    demand("first record", path.records, block.rec_start)
    demand("shots", len(path.shots), block.shots)
    demand("records", due.m, block.m)
    ends = slot + len(block.m) == fragment.length
    demand("end of path", ends and fragment.decision is None, block.last)
    if not block.m and not block.last:
        raise StreamFault("an empty block", path=block.path, slot=block.round)
    if block.t_hw_ns < max(1, path.time):
        raise StreamFault(
            f"path {block.path!r}, slot {block.round}: hardware's clock went from {path.time} to {block.t_hw_ns} ns",
            path=block.path,
            slot=block.round,
        )
    return path, due
