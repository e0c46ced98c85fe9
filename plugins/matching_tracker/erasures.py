# SPDX-License-Identifier: Apache-2.0
"""Decoding with missing records: an edge whose record is missing is as likely as not.

Such edges weigh nothing, and differ from shot to shot; a matching graph has one set of weights.  So shots that miss the same
records are decoded together, on a graph of independent edges whose weights are changed for them.

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

import pymatching
from qcos_plugins.matching_tracker.elements import Name
from qcos_plugins.matching_tracker.model import Floats, declared
from qcos_plugins.matching_tracker.packed import Bits, transpose
from qcos_plugins.matching_tracker.structure import HOPELESS, Edge, Structure


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
        self._probabilities = probabilities
        self._lines = [
            f"error({p!r}) {edge.text}"
            for edge, p in zip(structure.edges, probabilities.tolist(), strict=True)
            if p > 0
        ]
        self._matching = self._graph(self._lines)

    def decode(self, syndrome: Bits, shots: int, lost: Lost) -> Bits:
        """uint8 (detectors, bytes) -> uint8 (predictions, bytes), both packed along the shots."""
        matching, kept = self._matching, []
        edges = [self._structure.edges[i] for i in sorted(lost.edges)]
        if all(_data(matching, edge) for edge in edges):
            kept = [(edge, _data(matching, edge)) for edge in edges]
            for edge, data in kept:
                _put(matching, edge, 0.0, data["fault_ids"])
        else:
            # An edge cannot be taken out of a graph again.
            matching = self._graph(self._lines + [f"error(0.5) {edge.text}" for edge in edges])
        try:
            found = matching.decode_batch(
                transpose(syndrome, shots), bit_packed_shots=True, bit_packed_predictions=True
            )
        finally:
            for edge, data in kept:
                _put(matching, edge, data["weight"], data["fault_ids"])
        return transpose(found, self._structure.predictions)

    def _graph(self, lines: list[str]) -> pymatching.Matching:
        structure = self._structure
        return pymatching.Matching.from_detector_error_model(
            declared(lines, len(structure.detectors), structure.predictions)
        )


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
