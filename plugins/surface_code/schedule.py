# SPDX-License-Identifier: Apache-2.0
"""Places the logical operations of one fragment on its slots.

Everything that touches hardware starts on a multiple of the distance d, as early as its qubits, cells and classical bits
allow.  Frame events cost no time; where they read classical bits they stand behind the measurements they read, and
before later measurements into the same bits.

What a slot holds is done in two phases: first gadgets of earlier slots end (their events concern no classical bit), then
everything else in program order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from qcos_plugins.surface_code.builder import Builder
from qcos_plugins.surface_code.floor import Floor, Need, corner_cell, corridor, data_cell, magic_cell, patch_on
from qcos_plugins.surface_code.flow import UNPHYSICAL, Step, Where
from qcos_plugins.surface_code.inserted import EIGHTH

from qcosd.qec.geometry import other
from qcosd.qec.program import PAULIS, Condition, Op

END, BEGIN = 0, 1  # phases of a slot


class Unsupported(Exception):
    """A legal program that this code cannot run on this device.  ``line`` is that of the gate (0: none)."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


class Action(NamedTuple):
    """A call of the builder, and when."""

    slot: int
    phase: int
    act: Callable[[Builder], object]


@dataclass
class Unborn:
    """What a qubit that does not exist yet will be born as: a state, and Paulis applied to it."""

    basis: str = "Z"
    paulis: list[str] = field(default_factory=list)

    def hadamard(self) -> None:
        self.basis = other(self.basis)
        self.paulis = [other(pauli) for pauli in self.paulis]

    def copy(self) -> Unborn:
        return Unborn(self.basis, list(self.paulis))


