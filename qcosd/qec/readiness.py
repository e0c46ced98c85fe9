# SPDX-License-Identifier: Apache-2.0
"""Whether a machine can run a placed program, found out before anything is played; and the `ready` artifact that says so."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

import msgpack

from qcosd.qec.device import NATIVE, Device
from qcosd.qec.fragment import HANDOVERS, Fragment, FragmentProgram, Instruction, open_artifact
from qcosd.qec.geometry import Coord
from qcosd.qec.placement import Placement

VERSION = 1

T = TypeVar("T")


class NotReady(ValueError):
    """The machine cannot run it.  ``kind``: the artifact that is wrong."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Ready:
    """``fragments``, ``placement``: SHA-256 of what was checked.  ``sites``: qubits used.  ``rounds``: slots of the longest
    path.  ``paths``: ways through the program."""

    fragments: str
    placement: str
    sites: int
    rounds: int
    paths: int

    def to_bytes(self) -> bytes:
        return bytes(msgpack.packb({"version": VERSION, **asdict(self), "paths": hex(self.paths)}))

    @classmethod
    def from_bytes(cls, data: bytes) -> Ready:
        """Raises NotReady when the bytes are no `ready` artifact."""
        try:
            doc = open_artifact("ready", VERSION, data)
            return cls(doc["fragments"], doc["placement"], doc["sites"], doc["rounds"], int(doc["paths"], 16))
        except (KeyError, TypeError, ValueError) as error:
            raise NotReady("ready", f"not a ready artifact: {error}") from error


class Loaded:
    """The latest programs, placed, each read and checked once: preparing a job, and then every one of its batches."""

    def __init__(self, kept: int = 4) -> None:
        self._kept = kept
        self._found: OrderedDict[tuple[str, str, Device], tuple[FragmentProgram, Placement, Ready]] = OrderedDict()

    def load(
        self, inputs: Mapping[str, str], fetch: Callable[[str], bytes], device: Device
    ) -> tuple[FragmentProgram, Placement, Ready]:
        """``inputs``: kind -> SHA-256; ``fetch``: kind -> bytes.  Raises NotReady; also where a `ready` among the inputs
        is not that of the others."""
        key = (inputs["fragments"], inputs["placement"], device)
        if key not in self._found:
            program = _read("fragments", FragmentProgram.from_bytes, fetch)
            placement = _read("placement", Placement.from_bytes, fetch)
            ready = Ready(key[0], key[1], *check(program, placement, device))
            self._found[key] = (program, placement, ready)
            if len(self._found) > self._kept:
                self._found.popitem(last=False)
        self._found.move_to_end(key)
        found = self._found[key]
        if "ready" in inputs and Ready.from_bytes(fetch("ready")) != found[2]:
            raise NotReady("ready", "the ready artifact is not of this program on this placement")
        return found


def _read(kind: str, reader: Callable[[bytes], T], fetch: Callable[[str], bytes]) -> T:
    data = fetch(kind)
    try:
        return reader(data)
    except ValueError as error:
        raise NotReady(kind, str(error)) from error


def check(program: FragmentProgram, placement: Placement, device: Device) -> tuple[int, int, int]:
    """Raises NotReady unless the device can run the program where it is placed.  Returns (sites, rounds, paths).

    Checked: each site of the program has a living site of this device, each CX a coupler; instructions are native; no
    qubit is used again after it was measured and before it was reset; decisions lead forward.
    """
    if placement.device != device.name:
        raise NotReady("placement", f"the placement is for device {placement.device}, this is {device.name}")
    rounds, paths = _ways(program)
    sites: set[Coord] = set()
    couplers: set[tuple[Coord, Coord]] = set()
    for instruction in _instructions(program):
        _check_native(instruction, device)
        sites.update(instruction.targets)
        if instruction.name == "CX":
            couplers.update(_pairs(instruction))
    for a, b in sorted(couplers):
        if abs(a[0] - b[0]) != 1 or abs(a[1] - b[1]) != 1:
            raise NotReady("fragments", f"device {device.name} does not couple {list(a)} and {list(b)}")
    for site in sorted(sites):
        if site not in placement.index or not device.has(placement.on_device(site)):
            raise NotReady("placement", f"the placement has no living site of {device.name} for {list(site)}")
    _check_resets(program)
    return len(sites), rounds, paths


