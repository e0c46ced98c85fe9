# SPDX-License-Identifier: Apache-2.0
"""From noiseless slots to what the simulated machine does: noisy circuits with steering, births and gauge fixes between.

A slot knows nothing of noise, references or gauge; they are put in here, and only here.  Within a slot the order is
that of its parts; what the logical reference must do is placed where it happens physically:

- a measured patch: before its data are read (`Steer` with ``retire``);
- a birth: with its reset or hand-over (`Prepare`; a hand-over of |Y> also needs a `GaugeFix`);
- a transversal H: with it (`Turn`);
- a parity measurement: after all of these and before the first merged round (`Steer`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import stim
from qcos_plugins.stim_adapter.frames import reader

from qcosd.qec.calibration import Calibration, NoiseLine, noise_after, noise_before
from qcosd.qec.fragment import (
    HANDOVERS,
    SEAM,
    Fragment,
    FragmentProgram,
    Hadamard,
    Handover,
    Init,
    Instruction,
    Measure,
    Merge,
    Part,
    Slot,
)
from qcosd.qec.geometry import Coord, Rect, other, spanning_rect

BIRTHS = {"R", "RX", *HANDOVERS}

Place = tuple[int, int, bool]  # (part, instruction, after?): where in a slot a fault strikes


class Run(NamedTuple):
    """A stretch of noisy circuit."""

    circuit: stim.Circuit


class Prepare(NamedTuple):
    """The reference gets a qubit in |0> ("Z"), |+> ("X") or a state that is handed over, not yet steered.  ``choice``: the
    decision that says which, if any."""

    patch: int
    state: str
    choice: int = -1


class GaugeFix(NamedTuple):
    """A fresh |Y> or |T> stands in as |+>, whose random stabiliser X_L stabilises neither: for |Y> make it Y_L, which does,
    for |T> take it out.

    ``operator`` tells where the frame has X_L, ``pauli`` applies Z_L or X_L there.  Taking X_L out would not be enough for |Y>:
    with one reference for all shots, nothing would then make independent from shot to shot what |Y> makes random.
    ``choice``: only where this decision is 1; elsewhere it is a |+>."""

    operator: stim.Circuit
    pauli: stim.Circuit
    choice: int = -1


class Turn(NamedTuple):
    """A transversal H on a patch."""

    patch: int


class Steer(NamedTuple):
    """The outcome of a product of logical X or Z, (patch, basis), ..., comes from the reference: where the record would
    say otherwise, ``pauli`` flips it: X_L or Z_L (``flips`` "X", "Z") of ``patch``.  ``retire``: the patch is destroyed."""

    product: tuple[tuple[int, str], ...]
    patch: int
    flips: str
    pauli: stim.Circuit
    retire: bool


class Strike(NamedTuple):
    """Injected faults of one place; ``slot`` counts from the beginning of the block."""

    slot: int
    place: Place


Step = Run | Prepare | GaugeFix | Turn | Steer | Strike


class BlockPlan(NamedTuple):
    """Consecutive slots as steps.  ``m``: records of each slot; ``records``: of all.  The last step reads them."""

    m: tuple[int, ...]
    records: int
    steps: tuple[Step, ...]


class Compiler:
    """Steps of the blocks of a program on a device with the given true error rates.  ``offset``: of its placement there.

    Blocks are compiled when they are first asked for and kept, so that batches of one program share them.  ``steer``
    and ``gauge_fix`` are False only in negative controls: either one makes answers wrong while every detector is silent.
    """

    def __init__(
        self,
        program: FragmentProgram,
        noise: Calibration,
        *,
        offset: Coord = (0, 0),
        steer: bool = True,
        gauge_fix: bool = True,
    ) -> None:
        self.program = program
        self.noise = noise
        self.offset = offset
        self.steer = steer
        self.gauge_fix = gauge_fix
        self.sites: dict[Coord, int] = {}
        """Number of the simulator's qubit at each site."""
        self._slots: dict[Slot, int] = {}
        self._sequences: list[list[int]] = []  # per fragment: numbers of its slots, repeats written out
        self._blocks: dict[tuple[int, ...], BlockPlan] = {}
        for fragment in program.fragments:
            numbers = [self._slots.setdefault(slot, len(self._slots)) for slot in fragment.slots]
            self._sequences.append([numbers[i] for i, repeats in fragment.timeline for _ in range(repeats)])
        self._content = list(self._slots)
        parts = {part for slot in self._content for part in slot.parts}
        every = {site for part in parts for _, targets in part.instructions for site in targets}
        for site in sorted(every, key=lambda c: (c[1], c[0])):
            self.sites[site] = len(self.sites)
        self.names = {site: str(qubit) for site, qubit in self.sites.items()}

    def blocks(self, fragment: Fragment) -> list[int]:
        """First slots of the blocks of a fragment: up to d slots each, and none goes on where a decision is awaited.  A path
        ends with a block, be it an empty one."""
        length = fragment.length if fragment.decision else max(fragment.length, 1)
        found, waits = [0] if length else [], sorted({slot for slot, _ in fragment.choices})
        while (
            found and (start := min([found[-1] + self.program.distance, *(w for w in waits if w > found[-1])])) < length
        ):
            found.append(start)
        return found

    def block(self, fragment: Fragment, start: int, faults: Iterable[tuple[int, Place]] = ()) -> BlockPlan:
        """The block of a fragment that begins at slot ``start``; ``faults``: (slot of the block, place) to stop at."""
        stop = next((slot for slot, _ in fragment.choices if slot > start), fragment.length)
        numbers = tuple(self._sequences[fragment.index][start : min(stop, start + self.program.distance)])
        if stops := set(faults):
            return self._compile(numbers, stops)
        plan = self._blocks.get(numbers)
        if plan is None:
            plan = self._blocks[numbers] = self._compile(numbers, stops)
        return plan

    def _compile(self, numbers: tuple[int, ...], stops: set[tuple[int, Place]]) -> BlockPlan:
        writer = _Writer(self, stops)
        m = []
        for i, number in enumerate(numbers):
            slot = self._content[number]
            before = writer.records
            writer.slot(i, slot)
            m.append(writer.records - before)
        return BlockPlan(tuple(m), writer.records, writer.finish())


