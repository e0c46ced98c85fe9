# SPDX-License-Identifier: Apache-2.0
"""A whole path through a program as one stim circuit: for global decoding, written records and tests.

Live decoding never uses it.  The circuit holds the noise of a calibration, every detector, and as observables parities
of classical bits, each with all the records that its Pauli frame depends on.

A bit may be random.  To make it an observable all the same, logical operators are *cut* where they become random: at the
birth of a patch (between the reset and its noise), and at a split (the operator of the second patch that the merge has
erased).  A cut is a Pauli that the observable contains at that place: what is observed is the bit relative to the value that
the operator had there, and that is deterministic but for errors.  A cut has no record, so converting records to observables
gives the bit itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from qcosd.qec.calibration import Calibration, NoiseLine, noise_after, noise_before
from qcosd.qec.fragment import (
    HANDOVERS,
    INIT,
    SPLIT,
    Choose,
    Event,
    FragmentProgram,
    Frame,
    Hadamard,
    Handover,
    Init,
    Instruction,
    Measure,
    Merge,
    RecordName,
    Slot,
    Split,
)
from qcosd.qec.geometry import Coord, Rect, other, plaquette_basis
from qcosd.qec.program import Condition

DetectorKey = tuple[int, int, int, int]
"""(slot counted from the beginning of the path, kind, x, y)."""

_Numbering = Callable[[RecordName], int]
_Cuts = Callable[[int, int, str], int]


class NonlinearFrame(ValueError):
    """A conditional Pauli whose condition is no parity of bits, or a choice: such a frame is no fixed set of records."""


@dataclass(frozen=True)
class Parity:
    """The parity of some records (numbered from the beginning of the path), xor ``constant``, relative to some cuts (by
    number)."""

    records: frozenset[int] = frozenset()
    constant: int = 0
    cuts: frozenset[int] = frozenset()

    def __xor__(self, other: Parity) -> Parity:
        return Parity(self.records ^ other.records, self.constant ^ other.constant, self.cuts ^ other.cuts)


@dataclass(frozen=True)
class WholeCircuit:
    """``text``: the stim circuit; its records are those of the slots, in order, and no others.

    ``detectors``: keys of the detectors, in the order of the circuit.  ``bits``: the last value of each classical bit.
    ``observables``: what the circuit's observables stand for; stim knows nothing of their constants.
    """

    text: str
    detectors: tuple[DetectorKey, ...]
    measurements: int
    bits: tuple[Parity, ...]
    observables: tuple[Parity, ...]


def whole_circuit(
    program: FragmentProgram,
    rates: Calibration | None = None,
    observables: Iterable[Sequence[int]] | None = None,
    decisions: Iterable[int] = (),
    *,
    offset: Coord = (0, 0),
    conditional: bool = True,
) -> WholeCircuit:
    """The circuit of the path on which the decisions come out as given.

    ``observables``: each a list of classical bits whose parity is meant (default: each bit alone).  ``rates``: no noise if
    not given; ``offset``: where the program lies on the device that they are of.  ``conditional``: whether observables follow
    conditional Paulis, which raises NonlinearFrame where a condition is no parity; without, what those Paulis add to each
    bit is left to whoever ran the program.
    """
    slots = [slot for fragment in program.path(decisions) for slot in fragment.sequence()]
    writer = _Writer(slots, rates, offset)
    frames = PauliFrames(program.bits, conditional=conditional)
    for t, slot in enumerate(slots):
        writer.slot(t, slot)
        frames.follow(slot.events, partial(writer.number, t), writer.cut_of)
        writer.forget(t - 1)
    chosen = [[bit] for bit in range(program.bits)] if observables is None else observables
    parities = []
    for number, bits in enumerate(chosen):
        parity = Parity()
        for bit in bits:
            parity ^= frames.bits[bit]
        parities.append(parity)
        writer.observable(number, parity)
    return WholeCircuit(writer.text(), tuple(writer.keys), writer.count, tuple(frames.bits), tuple(parities))


class PauliFrames:
    """Follows the events of a path: which records the frames of the patches and the classical bits depend on.

    ``conditional``: whether it follows conditional Paulis.
    """

    def __init__(self, bits: int, *, conditional: bool = True) -> None:
        self.bits = [Parity()] * bits
        self.tags: dict[int, Parity] = {}
        self.x: dict[int, Parity] = {}  # signs of the patches' X operators
        self.z: dict[int, Parity] = {}  # signs of their Z operators
        self._conditional = conditional

    def follow(self, events: Iterable[Event], number: _Numbering, cut: _Cuts) -> None:
        """``number`` gives the number of a record of the slot that the events belong to; ``cut`` that of the cut made there at a rank (INIT
        or SPLIT) of an operator ("X" or "Z") of a patch."""
        for event in events:
            self._follow(event, lambda names: Parity(frozenset(number(name) for name in names)), cut)

    def _follow(self, event: Event, raw: Callable[[tuple[RecordName, ...]], Parity], cut: _Cuts) -> None:
        if isinstance(event, Init):
            random, fixed = (self.x, self.z) if event.basis == "Z" else (self.z, self.x)
            random[event.patch] = Parity(cuts=frozenset([cut(INIT, event.patch, other(event.basis))]))
            fixed[event.patch] = Parity()
        elif isinstance(event, Handover):
            # Of |Y> the product of both is fixed: what one is relative to serves for the other.
            self.x[event.patch] = Parity(cuts=frozenset([cut(INIT, event.patch, "X")]))
            same = "X" if event.state == "Y" else "Z"
            self.z[event.patch] = Parity(cuts=frozenset([cut(INIT, event.patch, same)]))
        elif isinstance(event, Merge):
            measured, joint = (self.z, self.x) if event.basis == "Z" else (self.x, self.z)
            self.tags[event.tag] = measured[event.first] ^ measured[event.second] ^ raw(event.records)
            joint[event.first] ^= joint[event.second]
            joint[event.second] = Parity()
        elif isinstance(event, Split):
            joint = self.x if event.basis == "Z" else self.z
            anew = Parity(cuts=frozenset([cut(SPLIT, event.second, other(event.basis))]))
            joint[event.first] ^= raw(event.records) ^ anew
            joint[event.second] = anew
        elif isinstance(event, Measure):
            x, z = self.x.pop(event.patch), self.z.pop(event.patch)
            self.tags[event.tag] = (x if event.basis == "X" else z) ^ raw(event.records)
            if event.bit >= 0:
                self.bits[event.bit] = self.tags[event.tag]
        elif isinstance(event, Hadamard):
            x, z = self.x[event.patch], self.z[event.patch]
            self.x[event.patch], self.z[event.patch] = z ^ raw(event.records), x
        elif isinstance(event, Choose):
            if self._conditional:
                raise NonlinearFrame(f"decision {event.k}: what is handed over depends on it")
        elif event.condition is None or self._conditional:
            applied = self._applied(event)
            if event.pauli in ("X", "Y"):
                self.z[event.patch] ^= applied
            if event.pauli in ("Z", "Y"):
                self.x[event.patch] ^= applied

    def _applied(self, event: Frame) -> Parity:
        if event.condition is not None:
            return self._value(event.condition)
        applied = Parity(constant=event.constant)
        for tag in event.tags:
            applied ^= self.tags[tag]
        return applied

    def _value(self, condition: Condition) -> Parity:
        """The condition as a parity: possible for one undetermined bit, or where all bits are constant."""
        fixed = [
            parity.constant if not parity.records else None for parity in map(self.bits.__getitem__, condition.bits)
        ]
        free = [place for place, value in enumerate(fixed) if value is None]
        if len(free) > 1:
            raise NonlinearFrame(f"a Pauli depends on {condition.comparison} {condition.value} of {len(fixed)} bits")
        outcomes = []
        for value in (0, 1):
            outcomes.append(condition.holds([value if bit is None else bit for bit in fixed]))
        if outcomes[0] == outcomes[1]:
            return Parity(constant=int(outcomes[0]))
        return self.bits[condition.bits[free[0]]] ^ Parity(constant=int(outcomes[0]))


class _Writer:
    """Lines of a stim circuit; sites are turned into qubit numbers, record names into look-backs."""

    def __init__(self, slots: Iterable[Slot], rates: Calibration | None, offset: Coord) -> None:
        self._rates = rates
        self._offset = offset
        distinct = {id(slot): slot for slot in slots}.values()
        sites = {
            site for slot in distinct for part in slot.parts for line in part.instructions for site in line.targets
        }
        ordered = sorted(sites, key=lambda site: (site[1], site[0]))
        self.qubit: dict[Coord, int] = {site: number for number, site in enumerate(ordered)}
        self.lines = [f"QUBIT_COORDS({x}, {y}) {number}" for (x, y), number in self.qubit.items()]
        self.records: dict[tuple[int, int, int, int], int] = {}  # (slot, x, y, k) of the last two slots
        self.keys: list[DetectorKey] = []
        self.count = 0
        self._rects: dict[int, Rect] = {}
        self._cuts: list[tuple[int, str]] = []  # line that is kept free for it, Pauli targets
        self._cut_at: dict[tuple[int, int, str], int] = {}  # (rank, patch, operator) -> number of the latest

    def slot(self, t: int, slot: Slot) -> None:
        births = {event.patch: event for event in slot.events if isinstance(event, Init | Handover)}
        splits = {(event.first, event.second): event for event in slot.events if isinstance(event, Split)}
        for part in slot.parts:
            born = part.patches[0] if part.rank == INIT else None
            for instruction in part.instructions:
                self._noise(noise_before, instruction)
                self._instruction(t, instruction)
                if born is not None:
                    # Between the reset and its noise.
                    birth = births[born]
                    self._rects[born] = birth.rect
                    for operator in other(birth.basis) if isinstance(birth, Init) else "XZ":
                        self._cut(INIT, born, operator)
                    born = None
                self._noise(noise_after, instruction)
            if part.rank == SPLIT:
                split = splits[part.patches]  # type: ignore[index]  # of two patches
                self._cut(SPLIT, split.second, other(split.basis))
            for x, y, kind, records in part.detectors:
                self.keys.append((t, kind, x, y))
                self._parity(f"DETECTOR({x}, {y}, {t}, {kind})", (self.number(t, record) for record in records))

    def number(self, t: int, record: RecordName) -> int:
        """Number of a record that slot ``t`` names."""
        dt, x, y, k = record
        return self.records[t + dt, x, y, k]

    def cut_of(self, rank: int, patch: int, operator: str) -> int:
        """Number of the cut of an operator that the slot at hand has made at a rank."""
        return self._cut_at[rank, patch, operator]

    def observable(self, number: int, parity: Parity) -> None:
        for cut in sorted(parity.cuts):
            line, paulis = self._cuts[cut]
            self.lines[line] += f"OBSERVABLE_INCLUDE({number}) {paulis}\n"
        self._parity(f"OBSERVABLE_INCLUDE({number})", parity.records)

    def text(self) -> str:
        return "\n".join(line.rstrip("\n") for line in self.lines if line)

    def forget(self, t: int) -> None:
        """Slot ``t`` will not be named again."""
        for key in [key for key in self.records if key[0] <= t]:
            del self.records[key]

    def _instruction(self, t: int, instruction: Instruction) -> None:
        name, targets = instruction
        if name == "PERM":
            moved = {new: self.qubit[old] for old, new in zip(targets[::2], targets[1::2], strict=True)}
            self.qubit.update(moved)
        elif name == "TICK":
            self.lines.append("TICK")
        elif name in HANDOVERS:
            self._arrive(t, targets)
        elif targets:
            self._line(name, targets)
            if name in ("M", "MX"):
                self._number(t, targets, 0)

    def _arrive(self, t: int, targets: tuple[Coord, ...]) -> None:
        """An encoded |Y>, for whichever state it is, without noise and with random syndrome."""
        data = [site for site in targets if site[0] % 2 == 0]
        centres = [site for site in targets if site[0] % 2]
        self._line("RX", data)
        for centre in centres:
            if plaquette_basis(centre) == "X":
                # |+> has X plaquettes of 0.  A Z string from each of them to the lower side, which misses the top
                # row and so the logical X, is applied or not: its control is never measured.
                self._line("RX", [centre])
                self._line("CZ", [site for step in _descent(centre, set(data)) for site in (centre, step)])
        for centre in centres:
            factors = "*".join(f"{plaquette_basis(centre)}{self.qubit[site]}" for site in _corners(centre, set(data)))
            self.lines.append(f"MPP {factors}")
            self._number(t, [centre], 1)
        column = [site for site in data if site[0] == data[0][0]]
        self.lines.append("SPP " + "*".join(f"Z{self.qubit[site]}" for site in column))

    def _number(self, t: int, sites: Iterable[Coord], k: int) -> None:
        for x, y in sites:
            self.records[t, x, y, k] = self.count
            self.count += 1

    def _cut(self, rank: int, patch: int, operator: str) -> None:
        rect = self._rects[patch]
        sites = rect.row() if operator == "X" else rect.column()
        self._cut_at[rank, patch, operator] = len(self._cuts)
        self._cuts.append((len(self.lines), " ".join(f"{operator}{self.qubit[site]}" for site in sites)))
        self.lines.append("")  # observables that are relative to this cut are written here

    def _noise(self, struck: Callable[[Instruction, Calibration, Coord], list[NoiseLine]], gate: Instruction) -> None:
        if self._rates is not None:
            for line in struck(gate, self._rates, self._offset):
                self._line(f"{line.channel}({line.probability!r})", line.sites)

    def _line(self, name: str, sites: Iterable[Coord]) -> None:
        self.lines.append(f"{name} " + " ".join(str(self.qubit[site]) for site in sites))

    def _parity(self, name: str, records: Iterable[int]) -> None:
        self.lines.append(f"{name} " + " ".join(f"rec[{record - self.count}]" for record in sorted(records)))


def _corners(centre: Coord, data: set[Coord]) -> list[Coord]:
    x, y = centre
    return [site for site in ((x - 1, y - 1), (x + 1, y - 1), (x - 1, y + 1), (x + 1, y + 1)) if site in data]


def _descent(centre: Coord, data: set[Coord]) -> list[Coord]:
    """Data qubits from an X plaquette down to the lower side: Z on all of them flips this X plaquette only."""
    path: list[Coord] = []
    while below := [site for site in _corners(centre, data) if site[1] > centre[1]]:
        path.append(below[0])
        centre = (2 * below[0][0] - centre[0], 2 * below[0][1] - centre[1])
    return path
