# SPDX-License-Identifier: Apache-2.0
"""The `fragments` artifact: an error-corrected program as noiseless rounds, for hardware and tracker alike.

A program is cut into *fragments* at its decisions.  A fragment is a run-length encoded sequence of *slots*; a slot is
the operations before one QEC round, and that round.  Nothing in it depends on the path by which it was reached: record
names are relative to the slot, and at every cut all patches are idle, so fragment ``k`` may follow any fragment whose
`Decision` names it.

Hardware reads `Part.instructions` and may ignore everything else.  The tracker reads detectors and events.

Record names are ``(dt, x, y, k)``: the measurement of site ``(x, y)`` in the slot ``dt`` away from the one at hand (0
this slot, -1 the one before), ``k = 1`` for the records of a hand-over and 0 for all others.  A slot's records are
numbered in the order of execution: parts in the order given, instructions in order, targets in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgpack

from qcosd.qec.geometry import Cell, Coord, Rect
from qcosd.qec.program import Condition

VERSION = 2
"""2: hand-overs of |T>, and of |Y> or |+> by a choice."""

T = TypeVar("T")

# Ranks: the order of execution inside a slot.  On one patch operations of one slot never go backwards in rank.
SPLIT, MEASURE, INIT, HADAMARD, SEAM, ROUND = range(6)

RecordName = tuple[int, int, int, int]

HANDOVERS: Final = {"HANDOVER_Y": "Y", "HANDOVER_T": "T", "HANDOVER_YX": "YX"}
"""The instruction that hands a state over, and the state: |Y> = |0> + i|1>, |T> = |0> + e^(i pi/4)|1>, or "YX": |Y> in the
shots in which `Part.choice` came out as 1, and |+> in the others."""


class Instruction(NamedTuple):
    """One layer of a noiseless circuit.

    ``name``: R, RX, H, M, MX, I (targets: sites; I marks the data qubits that wait while a round is measured), CX
    (targets: control, target, control, target, ...), PERM (from, to, from, to, ...: qubits move), TICK (no targets), or
    one of HANDOVERS: an encoded state with known syndrome arrives; targets are the d*d data qubits row by row and then the
    d*d - 1 measure qubits, each of which yields one record, in that order, named with ``k = 1``.
    """

    name: str
    targets: tuple[Coord, ...] = ()


class Detector(NamedTuple):
    """A parity of records that is even without noise.

    ``x, y``: centre of its plaquette.  ``kind``: 0 found by a round, 1 found by reading data qubits out (one plaquette
    may have both in one slot).
    """

    x: int
    y: int
    kind: int
    records: tuple[RecordName, ...]


class Part(NamedTuple):
    """The operations of one rank on one region (one patch, or two merged ones) in one slot.  ``choice``: the number of the
    decision that a HANDOVER_YX in it waits for, else -1."""

    patches: tuple[int, ...]
    rank: int
    instructions: tuple[Instruction, ...]
    detectors: tuple[Detector, ...] = ()
    choice: int = -1


class Region(NamedTuple):
    """What a round measures: a lone patch, or two patches merged by a ZZ (basis "Z", horizontal: left, right) or XX
    (basis "X", vertical: upper, lower) parity measurement.  ``basis`` is "" for a lone patch."""

    rect: Rect
    patches: tuple[int, ...]
    basis: str = ""


# ---- events: what a slot means for the logical qubits, in program order.  Record names are relative to the slot.


class Init(NamedTuple):
    """A transversal |0> (basis "Z") or |+> (basis "X") is born."""

    patch: int
    rect: Rect
    basis: str


class Handover(NamedTuple):
    """An encoded ``state``, one of those of HANDOVERS, arrives with known syndrome.  ``choice``: as of its part."""

    patch: int
    rect: Rect
    state: str
    choice: int = -1


class Merge(NamedTuple):
    """A parity measurement of two patches begins: ``tag`` names its outcome, the parity of ``records`` of this slot's
    round.  ``seam`` is the line of seam qubits that continues the joint logical operator of the other basis.  It is
    final once the window commits up to this slot + 2.  ``bit``: the classical bit that gets it as well, -1 none."""

    first: int
    second: int
    basis: str
    tag: int
    records: tuple[RecordName, ...]
    seam: tuple[Coord, ...]
    bit: int = -1


class Split(NamedTuple):
    """The seam was read out before this slot's round: ``records`` is the byproduct on the joint operator, which
    ``first`` holds."""

    first: int
    second: int
    basis: str
    records: tuple[RecordName, ...]


class Measure(NamedTuple):
    """Destructive read-out of all data qubits of a patch; ``bit`` is the classical bit that gets the value, -1 none."""

    patch: int
    basis: str
    tag: int
    records: tuple[RecordName, ...]
    bit: int = -1


class Hadamard(NamedTuple):
    """Transversal H and a quarter turn; ``records`` (of this slot's round) shift the new X back to the top row."""

    patch: int
    records: tuple[RecordName, ...]


class Frame(NamedTuple):
    """A Pauli is applied in the frame of a patch, where parity(tags) xor ``constant`` is 1, or, if ``condition`` is
    given, where the condition holds of the classical bits as they stand at this point of the program."""

    patch: int
    pauli: str
    tags: tuple[int, ...] = ()
    constant: int = 0
    condition: Condition | None = None


class Choose(NamedTuple):
    """Decision ``k``, which hands a state over and separates no paths: whether ``condition`` holds of the classical bits as they
    stand at this point of the program.  It is told to hardware, is final, and is written into ``bit``."""

    k: int
    condition: Condition
    bit: int


Event = Init | Handover | Merge | Split | Measure | Hadamard | Frame | Choose
_EVENTS: tuple[type, ...] = (Init, Handover, Merge, Split, Measure, Hadamard, Frame, Choose)


class Slot(NamedTuple):
    """Operations before a round (parts in order of execution), and the round of every live region.

    The last slot of a program may hold final measurements and no round; its ``regions`` are empty.
    """

    parts: tuple[Part, ...]
    events: tuple[Event, ...]
    regions: tuple[Region, ...]

    def records(self) -> list[tuple[int, int, int]]:
        """Names ``(x, y, k)`` of this slot's records, in order."""
        out: list[tuple[int, int, int]] = []
        for part in self.parts:
            for name, targets in part.instructions:
                if name in ("M", "MX"):
                    out += [(x, y, 0) for x, y in targets]
                elif name.startswith("HANDOVER"):
                    out += [(x, y, 1) for x, y in targets if x % 2]
        return out


class Decision(NamedTuple):
    """How a fragment ends: the tracker evaluates ``condition`` once every bit it reads is final, and the shots in which
    it is false go on with fragment ``otherwise``, the others with fragment ``then``.  ``k`` numbers the decision."""

    k: int
    condition: Condition
    otherwise: int
    then: int


@dataclass(frozen=True)
class Fragment:
    """Rounds between two decisions.

    ``slots``: distinct slots; ``timeline``: (index into slots, repeats) in order.  The length in slots is a multiple of
    the distance unless the fragment is the last of its path.  ``entry``: the lone patches alive at its beginning.
    """

    index: int
    entry: tuple[tuple[int, Rect], ...]
    slots: tuple[Slot, ...]
    timeline: tuple[tuple[int, int], ...]
    decision: Decision | None = None

    @cached_property
    def length(self) -> int:
        return sum(repeats for _, repeats in self.timeline)

    @cached_property
    def rounds(self) -> int:
        """QEC rounds in it (slots that have one)."""
        return sum(repeats for i, repeats in self.timeline if self.slots[i].regions)

    @cached_property
    def choices(self) -> tuple[tuple[int, int], ...]:
        """(slot, k), in order: before hardware begins with the slot it needs decision k."""
        found, start = [], 0
        for i, repeats in self.timeline:
            found += [(start, part.choice) for part in self.slots[i].parts if part.choice >= 0]
            start += repeats
        return tuple(found)

    def sequence(self) -> Iterator[Slot]:
        for i, repeats in self.timeline:
            for _ in range(repeats):
                yield self.slots[i]


@dataclass(frozen=True)
class FragmentProgram:
    """All fragments of a program; execution begins with fragment 0.

    ``registers``: classical registers in order of declaration, flat bits in that order; ``scratch``: how many bits come
    behind them that are nobody's result.  ``cells``: the extent (columns, rows) of cells used.  ``assumptions``: what a
    reader of the result must know.
    """

    distance: int
    qubits: int
    registers: tuple[tuple[str, int], ...]
    fragments: tuple[Fragment, ...]
    cells: Cell = (0, 0)
    assumptions: tuple[str, ...] = ()
    scratch: int = 0

    @property
    def bits(self) -> int:
        return sum(size for _, size in self.registers)

    @cached_property
    def decisions(self) -> frozenset[int]:
        """The numbers of those that end fragments."""
        return frozenset(f.decision.k for f in self.fragments if f.decision)

    @cached_property
    def choices(self) -> frozenset[int]:
        """The numbers of those that hand-overs wait for."""
        return frozenset(k for f in self.fragments for _, k in f.choices)

    def path(self, decisions: Iterable[int] = ()) -> list[Fragment]:
        """The fragments met when the decisions come out as given (missing ones count as 0)."""
        values = iter(decisions)
        out = [self.fragments[0]]
        while (d := out[-1].decision) is not None:
            out.append(self.fragments[d.then if next(values, 0) else d.otherwise])
        return out

    def to_bytes(self) -> bytes:
        # Regions at rest have the same part in slot after slot, and the same instructions in all their parts: each is
        # written once, and named by its number.
        parts: _Numbers[Part] = _Numbers()
        circuits: _Numbers[tuple[Instruction, ...]] = _Numbers()
        doc = {
            "version": VERSION,
            "distance": self.distance,
            "qubits": self.qubits,
            "registers": self.registers,
            "cells": self.cells,
            "assumptions": self.assumptions,
            "scratch": self.scratch,
            "fragments": [
                {
                    "index": f.index,
                    "entry": f.entry,
                    "timeline": f.timeline,
                    "decision": None
                    if f.decision is None
                    else [f.decision.k, f.decision.condition.packed(), *f.decision[2:]],
                    "slots": [
                        [[parts.of(p) for p in s.parts], [_event(e) for e in s.events], s.regions] for s in f.slots
                    ],
                }
                for f in self.fragments
            ],
        }
        doc["parts"] = [[p.patches, p.rank, circuits.of(p.instructions), p.detectors, p.choice] for p in parts.distinct]
        # Coordinates dominate the artifact: flat lists of ints pack to half the size of nested pairs.
        doc["circuits"] = [[[n, [v for site in t for v in site]] for n, t in c] for c in circuits.distinct]
        return bytes(msgpack.packb(doc))

    @classmethod
    def from_bytes(cls, data: bytes) -> FragmentProgram:
        """Raises ValueError when the bytes are not a `fragments` artifact of this version."""
        doc = open_artifact("fragments", VERSION, data)
        try:
            circuits = [tuple(_read_instruction(i) for i in c) for c in doc["circuits"]]
            parts = [Part(p, r, circuits[c], tuple(Detector(*d) for d in ds), k) for p, r, c, ds, k in doc["parts"]]
            return cls(
                distance=doc["distance"],
                qubits=doc["qubits"],
                registers=doc["registers"],
                cells=doc["cells"],
                assumptions=doc["assumptions"],
                scratch=doc["scratch"],
                fragments=tuple(_read_fragment(f, parts) for f in doc["fragments"]),
            )
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"not a fragments artifact: {error!r}") from error