def _instructions(program: FragmentProgram) -> Iterator[Instruction]:
    """Each instruction once: slots repeat, and share their parts."""
    met = set()
    for fragment in program.fragments:
        for slot in fragment.slots:
            for part in slot.parts:
                if id(part.instructions) not in met:
                    met.add(id(part.instructions))
                    yield from part.instructions


def _pairs(instruction: Instruction) -> list[tuple[Coord, Coord]]:
    targets = instruction.targets
    if len(targets) % 2:
        raise NotReady("fragments", f"{instruction.name} has an odd number of targets")
    return list(zip(targets[::2], targets[1::2], strict=True))


def _check_native(instruction: Instruction, device: Device) -> None:
    name = instruction.name
    if name == "PERM":
        if not device.movement:
            raise NotReady("fragments", f"the program moves qubits, and device {device.name} cannot")
        _pairs(instruction)
    elif name != "TICK" and name not in NATIVE:
        raise NotReady("fragments", f"device {device.name} has no instruction {name!r}")


# ---- decisions


def _ways(program: FragmentProgram) -> tuple[int, int]:
    """Slots of the longest path and number of paths."""
    known: dict[int, tuple[int, int]] = {}
    for fragment in reversed(_forward(program)):
        below = [known[index] for index in _successors(fragment)]
        longest = max((rounds for rounds, _ in below), default=0)
        known[fragment.index] = (fragment.length + longest, sum(paths for _, paths in below) or 1)
    return known[0]


def _successors(fragment: Fragment) -> tuple[int, ...]:
    return () if fragment.decision is None else (fragment.decision.otherwise, fragment.decision.then)


def _forward(program: FragmentProgram) -> list[Fragment]:
    """The fragments that can be reached, each before those that it leads to."""
    order: list[Fragment] = []
    done: set[int] = set()
    open_: set[int] = set()
    stack = [(0, False)]
    while stack:
        index, left = stack.pop()
        if left:
            open_.remove(index)
            done.add(index)
            order.append(program.fragments[index])
            continue
        if index in done:
            continue
        if index in open_:
            raise NotReady("fragments", f"fragment {index} leads back to itself")
        if not 0 <= index < len(program.fragments) or program.fragments[index].index != index:
            raise NotReady("fragments", f"there is no fragment {index}")
        open_.add(index)
        stack.append((index, True))
        stack += [(following, False) for following in _successors(program.fragments[index]) if following not in done]
    return order[::-1]


# ---- measured qubits


def _check_resets(program: FragmentProgram) -> None:
    before: dict[int, set[Coord]] = {}
    for fragment in _forward(program):
        measured = set(before.get(fragment.index, ()))
        for number, repeats in fragment.timeline:
            for _ in range(min(repeats, 2)):  # the second time it meets what the first has left
                for part in fragment.slots[number].parts:
                    for instruction in part.instructions:
                        _follow(measured, instruction)
        for index in _successors(fragment):
            before.setdefault(index, set()).update(measured)


def _follow(measured: set[Coord], instruction: Instruction) -> None:
    name, targets = instruction
    if name in ("R", "RX", *HANDOVERS):
        measured.difference_update(targets)
    elif name == "PERM":
        moves = _pairs(instruction)
        goals = {goal for source, goal in moves if source in measured}
        measured.difference_update(targets)
        measured.update(goals)
    elif name != "TICK":
        if used := measured.intersection(targets):
            raise NotReady("fragments", f"{name} on {list(min(used))}, which was measured and not reset")
        if name in ("M", "MX"):
            measured.update(targets)