class _Writer:
    """Writes the steps of one block.

    Circuits are written as text: stim parses a line in 1 us, while `Circuit.append` takes 10 us for each target.
    """

    def __init__(self, compiler: Compiler, stops: set[tuple[int, Place]]) -> None:
        self._compiler = compiler
        self._names = compiler.names
        self._stops = stops
        self._steps: list[Step] = []
        self._lines: list[str] = []
        self._runs = [0]  # records between injected ones

    @property
    def records(self) -> int:
        return sum(self._runs)

    def slot(self, number: int, slot: Slot) -> None:
        births: dict[int, Init | Handover] = {e.patch: e for e in slot.events if isinstance(e, Init | Handover)}
        reads = {e.patch: e for e in slot.events if isinstance(e, Measure)}
        turns = {e.patch for e in slot.events if isinstance(e, Hadamard)}
        merges: list[Merge] | None = [e for e in slot.events if isinstance(e, Merge)]
        rates, offset = self._compiler.noise, self._compiler.offset
        for i, part in enumerate(slot.parts):
            if part.rank >= SEAM and merges:
                for merge in merges:
                    self._merge(slot, merge)
                merges = None
            lone = part.patches[0] if len(part.patches) == 1 else None
            for j, instruction in enumerate(part.instructions):
                if instruction.name in ("M", "MX") and part.rank < SEAM and lone in reads:
                    self._measure(reads.pop(lone), instruction)
                self._noise(noise_before(instruction, rates, offset), number, (i, j, False))
                self._instruction(instruction, part)
                if part.rank < SEAM and instruction.name in BIRTHS and lone in births:
                    self._birth(births.pop(lone))
                elif instruction.name == "H" and lone in turns:
                    turns.remove(lone)
                    self._steps.append(Turn(lone))
                self._noise(noise_after(instruction, rates, offset), number, (i, j, True))
        if births or reads or turns or merges:
            raise ValueError(f"events without parts: {[*births.values(), *reads.values(), *turns, *(merges or ())]}")

    def finish(self) -> tuple[Step, ...]:
        self._lines += reader(self._runs)
        self._flush()
        return tuple(self._steps)

    # ---- physical

    def _instruction(self, instruction: Instruction, part: Part) -> None:
        name, targets = instruction
        if name in ("R", "RX", "H", "M", "MX", "CX"):
            self._lines.append(f"{name} {self._qubits(targets)}")
            if name in ("M", "MX"):
                self._runs[-1] += len(targets)
        elif name == "PERM":
            self._lines.append(f"SWAP {self._qubits(swaps(targets))}")
        elif name in HANDOVERS:
            self._handover(targets)
        elif name not in ("I", "TICK"):
            raise ValueError(f"the machine has no instruction {name} (patches {part.patches})")

    def _handover(self, targets: tuple[Coord, ...]) -> None:
        # Encoding without noise: the stand-in |+>, with its syndrome measured.
        data = [site for site in targets if site[0] % 2 == 0]
        plaquettes = {p.centre: p for p in spanning_rect(Rect(*c, *c) for c in data).plaquettes()}
        centres = [site for site in targets if site[0] % 2]
        products = [
            "*".join(plaquettes[centre].basis + self._names[site] for site in plaquettes[centre].support())
            for centre in centres
        ]
        self._lines += [f"RX {self._qubits(data)}", f"MPP {' '.join(products)}"]
        self._runs[-1] += len(centres)

    def _noise(self, lines: list[NoiseLine], slot: int, place: Place) -> None:
        if (slot, place) in self._stops:
            self._flush()
            self._steps.append(Strike(slot, place))
        for channel, p, targets, *_ in lines:
            self._lines.append(f"{channel}({p}) {self._qubits(targets)}")

    # ---- logical.  What concerns only the reference may overtake the circuit in the making; an injection may not.

    def _birth(self, event: Init | Handover) -> None:
        if isinstance(event, Init):
            self._steps.append(Prepare(event.patch, event.basis))
            return
        self._steps.append(Prepare(event.patch, event.state, event.choice))
        if self._compiler.gauge_fix:
            column = " ".join("Z" + self._names[site] for site in event.rect.column())
            operator = stim.Circuit(f"OBSERVABLE_INCLUDE(0) {column}")
            pauli = self._string(event.rect, "X" if event.state == "T" else "Z")
            self._inject(GaugeFix(operator, pauli, event.choice))

    def _measure(self, event: Measure, instruction: Instruction) -> None:
        rect = spanning_rect(Rect(*c, *c) for c in instruction.targets)
        self._steer(((event.patch, event.basis),), event.patch, rect, other(event.basis), retire=True)

    def _merge(self, slot: Slot, event: Merge) -> None:
        # Flipped on the second patch, whose rectangle ends where that of the merged region ends.
        region = next(r for r in slot.regions if set(r.patches) == {event.first, event.second})
        side = 2 * (self._compiler.program.distance - 1)
        rect = Rect(region.rect.x1 - side, region.rect.y1 - side, region.rect.x1, region.rect.y1)
        product = ((event.first, event.basis), (event.second, event.basis))
        self._steer(product, event.second, rect, other(event.basis), retire=False)

    def _steer(self, product: tuple[tuple[int, str], ...], patch: int, rect: Rect, flips: str, *, retire: bool) -> None:
        if self._compiler.steer:
            self._inject(Steer(product, patch, flips, self._string(rect, flips), retire))

    def _string(self, rect: Rect, pauli: str) -> stim.Circuit:
        """X_L or Z_L of a patch, controlled by the newest record."""
        sites = rect.row() if pauli == "X" else rect.column()
        targets = " ".join(f"rec[-1] {self._names[site]}" for site in sites)
        return stim.Circuit(f"C{pauli} {targets}")

    # ---- steps

    def _qubits(self, targets: Iterable[Coord]) -> str:
        return " ".join([self._names[site] for site in targets])

    def _inject(self, step: Steer | GaugeFix) -> None:
        self._flush()
        self._steps.append(step)
        self._runs.append(0)

    def _flush(self) -> None:
        if self._lines:
            self._steps.append(Run(stim.Circuit("\n".join(self._lines))))
            self._lines = []


def swaps(moves: tuple[Coord, ...]) -> list[Coord]:
    """Swaps (a, b, a, b, ...) that move what is at ``moves[0]`` to ``moves[1]``, at ``moves[2]`` to ``moves[3]``, ...

    Moving what a site holds keeps one number for each site, whatever turned before.  What was at a site that is only
    moved to ends up where nothing moves to.
    """
    sources, goals = moves[::2], moves[1::2]
    if len(set(sources)) != len(sources) or len(set(goals)) != len(goals):
        raise ValueError("PERM: a site stands twice on one side")
    places = {site: site for site in (*sources, *goals)}  # where the qubit of a site is now
    holds = dict(places)  # the inverse
    out: list[Coord] = []
    for source, goal in zip(sources, goals, strict=True):
        here = places[source]
        if here == goal:
            continue
        out += [here, goal]
        moved = holds[goal]
        places[source], places[moved] = goal, here
        holds[goal], holds[here] = source, moved
    return out
