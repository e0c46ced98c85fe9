# SPDX-License-Identifier: Apache-2.0
"""The structure of a window: everything about its matching graph that does not depend on error rates.

An edge is *committed* when its earliest detector lies in the slots of the commit.  Committed edges carry what they do to the
observables, and *artifacts*: the detectors that they have explained and that other windows must not explain again, beyond the
commit, and in an open window those of its first slot.  Edges that touch the slot before were decided by the window before, and
are dropped; in an open window they end at the border.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgpack
import numpy as np
import numpy.typing as npt
import stim
from qcos_plugins.matching_tracker.analysis import Analysis, Flips, numbered
from qcos_plugins.matching_tracker.elements import (
    Column,
    Flip,
    LocalCircuit,
    LocalDetector,
    Name,
    NoiseClass,
)
from qcos_plugins.matching_tracker.model import Company, Component, Numbers, component, sectors, united


class WrongFragments(Exception):
    """The program itself is at fault: a window of it is not what a window has to be."""


class Edge(NamedTuple):
    """``detectors``: one (then the edge ends at the border) or two of those matched.  ``effects``: observables, then
    artifacts, numbered on from the observables."""

    detectors: tuple[int, ...]
    effects: tuple[int, ...]
    committed: bool

    @property
    def text(self) -> str:
        return Component(self.detectors, self.effects).text


HOPELESS = -1
"""In place of an edge: no edge can stand for what a record does to something committed."""


@dataclass(frozen=True, eq=False)
class Structure:
    """Immutable, and shared by all templates with the same content, whatever their rates.

    ``detectors``: what is matched, in order; ``artifacts``: detectors that it may flip; ``columns``: its observables.
    ``edges``: the graph; an edge of no error is there for missing records only.  ``company``: the edges of each error;
    ``flips``: what errors are made of.  ``gauges``: as in `LocalCircuit`.  ``missing``: name of a record, relative to the
    region's origin -> the edge that is as likely as not when this record is missing, or `HOPELESS`.  ``unseen``: what errors do
    to observables that no detector sees, alone or beside another error that flips the same detectors.
    """

    columns: tuple[Column, ...]
    gauges: tuple[tuple[int, ...], ...]
    detectors: tuple[LocalDetector, ...]
    artifacts: tuple[LocalDetector, ...]
    edges: list[Edge]
    company: Company
    flips: Flips
    missing: dict[Name, int]
    unseen: set[tuple[int, ...]]

    @classmethod
    def of(
        cls, local: LocalCircuit, commit: int, end: int, *, join: bool, lead: int = 0, closed: bool = False
    ) -> Structure:
        """``lead``, ``closed``: as in `Window`; slots count from its start.  Raises WrongFragments for a circuit that is not silent without noise."""
        try:
            model = stim.Circuit(local.text).detector_error_model(decompose_errors=True).flattened()
        except ValueError as error:
            # stim names the observable or detector at fault.
            raise WrongFragments(f"a window is not what it is without noise: {error}") from error
        before = sum(d.slot < 0 for d in local.detectors)
        matched = sum(d.slot < end + closed for d in local.detectors)
        slots = [d.slot for d in local.detectors]
        sorter = Sorter(slots, commit, before, matched, len(local.columns), lead=lead, closed=closed)
        analysis = Analysis(model, local.classes)
        found = Occurrences.of(analysis.targets)
        unseen = found.unseen(sorter)
        company, kept = (found.joined() if join else found).sorted(sorter)
        missing = {name: edge for name, flip in local.records.items() if (edge := sorter.record(flip)) is not None}
        return cls(
            local.columns,
            local.gauges,
            local.detectors[before:matched],
            tuple(local.detectors[i] for i in sorter.artifacts),
            sorter.edges,
            Company(*company, len(sorter.edges)),
            analysis.flips.chosen(kept),
            missing,
            unseen,
        )

    def to_bytes(self) -> bytes:
        """All of it, for `from_bytes` of the same version."""
        company, flips = self.company, self.flips
        ends = [(*edge.detectors, -1)[:2] for edge in self.edges]
        whole = [
            self.columns,
            self.gauges,
            sorted(self.unseen),
            self.classes,
            flips.fixed,
            *map(_packed, (self.detectors, self.artifacts, ends)),
            _packed([len(edge.effects) for edge in self.edges]),
            _packed([effect for edge in self.edges for effect in edge.effects]),
            _packed([edge.committed for edge in self.edges]),
            *map(_packed, (company.edge, company.sizes, flips.error, flips.kind, flips.exponent)),
            *map(_packed, (list(self.missing), list(self.missing.values()))),
        ]
        return zlib.compress(msgpack.packb(whole), 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> Structure:
        """The structure that wrote this; nothing is checked or worked out again."""
        columns, gauges, unseen, classes, fixed, *packed = msgpack.unpackb(zlib.decompress(data), use_list=False)
        arrays = map(_unpacked, packed)
        detectors, artifacts, ends, counts, effects = (next(arrays) for _ in range(5))
        committed, edge, sizes, error, kind, exponent, names, values = arrays
        stops = np.cumsum(counts).tolist()
        flat = tuple(effects.tolist())
        edges = [
            Edge((a,) if b < 0 else (a, b), flat[begin:stop], yes)
            for (a, b), begin, stop, yes in zip(
                ends.reshape(-1, 2).tolist(), [0, *stops], stops, committed.astype(bool).tolist(), strict=False
            )
        ]
        return cls(
            tuple(Column(*column) for column in columns),
            gauges,
            tuple(LocalDetector(*row) for row in detectors.reshape(-1, 4).tolist()),
            tuple(LocalDetector(*row) for row in artifacts.reshape(-1, 4).tolist()),
            edges,
            Company(edge, sizes, len(edges)),
            Flips(tuple(NoiseClass(*c) for c in classes), fixed, error, kind, exponent, len(sizes)),
            dict(zip(map(tuple, names.reshape(-1, 4).tolist()), values.tolist(), strict=True)),
            set(unseen),
        )

    @property
    def size(self) -> int:
        """How many edges."""
        return len(self.edges)

    @property
    def classes(self) -> tuple[NoiseClass, ...]:
        """The classes of noise."""
        return self.flips.classes

    @property
    def predictions(self) -> int:
        """How many: the columns, then the artifacts."""
        return len(self.columns) + len(self.artifacts)


def _packed(values: npt.ArrayLike) -> bytes:
    return np.asarray(values, np.int32).tobytes()


def _unpacked(data: bytes) -> Numbers:
    return np.frombuffer(data, np.int32).astype(np.intp)


class Occurrences(NamedTuple):
    """The components of errors, of which there are hundreds of thousands: arrays, where Python would take most of the time.

    ``pieces``: the distinct ones; occurrence ``i`` says that error ``error[i]`` contains ``pieces[piece[i]]``, errors in
    order, ``errors`` how many.
    """

    pieces: list[Component]
    piece: Numbers
    error: Numbers
    errors: int

    @classmethod
    def of(cls, targets: Sequence[str]) -> Occurrences:
        """``targets``: of each error, as stim writes them."""
        words = " ^ ".join(targets).split(" ^ ") if targets else []
        pieces, piece = numbered(words)
        sizes = np.fromiter((text.count("^") + 1 for text in targets), np.intp, len(targets))
        return cls(list(map(component, pieces)), piece, np.repeat(np.arange(len(targets)), sizes), len(targets))

    def unseen(self, sorter: Sorter) -> set[tuple[int, ...]]:
        """What should mean nothing."""
        found = set()
        first: dict[tuple[int, ...], tuple[int, ...]] = {}
        for detectors, observables in self.pieces:
            if not detectors:
                found.add(observables)
            elif sorter.decides(detectors):
                known = first.setdefault(detectors, observables)
                if known != observables:
                    found.add(tuple(sorted({*known} ^ {*observables})))
        return found

    def joined(self) -> Occurrences:
        """Each error with one component per sector, where that is an edge: as `model.joined` does it to one error."""
        pieces, piece, error = list(self.pieces), *self._seen()
        by_detector = sectors(p.detectors for p in pieces if p.detectors)
        sector = np.array([by_detector[p.detectors[0]] if p.detectors else 0 for p in pieces], np.intp)
        _, first, group = np.unique(
            error * (sector.max(initial=0) + 1) + sector[piece], return_index=True, return_inverse=True
        )
        order = np.argsort(first[group], kind="stable")
        piece, error, group = piece[order], error[order], group[order]
        kept = np.ones(len(piece), np.bool_)
        number = {p: i for i, p in enumerate(pieces)}
        known: dict[tuple[int, ...], Component | None] = {}
        begins = np.flatnonzero(np.diff(group, prepend=-1))
        sizes = np.diff(begins, append=len(group))
        together = piece.tolist()
        for begin, size in zip(begins[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
            members = tuple(together[begin : begin + size])
            if members not in known:
                known[members] = united([pieces[i] for i in members])
            whole = known[members]
            if whole is not None:
                if whole not in number:
                    number[whole] = len(pieces)
                    pieces.append(whole)
                piece[begin] = number[whole]
                kept[begin + 1 : begin + size] = False
        return Occurrences(pieces, piece[kept], error[kept], self.errors)

    def sorted(self, sorter: Sorter) -> tuple[tuple[Numbers, Numbers], npt.NDArray[np.bool_]]:
        """The edges of all errors that have any, one after the other; how many each has; and which errors these are."""
        piece, error = self._seen()
        edge_of = np.full(len(self.pieces), -1, np.intp)
        occurring, first = np.unique(piece, return_index=True)
        for i in occurring[np.argsort(first)].tolist():
            edge = sorter.edge(self.pieces[i])
            if edge is not None:
                edge_of[i] = edge
        edges = edge_of[piece]
        sizes = np.bincount(error[edges >= 0], minlength=self.errors)
        return (edges[edges >= 0], sizes[sizes > 0]), sizes > 0

    def _seen(self) -> tuple[Numbers, Numbers]:
        """Pieces and errors of the occurrences that have detectors."""
        seen = np.array([bool(p.detectors) for p in self.pieces], np.bool_)[self.piece]
        return self.piece[seen], self.error[seen]


class Sorter:
    """Sorts edges into dropped, committed and later ones.

    ``slots``: of each detector, never decreasing; those below ``before`` are of the slots before the window, those from
    ``matched`` on beyond its end.  ``commit``: the slot at which the commit ends.  ``columns``: how many observables.
    ``lead``, ``closed``: as in `Window`.
    """

    def __init__(
        self,
        slots: list[int],
        commit: int,
        before: int,
        matched: int,
        columns: int,
        *,
        lead: int = 0,
        closed: bool = False,
    ) -> None:
        self._slots = slots
        self._commit = commit
        self._lead = lead
        self._closed = closed
        self._before = before
        self._matched = matched
        self._columns = columns
        self.artifacts: dict[int, int] = {}  # detector -> its place among the artifacts
        self.edges: list[Edge] = []
        # Parallel edges with other effects are equal up to the gauge of a patch: one effect stands for all of them.
        self._known: dict[tuple[int, ...], int | None] = {}
        self._number: dict[Edge, int] = {}

    def edge(self, piece: Component) -> int | None:
        """The window's own edge for a component; None if it is not its to decide."""
        known = self._known
        if piece.detectors not in known:
            known[piece.detectors] = self._decide(piece)
        return known[piece.detectors]

    def record(self, flip: Flip) -> int | None:
        """As `edge`, or HOPELESS, for what a flipped record does.

        Its effects are its own even if an error flips the same detectors: the records of a hand-over flip no observable,
        and an error that does as much to the detectors may.
        """
        detectors = flip.detectors
        if not detectors:
            return HOPELESS if flip.observables else None
        if len(detectors) > 2:
            return HOPELESS if self.decides(detectors) else None
        return self._decide(Component(*flip))

    def decides(self, detectors: tuple[int, ...]) -> bool:
        """Whether an edge of these detectors is committed by the window."""
        if not self._before <= detectors[0] < self._matched:
            return False
        return self._lead <= self._slots[detectors[0]] < self._commit

    def _decide(self, piece: Component) -> int | None:
        detectors, observables = piece
        before = 0 if self._lead else self._before
        if not before <= detectors[0] < self._matched:
            return None
        effects: list[int] = []
        committed = self.decides(detectors)
        if committed:
            shared = [d for d in detectors if self._is_shared(self._slots[d])]
            places = (self.artifacts.setdefault(d, len(self.artifacts)) for d in shared)
            effects = [*observables, *(self._columns + place for place in places)]
        elif self._closed:
            return None  # the window that committed the slots beyond has decided about it
        inside = tuple(d - self._before for d in detectors if self._before <= d < self._matched)
        if not inside:
            return None
        if self._closed and len(inside) < len(detectors):
            raise WrongFragments("an error reaches over more than two slots")
        edge = Edge(inside, tuple(effects), committed)
        if edge not in self._number:
            self._number[edge] = len(self.edges)
            self.edges.append(edge)
        return self._number[edge]

    def _is_shared(self, slot: int) -> bool:
        """Whether another window looks at what a commit does to the detectors of a slot."""
        return (slot >= self._commit and not self._closed) or (slot == self._lead and self._lead > 0)
