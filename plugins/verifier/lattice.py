# SPDX-License-Identifier: Apache-2.0
"""One path through fragments as a stim circuit, written without regard to how hardware or tracker do it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import stim
from qcos_plugins.verifier.finding import TooLarge, Wrong
from qcos_plugins.verifier.parity import Frames, Gadget, Tested, Written

from qcosd.qec.calibration import Calibration, NoiseLine, noise_after, noise_before
from qcosd.qec.fragment import HANDOVERS, INIT, FragmentProgram, Instruction, Slot
from qcosd.qec.geometry import Coord, plaquette_basis

MOST_RECORDS: Final = 60_000
"""Of a path that is written out."""


@dataclass
class Lattice:
    """``lines``: a stim circuit; its records are those of the slots in order, with ``hidden`` ones between them, which are
    no records of a slot; its detectors are those of the slots in order.  ``history``, ``written``: what bits are made of.
    ``alone``: for each patch, rounds in which it was merged with none, before each of its writings and after the last.
    ``left``: patches that are alive at the end.  ``gadgets``: what stands for T gates.  ``certain_tags``: independent parities of tags that are certain.
    """

    lines: list[str]
    history: list[Written | Tested]
    written: list[Written]
    detectors: int
    records: int
    hidden: tuple[int, ...]
    rounds: int
    alone: dict[int, list[int]]
    left: list[int]
    certain_tags: int
    gadgets: list[Gadget]

    def circuit(self, observables: Iterable[Iterable[int]]) -> stim.Circuit:
        """With parities of records as observables."""
        said = []
        for number, records in enumerate(observables):
            targets = " ".join(f"rec[{record - self.records}]" for record in sorted(records))
            said.append(f"OBSERVABLE_INCLUDE({number}) {targets}")
        return stim.Circuit("\n".join([*self.lines, *said]))

    def certain(self, chosen: Sequence[int] | None = None) -> list[list[int]]:
        """A basis of the parities of writings (by number; of those chosen) that no coin flip decides."""
        rows: dict[int, tuple[frozenset[int], frozenset[int]]] = {}  # first cut -> cuts, writings
        found = []
        for number in range(len(self.written)) if chosen is None else chosen:
            cuts, members = self.written[number].parity.cuts, frozenset([number])
            while cuts and (first := min(cuts)) in rows:
                cuts, members = cuts ^ rows[first][0], members ^ rows[first][1]
            if cuts:
                rows[min(cuts)] = (cuts, members)
            else:
                found.append(sorted(members))
        return found

    def records_of(self, writings: Iterable[int]) -> frozenset[int]:
        """The records of a parity of writings."""
        found: frozenset[int] = frozenset()
        for number in writings:
            found ^= self.written[number].parity.records
        return found


def lattice(
    program: FragmentProgram,
    decisions: Sequence[int] = (),
    rates: Calibration | None = None,
    *,
    offset: Coord = (0, 0),
    shorten: bool = True,
    stands: Callable[[int], bool] = lambda number: True,
) -> Lattice:
    """The circuit of a path.  ``shorten``: long runs of equal slots are cut down, which changes no meaning.  ``stands``: see
    `parity.Frames`.

    Raises Wrong when the slots do not fit to one another, TooLarge.
    """
    writer = _Writer(Frames(2 * program.distance, stands), rates, offset)
    for fragment in program.path(decisions):
        if sorted(patch for patch, _ in fragment.entry) != sorted(writer.frames.live):
            raise Wrong(f"fragment {fragment.index} begins with other patches than those that are alive")
        for i, repeats in fragment.timeline:
            slot = fragment.slots[i]
            # The rest is as many slots modulo 4 as it was: whatever a slot does to the patches, four of it do nothing.
            limit = 4 * program.distance
            short = shorten and not slot.events and repeats > limit + 4
            for _ in range(limit + (repeats - limit) % 4 if short else repeats):
                writer.slot(slot)
            if short:
                writer.pass_by(slot, repeats - limit - (repeats - limit) % 4)
                writer.frames.passed(repeats - limit - (repeats - limit) % 4)
        if fragment.decision is not None:
            writer.frames.test(fragment.decision.condition, decision=True)
    return writer.lattice()


class _Writer:
    def __init__(self, frames: Frames, rates: Calibration | None, offset: Coord) -> None:
        self.frames = frames
        self._rates = rates
        self._offset = offset
        self._lines: list[str] = []
        self._ids: dict[Coord, int] = {}
        self._halves: dict[Coord, int] = {}
        self._count = 0
        self._hidden: list[int] = []
        self._detectors = 0
        self._rounds = 0
        self._alone: dict[int, list[int]] = {}
        self._before: dict[tuple[int, int, int], int] = {}
        self._now: dict[tuple[int, int, int], int] = {}

    def slot(self, slot: Slot) -> None:
        self._before, self._now = self._now, {}
        detectors = []
        for part in slot.parts:
            state = self.frames.stand_in(part) if part.rank == INIT else ""
            for instruction in part.instructions:
                self._instruction(instruction, state)
            detectors += part.detectors
        for detector in detectors:
            self._parity(f"DETECTOR({detector.x},{detector.y},{self._rounds})", self._numbers(detector.records))
            self._detectors += 1
        entries = len(self.frames.history)
        self.frames.follow(slot.events, self._numbers)
        for entry in self.frames.history[entries:]:
            if isinstance(entry, Written) and entry.qubit >= 0:
                self._alone.setdefault(entry.qubit, [0]).append(0)
        self.pass_by(slot, 1)

    def pass_by(self, slot: Slot, times: int) -> None:
        """Counts the rounds of a slot."""
        self._rounds += times * bool(slot.regions)
        for region in slot.regions:
            if len(region.patches) == 1:
                self._alone.setdefault(region.patches[0], [0])[-1] += times

    def lattice(self) -> Lattice:
        written = [entry for entry in self.frames.history if isinstance(entry, Written)]
        return Lattice(
            self._lines,
            self.frames.history,
            written,
            self._detectors,
            self._count,
            tuple(self._hidden),
            self._rounds,
            self._alone,
            sorted(self.frames.live),
            self.frames.certain_tags(),
            self.frames.gadgets,
        )

    # ---- inside

    def _instruction(self, instruction: Instruction, state: str) -> None:
        name, targets = instruction
        if name == "PERM":
            if sorted(targets[::2]) != sorted(targets[1::2]):
                raise Wrong("qubits move to sites that no others leave")
            moved = {new: self._ids[old] for old, new in zip(targets[::2], targets[1::2], strict=True)}
            self._ids = {**self._ids, **moved}
            return
        if name == "TICK" or not targets:
            return
        if len(set(targets)) != len(targets):
            raise Wrong(f"{name} has a target twice in one layer")
        for site in targets:
            self._ids.setdefault(site, len(self._ids))
        if self._rates is not None:
            self._noise(noise_before(instruction, self._rates, self._offset))
        if name in HANDOVERS:
            self._arrive(targets, state)
        elif name != "I":
            self._line(name, targets)
        if name in ("M", "MX"):
            for x, y in targets:
                self._record((x, y, 0))
        if self._rates is not None:
            self._noise(noise_after(instruction, self._rates, self._offset))

    def _arrive(self, targets: tuple[Coord, ...], state: str) -> None:
        """Data qubits in no state at all, then every stabiliser and the logical Y (or X) are measured, and it is made +1."""
        data = [site for site in targets if site[0] % 2 == 0]
        present = set(data)
        # Each of them is one half of a pair, so that every syndrome is as likely as any other.
        others = [self._halves.setdefault(site, self._spare()) for site in data]
        self._lines.append("RX " + " ".join(map(str, others)))
        self._line("R", data)
        self._lines.append("CX " + " ".join(f"{o} {self._ids[site]}" for o, site in zip(others, data, strict=True)))
        for x, y in targets:
            if x % 2:
                basis = plaquette_basis((x, y))
                corners = [(x + i, y + j) for i in (-1, 1) for j in (-1, 1) if (x + i, y + j) in present]
                self._lines.append("MPP " + "*".join(f"{basis}{self._ids[site]}" for site in corners))
                self._record((x, y, 1))
        x0, y0 = data[0]
        letters = {site: "X" for site in data if site[1] == y0}
        if state == "Y":
            letters = {site: "Z" for site in data if site[0] == x0} | letters | {(x0, y0): "Y"}
        self._lines.append("MPP " + "*".join(f"{letter}{self._ids[site]}" for site, letter in letters.items()))
        self._hidden.append(self._count)
        self._count += 1
        column = [site for site in data if site[0] == x0]
        self._lines.append("CZ " + " ".join(f"rec[-1] {self._ids[site]}" for site in column))

    def _spare(self) -> int:
        """A qubit that stands on no site."""
        self._ids[-1 - len(self._ids), -1] = number = len(self._ids)
        return number

    def _record(self, name: tuple[int, int, int]) -> None:
        if name in self._now:
            raise Wrong(f"site {list(name[:2])} is measured twice in one slot")
        self._now[name] = self._count
        self._count += 1
        if self._count > MOST_RECORDS:
            raise TooLarge(f"a path of more than {MOST_RECORDS} records")

    def _numbers(self, names: Sequence[tuple[int, int, int, int]]) -> frozenset[int]:
        found: set[int] = set()
        for dt, x, y, k in names:
            number = (self._now if dt == 0 else self._before if dt == -1 else {}).get((x, y, k))
            if number is None:
                raise Wrong(f"record ({dt}, {x}, {y}, {k}) is named and does not exist")
            found ^= {number}
        return frozenset(found)

    def _line(self, name: str, sites: Iterable[Coord]) -> None:
        self._lines.append(f"{name} " + " ".join(str(self._ids[site]) for site in sites))

    def _noise(self, lines: Iterable[NoiseLine]) -> None:
        for line in lines:
            self._line(f"{line.channel}({line.probability!r})", line.sites)

    def _parity(self, name: str, records: Iterable[int]) -> None:
        self._lines.append(f"{name} " + " ".join(f"rec[{record - self._count}]" for record in sorted(records)))
