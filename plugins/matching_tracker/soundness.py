# SPDX-License-Identifier: Apache-2.0
"""Checks of a window before it decodes anything: its graph must protect what it predicts.

That detectors and observables are fixed without noise, stim has said already.  Left to see is that errors which no detector
sees mean nothing, that errors which look alike mean the same, and that no few errors do what a logical operator does.  What
an observable means is only defined up to its gauge: a patch born in |0> has no sign of X, and nothing that flips this sign
alone is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import stim
from qcos_plugins.matching_tracker.structure import Structure, WrongFragments


def check(structure: Structure, distance: int | None) -> None:
    """``distance``: how many errors the window must withstand; None if it need not, for want of look-ahead.

    Raises WrongFragments.
    """
    gauge = Gauge(structure.gauges)
    meant = [observables for observables in structure.unseen if gauge.reduced(mask(observables))]
    if meant:
        names = ", ".join(structure.columns[i].kind for i in meant[0])
        raise WrongFragments(f"errors that no detector sees flip what a window observes ({names})")
    if distance is None:
        return
    columns = len(structure.columns)
    occurring = set(structure.company.edge.tolist())
    edges = [edge for i, edge in enumerate(structure.edges) if edge.committed and i in occurring]
    labels = (gauge.reduced(mask([e for e in edge.effects if e < columns])) for edge in edges)
    found = graph_distance((edge.detectors, label) for edge, label in zip(edges, labels, strict=True))
    if found is not None and found < distance:
        raise WrongFragments(
            f"{found} errors that no detector sees flip what a window observes: distance {distance} is due"
        )


class Gauge:
    """Sets of observables, as bit masks, up to some that mean nothing."""

    def __init__(self, trivial: Iterable[Sequence[int]]) -> None:
        self._pivots: dict[int, int] = {}  # highest bit -> a trivial set with it
        for observables in trivial:
            rest = self.reduced(mask(observables))
            if rest:
                self._pivots[rest.bit_length() - 1] = rest

    def reduced(self, observables: int) -> int:
        """0 for what means nothing, else the same for all sets that mean the same."""
        for pivot in sorted(self._pivots, reverse=True):
            if observables >> pivot & 1:
                observables ^= self._pivots[pivot]
        return observables


def mask(observables: Sequence[int]) -> int:
    """The observables as bits; one that occurs twice cancels."""
    bits = 0
    for i in observables:
        bits ^= 1 << i
    return bits


def graph_distance(edges: Iterable[tuple[Sequence[int], int]]) -> int | None:
    """The least number of edges that together flip no detector and some observables.  ``edges``: one or two detectors, and
    observables as bits.  None if there is no such set."""
    lines = []
    for detectors, observables in edges:
        ends = " ".join(f"D{d}" for d in detectors)
        effects = "".join(f" L{i}" for i in range(observables.bit_length()) if observables >> i & 1)
        lines.append(f"error(0.01) {ends}{effects}")
    model = stim.DetectorErrorModel("\n".join(lines))
    if model.num_observables == 0:
        return None
    try:
        return len(model.shortest_graphlike_error())
    except ValueError:  # there is none
        return None
