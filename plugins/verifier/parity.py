# SPDX-License-Identifier: Apache-2.0
"""What a classical bit is made of, followed through the events of a path.

A bit is a parity of records and of *tests*: conditions that the program evaluates on earlier bits, and on which Paulis
depend.  Beside it stand the *cuts* that it is relative to, coin flips of the logical program: the other operator of a patch
that is born in a basis, and where a merged patch is split.  Bits whose cuts cancel have a parity that is certain.

A T gate is two hand-overs that are merged with its qubit, see `Gadget`.  Here *stand-ins* are handed over, |Y> or |+>: what
gadgets do with them is linear in the state that arrives, and known, so that all of it but the angle can be checked exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from qcos_plugins.verifier.finding import Wrong

from qcosd.qec.fragment import Choose, Event, Frame, Hadamard, Handover, Init, Measure, Merge, Part, Split
from qcosd.qec.program import Condition

Records = Callable[[Sequence[tuple[int, int, int, int]]], frozenset[int]]


class Parity(NamedTuple):
    """Of records, cuts and tests, each by its number, xor ``constant``."""

    records: frozenset[int] = frozenset()
    cuts: frozenset[int] = frozenset()
    tests: frozenset[int] = frozenset()
    constant: int = 0

    def __xor__(self, other: Parity) -> Parity:
        return Parity(
            self.records ^ other.records,
            self.cuts ^ other.cuts,
            self.tests ^ other.tests,
            self.constant ^ other.constant,
        )


class Written(NamedTuple):
    """A value that is measured into a classical bit."""

    bit: int
    parity: Parity
    qubit: int


class Tested(NamedTuple):
    """A condition is evaluated.  ``number``: of the test; ``decision``: whether the path depends on it; ``bit``: that it is
    written into, -1 none."""

    number: int
    condition: Condition
    decision: bool
    bit: int = -1


@dataclass
class Gadget:
    """What stands for a T or its inverse on ``qubit``: a state in place of |T>, and one in place of |Y> or |+>.

    ``first``, ``second``: whether the stand-in is a |Y>, else it is a |+>.  ``parity``, ``phase``: the writings, by number, of
    the two ZZ outcomes; ``phase`` is -1 until the second is there.  ``choice``: the decision that is made from the first one;
    ``inverse``: it hands a |Y> over where the parity is 0, which makes the inverse of a T.  ``branches``: there is no second
    state, and a branch of the program has the S instead.
    """

    qubit: int
    first: bool
    parity: int
    choice: int = -1
    second: bool = False
    phase: int = -1
    inverse: bool = False
    branches: bool = False


class Frames:
    """``history``: what was written and tested, in order.  ``cuts``: how many were made.  ``live``: patches that are alive.
    ``gadgets``: in the order in which they began.

    ``wait``: slots from a choice to what is handed over by it, at least.  ``stands``: of the states that a T gate needs, by
    number, whether |Y> stands for it.
    """

    def __init__(self, wait: int = 0, stands: Callable[[int], bool] = lambda number: True) -> None:
        self.history: list[Written | Tested] = []
        self.cuts = 0
        self.live: set[int] = set()
        self.tests = 0
        self.gadgets: list[Gadget] = []
        self._wait = wait
        self._stands = stands
        self._states = 0
        self._writings = 0
        self._slot = 0
        self._stood: dict[int, bool] = {}  # what arrived in this slot
        self._fresh: dict[int, tuple[Handover, bool]] = {}  # patches handed over for a T and not merged yet
        self._written: dict[int, int] = {}  # bit -> the latest writing into it
        self._chosen: dict[int, tuple[int, int]] = {}  # choice -> the writing that it reads, and its slot
        self._tags: dict[int, Parity] = {}
        self._sign: dict[str, dict[int, Parity]] = {"X": {}, "Z": {}}

    def test(self, condition: Condition, decision: bool) -> int:
        if decision and len(condition.bits) == 1:
            source = self._written.get(condition.bits[0], -1)
            for gadget in self.gadgets:
                if gadget.parity == source and gadget.choice < 0:
                    gadget.branches, gadget.inverse = True, condition.holds([0])
        self.history.append(Tested(self.tests, condition, decision))
        self.tests += 1
        return self.tests - 1

    def stand_in(self, part: Part) -> str:
        """The state that arrives with a part in place of its own: "Y" or "X"."""
        if all(i.name not in ("HANDOVER_T", "HANDOVER_YX") for i in part.instructions):
            return "Y"
        self._states += 1
        (patch,) = part.patches
        found = self._stands(self._states)
        self._stood[patch] = found
        return "Y" if found else "X"

    def passed(self, slots: int) -> None:
        """Slots without events."""
        self._slot += slots

    def follow(self, events: Iterable[Event], records: Records) -> None:
        """Events of one slot.  Raises Wrong when they do not fit to one another."""
        self._slot += 1
        for event in events:
            try:
                self._follow(event, records)
            except KeyError as error:
                raise Wrong(f"{type(event).__name__} of a patch or a tag that does not exist: {error}") from None

    def certain_tags(self) -> int:
        """How many independent parities of tags no coin flip decides."""
        rows: dict[int, frozenset[int]] = {}
        for tag in self._tags.values():
            cuts = tag.cuts
            while cuts and (first := min(cuts)) in rows:
                cuts ^= rows[first]
            if cuts:
                rows[min(cuts)] = cuts
        return len(self._tags) - len(rows)

    def _cut(self) -> Parity:
        self.cuts += 1
        return Parity(cuts=frozenset([self.cuts - 1]))

    def _write(self, bit: int, tag: int, qubit: int) -> int:
        """Returns the number of the writing."""
        self.history.append(Written(bit, self._tags[tag], qubit))
        self._writings += 1
        self._written[bit] = self._writings - 1
        return self._writings - 1

    def _handed_over(self, event: Handover) -> None:
        if event.state == "Y":
            self._born(event.patch, "XZ")
            return
        stood = self._stood.pop(event.patch)
        self._born(event.patch, "XZ" if stood else "Z")
        self._fresh[event.patch] = event, stood

    def _merged(self, event: Merge) -> None:
        """Whatever has to be known of a merge beside its parity."""
        fresh = [patch for patch in (event.first, event.second) if patch in self._fresh]
        if not fresh and event.bit < 0:
            return
        number = self._write(event.bit, event.tag, -1) if event.bit >= 0 else -1
        if len(fresh) != 1 or event.basis != "Z" or number < 0:
            raise Wrong(f"a merge of patches {event.first} and {event.second} is no part of a T gate")
        handed, stood = self._fresh.pop(fresh[0])
        qubit = event.second if fresh[0] == event.first else event.first
        if handed.state == "T":
            self.gadgets.append(Gadget(qubit, stood, number))
            return
        gadget = next((g for g in self.gadgets if g.qubit == qubit and g.phase < 0), None)
        if gadget is None or gadget.choice != handed.choice:
            raise Wrong(f"what decision {handed.choice} hands over belongs to no T gate on qubit {qubit}")
        gadget.second, gadget.phase = stood, number

    def _choose(self, event: Choose) -> None:
        if event.k in self._chosen:
            raise Wrong(f"decision {event.k} is made twice")
        (bit,) = event.condition.bits if len(event.condition.bits) == 1 else (-1,)
        source = self._written.get(bit, -1)
        gadget = next((g for g in self.gadgets if g.parity == source and g.choice < 0), None)
        if gadget is None:
            raise Wrong(f"decision {event.k} is made from no parity of a T gate")
        gadget.choice, gadget.inverse = event.k, event.condition.holds([0])
        if gadget.inverse == event.condition.holds([1]):
            raise Wrong(f"decision {event.k} is always the same")
        self._chosen[event.k] = source, self._slot
        number = self.test(event.condition, decision=False)
        self.history[-1] = Tested(number, event.condition, False, event.bit)

    def _born(self, patch: int, bases: str) -> None:
        if patch in self.live:
            raise Wrong(f"patch {patch} is born while it lives")
        self.live.add(patch)
        cut = self._cut()  # of |Y> both operators are coin flips, and their product is certain
        for basis in "XZ":
            self._sign[basis][patch] = cut if basis in bases else Parity()

    def _tag(self, tag: int, parity: Parity) -> None:
        if tag in self._tags:
            raise Wrong(f"tag {tag} is given twice")
        self._tags[tag] = parity

    def _follow(self, event: Event, records: Records) -> None:
        if isinstance(event, Init):
            self._born(event.patch, "X" if event.basis == "Z" else "Z")
        elif isinstance(event, Handover):
            if event.state == "YX" and self._slot < self._chosen[event.choice][1] + self._wait:
                raise Wrong(f"decision {event.choice} is needed before the window that settles it is decoded")
            self._handed_over(event)
        elif isinstance(event, Choose):
            self._choose(event)
        elif isinstance(event, Merge):
            measured, joint = (self._sign[b] for b in (event.basis, "X" if event.basis == "Z" else "Z"))
            self._tag(event.tag, measured[event.first] ^ measured[event.second] ^ Parity(records(event.records)))
            joint[event.first] ^= joint[event.second]
            joint[event.second] = Parity()
            self._merged(event)
        elif isinstance(event, Split):
            basis = "X" if event.basis == "Z" else "Z"
            alone = self._cut()
            self._sign[basis][event.first] ^= Parity(records(event.records)) ^ alone
            self._sign[basis][event.second] ^= alone
        elif isinstance(event, Measure):
            self.live.remove(event.patch)
            sign = {basis: signs.pop(event.patch) for basis, signs in self._sign.items()}
            self._tag(event.tag, sign[event.basis] ^ Parity(records(event.records)))
            if event.bit >= 0:
                self._write(event.bit, event.tag, event.patch)
        elif isinstance(event, Hadamard):
            x, z = self._sign["X"], self._sign["Z"]
            x[event.patch], z[event.patch] = z[event.patch] ^ Parity(records(event.records)), x[event.patch]
        elif isinstance(event, Frame):
            flipped = self._sign["Z" if event.pauli == "X" else "X"]
            flipped[event.patch] ^= self._applied(event)

    def _applied(self, event: Frame) -> Parity:
        if event.condition is not None:
            return Parity(tests=frozenset([self.test(event.condition, decision=False)]))
        applied = Parity(constant=event.constant)
        for tag in event.tags:
            applied ^= self._tags[tag]
        return applied
