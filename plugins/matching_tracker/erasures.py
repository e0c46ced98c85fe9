# SPDX-License-Identifier: Apache-2.0
"""Decoding with missing records: an edge whose record is missing is as likely as not.

Such edges weigh nothing, and differ from shot to shot; a matching graph has one set of weights, and changing a single one
costs as much as building it.  So a few missing edges are tried out: with each subset of them taken as flipped, for nothing,
what remains is decoded as always, and the lightest answer is the one that a graph with the new weights would give.  When
many are missing, the graph is changed for these shots.  How many shots lack the same ones must not count: the two ways may
break a tie differently, and what becomes of a shot would depend on those beside it.  Edges count as independent here.

A shot is *undecidable* when what is missing contains a logical operator: a cycle of missing edges (the border is one point)
that changes a prediction.  Then both answers explain the records equally well, and no decoder can tell.  The verdict is exact
for cycles among the edges that the window commits.  It is on the safe side elsewhere: a cycle that leaves the commit and
comes back, or goes on to the end of the window (where the graph has a border that time does not have), counts as soon as it
changes an artifact, although it may be harmless.  Cycles beyond the commit are left to the next window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymatching
from qcos_plugins.matching_tracker.elements import Name
from qcos_plugins.matching_tracker.model import Floats, declared
from qcos_plugins.matching_tracker.packed import Bits, transpose, width
from qcos_plugins.matching_tracker.structure import HOPELESS, Edge, Structure

EDGES_PER_TRIAL = 5  # building so many edges of a graph takes about as long as decoding once
TRIALS_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class Lost:
    """What some missing records do: edges that are as likely as not, and whether that leaves anything to decode."""

    edges: frozenset[int]
    undecidable: bool

    @classmethod
    def of(cls, structure: Structure, names: Iterable[Name]) -> Lost:
        """Records that the window does not see are left out."""
        found = {structure.missing[name] for name in names if name in structure.missing}
        edges = frozenset(found - {HOPELESS})
        return cls(edges, HOPELESS in found or _contains_logical([structure.edges[i] for i in edges]))


def _contains_logical(edges: Sequence[Edge]) -> bool:
    """Whether a cycle of these edges has an effect: union-find, where each detector keeps its effect relative to its root."""
    border = -1
    parent: dict[int, tuple[int, int]] = {}  # detector -> one nearer to the root, and the effect of the way there

    def root(detector: int) -> tuple[int, int]:
        way = 0
        while detector in parent:
            detector, effect = parent[detector]
            way ^= effect
        return detector, way

    for edge in edges:
        a, b = edge.detectors if len(edge.detectors) == 2 else (*edge.detectors, border)
        effect = 0
        for e in edge.effects:
            effect ^= 1 << e
        (a, way_a), (b, way_b) = root(a), root(b)
        effect ^= way_a ^ way_b
        if a != b:
            parent[a] = (b, effect)
        elif effect:
            return True
    return False


class Erasures:
    """A plain matching graph of a structure, given the probability of each of its edges (0: only there when missing)."""

    def __init__(self, structure: Structure, probabilities: Floats) -> None:
        self._structure = structure
        self._lines = [
            (edge.detectors, f"error({p!r}) {edge.text}")
            for edge, p in zip(structure.edges, probabilities.tolist(), strict=True)
            if p > 0
        ]
        self._matching = self._graph([line for _, line in self._lines])

    def decode(self, syndrome: Bits, losses: Sequence[Lost]) -> Bits:
        """uint8 (detectors, bytes) -> uint8 (predictions, bytes), both packed along the shots.  ``losses``: of each shot.

        Undecidable shots are left out: their predictions are 0.
        """
        groups: dict[frozenset[int], list[int]] = {}
        for shot, lost in enumerate(losses):
            if not lost.undecidable:
                groups.setdefault(lost.edges, []).append(shot)
        rows = transpose(syndrome, len(losses))
        found = np.zeros((len(losses), width(self._structure.predictions)), np.uint8)
        trials: list[tuple[list[Edge], int]] = []
        for lost_edges, shots in groups.items():
            edges = [self._structure.edges[i] for i in sorted(lost_edges)]
            if 1 << len(edges) <= len(self._lines) // EDGES_PER_TRIAL:
                trials += ((edges, shot) for shot in shots)
            else:
                found[shots] = self._changed(edges, rows[shots])
        while trials:
            rest, total = 0, 0
            while rest < len(trials) and (rest == 0 or total < TRIALS_AT_ONCE):
                total += 1 << len(trials[rest][0])
                rest += 1
            self._try(trials[:rest], rows, found)
            trials = trials[rest:]
        return transpose(found, self._structure.predictions)

    def _try(self, trials: Sequence[tuple[list[Edge], int]], rows: Bits, found: Bits) -> None:
        """Decodes shots with each subset of their missing edges flipped; the lightest goes to ``found``."""
        flips, effects, syndromes = [], [], []
        for edges, shot in trials:
            flips.append(_subsets([e.detectors for e in edges], rows.shape[1]))
            effects.append(_subsets([e.effects for e in edges], found.shape[1]))
            syndromes.append(flips[-1] ^ rows[shot])
        predicted, weights = self._matching.decode_batch(
            np.concatenate(syndromes), bit_packed_shots=True, bit_packed_predictions=True, return_weights=True
        )
        start = 0
        for (_, shot), effect in zip(trials, effects, strict=True):
            best = int(np.argmin(weights[start : start + len(effect)]))
            found[shot] = predicted[start + best] ^ effect[best]
            start += len(effect)

    def _changed(self, edges: Sequence[Edge], rows: Bits) -> Bits:
        """uint8 (shots, bytes of detectors) -> (shots, bytes of predictions), decoded where these edges weigh nothing."""
        matching, kept = self._matching, []
        known = [(edge, _data(matching, edge)) for edge in edges]
        if all(data is not None for _, data in known):
            kept = [(edge, data) for edge, data in known if data is not None]
            for edge, _ in kept:
                _put(matching, edge, 0.0, set(edge.effects))
        else:
            # An edge cannot be taken out of a graph again.
            taken = {edge.detectors for edge in edges}
            others = [line for detectors, line in self._lines if detectors not in taken]
            matching = self._graph([f"error(0.5) {edge.text}" for edge in edges] + others)
        try:
            return matching.decode_batch(rows, bit_packed_shots=True, bit_packed_predictions=True)
        finally:
            for edge, data in kept:
                _put(matching, edge, data["weight"], data["fault_ids"])

    def _graph(self, lines: list[str]) -> pymatching.Matching:
        structure = self._structure
        return pymatching.Matching.from_detector_error_model(
            declared(lines, len(structure.detectors), structure.predictions)
        )


def _subsets(places: Sequence[Sequence[int]], width: int) -> Bits:
    """uint8 (2^n, width): for each subset of n sets of places, the bits that are in an odd number of them."""
    table = np.zeros((1 << len(places), width), np.uint8)
    for i, bits in enumerate(places):
        half = 1 << i
        table[half : 2 * half] = table[:half]
        for bit in bits:
            table[half : 2 * half, bit // 8] ^= 1 << bit % 8
    return table


def _data(matching: pymatching.Matching, edge: Edge) -> dict[str, Any] | None:
    if len(edge.detectors) == 1:
        (detector,) = edge.detectors
        return matching.get_boundary_edge_data(detector) if matching.has_boundary_edge(detector) else None
    return matching.get_edge_data(*edge.detectors) if matching.has_edge(*edge.detectors) else None


def _put(matching: pymatching.Matching, edge: Edge, weight: float, effects: set[int]) -> None:
    if len(edge.detectors) == 1:
        matching.add_boundary_edge(*edge.detectors, fault_ids=effects, weight=weight, merge_strategy="replace")
    else:
        matching.add_edge(*edge.detectors, fault_ids=effects, weight=weight, merge_strategy="replace")
