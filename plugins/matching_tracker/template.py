# SPDX-License-Identifier: Apache-2.0
"""A window template: the matching graph of a local circuit, and which of its edges a window decides.

An edge is *committed* when its earliest detector lies before the end of the commit.  Committed edges carry what they do to
the observables, and *artifacts*: the detectors beyond the commit that they have already explained, which the next window
must not explain again.  Edges that touch the slot before were decided by the window before, and are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pymatching
import stim
from qcos_plugins.matching_tracker.local import Column, LocalCircuit, LocalDetector
from qcos_plugins.matching_tracker.model import DECODERS, Component, Error, Errors, Line, declared, join, written
from qcos_plugins.matching_tracker.packed import Bits, transpose


class Template:
    """Immutable, shared by every window with the same content.

    ``detectors``: what it matches, in order; ``artifacts``: detectors that it may flip; ``columns``: its observables.
    ``edges``: size of its graph.
    """

    def __init__(self, local: LocalCircuit, commit: int, end: int, *, decoder: str) -> None:
        settings = DECODERS[decoder]
        self.columns: tuple[Column, ...] = local.columns
        self._correlated = settings.correlated
        # A template that cannot be built is a fault of the program: stim names the observable or detector at fault.
        found = Errors(stim.Circuit(local.text).detector_error_model(decompose_errors=True))
        before = sum(d.slot < 0 for d in local.detectors)
        matched = sum(d.slot < end for d in local.detectors)
        edges = _Edges(local.detectors, commit, before, matched, len(local.columns))
        lines = written(edges.lines(join(found) if settings.joined else found), settings)
        self.detectors: tuple[LocalDetector, ...] = local.detectors[before:matched]
        self.artifacts: tuple[LocalDetector, ...] = tuple(local.detectors[i] for i in edges.artifacts)
        self.edges = len(edges.decided)
        self._matching: pymatching.Matching | None = None
        if self.detectors and self.predictions:
            graph = declared(lines, len(self.detectors), self.predictions)
            self._matching = pymatching.Matching.from_detector_error_model(graph, enable_correlations=self._correlated)

    @property
    def predictions(self) -> int:
        """Rows that `decode` returns: the columns, then the artifacts."""
        return len(self.columns) + len(self.artifacts)

    def decode(self, syndrome: Bits, shots: int) -> Bits:
        """uint8 (detectors, bytes) packed along the shots -> uint8 (predictions, bytes), padding zero."""
        if self._matching is None:
            return np.zeros((self.predictions, syndrome.shape[1]), np.uint8)
        found = self._matching.decode_batch(
            transpose(syndrome, shots),
            bit_packed_shots=True,
            bit_packed_predictions=True,
            enable_correlations=self._correlated,
        )
        return transpose(found, self.predictions)


class _Edges:
    """Sorts the edges of an error model into dropped, committed and later ones."""

    def __init__(
        self, detectors: tuple[LocalDetector, ...], commit: int, before: int, matched: int, columns: int
    ) -> None:
        self._slots = [d.slot for d in detectors]
        self._commit = commit
        self._before = before
        self._matched = matched
        self._columns = columns
        self.artifacts: dict[int, int] = {}  # detector -> its place among the artifacts
        # Parallel edges with other effects are equal up to the gauge of a patch: one effect stands for all of them.
        self.decided: dict[tuple[int, ...], str] = {}

    def lines(self, found: Iterable[Error]) -> Iterator[Line]:
        """The errors by the window's own edges."""
        decided = self.decided
        for p, components in found:
            kept = []
            for component in components:
                edge = decided.get(component.detectors)
                if edge is None:
                    edge = decided[component.detectors] = self._decide(component)
                if edge:
                    kept.append(edge)
            if kept:
                yield p, kept

    def _decide(self, component: Component) -> str:
        detectors, observables = component
        if not self._before <= detectors[0] < self._matched:
            return ""
        effects: list[int] = []
        if min(self._slots[d] for d in detectors) < self._commit:
            beyond = [d for d in detectors if self._slots[d] >= self._commit]
            effects = [
                *observables,
                *(self._columns + self.artifacts.setdefault(d, len(self.artifacts)) for d in beyond),
            ]
        inside = tuple(d - self._before for d in detectors if d < self._matched)
        return Component(inside, tuple(effects)).text
