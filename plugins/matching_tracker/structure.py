# SPDX-License-Identifier: Apache-2.0
"""The structure of a window: everything about its matching graph that does not depend on error rates.

An edge is *committed* when its earliest detector lies before the end of the commit.  Committed edges carry what they do to
the observables, and *artifacts*: the detectors beyond the commit that they have already explained, which the next window
must not explain again.  Edges that touch the slot before were decided by the window before, and are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import stim
from qcos_plugins.matching_tracker.analysis import Analysis
from qcos_plugins.matching_tracker.elements import (
    Column,
    Flip,
    LocalCircuit,
    LocalDetector,
    Name,
    NoiseClass,
)
from qcos_plugins.matching_tracker.model import Company, Component, Floats, component, joined, sectors


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


class Structure:
    """Immutable, and shared by all templates with the same content, whatever their rates.

    ``detectors``: what is matched, in order; ``artifacts``: detectors that it may flip; ``columns``: its observables.
    ``edges``: the graph; ``size``: how many.  ``errors``: the edges of each error; an edge of no error is there for missing records only.
    ``classes``: the classes of noise.  ``gauges``: as in `LocalCircuit`.  ``missing``: name of a record, relative to the
    region's origin -> the edge that is as likely as not when this record is missing, or `HOPELESS`.  ``unseen``: what errors do
    to observables that no detector sees, alone or beside another error that flips the same detectors.
    """

    def __init__(self, local: LocalCircuit, commit: int, end: int, *, join: bool) -> None:
        try:
            model = stim.Circuit(local.text).detector_error_model(decompose_errors=True)
        except ValueError as error:
            # stim names the observable or detector at fault.
            raise WrongFragments(f"a window is not what it is without noise: {error}") from error
        self.columns: tuple[Column, ...] = local.columns
        self.classes: tuple[NoiseClass, ...] = local.classes
        self.gauges = local.gauges
        before = sum(d.slot < 0 for d in local.detectors)
        matched = sum(d.slot < end for d in local.detectors)
        sorter = Sorter([d.slot for d in local.detectors], commit, before, matched, len(local.columns))
        self.unseen: set[tuple[int, ...]] = set()
        self._analysis = Analysis(model, local.classes)
        self._sort(sorter, join)
        self.missing: dict[Name, int] = {}
        for name, flip in local.records.items():
            edge = sorter.record(flip)
            if edge is not None:
                self.missing[name] = edge
        self.detectors: tuple[LocalDetector, ...] = local.detectors[before:matched]
        self.artifacts: tuple[LocalDetector, ...] = tuple(local.detectors[i] for i in sorter.artifacts)
        self.edges: list[Edge] = sorter.edges
        self.size = len(self.edges)
        self.company = Company(self.errors, self.size)

    @property
    def predictions(self) -> int:
        """How many: the columns, then the artifacts."""
        return len(self.columns) + len(self.artifacts)

    def probabilities(self, rates: Sequence[float]) -> Floats:
        """Of each error; ``rates``: of each class."""
        return self._analysis.probabilities(rates)[self._kept]

    def _sort(self, sorter: Sorter, join: bool) -> None:
        pieces: dict[str, Component] = {}
        found: list[list[Component]] = []
        for targets in self._analysis.targets:
            error = []
            for text in targets.split(" ^ "):
                piece = pieces.get(text)
                if piece is None:
                    piece = pieces[text] = component(text)
                if piece.detectors:
                    error.append(piece)
            found.append(error)
        self._watch(pieces.values(), sorter)
        sector = sectors(piece.detectors for piece in pieces.values() if piece.detectors) if join else {}
        kept = []
        self.errors: list[tuple[int, ...]] = []
        for i, error in enumerate(found):
            whole = joined(error, sector) if join and len(error) > 1 else error
            edges = tuple(edge for piece in whole if (edge := sorter.edge(piece)) is not None)
            if edges:
                kept.append(i)
                self.errors.append(edges)
        self._kept = np.array(kept, np.intp)

    def _watch(self, pieces: Iterable[Component], sorter: Sorter) -> None:
        """Keeps what should mean nothing."""
        first: dict[tuple[int, ...], tuple[int, ...]] = {}
        for detectors, observables in pieces:
            if not detectors:
                self.unseen.add(observables)
            elif sorter.decides(detectors):
                known = first.setdefault(detectors, observables)
                if known != observables:
                    self.unseen.add(tuple(sorted({*known} ^ {*observables})))


class Sorter:
    """Sorts edges into dropped, committed and later ones.

    ``slots``: of each detector, never decreasing; those below ``before`` are of the slots before the window, those from
    ``matched`` on beyond its end.  ``commit``: the slot at which the commit ends.  ``columns``: how many observables.
    """

    def __init__(self, slots: list[int], commit: int, before: int, matched: int, columns: int) -> None:
        self._slots = slots
        self._commit = commit
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
        if not self._before <= detectors[0] < self._matched:
            return None
        if len(detectors) > 2:
            return HOPELESS if min(self._slots[d] for d in detectors) < self._commit else None
        return self._decide(Component(*flip))

    def decides(self, detectors: tuple[int, ...]) -> bool:
        """Whether an edge of these detectors is committed by the window."""
        if not self._before <= detectors[0] < self._matched:
            return False
        return min(self._slots[d] for d in detectors) < self._commit

    def _decide(self, piece: Component) -> int | None:
        detectors, observables = piece
        if not self._before <= detectors[0] < self._matched:
            return None
        effects: list[int] = []
        committed = min(self._slots[d] for d in detectors) < self._commit
        if committed:
            beyond = [d for d in detectors if self._slots[d] >= self._commit]
            places = (self.artifacts.setdefault(d, len(self.artifacts)) for d in beyond)
            effects = [*observables, *(self._columns + place for place in places)]
        inside = tuple(d - self._before for d in detectors if d < self._matched)
        edge = Edge(inside, tuple(effects), committed)
        if edge not in self._number:
            self._number[edge] = len(self.edges)
            self.edges.append(edge)
        return self._number[edge]
