# SPDX-License-Identifier: Apache-2.0
"""The structure of a window: what arrays make of its errors is what a loop over single errors makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import sampled
import stim
from qcos_plugins.matching_tracker.analysis import Analysis, Flips
from qcos_plugins.matching_tracker.content import Interner
from qcos_plugins.matching_tracker.elements import LocalCircuit
from qcos_plugins.matching_tracker.local import local_circuit
from qcos_plugins.matching_tracker.model import Company, component, joined, sectors
from qcos_plugins.matching_tracker.soundness import Gauge, mask
from qcos_plugins.matching_tracker.structure import Edge, Sorter, Structure
from qcos_plugins.matching_tracker.window import region_windows

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram

PROGRAMS = {
    "memory": lambda d: sampled.memory(d, 7),
    "cnot-z": lambda d: sampled.cnot(d, "Z"),
    "cnot-x": lambda d: sampled.cnot(d, "X"),
    "ghz3": lambda d: sampled.ghz(d, 3, "X"),
    "s-sdg": lambda d: sampled.phases(d, dagger=True),
    "hhh": lambda d: sampled.hadamards(d, "X"),
}
RATES = Calibration.uniform(1e-3)


def locals_of(program: FragmentProgram, step: int, *, tagged: bool = True) -> Iterator[tuple[LocalCircuit, int, int]]:
    """Local circuits, commits and ends of the windows that begin at every ``step``-th slot."""
    d = program.distance
    interner = Interner(d)
    slots = [interner.content(slot) for slot in program.fragments[0].sequence()]
    for start in range(0, len(slots), step):
        end = min(start + 2 * d, len(slots))
        commit = min(d, end - start)
        for region in region_windows(slots[start - 1] if start else None, slots[start:end]):
            yield local_circuit(region, commit, end - start, d, RATES, tagged=tagged), commit, end - start


@pytest.mark.parametrize("join", [True, False])
@pytest.mark.parametrize("name", PROGRAMS)
def test_errors_fall_into_edges_as_one_by_one(name: str, join: bool) -> None:
    """One error after the other, from a model for which no loop was folded."""
    compared = 0
    for local, commit, end in locals_of(PROGRAMS[name](3), 2):
        compared += compare(local, commit, end, join)
    assert compared > 500


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_errors_fall_into_edges_as_one_by_one_at_distance_five(name: str) -> None:
    folded = 0
    for local, commit, end in locals_of(PROGRAMS[name](5), 5):
        compare(local, commit, end, True)
        folded += "REPEAT" in local.text
    assert folded


def compare(local: LocalCircuit, commit: int, end: int, join: bool) -> int:
    """The number of errors that are equal; all have to be."""
    slots = [d.slot for d in local.detectors]
    sorter = Sorter(slots, commit, sum(t < 0 for t in slots), sum(t < end for t in slots), len(local.columns))
    model = stim.Circuit(local.text).detector_error_model(decompose_errors=True, flatten_loops=True)
    direct = Analysis(model, local.classes)
    errors = [[component(text) for text in targets.split(" ^ ")] for targets in direct.targets]
    errors = [[piece for piece in error if piece.detectors] for error in errors]
    sector = sectors(piece.detectors for error in errors for piece in error)
    expected: list[list[int]] = []
    for error in errors:
        whole = joined(error, sector) if join and len(error) > 1 else error
        expected.append([edge for piece in whole if (edge := sorter.edge(piece)) is not None])

    structure = Structure.of(local, commit, end, join=join)
    ends = [0, *np.cumsum(structure.company.sizes).tolist()]
    edges = structure.company.edge.tolist()
    found = [edges[a:b] for a, b in pairwise(ends)]
    own = flips_of(structure.edges, found, structure.flips)
    assert own == flips_of(sorter.edges, expected, direct.flips)
    # Which of the equivalent effects of an edge is taken depends on the order of errors.
    gauge = Gauge(local.gauges)
    artifacts = [local.detectors.index(d) for d in structure.artifacts]
    meaning = meaning_of(structure.edges, {e for error in found for e in error}, gauge, len(local.columns), artifacts)
    wanted = {e for error in expected for e in error}
    assert meaning == meaning_of(sorter.edges, wanted, gauge, len(local.columns), list(sorter.artifacts))
    return len(own)


def flips_of(edges: list[Edge], errors: list[list[int]], flips: Flips) -> Counter[tuple[object, int]]:
    """The flips of each class that the errors of the same edges consist of."""
    found: Counter[tuple[object, int]] = Counter()
    for error, kind, exponent in zip(flips.error.tolist(), flips.kind.tolist(), flips.exponent.tolist(), strict=True):
        if errors[error]:
            found[tuple(sorted(edges[edge].detectors for edge in errors[error])), kind] += exponent
    return found


def meaning_of(
    edges: list[Edge], occurring: set[int], gauge: Gauge, columns: int, artifacts: list[int]
) -> dict[tuple[int, ...], tuple[bool, int, list[int]]]:
    """What each edge does to observables, up to their gauge, and to detectors beyond the commit."""
    return {
        (edge := edges[number]).detectors: (
            edge.committed,
            gauge.reduced(mask([effect for effect in edge.effects if effect < columns])),
            sorted(artifacts[effect - columns] for effect in edge.effects if effect >= columns),
        )
        for number in occurring
    }


def test_edges_of_one_error_are_all_paired() -> None:
    company = Company.of([[3], [0, 1], [2, 2], [1, 0, 3]], 4)
    p = np.array([0.1, 0.01, 0.1, 0.02])
    # Given edge 0 or 1, the other is certain; given 3, they come with a sixth of it.
    assert company.bound(p, 0.5).tolist() == pytest.approx([1, 0.5, 1, 0.5])
    assert company.bound(p, 1.0).tolist() == [1, 1, 1, 1]