class Schedule:
    """The actions of one fragment.

    ``lead``: slots, a multiple of the distance, from where the decision of a T gate can be made to where it is needed.
    ``alive``: the qubits alive at its beginning.  ``unborn``: what is known of others.  ``last_use``: see `flow.Flow`.
    Afterwards ``actions`` holds what to do; `finish` gives the length of a fragment that ends in a decision.
    """

    def __init__(
        self,
        distance: int,
        qubits: int,
        movement: bool,
        last_use: Mapping[int, Where],
        tags: Iterator[int],
        choices: Iterator[int],
        scratch: int,
        lead: int = 0,
        alive: Iterable[int] = (),
        unborn: Mapping[int, Unborn] | None = None,
    ) -> None:
        self.actions: list[Action] = []
        self.alive = set(alive)
        self.unborn = {qubit: state.copy() for qubit, state in (unborn or {}).items()}
        self._distance = distance
        self._qubits = qubits
        self._movement = movement
        self._last_use = last_use
        self._tags = tags
        self._choices = choices
        self._scratch = scratch
        self._lead = lead
        self._steps: list[Step] = []
        self._uses: dict[int, list[int]] = {}  # numbers of the steps that touch a qubit
        self._floor = Floor()
        self._ready: dict[int, int] = {}  # the first slot in which a qubit is free
        self._prepared: dict[int, int] = {}  # slot of a qubit's preparation, until its first operation
        self._turned: dict[int, int] = {}  # Paulis on a qubit stand on the other side of an H up to this step
        self._covered: dict[int, int] = {}  # resets and Paulis of a qubit up to this step are done with
        self._read_x: set[int] = set()  # qubits whose next read-out is of X
        self._written: dict[int, int] = {}  # slot of the last measurement into a bit
        self._read: dict[int, int] = {}  # slot of the last Pauli that reads a bit
        self._died = 0  # slot of the last death

    def run(self, place: int, steps: Iterable[Step]) -> None:
        """Places the operations of the fragment, which begins at ``place``, in program order."""
        for qubit in sorted(self.alive):
            if self._last_use[qubit].place < place:
                self._discard(qubit)
        self._steps = list(steps)
        for number, (_, op) in enumerate(self._steps):
            if op.kind not in UNPHYSICAL:
                for qubit in op.qubits:
                    self._uses.setdefault(qubit, []).append(number)
        for number, (where, op) in enumerate(self._steps):
            self._place(number, where, op)

    def finish(self, alive: frozenset[int], condition: Condition) -> int:
        """Ends the fragment at a decision: nothing is under way, the qubits of ``alive`` idle, and the window that
        commits the last measurement which the condition reads has its buffer.  Returns the length in slots."""
        d = self._distance
        births = sorted(alive - self.alive)
        length = max([0, *self._ready.values(), *(action.slot + 1 for action in self.actions)])
        length = max([length, *(self._ready.get(qubit, 0) + 1 for qubit in births)])
        decided = max((self._written.get(bit, -1) for bit in condition.bits), default=-1)
        length = max(self._up(length), self._up(decided + 1) + d)
        # As late as possible, but no slot of a program is without a patch.
        birth = length - d if self.alive else self._died
        for qubit in births:
            self._born(qubit, birth)
        assert self.alive == alive
        return length

    # ---- operations

    def _place(self, number: int, where: Where, op: Op) -> None:
        if op.kind == "barrier":
            slot = max(self._ready.get(qubit, 0) for qubit in op.qubits)
            self._ready.update(dict.fromkeys(op.qubits, slot))
        elif op.kind == "if":
            for inner in op.body:
                if inner.kind in PAULIS and not self._needless(number, where, inner.qubits[0]):
                    self._conditional(number, inner, op.condition)
        elif op.kind in PAULIS:
            if not self._needless(number, where, op.qubits[0]):
                self._pauli(number, op)
        else:
            self._physical(number, op)
            for qubit in op.qubits:
                if qubit in self.alive and self._last_use[qubit] == where:
                    self._discard(qubit)

    def _physical(self, number: int, op: Op) -> None:
        if op.kind == "cx":
            self._cx(*op.qubits)
        elif op.kind == "idle":
            for qubit in op.qubits:
                slot = self._use(qubit, self._ready.get(qubit, 0))
                self._ready[qubit] = slot + op.blocks * self._distance
        elif op.kind == "h":
            self._hadamard(number, op)
        elif op.kind in ("s", "sdg"):
            self._phase(op.qubits[0], op.kind == "sdg")
        elif op.kind in ("t", "tdg"):
            self._eighth(op.qubits[0], op.kind == "tdg")
        elif op.kind == EIGHTH:
            self._half(op.qubits[0], op.bit)
        elif number > self._covered.get(op.qubits[0], -1):
            self._read_out(number, op)

    def _pauli(self, number: int, op: Op) -> None:
        qubit = op.qubits[0]
        for pauli in _letters(op):
            if qubit in self.alive:
                self._frame(number, qubit, pauli, self._ready.get(qubit, 0), constant=1)
            else:
                self.unborn.setdefault(qubit, Unborn()).paulis.append(pauli)

    def _conditional(self, number: int, op: Op, condition: Condition | None) -> None:
        assert condition is not None
        qubit = op.qubits[0]
        slot = max(self._ready.get(qubit, 0), *(self._written.get(bit, 0) for bit in condition.bits))
        if qubit not in self.alive:
            self._born(qubit, slot)
        for pauli in _letters(op):
            self._frame(number, qubit, pauli, slot, condition=condition)
        self._ready[qubit] = slot
        for bit in condition.bits:
            self._read[bit] = max(self._read.get(bit, 0), slot)

    def _hadamard(self, number: int, op: Op) -> None:
        """An H right after a preparation changes its basis.  Others are a layer of their own where the device moves
        qubits, and elsewhere change the basis of a read-out."""
        qubit = op.qubits[0]
        if self._turned.get(qubit) == number:
            return
        if qubit not in self.alive:
            state = self.unborn.setdefault(qubit, Unborn())
            if state.basis == "Z":
                state.hadamard()
                return
            self._born(qubit, self._ready.get(qubit, 0))
        if self._movement:
            slot = self._use(qubit, self._settled(qubit))
            self._do(slot, BEGIN, partial(Builder.hadamard, patch=qubit))
            self._ready[qubit] = slot + self._distance
        elif self._last_use[qubit] != self._steps[number].where:
            follower = self._next(number, qubit)
            if follower is None or self._steps[follower].op.kind not in ("measure", "reset"):
                raise Unsupported(
                    op.line,
                    "h is possible on this device only right after a preparation or right before a measurement, "
                    "because it moves no qubits (movement = false)",
                )
            self._read_x.add(qubit)
            self._turned[qubit] = follower

    def _phase(self, qubit: int, dagger: bool) -> None:
        slot, end = self._beside(qubit, 0)
        zz, x = self._consume(qubit, slot, "Y")
        self._do(end, END, partial(Builder.frame, patch=qubit, pauli="Z", tags=(zz, x), constant=int(dagger)))

    def _eighth(self, qubit: int, dagger: bool) -> None:
        """T or its inverse by a |T>, which does one or the other by chance; where it was the wrong one, an S (or its inverse)
        follows.  All shots make the same rounds: those that need no S merge with a |+>, which does nothing."""
        wait = 2 * self._distance + self._lead  # the window that commits the parity has its buffer
        slot, end = self._beside(qubit, 0, wait)
        choice = next(self._choices)
        parity, chosen, phase = (self._scratch + 3 * qubit + i for i in range(3))
        needed = Condition((parity,), "==", int(not dagger))
        # S by a |Y> is S or its inverse = S Z by chance, too.
        turned = Condition((chosen, phase), "==", 1 + 2 * int(not dagger))
        _, x = self._consume(qubit, slot, "T", bit=parity)
        self._do(slot, BEGIN, partial(Builder.choose, k=choice, condition=needed, bit=chosen))
        self._do(slot + self._distance, END, partial(Builder.frame, patch=qubit, pauli="Z", tags=(x,)))
        _, x = self._consume(qubit, slot + wait, "YX", bit=phase, choice=choice)
        self._do(end, END, partial(Builder.frame, patch=qubit, pauli="Z", tags=(x,)))
        self._do(end, END, partial(Builder.frame, patch=qubit, pauli="Z", condition=turned))

    def _half(self, qubit: int, bit: int) -> None:
        """T or its inverse by a |T>; ``bit`` says where it was the inverse."""
        slot, end = self._beside(qubit, 0)
        _, x = self._consume(qubit, slot, "T", bit=bit)
        self._do(end, END, partial(Builder.frame, patch=qubit, pauli="Z", tags=(x,)))
        self._written[bit] = slot

    def _beside(self, qubit: int, *begins: int) -> tuple[int, int]:
        """A qubit and the cell beside it are taken for d rounds that begin so many slots after the first.  Returns the first
        slot, and that in which the last of them are over."""
        cells = corridor(data_cell(qubit), magic_cell(qubit))
        needs = [Need(cell, begin, begin + self._distance) for cell in cells for begin in begins]
        slot = self._use(qubit, self._floor.reserve(self._ready.get(qubit, 0), needs))
        self._ready[qubit] = end = slot + begins[-1] + self._distance
        return slot, end

    def _consume(self, qubit: int, slot: int, state: str, *, bit: int = -1, choice: int = -1) -> tuple[int, int]:
        """A state is handed over beside a qubit, merged with it for d rounds, and read.  Returns the tags of the parity, ZZ, and of
        what is read, X."""
        cell, end = magic_cell(qubit), slot + self._distance
        ancilla, zz, x = patch_on(cell, self._qubits), next(self._tags), next(self._tags)
        self._do(slot, BEGIN, partial(Builder.handover, patch=ancilla, cell=cell, state=state, choice=choice))
        self._do(slot, BEGIN, partial(Builder.join, one=qubit, two=ancilla, tag=zz, bit=bit))
        self._do(end, END, partial(Builder.split, one=qubit, two=ancilla))
        self._do(end, END, partial(Builder.measure, patch=ancilla, basis="X", tag=x))
        return zz, x

    def _cx(self, control: int, target: int) -> None:
        d, cell = self._distance, corner_cell(control, target)
        # The target is needed only for the second merge.
        start = max(0, self._ready.get(control, 0), self._ready.get(target, 0) - d)
        needs = [Need(cell, 0, 2 * d)]
        needs += [Need(c, 0, d) for c in corridor(data_cell(control), cell) if c != cell]
        needs += [Need(c, d, 2 * d) for c in corridor(cell, data_cell(target)) if c != cell]
        slot = self._use(control, self._floor.reserve(start, needs))
        ancilla, zz, xx, z = patch_on(cell, self._qubits), next(self._tags), next(self._tags), next(self._tags)
        self._do(slot, BEGIN, partial(Builder.init, patch=ancilla, cell=cell, basis="X"))
        self._do(slot, BEGIN, partial(Builder.join, one=control, two=ancilla, tag=zz))
        slot += d
        self._do(slot, END, partial(Builder.split, one=control, two=ancilla))
        self._use(target, slot)
        self._do(slot, BEGIN, partial(Builder.join, one=ancilla, two=target, tag=xx))
        slot += d
        self._do(slot, END, partial(Builder.split, one=ancilla, two=target))
        self._do(slot, END, partial(Builder.measure, patch=ancilla, basis="Z", tag=z))
        self._do(slot, END, partial(Builder.frame, patch=control, pauli="Z", tags=(xx,)))
        self._do(slot, END, partial(Builder.frame, patch=target, pauli="X", tags=(zz, z)))
        self._ready[control] = self._ready[target] = slot

    def _read_out(self, number: int, op: Op) -> None:
        """measure and reset: a destructive read-out and, where the qubit is used again, a new |0>."""
        qubit, bit = op.qubits[0], op.bit
        if qubit not in self.alive:
            if op.kind == "reset":
                self.unborn.pop(qubit, None)
                return
            busy = max(self._written.get(bit, 0), self._read.get(bit, 0)) - self._distance
            self._born(qubit, max(self._ready.get(qubit, 0), busy))
        slot = self._settled(qubit)
        if bit >= 0:
            slot = self._written[bit] = max(slot, self._written.get(bit, 0), self._read.get(bit, 0))
        tag, basis = next(self._tags), "X" if qubit in self._read_x else "Z"
        self._read_x.discard(qubit)
        self._do(slot, BEGIN, partial(Builder.measure, patch=qubit, basis=basis, bit=bit, tag=tag))
        self._ready[qubit] = slot
        last, known = number, op.kind == "measure"
        while (follower := self._next(last, qubit)) is not None and self._steps[follower].op.kind == "reset":
            last, known = follower, False
        self._covered[qubit] = last
        if self._last_use[qubit] == self._steps[last].where:
            self._dead(qubit, slot)
            return
        self._prepared[qubit] = slot
        turned = follower is not None and self._steps[follower].op.kind == "h"
        if follower is not None and turned:
            self._turned[qubit] = follower
        self._do(slot, BEGIN, partial(Builder.init, patch=qubit, cell=data_cell(qubit), basis="X" if turned else "Z"))
        if known:
            self._do(slot, BEGIN, partial(Builder.frame, patch=qubit, pauli="Z" if turned else "X", tags=(tag,)))

    # ---- qubits

    def _born(self, qubit: int, slot: int) -> None:
        state = self.unborn.pop(qubit, Unborn())
        self._do(slot, BEGIN, partial(Builder.init, patch=qubit, cell=data_cell(qubit), basis=state.basis))
        for pauli in state.paulis:
            self._do(slot, BEGIN, partial(Builder.frame, patch=qubit, pauli=pauli, constant=1))
        self.alive.add(qubit)
        self._ready[qubit] = self._prepared[qubit] = slot

    def _use(self, qubit: int, slot: int) -> int:
        """A qubit's next operation is at ``slot``; returns it."""
        if qubit not in self.alive:
            self._born(qubit, slot)
        self._prepared.pop(qubit, None)
        return slot

    def _settled(self, qubit: int) -> int:
        """The first slot in which a qubit is free and not just prepared."""
        slot = self._ready.get(qubit, 0)
        return max(slot, self._prepared[qubit] + self._distance) if qubit in self._prepared else slot

    def _discard(self, qubit: int) -> None:
        slot = self._settled(qubit)
        self._do(slot, BEGIN, partial(Builder.measure, patch=qubit, tag=next(self._tags)))
        self._dead(qubit, slot)

    def _dead(self, qubit: int, slot: int) -> None:
        self.alive.remove(qubit)
        self._ready[qubit] = slot
        self._died = max(self._died, slot)

    # ---- inside

    def _do(self, slot: int, phase: int, act: Callable[[Builder], object]) -> None:
        self.actions.append(Action(slot, phase, act))

    def _frame(
        self, number: int, qubit: int, pauli: str, slot: int, constant: int = 0, condition: Condition | None = None
    ) -> None:
        if number < self._turned.get(qubit, -1):
            pauli = other(pauli)
        act = partial(Builder.frame, patch=qubit, pauli=pauli, constant=constant, condition=condition)
        self._do(slot, BEGIN, act)

    def _needless(self, number: int, where: Where, qubit: int) -> bool:
        """Whether a Pauli changes nothing: nobody looks at its qubit again before it is prepared anew."""
        return qubit not in self._last_use or where > self._last_use[qubit] or number <= self._covered.get(qubit, -1)

    def _next(self, number: int, qubit: int) -> int | None:
        """The next step after ``number`` that touches a qubit."""
        uses = self._uses.get(qubit, [])
        position = bisect_right(uses, number)
        return uses[position] if position < len(uses) else None

    def _up(self, slot: int) -> int:
        return -(-slot // self._distance) * self._distance


def _letters(op: Op) -> str:
    return {"x": "X", "y": "XZ", "z": "Z"}[op.kind]
