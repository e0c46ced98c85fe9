# SPDX-License-Identifier: Apache-2.0
"""What a classical bit is made of, followed through the events of a path.

A bit is a parity of records and of *tests*: conditions that the program evaluates on earlier bits, and on which Paulis
depend.  Beside it stand the *cuts* that it is relative to, coin flips of the logical program: the other operator of a patch
that is born in a basis, and where a merged patch is split.  Bits whose cuts cancel have a parity that is certain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from qcos_plugins.verifier.finding import Wrong

from qcosd.qec.fragment import Event, Frame, Hadamard, Handover, Init, Measure, Merge, Split
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
    """A condition is evaluated.  ``number``: of the test; ``decision``: whether the path depends on it."""

    number: int
    condition: Condition
    decision: bool


class Frames:
    """``history``: what was written and tested, in order.  ``cuts``: how many were made.  ``live``: patches that are alive."""

    def __init__(self) -> None:
        self.history: list[Written | Tested] = []
        self.cuts = 0
        self.live: set[int] = set()
        self.tests = 0
        self._tags: dict[int, Parity] = {}
        self._sign: dict[str, dict[int, Parity]] = {"X": {}, "Z": {}}

    def test(self, condition: Condition, decision: bool) -> int:
        self.history.append(Tested(self.tests, condition, decision))
        self.tests += 1
        return self.tests - 1

    def follow(self, events: Iterable[Event], records: Records) -> None:
        """Events of one slot.  Raises Wrong when they do not fit to one another."""
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
            self._born(event.patch, "XZ")
        elif isinstance(event, Merge):
            measured, joint = (self._sign[b] for b in (event.basis, "X" if event.basis == "Z" else "Z"))
            self._tag(event.tag, measured[event.first] ^ measured[event.second] ^ Parity(records(event.records)))
            joint[event.first] ^= joint[event.second]
            joint[event.second] = Parity()
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
                self.history.append(Written(event.bit, self._tags[event.tag], event.patch))
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
