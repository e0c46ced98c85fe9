# SPDX-License-Identifier: Apache-2.0
"""From the instructions of a slot to a circuit on numbered qubits.  Everything else in a slot is ignored.

A qubit keeps its number when it moves: a PERM is no gate, only a new table of which qubit stands where.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import stim
from numpy.typing import NDArray
from qcos_plugins.tableau_adapter.noise import HERALDED, Channel, Noise

from qcosd.qec.fragment import FragmentProgram, Slot
from qcosd.qec.geometry import Coord

KEPT_CIRCUITS = 4096

Layout = dict[Coord, int]
"""The qubit at each site."""


class Strike(Protocol):
    """Paulis that are injected on purpose, before or after an instruction; ``slot``: absolute slot of the path."""

    @property
    def slot(self) -> int: ...
    @property
    def part(self) -> int: ...
    @property
    def instruction(self) -> int: ...
    @property
    def after(self) -> bool: ...
    @property
    def paulis(self) -> Sequence[tuple[Coord, str]]: ...


class Rounds(NamedTuple):
    """The circuit of a slot.

    ``measurements``: of the circuit.  ``records``: which of them are the slot's records, in order.  ``heralds``: for each
    record the measurement that tells whether its qubit was erased, -1 where nothing does.  ``moves``: the qubits that
    stand elsewhere afterwards.
    """

    circuit: stim.Circuit
    measurements: int
    records: NDArray[np.intp]
    heralds: NDArray[np.intp]
    moves: Mapping[Coord, int]


class Translator:
    """Circuits of the slots of a program, noise included; kept, because slots repeat in every round, shot and batch.

    ``known_syndrome``: what an encoded |Y> arrives with.  "any": every plaquette has a random sign; "plus": those of a
    |+...+>, whose X plaquettes are all 0.
    """

    def __init__(self, program: FragmentProgram, noise: Noise, known_syndrome: str = "any") -> None:
        if known_syndrome not in ("any", "plus"):
            raise ValueError(f"syndrome {known_syndrome!r} of an arriving state: any or plus expected")
        self.program = program
        self.noise = noise
        self.known_syndrome = known_syndrome
        self._slots = [list(fragment.sequence()) for fragment in program.fragments]
        touched = {
            site
            for fragment in program.fragments
            for slot in fragment.slots
            for part in slot.parts
            for _, targets in part.instructions
            for site in targets
        }
        self.layout: Layout = {site: number for number, site in enumerate(sorted(touched))}
        """Where qubits stand at the beginning."""
        self._sites: dict[int, tuple[Coord, ...]] = {}  # of a slot, by its identity
        self._circuits: dict[tuple[int, tuple[int, ...]], Rounds] = {}

    def slot(self, fragment: int, number: int) -> Slot:
        return self._slots[fragment][number]

    def rounds(self, slot: Slot, layout: Layout) -> Rounds:
        """The circuit of a slot of this program when qubits stand as in ``layout``."""
        if id(slot) not in self._sites:  # slots live as long as the program
            found = (targets for part in slot.parts for _, targets in part.instructions)
            self._sites[id(slot)] = tuple(dict.fromkeys(site for targets in found for site in targets))
        key = (id(slot), tuple([layout[site] for site in self._sites[id(slot)]]))
        if key not in self._circuits:
            if len(self._circuits) >= KEPT_CIRCUITS:
                self._circuits.clear()
            self._circuits[key] = self.struck(slot, layout, ())
        return self._circuits[key]

    def struck(self, slot: Slot, layout: Layout, strikes: Iterable[Strike]) -> Rounds:
        """As `rounds`, with injected faults; not kept."""
        at: dict[tuple[int, int, bool], list[tuple[Coord, str]]] = {}
        for strike in strikes:
            at.setdefault((strike.part, strike.instruction, strike.after), []).extend(strike.paulis)
        writer = _Writer(layout, self.known_syndrome)
        for i, part in enumerate(slot.parts):
            for j, (name, targets) in enumerate(part.instructions):
                for channel in self.noise.before(name, targets):
                    writer.channel(channel)
                writer.paulis(at.pop((i, j, False), ()))
                writer.instruction(name, targets)
                writer.paulis(at.pop((i, j, True), ()))
                for channel in self.noise.after(name, targets):
                    writer.channel(channel)
        if at:
            raise ValueError(f"faults at places that the slot does not have: {sorted(at)}")
        return writer.finish(layout)


class _Writer:
    """Lines of a circuit."""

    def __init__(self, layout: Layout, known_syndrome: str) -> None:
        self._at = dict(layout)
        self._known_syndrome = known_syndrome
        self._lines: list[str] = []
        self._measured = 0
        self._records: list[int] = []
        self._heralds: list[int] = []
        self._erased: dict[Coord, int] = {}  # sites with a herald that no reading has taken yet

    def finish(self, before: Layout) -> Rounds:
        circuit = stim.Circuit("\n".join(self._lines))
        assert circuit.num_measurements == self._measured, "every measurement is accounted for"
        moves = {site: qubit for site, qubit in self._at.items() if before[site] != qubit}
        return Rounds(
            circuit, self._measured, np.array(self._records, np.intp), np.array(self._heralds, np.intp), moves
        )

    def instruction(self, name: str, targets: tuple[Coord, ...]) -> None:
        match name:
            case "R" | "RX" | "H" | "CX":
                self._line(name, targets)
            case "M" | "MX":
                self._line(name, targets)
                self._record(len(targets), [self._erased.pop(site, -1) for site in targets])
            case "PERM":
                self._move(targets)
            case "HANDOVER_Y":
                self._arrive(targets)
            case "I" | "TICK":
                pass
            case _:
                raise ValueError(f"this machine cannot do {name}: use hardware that can, or compile without it")

    def channel(self, channel: Channel) -> None:
        self._line(f"{channel.name}({channel.probability!r})", channel.sites)
        if channel.name == HERALDED:
            self._erased = {site: self._measured + i for i, site in enumerate(channel.sites)}
            self._measured += len(channel.sites)

    def paulis(self, paulis: Iterable[tuple[Coord, str]]) -> None:
        for site, pauli in paulis:
            self._line(pauli, (site,))

    def _line(self, name: str, sites: Iterable[Coord]) -> None:
        if qubits := " ".join([str(self._at[site]) for site in sites]):
            self._lines.append(f"{name} {qubits}")

    def _record(self, count: int, heralds: Sequence[int]) -> None:
        self._records += range(self._measured, self._measured + count)
        self._heralds += heralds
        self._measured += count

    def _move(self, targets: tuple[Coord, ...]) -> None:
        moved = {goal: self._at[source] for source, goal in zip(targets[0::2], targets[1::2], strict=True)}
        if sorted(moved) != sorted(targets[0::2]):
            raise ValueError("PERM: qubits move to sites that others do not leave")
        self._at.update(moved)

    def _arrive(self, targets: tuple[Coord, ...]) -> None:
        """An encoded |Y> arrives without noise: all its plaquettes are measured, and told, and then its logical Y, which
        is not told but set right."""
        data = [site for site in targets if not site[0] & 1]
        centres = [site for site in targets if site[0] & 1]
        left, top = min(x for x, _ in data), min(y for _, y in data)
        self._line("RX", data)
        if self._known_syndrome == "any":
            self._line("Z_ERROR(0.5)", data)
        for x, y in centres:
            corners = [(x + dx, y + dy) for dy in (-1, 1) for dx in (-1, 1)]
            # Plaquettes are X and Z as the fields of a chessboard.
            self._product(dict.fromkeys((c for c in corners if c in data), "X" if (x + y) % 4 == 2 else "Z"))
        self._record(len(centres), [-1] * len(centres))
        # Y = i X Z, X along the top row and Z down the left column: they meet in the corner.
        logical = {site: "X" for site in data if site[1] == top} | {site: "Z" for site in data if site[0] == left}
        logical[left, top] = "Y"
        self._product(logical)
        self._measured += 1
        self._lines.append("CZ " + " ".join(f"rec[-1] {self._at[site]}" for site in data if site[0] == left))

    def _product(self, paulis: Mapping[Coord, str]) -> None:
        self._lines.append("MPP " + "*".join(f"{pauli}{self._at[site]}" for site, pauli in paulis.items()))