def open_artifact(kind: str, version: int, data: bytes) -> dict[str, Any]:
    """The map inside an artifact; raises ValueError naming the kind when it is none, or of another version."""
    try:
        doc = msgpack.unpackb(data, use_list=False)
        found = doc["version"]
    except (KeyError, TypeError, ValueError, msgpack.UnpackException) as error:
        raise ValueError(f"not a {kind} artifact: {error!r}") from error
    if found != version:
        raise ValueError(f"{kind} artifact of version {found}; this program reads version {version}")
    return dict(doc)


class _Numbers(Generic[T]):
    """Numbers of distinct things, in the order in which they are met."""

    def __init__(self) -> None:
        self.distinct: dict[T, int] = {}
        self._met: dict[int, int] = {}  # by identity: to hash a long tuple is slow

    def of(self, thing: T) -> int:
        if id(thing) not in self._met:
            self._met[id(thing)] = self.distinct.setdefault(thing, len(self.distinct))
        return self._met[id(thing)]


def _read_instruction(item: Any) -> Instruction:
    name, flat = item
    return Instruction(name, tuple(zip(flat[::2], flat[1::2], strict=True)))


def _event(event: Event) -> list[Any]:
    fields: list[Any] = list(event)
    if isinstance(event, Frame | Choose) and event.condition is not None:
        fields[event.index(event.condition)] = event.condition.packed()
    return [_EVENTS.index(type(event)), *fields]


def _read_event(item: Any) -> Event:
    kind = _EVENTS[item[0]]
    fields = list(item[1:])
    if kind in (Init, Handover):
        fields[1] = Rect(*fields[1])
    elif kind is Choose:
        fields[1] = Condition.unpacked(*fields[1])
    elif kind is Frame and fields[4] is not None:
        fields[4] = Condition.unpacked(*fields[4])
    event: Event = kind(*fields)
    return event


def _read_slot(item: Any, parts: list[Part]) -> Slot:
    regions = tuple(Region(Rect(*rect), patches, basis) for rect, patches, basis in item[2])
    return Slot(tuple(parts[number] for number in item[0]), tuple(_read_event(e) for e in item[1]), regions)


def _read_fragment(doc: Any, parts: list[Part]) -> Fragment:
    decision = doc["decision"]
    return Fragment(
        index=doc["index"],
        entry=tuple((patch, Rect(*rect)) for patch, rect in doc["entry"]),
        slots=tuple(_read_slot(s, parts) for s in doc["slots"]),
        timeline=doc["timeline"],
        decision=None if decision is None else Decision(decision[0], Condition.unpacked(*decision[1]), *decision[2:]),
    )
