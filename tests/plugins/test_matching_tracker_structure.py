# SPDX-License-Identifier: Apache-2.0
"""The structure of a window: what arrays make of its errors is what a loop over single errors makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import sampled
import stim
from qcos_plugins.matching_tracker.content import Interner
from qcos_plugins.matching_tracker.elements import LocalCircuit
from qcos_plugins.matching_tracker.local import local_circuit
from qcos_plugins.matching_tracker.model import Company, Errors, joined, sectors
from qcos_plugins.matching_tracker.structure import Sorter, Structure
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
    compared = 0
    for local, commit, end in locals_of(PROGRAMS[name](3), 2):
        structure = Structure.of(local, commit, end, join=join)
        slots = [d.slot for d in local.detectors]
        sorter = Sorter(slots, commit, sum(t < 0 for t in slots), sum(t < end for t in slots), len(local.columns))
        model = stim.Circuit(local.text).detector_error_model(decompose_errors=True)
        # Lines with other tags are the same error, which counts once.
        untagged = "\n".join(dict.fromkeys(f"error(0.1) {line.partition(') ')[2]}" for line in lines_of(model)))
        found = Errors(stim.DetectorErrorModel(untagged))
        errors = [components for _, components in found]
        sector = sectors(piece.detectors for piece in found.components() if piece.detectors)
        expected = []
        for error in errors:
            whole = joined(error, sector) if join and len(error) > 1 else error
            expected.append([edge for piece in whole if (edge := sorter.edge(piece)) is not None])
        expected = [error for error in expected if error]
        ends = [0, *np.cumsum(structure.company.sizes).tolist()]
        edges = structure.company.edge.tolist()
        assert [edges[a:b] for a, b in pairwise(ends)] == expected
        assert structure.edges[: len(sorter.edges)] == sorter.edges
        assert structure.flips.errors == len(expected)
        compared += len(expected)
    assert compared > 500


def lines_of(model: stim.DetectorErrorModel) -> list[str]:
    return [line for line in str(model).split("\n") if line.startswith("error")]


def test_edges_of_one_error_are_all_paired() -> None:
    company = Company.of([[3], [0, 1], [2, 2], [1, 0, 3]], 4)
    p = np.array([0.1, 0.01, 0.1, 0.02])
    # Given edge 0 or 1, the other is certain; given 3, they come with a sixth of it.
    assert company.bound(p, 0.5).tolist() == pytest.approx([1, 0.5, 1, 0.5])
    assert company.bound(p, 1.0).tolist() == [1, 1, 1, 1]
