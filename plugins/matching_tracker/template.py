# SPDX-License-Identifier: Apache-2.0
"""A window template: the matching graph of a local circuit, and which of its edges a window decides.

An edge is *committed* when its earliest detector lies before the end of the commit.  Committed edges carry what they do to
the observables, and *artifacts*: the detectors beyond the commit that they have already explained, which the next window
must not explain again.  Edges that touch the slot before were decided by the window before, and are dropped.
"""

from __future__ import annotations

import numpy as np
import pymatching
import stim
from qcos_plugins.matching_tracker.local import Column, LocalCircuit, LocalDetector
from qcos_plugins.matching_tracker.packed import Bits, transpose

DECODERS = {"pymatching": False, "pymatching-correlated": True}
"""Name -> whether matching takes correlations between edges into account."""

Edge = tuple[tuple[int, ...], tuple[int, ...]]  # detectors, observables


class Template:
    """Immutable, shared by every window with the same content.

    ``detectors``: what it matches, in order; ``artifacts``: detectors that it may flip; ``columns``: its observables.
    ``edges``: size of its graph.
    """

    def __init__(self, local: LocalCircuit, commit: int, end: int, *, correlated: bool) -> None:
        self.columns: tuple[Column, ...] = local.columns
        self._correlated = correlated
        # A template that cannot be built is a fault of the program: stim names the observable or detector at fault.
        model = stim.Circuit(local.text).detector_error_model(decompose_errors=True)
        before = sum(d.slot < 0 for d in local.detectors)
        matched = sum(d.slot < end for d in local.detectors)
        edges = _Edges(local.detectors, commit, before, matched, len(local.columns))
        lines = edges.lines(model, correlated)
        self.detectors: tuple[LocalDetector, ...] = local.detectors[before:matched]
        self.artifacts: tuple[LocalDetector, ...] = tuple(local.detectors[i] for i in edges.artifacts)
        self.edges = len(edges.decided)
        self._matching: pymatching.Matching | None = None
        if self.detectors and self.predictions:
            lines.append(f"detector D{len(self.detectors) - 1}")
            lines.append(f"logical_observable L{self.predictions - 1}")
            graph = stim.DetectorErrorModel("\n".join(lines))
            self._matching = pymatching.Matching.from_detector_error_model(graph, enable_correlations=correlated)

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
        self._components: dict[str, str] = {}

    def lines(self, model: stim.DetectorErrorModel, correlated: bool) -> list[str]:
        """The error model of the window's own edges: whole hyperedges if correlations are used, single edges if not."""
        out = []
        for line in str(model).split("\n"):
            if not line.startswith("error("):
                continue
            head, _, targets = line.partition(") ")
            kept = []
            for text in targets.split(" ^ "):
                edge = self._components.get(text)
                if edge is None:
                    edge = self._components[text] = self._decide(text)
                if edge:
                    kept.append(edge)
            if correlated and kept:
                out.append(f"{head}) {' ^ '.join(kept)}")
            else:
                out += [f"{head}) {edge}" for edge in kept]
        return out

    def _decide(self, text: str) -> str:
        words = text.split()
        detectors = tuple(sorted(int(w[1:]) for w in words if w[0] == "D"))
        if not detectors or detectors[0] < self._before:
            return ""
        if detectors not in self.decided:
            self.decided[detectors] = self._write(detectors, [int(w[1:]) for w in words if w[0] == "L"])
        return self.decided[detectors]

    def _write(self, detectors: tuple[int, ...], observables: list[int]) -> str:
        if detectors[0] >= self._matched:
            return ""
        effects: list[int] = []
        if min(self._slots[d] for d in detectors) < self._commit:
            beyond = [d for d in detectors if self._slots[d] >= self._commit]
            effects = observables + [self._columns + self.artifacts.setdefault(d, len(self.artifacts)) for d in beyond]
        inside = [f"D{d - self._before}" for d in detectors if d < self._matched]
        return " ".join(inside + [f"L{i}" for i in effects])
