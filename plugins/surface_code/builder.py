# SPDX-License-Identifier: Apache-2.0
"""Writes one fragment down, operation by operation: slots with instructions, detectors, events and regions.

The builder knows patches, merges and rounds, and nothing of logical programs; `prepare` drives it with a schedule, and
tests drive it by hand:

    builder = Builder(distance=5)
    builder.init(0, (0, 0), "Z")
    builder.idle(50)
    builder.measure(0, "Z", bit=0)
    program = builder.program(bits=1)

Operations go into the open slot; `round` closes it with one QEC round of every live patch.  On one patch the operations
of one slot must come in the order of their ranks (split, measure, init, hadamard, merge).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import count

from qcos_plugins.surface_code.stabilisers import BY_ROUND, Stabilisers, plaquettes_of

from qcosd.qec.fragment import (
    HADAMARD,
    HANDOVERS,
    INIT,
    MEASURE,
    ROUND,
    SEAM,
    SPLIT,
    Choose,
    Decision,
    Detector,
    Event,
    Fragment,
    FragmentProgram,
    Frame,
    Hadamard,
    Handover,
    Init,
    Instruction,
    Measure,
    Merge,
    Part,
    RecordName,
    Region,
    Slot,
    Split,
)
from qcosd.qec.geometry import CX_ORDER, Cell, Coord, Rect, cell_rect, other, rotate, spanning_rect
from qcosd.qec.program import Condition


class Builder:
    """One fragment in the making.

    ``entry``: the cells of the lone patches that are alive, and idle, when the fragment begins.  ``tags``: where new
    tags come from; builders of one program share it.
    """

    def __init__(
        self, distance: int, entry: Mapping[int, Cell] | None = None, tags: Iterator[int] | None = None
    ) -> None:
        if distance < 3 or distance % 2 == 0:
            raise ValueError(f"distance {distance} is not an odd number of at least 3")
        self.distance = distance
        self.slot = 0  # number of the open slot
        self.cells: dict[int, Cell] = dict(entry or {})  # of live patches
        self.extent: Cell = (0, 0)  # columns and rows of cells used so far
        self._tags = count() if tags is None else tags
        self._merged: dict[tuple[int, int], str] = {}
        self._stabilisers = Stabilisers()
        self._settled: set[Region] = set()  # regions of the last round that nothing has touched since
        self._ranks: dict[int, int] = {}  # of the last operation on a patch in the open slot
        self._parts: list[tuple[tuple[int, int, int], Part]] = []
        self._events: list[Event] = []
        self._slots: list[Slot] = []
        self._numbers: dict[tuple[object, ...], int] = {}
        self._timeline: list[tuple[int, int]] = []
        self._known_parts: dict[Part, Part] = {}
        self._entry = tuple((patch, self.rect(patch)) for patch in sorted(self.cells))
        for patch, rect in self._entry:
            self._stabilisers.settle(rect)
            self._settled.add(Region(rect, (patch,)))
            self._occupy(self.cells[patch])

    # ---- operations

    def rect(self, patch: int) -> Rect:
        return cell_rect(self.cells[patch], self.distance)

    def init(self, patch: int, cell: Cell, basis: str = "Z") -> None:
        """A transversal |0> (basis "Z") or |+> (basis "X") is born."""
        rect = self._born(patch, cell)
        self._stabilisers.prepare(rect.data(), basis)
        self._add((patch,), INIT, rect, [_reset(rect.data(), basis)])
        self._events.append(Init(patch, rect, basis))

    def handover(self, patch: int, cell: Cell, state: str = "Y", choice: int = -1) -> None:
        """An encoded state of `fragment.HANDOVERS` arrives with known syndrome, "YX" as decision ``choice`` says."""
        names = {kind: name for name, kind in HANDOVERS.items()}
        if state not in names or (state == "YX") != (choice >= 0):
            raise ValueError(f"no hand-over of state {state!r} by choice {choice}")
        rect = self._born(patch, cell)
        self._stabilisers.arrive(rect)
        sites = (*rect.data(), *(p.centre for p in plaquettes_of(rect)))
        self._add((patch,), INIT, rect, [Instruction(names[state], sites)], choice=choice)
        self._events.append(Handover(patch, rect, state, choice))

    def join(self, one: int, two: int, tag: int | None = None, bit: int = -1) -> int:
        """Begins a parity measurement: ZZ of patches in one row, XX of patches in one column.  Returns its tag, a new
        one if none is given."""
        first, second = sorted((one, two), key=self.cells.__getitem__)
        (x1, y1), (x2, y2) = self.cells[first], self.cells[second]
        if (x1 == x2) == (y1 == y2):
            raise ValueError(f"patches {one} and {two} are in no common row or column")
        basis = "Z" if y1 == y2 else "X"
        a, b = self.rect(first), self.rect(second)
        whole = spanning_rect((a, b))
        self._require_free(whole, (first, second))
        self._touch((first, second), SEAM)
        self._merged[first, second] = basis
        seam = self._seam(whole, a, b)
        self._stabilisers.prepare(seam, other(basis))
        self._add((first, second), SEAM, whole, [_reset(seam, other(basis))])
        axis = 0 if basis == "Z" else 1
        # All plaquettes from the first patch's representative to the second's: their product is the joint parity.
        records = tuple(
            (0, *p.centre, 0) for p in plaquettes_of(whole) if p.basis == basis and a[axis] < p.centre[axis] < b[axis]
        )
        tag = next(self._tags) if tag is None else tag
        self._events.append(Merge(first, second, basis, tag, records, self._line(seam, a, basis), bit))
        return tag

    def split(self, one: int, two: int) -> None:
        """Ends a parity measurement by reading the seam out."""
        pair = (one, two) if (one, two) in self._merged else (two, one)
        basis = self._merged[pair]
        a, b = self.rect(pair[0]), self.rect(pair[1])
        whole = spanning_rect((a, b))
        self._touch(pair, SPLIT)
        del self._merged[pair]
        seam = self._seam(whole, a, b)
        self._read(pair, SPLIT, whole, seam, other(basis))
        records = tuple((0, *site, 0) for site in self._line(seam, a, basis))
        self._events.append(Split(*pair, basis, records))

    def merge(self, one: int, two: int, rounds: int | None = None) -> int:
        """A whole parity measurement of ``rounds`` (default: distance) rounds.  Returns its tag."""
        tag = self.join(one, two)
        self.idle(self.distance if rounds is None else rounds)
        self.split(one, two)
        return tag

    def measure(self, patch: int, basis: str = "Z", bit: int = -1, tag: int | None = None) -> int:
        """Destructive read-out of a patch.  Returns its tag, a new one if none is given."""
        rect = self.rect(patch)
        self._require_lone(patch)
        self._touch((patch,), MEASURE)
        self._read((patch,), MEASURE, rect, rect.data(), basis)
        del self.cells[patch]
        tag = next(self._tags) if tag is None else tag
        sites = rect.column() if basis == "Z" else rect.row()
        self._events.append(Measure(patch, basis, tag, tuple((0, *site, 0) for site in sites), bit))
        return tag

    def hadamard(self, patch: int) -> None:
        """Transversal H and the quarter turn that makes the patch look as before."""
        rect = self.rect(patch)
        self._require_lone(patch)
        self._touch((patch,), HADAMARD)
        self._stabilisers.turn(rect)
        data = rect.data()
        moves = tuple(site for source in data for site in (source, rotate(source, rect)))
        self._add((patch,), HADAMARD, rect, [Instruction("H", tuple(data)), Instruction("PERM", moves)])
        records = tuple((0, *p.centre, 0) for p in plaquettes_of(rect) if p.basis == "X")
        self._events.append(Hadamard(patch, records))

    def frame(
        self,
        patch: int,
        pauli: str,
        tags: tuple[int, ...] = (),
        constant: int = 0,
        condition: Condition | None = None,
    ) -> None:
        """A Pauli ("X" or "Z") is applied in the frame, as `fragment.Frame` says."""
        if patch not in self.cells:
            raise ValueError(f"frame of patch {patch}, which is not alive")
        if pauli not in ("X", "Z"):
            raise ValueError(f"frame of {pauli!r}: X or Z expected")
        self._events.append(Frame(patch, pauli, tags, constant, condition))

    def choose(self, k: int, condition: Condition, bit: int) -> None:
        """Decision ``k`` is made, as `fragment.Choose` says."""
        self._events.append(Choose(k, condition, bit))

    def cnot(self, control: int, target: int, ancilla: int, cell: Cell | None = None) -> None:
        """CX by a ZZ and an XX merge with an ancilla, alone on the machine: 2 d rounds."""
        corner = (self.cells[target][0], self.cells[control][1])
        self.init(ancilla, corner if cell is None else cell, "X")
        zz = self.merge(control, ancilla)
        xx = self.merge(ancilla, target)
        z = self.measure(ancilla, "Z")
        self.frame(control, "Z", (xx,))
        self.frame(target, "X", (zz, z))

    def phase(self, patch: int, ancilla: int, dagger: bool = False) -> None:
        """S (or its inverse) by a |Y> on the cell to the right, alone on the machine: d rounds."""
        x, y = self.cells[patch]
        self.handover(ancilla, (x + 1, y))
        zz = self.merge(patch, ancilla)
        read = self.measure(ancilla, "X")
        self.frame(patch, "Z", (zz, read), int(dagger))

    # ---- time

    def round(self) -> None:
        """Closes the open slot with one QEC round of every live patch."""
        regions = self._regions()
        for region in regions:
            detectors: tuple[Detector, ...] | None = None
            if region not in self._settled:
                detectors = self._stabilisers.measure(region.rect)
            self._parts.append((_position(ROUND, region.rect), self._share(_round_part(region, detectors))))
        self._settled = set(regions)
        self._close(tuple(regions))

    def idle(self, rounds: int) -> None:
        """Closes the open slot and waits, ``rounds`` rounds in all.  Costs the same for any number."""
        if rounds > 0:
            self.round()
        if rounds > 1:
            # After one round every plaquette is known from the slot before: all slots that follow are equal.
            self.round()
            self._repeat(rounds - 2)

    def until(self, slot: int) -> None:
        """Waits until ``slot`` is the open one."""
        if slot < self.slot:
            raise ValueError(f"slot {slot} is closed, {self.slot} is open")
        self.idle(slot - self.slot)

    # ---- results

    def fragment(self, index: int = 0, decision: Decision | None = None) -> Fragment:
        """What was written so far.  Final measurements in the open slot become a last slot without a round."""
        if self._parts or self._events or not self._timeline:
            if self.cells:
                raise ValueError("the open slot has live patches: close it with a round")
            self._close(())
        if self._merged:
            raise ValueError("a fragment ends within a merge")
        return Fragment(index, self._entry, tuple(self._slots), tuple(self._timeline), decision)

    def program(self, bits: int = 0, qubits: int = 0, scratch: int = 0) -> FragmentProgram:
        """A program of this one fragment, with one register ``c`` of ``bits`` bits, and ``scratch`` others."""
        registers = (("c", bits),) if bits else ()
        return FragmentProgram(self.distance, qubits, registers, (self.fragment(),), self.extent, scratch=scratch)

    # ---- inside

    def _born(self, patch: int, cell: Cell) -> Rect:
        if patch in self.cells:
            raise ValueError(f"patch {patch} is alive already")
        rect = cell_rect(cell, self.distance)
        self._require_free(rect, ())
        self._touch((patch,), INIT)
        self.cells[patch] = cell
        self._occupy(cell)
        return rect

    def _occupy(self, cell: Cell) -> None:
        self.extent = (max(self.extent[0], cell[0] + 1), max(self.extent[1], cell[1] + 1))

    def _regions(self) -> list[Region]:
        merged = {patch for pair in self._merged for patch in pair}
        regions = [Region(self.rect(patch), (patch,)) for patch in self.cells if patch not in merged]
        for pair, basis in self._merged.items():
            regions.append(Region(spanning_rect(self.rect(patch) for patch in pair), pair, basis))
        return sorted(regions, key=lambda region: _position(ROUND, region.rect))

    def _require_lone(self, patch: int) -> None:
        if any(patch in pair for pair in self._merged):
            raise ValueError(f"patch {patch} is merged with another one")

    def _require_free(self, rect: Rect, patches: tuple[int, ...]) -> None:
        for region in self._regions():
            if set(region.patches) <= set(patches) and not region.basis:
                continue
            box = region.rect
            if box.x0 <= rect.x1 and rect.x0 <= box.x1 and box.y0 <= rect.y1 and rect.y0 <= box.y1:
                raise ValueError(f"slot {self.slot}: the cells of {patches or 'a new patch'} hold {region.patches}")

    def _touch(self, patches: tuple[int, ...], rank: int) -> None:
        for patch in patches:
            if self._ranks.get(patch, -1) > rank:
                raise ValueError(f"slot {self.slot}: patch {patch} cannot go back to rank {rank}")
            self._ranks[patch] = rank
        self._settled = {region for region in self._settled if not set(region.patches) & set(patches)}

    def _seam(self, whole: Rect, a: Rect, b: Rect) -> list[Coord]:
        return [site for site in whole.data() if not a.contains(site) and not b.contains(site)]

    def _line(self, seam: list[Coord], a: Rect, basis: str) -> tuple[Coord, ...]:
        # The joint operator of the other basis runs along the top row (ZZ merge) or the left column (XX merge).
        return tuple(site for site in seam if (site[1] == a.y0 if basis == "Z" else site[0] == a.x0))

    def _read(self, patches: tuple[int, ...], rank: int, rect: Rect, sites: list[Coord], basis: str) -> None:
        detectors = self._stabilisers.read(sites, basis, plaquettes_of(rect))
        self._add(patches, rank, rect, [Instruction("M" if basis == "Z" else "MX", tuple(sites))], detectors)

    def _add(
        self,
        patches: tuple[int, ...],
        rank: int,
        rect: Rect,
        instructions: list[Instruction],
        detectors: tuple[Detector, ...] = (),
        choice: int = -1,
    ) -> None:
        part = Part(patches, rank, tuple(instructions), detectors, choice)
        self._parts.append((_position(rank, rect), self._share(part)))

    def _share(self, part: Part) -> Part:
        return self._known_parts.setdefault(part, part)

    def _close(self, regions: tuple[Region, ...]) -> None:
        parts = tuple(part for _, part in sorted(self._parts, key=lambda item: item[0]))
        events = tuple(self._events)
        # Parts are shared, so that identity is equality and a slot need not be hashed as a whole.
        key = (*(id(part) for part in parts), events, regions)
        number = self._numbers.setdefault(key, len(self._slots))
        if number == len(self._slots):
            self._slots.append(Slot(parts, events, regions))
        self._timeline.append((number, 0))
        self._repeat(1)
        self._parts, self._events, self._ranks = [], [], {}

    def _repeat(self, times: int) -> None:
        """The last slot once more, ``times`` times."""
        number, repeats = self._timeline.pop()
        if repeats == 0 and self._timeline and self._timeline[-1][0] == number:
            _, repeats = self._timeline.pop()
        self._timeline.append((number, repeats + times))
        self.slot += times


def _position(rank: int, rect: Rect) -> tuple[int, int, int]:
    """Parts of a slot stand in the order of rank, row, column."""
    return (rank, rect.y0, rect.x0)


def _reset(sites: list[Coord], basis: str) -> Instruction:
    return Instruction("R" if basis == "Z" else "RX", tuple(sites))


@lru_cache(maxsize=1024)
def _round_instructions(rect: Rect) -> tuple[Instruction, ...]:
    plaquettes = plaquettes_of(rect)
    x_centres = tuple(p.centre for p in plaquettes if p.basis == "X")
    z_centres = tuple(p.centre for p in plaquettes if p.basis == "Z")
    layers = []
    for layer in range(4):
        targets: list[Coord] = []
        for plaquette in plaquettes:
            site = plaquette.corners[CX_ORDER[plaquette.basis][layer]]
            if site is not None:
                targets += (plaquette.centre, site) if plaquette.basis == "X" else (site, plaquette.centre)
        layers.append(Instruction("CX", tuple(targets)))
    return (
        Instruction("I", tuple(rect.data())),
        Instruction("RX", x_centres),
        Instruction("R", z_centres),
        *layers,
        Instruction("MX", x_centres),
        Instruction("M", z_centres),
    )


@lru_cache(maxsize=1024)
def _settled_round(region: Region) -> Part:
    detectors = []
    for plaquette in plaquettes_of(region.rect):
        records: tuple[RecordName, ...] = ((-1, *plaquette.centre, 0), (0, *plaquette.centre, 0))
        detectors.append(Detector(*plaquette.centre, BY_ROUND, records))
    return Part(region.patches, ROUND, _round_instructions(region.rect), tuple(detectors))


def _round_part(region: Region, detectors: tuple[Detector, ...] | None) -> Part:
    if detectors is None:
        return _settled_round(region)
    return Part(region.patches, ROUND, _round_instructions(region.rect), detectors)
