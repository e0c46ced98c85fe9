# SPDX-License-Identifier: Apache-2.0
"""The local circuit of a window: a small stim circuit that knows nothing of the program outside of its region and rounds.

It begins with a noiseless reference round in the configuration of the slot before the window, then that slot's round *with*
noise (its late errors are seen by the window's detectors only), then the window's slots.  Logical operators are cut, by
observables on Pauli operators, at the start, at births (between the reset and its noise), at splits (the partner only) and
at the end of the commit, so that everything observed is deterministic without noise, whatever gauge the patches are in.

Slots that do the same, one after the other, are one loop, which stim analyses in a few turns however long it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise

from qcos_plugins.matching_tracker.elements import (
    REFERENCE_RATE,
    Column,
    Flip,
    LocalCircuit,
    LocalDetector,
    Name,
    NoiseClass,
    shifted,
)
from qcos_plugins.matching_tracker.frames import X, Z, sign
from qcos_plugins.matching_tracker.reads import unread
from qcos_plugins.matching_tracker.window import Layer, Life, RegionWindow, Resident

from qcosd.qec.calibration import Calibration, NoiseLine, Where, noise_after, noise_before
from qcosd.qec.fragment import (
    HANDOVERS,
    INIT,
    Hadamard,
    Handover,
    Init,
    Instruction,
    Measure,
    Merge,
    Part,
    RecordName,
    Region,
    Split,
)
from qcosd.qec.geometry import Coord, Rect

REFERENCE = -2  # the slot number of the noiseless round that a window starts from

Lineage = frozenset[Name | int]  # records, and cuts by number


def local_circuit(
    window: RegionWindow,
    commit: int,
    end: int,
    distance: int,
    rates: Calibration,
    *,
    lead: int = 0,
    offset: Coord = (0, 0),
    tagged: bool = False,
) -> LocalCircuit:
    """``commit``, ``end``: slots from the start of the window; a layer at ``end`` is the ghost.  When nothing follows the
    commit the path ends there, and nobody asks for frames any more.  ``lead``: as in `Window`; of what happens in these
    slots, only parities that a round of the commit can still change are observed.

    ``offset``: from coordinates of the program to those of the device.  ``tagged``: every line of noise has the number of
    its class for a tag, and `REFERENCE_RATE` instead of a rate; then ``rates`` only say which classes there are.
    """
    builder = _Builder(window, distance, rates, lead, offset, tagged)
    builder.start(window)
    for t, layer in enumerate(window.layers):
        if t == commit:
            builder.observe_frames(window.layers[commit:])
        builder.slot(t, layer, committed=t < commit, noisy=t < end)
    return builder.circuit()


class _Builder:
    def __init__(
        self, window: RegionWindow, distance: int, rates: Calibration, lead: int, offset: Coord, tagged: bool
    ) -> None:
        self._side = 2 * (distance - 1)
        self._lead = lead
        self._rates = rates
        self._offset = offset
        self._tagged = tagged
        self._classes: dict[NoiseClass, int] = {}
        self._origin = window.origin
        self._numbers = {life: i for i, life in enumerate(window.lives)}
        layers = [window.before, *window.layers] if window.before else window.layers
        sites = {
            c for layer in layers for p in layer.parts for _, targets in p.placed.item.instructions for c in targets
        }
        self._qubit = {site: i for i, site in enumerate(sorted(sites, key=lambda c: (c[1], c[0])))}
        self._turns = 0  # how often the assignment of sites to qubits has changed
        self._lines: list[str] = []
        self._begins: list[int] = []  # the first line of each slot of the window
        self._ends: dict[int, tuple[int, int]] = {}  # slot -> line at its end, records until then
        self._blocks: dict[tuple[int, bool, int], tuple[list[str], list[tuple[int, int, int]]]] = {}
        self._records: dict[Name, int] = {}
        self._detectors: list[LocalDetector] = []
        self._detected: list[Sequence[Name]] = []  # the records of each detector
        self._cuts: list[tuple[int, str]] = []  # line, Pauli targets
        self._free: list[tuple[int, ...]] = []  # cuts whose signs are random together
        self._observed: list[tuple[Column, Lineage]] = []
        self._unread: list[tuple[int, ...]] = []  # observables that nothing reads
        self._number: dict[int, int] = {}  # of the present life of a patch
        self._rect: dict[int, Rect] = {}
        self._signs: dict[int, list[Lineage | None]] = {}  # patch -> lineage of its X and Z; None: held by the partner
        self._joint: dict[tuple[int, int], tuple[int, Sequence[Coord]]] = {}  # merged pair -> joint operator, its seam

    # ---- the parts of a local circuit

    def start(self, window: RegionWindow) -> None:
        if window.before is None:
            return
        parts = [part.placed.item for part in window.before.parts]
        for part in parts:
            self._emit(part, REFERENCE, noisy=False)
        self._end(REFERENCE)
        seen = {(d.x, d.y) for part in parts for d in part.detectors}
        for region in window.regions:
            self._enter(region.placed.item, region.lives, seen)
        for part in parts:
            self._emit(part, -1, noisy=True)
            for d in part.detectors:  # declared to recognise what the window before has decided
                self._detector(-1, d.kind, d.x, d.y, [(REFERENCE, d.x, d.y, 0), (-1, d.x, d.y, 0)])
        self._end(-1)
        for index, event in enumerate(window.before.events):
            self._observe_parity(-1, index, event.placed.item)

    def slot(self, t: int, layer: Layer, *, committed: bool, noisy: bool) -> None:
        self._begins.append(len(self._lines))
        births = {e.lives[0]: e for e in layer.events if isinstance(e.placed.item, Init | Handover)}
        waiting = list(enumerate(layer.events))
        for rank in sorted({r.placed.rank for r in (*layer.parts, *layer.events)}):
            for part in (p for p in layer.parts if p.placed.rank == rank):
                birth = births.get(part.lives[0]) if rank == INIT and committed else None
                self._emit(part.placed.item, t, noisy, birth)
                for d in part.placed.item.detectors:
                    self._detector(t, d.kind, d.x, d.y, [(t + dt, x, y, k) for dt, x, y, k in d.records])
            while committed and waiting and waiting[0][1].placed.rank == rank:
                index, event = waiting.pop(0)
                self._carry(t, index, event.placed.item)
        self._end(t)

    def observe_frames(self, later: Sequence[Layer]) -> None:
        """``later``: the slots beyond the commit."""
        observed: list[tuple[int, int]] = []
        first = len(self._observed)
        for patch in sorted(self._signs, key=self._number.__getitem__):
            for kind, lineage in enumerate(self._signs[patch]):
                if lineage is not None:
                    column = Column("XZ"[kind], 0, self._number[patch])
                    self._observed.append((column, lineage ^ self._cut_sign(patch, kind)))
                    observed.append((patch, kind))
        self._unread = [tuple(first + i for i in signs) for signs in unread(later, observed)]

    def circuit(self) -> LocalCircuit:
        for observable, (_, lineage) in enumerate(self._observed):
            records: dict[int, list[int]] = {}
            for item in lineage:
                if isinstance(item, int):
                    line, paulis = self._cuts[item]
                    self._lines[line] += f"OBSERVABLE_INCLUDE({observable}) {paulis}\n"
                else:
                    records.setdefault(item[0], []).append(self._records[item])
            for t, own in records.items():
                line, count = self._ends[t]
                self._lines[line] += f"OBSERVABLE_INCLUDE({observable}) {_lookback(own, count)}\n"
        slots = ["".join(self._lines[a:b]) for a, b in pairwise([0, *self._begins, len(self._lines)])]
        return LocalCircuit(
            "".join(_repeated(text, len(list(same))) for text, same in groupby(slots)),
            tuple(self._detectors),
            tuple(column for column, _ in self._observed),
            tuple(self._classes),
            self._flips(),
            (*(self._crossing(cuts) for cuts in self._free), *self._unread),
        )

    def _flips(self) -> dict[Name, Flip]:
        detectors: dict[Name, list[int]] = {name: [] for name in self._records}
        observables: dict[Name, list[int]] = {name: [] for name in self._records}
        for i, names in enumerate(self._detected):
            for name in names:
                detectors[name].append(i)
        for i, (_, lineage) in enumerate(self._observed):
            for name in lineage:
                if not isinstance(name, int):
                    observables[name].append(i)
        left, top = self._origin
        return {
            (t, x - left, y - top, k): Flip(tuple(detectors[t, x, y, k]), tuple(observables[t, x, y, k]))
            for t, x, y, k in self._records
            if t > REFERENCE
        }

    def _crossing(self, cuts: tuple[int, ...]) -> tuple[int, ...]:
        """The observables that cross an odd number of some cuts."""
        return tuple(i for i, (_, lineage) in enumerate(self._observed) if sum(cut in lineage for cut in cuts) % 2)

    # ---- operations

    def _emit(self, part: Part, t: int, noisy: bool, birth: Resident | None = None) -> None:
        key = (id(part), noisy, self._turns)
        if birth is None and key in self._blocks:
            lines, measured = self._blocks[key]
        else:
            lines, measured = [], []
            for instruction in part.instructions:
                if instruction.name == "PERM":
                    self._move(instruction.targets)
                    continue
                if noisy:
                    lines += map(self._noise, noise_before(instruction, self._rates, self._offset))
                lines += self._gate(instruction, measured)
                if birth is not None and (instruction.name in ("R", "RX") or instruction.name in HANDOVERS):
                    # The cut lies between the reset and its noise.
                    self._lines += lines
                    lines = []
                    self._be_born(birth)
                    birth = None
                if noisy:
                    lines += map(self._noise, noise_after(instruction, self._rates, self._offset))
            if not any(i.name == "PERM" for i in part.instructions) and part.rank != INIT:
                self._blocks[key] = (lines, measured)
        self._lines += lines
        count = len(self._records)
        for i, (x, y, k) in enumerate(measured):
            self._records[t, x, y, k] = count + i
        assert len(self._records) == count + len(measured), "a site is measured twice in one slot"

    def _gate(self, instruction: Instruction, measured: list[tuple[int, int, int]]) -> list[str]:
        name, targets = instruction
        if not targets or name == "I":
            return []
        if name in HANDOVERS:
            return self._handover(targets, measured)
        if name in ("M", "MX"):
            measured += [(x, y, 0) for x, y in targets]
        return [f"{name} {self._qubits(targets)}\n"]

    def _handover(self, targets: Sequence[Coord], measured: list[tuple[int, int, int]]) -> list[str]:
        """A Clifford stand-in with the stabilisers of the encoded state: its logical value does not matter to matching."""
        data = [c for c in targets if c[0] % 2 == 0]
        plaquettes = {p.centre: p for p in Rect(*data[0], *data[-1]).plaquettes()}
        products = []
        for centre in targets:
            if centre[0] % 2:
                p = plaquettes[centre]
                products.append("*".join(f"{p.basis}{self._qubit[c]}" for c in p.corners if c is not None))
                measured.append((*centre, 1))
        return [f"RX {self._qubits(data)}\n", f"MPP {' '.join(products)}\n"]

    def _noise(self, line: NoiseLine) -> str:
        if not self._tagged:
            return f"{line.channel}({line.probability!r}) {self._qubits(line.sites)}\n"
        tag = self._classes.setdefault(NoiseClass(line.kind, self._relative(line.where)), len(self._classes))
        return f"{line.channel}[{tag}]({REFERENCE_RATE}) {self._qubits(line.sites)}\n"

    def _relative(self, where: Where) -> Where:
        x, y = self._origin[0] + self._offset[0], self._origin[1] + self._offset[1]
        return shifted(where, (-x, -y))

    def _move(self, targets: Sequence[Coord]) -> None:
        moved = {to: self._qubit[origin] for origin, to in zip(targets[::2], targets[1::2], strict=True)}
        self._qubit.update(moved)
        self._turns += 1

    # ---- logical operators

    def _enter(self, region: Region, lives: tuple[Life, ...], seen: set[Coord]) -> None:
        """The cuts of a region as the window finds it; ``seen``: plaquettes that had a detector in the slot before.

        Where a patch had none of a basis, it was born right then, and its sign in this basis is still random.
        """
        self._number.update((life.patch, self._numbers[life]) for life in lives)
        x0, y0, x1, y1 = region.rect
        side = self._side
        self._rect[region.patches[0]] = Rect(x0, y0, x0 + side, y0 + side)
        if len(region.patches) == 2:
            first, second = region.patches
            self._rect[second] = Rect(x1 - side, y1 - side, x1, y1)
            if region.basis == "Z":
                seam = [(x, y0) for x in range(x0 + side + 2, x1 - side, 2)]
            else:
                seam = [(x0, y) for y in range(y0 + side + 2, y1 - side, 2)]
            joint = 1 - sign(region.basis)
            self._joint[first, second] = (joint, seam)
        for patch in region.patches:
            self._signs[patch] = [self._cut_sign(patch, X), self._cut_sign(patch, Z)]
        if len(region.patches) == 2:
            self._signs[second][joint] = None
        for kind in (X, Z):
            for patch in region.patches:
                fresh = [p for p in region.patches if not self._watched(p, kind, seen)]
                lineage = self._signs[patch][kind]
                joined = len(region.patches) == 2 and kind == joint
                if lineage is not None and (fresh if joined else patch in fresh):
                    self._free.append(tuple(cut for cut in lineage if isinstance(cut, int)))

    def _watched(self, patch: int, kind: int, seen: set[Coord]) -> bool:
        return any(p.centre in seen for p in self._rect[patch].plaquettes() if sign(p.basis) == kind)

    def _be_born(self, birth: Resident) -> None:
        patch, rect = birth.placed.item.patch, birth.placed.item.rect
        self._number[patch] = self._numbers[birth.lives[0]]
        self._rect[patch] = rect
        cuts = [self._cut_sign(patch, X), self._cut_sign(patch, Z)]
        self._signs[patch] = [*cuts]
        basis = getattr(birth.placed.item, "basis", None)
        # A state of one basis has a random sign in the other; |Y> has one in both, which only flip together.
        random = cuts if basis is None else [cuts[1 - sign(basis)]]
        self._free.append(tuple(cut for lineage in random for cut in lineage if isinstance(cut, int)))

    def _carry(self, t: int, index: int, event: object) -> None:
        match event:
            case Measure():
                self._observe_parity(t, index, event)
                del self._signs[event.patch]
            case Split():
                joint, _ = self._joint.pop((event.first, event.second))
                cut = self._cut(joint, self._operator(event.second, joint))
                self._free.append((len(self._cuts) - 1,))
                self._signs[event.second][joint] = cut
                self._signs[event.first][joint] = self._held(event.first, joint) ^ cut ^ _names(t, event.records)
            case Hadamard():
                held = self._held(event.patch, Z) ^ _names(t, event.records)
                self._signs[event.patch] = [held, self._held(event.patch, X)]
            case Merge():
                self._observe_parity(t, index, event)
                joint = 1 - sign(event.basis)
                self._joint[event.first, event.second] = (joint, event.seam)
                self._signs[event.first][joint] = self._held(event.first, joint) ^ self._held(event.second, joint)
                self._signs[event.second][joint] = None

    def _observe_parity(self, t: int, index: int, event: Merge | Measure) -> None:
        if t < self._lead - isinstance(event, Merge):  # the round after a merge tells more about its parity
            return
        kind = sign(event.basis)
        if isinstance(event, Merge):
            lineage = self._held(event.first, kind) ^ self._held(event.second, kind)
        else:
            lineage = self._held(event.patch, kind)
        self._observed.append((Column("parity", t, index), lineage ^ _names(t, event.records)))

    def _held(self, patch: int, kind: int) -> Lineage:
        lineage = self._signs[patch][kind]
        assert lineage is not None, f"the joint operator of patch {patch} is held by its partner"
        return lineage

    def _operator(self, patch: int, kind: int) -> list[Coord]:
        return self._rect[patch].row() if kind == X else self._rect[patch].column()

    def _cut_sign(self, patch: int, kind: int) -> Lineage:
        """A cut of the operator whose sign this patch holds: the joint one if it is the first of a merged pair."""
        sites = self._operator(patch, kind)
        for (first, second), (joint, seam) in self._joint.items():
            if first == patch and joint == kind:
                sites = [*sites, *seam, *self._operator(second, kind)]
        return self._cut(kind, sites)

    def _cut(self, kind: int, sites: Iterable[Coord]) -> Lineage:
        self._cuts.append(
            (len(self._lines), " ".join(f"{'XZ'[kind]}{q}" for q in sorted(self._qubit[c] for c in sites)))
        )
        self._lines.append("")  # observables that cross this cut are written here
        return frozenset([len(self._cuts) - 1])

    # ---- text

    def _detector(self, t: int, kind: int, x: int, y: int, records: Sequence[Name]) -> None:
        self._detectors.append(LocalDetector(t, kind, x - self._origin[0], y - self._origin[1]))
        self._detected.append(records)
        self._lines.append(f"DETECTOR {_lookback([self._records[name] for name in records], len(self._records))}\n")

    def _end(self, t: int) -> None:
        """What observables read of a slot's records is written at its end: later, stim would find no loop periodic."""
        self._ends[t] = (len(self._lines), len(self._records))
        self._lines.append("")

    def _qubits(self, targets: Iterable[Coord]) -> str:
        return " ".join(str(self._qubit[c]) for c in targets)


def _repeated(text: str, times: int) -> str:
    return text if times == 1 else f"REPEAT {times} {{\n{text}}}\n"


def _lookback(records: Iterable[int], count: int) -> str:
    return " ".join(f"rec[{r - count}]" for r in sorted(records))


def _names(t: int, records: Iterable[RecordName]) -> frozenset[Name]:
    return frozenset((t + dt, x, y, k) for dt, x, y, k in records)
