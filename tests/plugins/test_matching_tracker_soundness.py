# SPDX-License-Identifier: Apache-2.0
"""A program whose windows do not protect what they observe is refused before anything is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import sampled
from qcos_plugins.matching_tracker.content import Interner
from qcos_plugins.matching_tracker.frames import X, Z
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.reads import unread
from qcos_plugins.matching_tracker.soundness import Gauge, graph_distance, mask
from qcos_plugins.matching_tracker.structure import WrongFragments
from qcos_plugins.matching_tracker.window import Layer, Window, region_windows
from qcos_plugins.surface_code.builder import Builder

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import Detector, FragmentProgram, Hadamard, Measure, Merge

D = 3


def checked(program: FragmentProgram, step: int) -> None:
    """Builds the windows that begin at every ``step``-th slot."""
    plans = Plans(program, Calibration.uniform(1e-3))
    contents = plans.contents(0)
    for start in range(0, len(contents), step):
        end = min(start + 2 * program.distance, len(contents))
        commit = end if end == len(contents) else start + program.distance
        before = contents[start - 1] if start else None
        plans.window(before, contents[start:end], Window(start, commit, end))


PROGRAMS = {
    "memory": lambda d: sampled.memory(d, 7),
    "cnot": lambda d: sampled.cnot(d, "X"),
    "ghz3": lambda d: sampled.ghz(d, 3, "X"),
    "s-sdg": lambda d: sampled.phases(d, dagger=True),
    "hhh": lambda d: sampled.hadamards(d, "X"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_right_programs_pass_at_every_phase_of_the_clock(name: str) -> None:
    checked(PROGRAMS[name](D), 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_right_programs_pass_at_distance_five(name: str) -> None:
    checked(PROGRAMS[name](5), 3)


def spoiled(program: FragmentProgram, change: Callable[[Detector], Detector | None]) -> FragmentProgram:
    """Every detector changed, or left out."""
    (fragment,) = program.fragments
    slots = []
    for slot in fragment.slots:
        parts = tuple(
            part._replace(detectors=tuple(new for old in part.detectors if (new := change(old)) is not None))
            for part in slot.parts
        )
        slots.append(slot._replace(parts=parts))
    return replace(program, fragments=(replace(fragment, slots=tuple(slots)),))


def plaquettes(program: FragmentProgram) -> list[tuple[int, int]]:
    (fragment,) = program.fragments
    return sorted({(d.x, d.y) for slot in fragment.slots for part in slot.parts for d in part.detectors})


def test_a_plaquette_without_detectors_costs_distance() -> None:
    program = sampled.memory(D, 4 * D)
    found = 0
    for place in plaquettes(program):
        without = spoiled(program, lambda d, place=place: None if (d.x, d.y) == place else d)
        with pytest.raises(WrongFragments, match="no detector sees"):
            checked(without, D)
        found += 1
    assert found == D * D - 1


def test_a_detector_of_wrong_records_is_not_deterministic() -> None:
    program = sampled.memory(D, 7)
    place = plaquettes(program)[0]

    def shorter(d: Detector) -> Detector:
        wrong = (d.x, d.y) == place and len(d.records) == 2
        return d._replace(records=d.records[:1]) if wrong else d

    with pytest.raises(WrongFragments, match="deterministic"):
        checked(spoiled(program, shorter), D)


def test_what_is_trivial_alone_and_together() -> None:
    gauge = Gauge([(0, 1), (1, 2)])
    assert gauge.reduced(mask([0, 2])) == 0
    assert gauge.reduced(mask([0])) == gauge.reduced(mask([1])) == gauge.reduced(mask([2])) != 0
    assert gauge.reduced(mask([0, 3])) == gauge.reduced(mask([2, 3])) != gauge.reduced(mask([3]))
    assert Gauge([]).reduced(5) == 5
    assert mask([1, 1, 2]) == 4


def test_graph_distance() -> None:
    chain = [((0,), 1), ((0, 1), 0), ((1, 2), 0), ((2,), 0)]
    assert graph_distance(chain) == 4
    assert graph_distance([*chain, ((1,), 0)]) == 3
    assert graph_distance([*chain, ((0,), 0)]) == 2
    assert graph_distance([(ends, 0) for ends, _ in chain]) is None
    assert graph_distance([]) is None


def later(program: FragmentProgram, *kinds: type) -> list[Layer]:
    """The slots from the one in which an event of the first kind occurs, with those events alone."""
    interner = Interner(program.distance)
    contents = [interner.content(slot) for slot in program.fragments[0].sequence()]
    (region,) = region_windows(None, contents)
    layers = [Layer((), tuple(e for e in layer.events if isinstance(e.placed.item, kinds))) for layer in region.layers]
    first = next(i for i, layer in enumerate(layers) if layer.events)
    return layers[first:]


def test_a_sign_that_is_never_read() -> None:
    memory = later(sampled.memory(D, 2), Measure)
    assert unread(memory, [(0, X), (0, Z)]) == [(0,)]
    assert unread([], [(0, X), (0, Z)]) == []
    turned = sampled.hadamards(D, "X")
    assert unread(later(turned, Hadamard, Measure), [(0, X), (0, Z)]) == [(1,)]


def test_a_merge_reads_a_sum_and_joins_the_others() -> None:
    b = Builder(D)
    b.init(0, (0, 0), "Z")
    b.init(1, (1, 1), "X")
    b.cnot(0, 1, ancilla=2)
    b.measure(0, "Z", bit=0)
    b.measure(1, "Z", bit=1)
    layers = later(b.program(bits=2), Merge, Measure)
    first = layers[0].events[0].placed.item
    pair = [(first.first, X), (first.first, Z), (first.second, X), (first.second, Z)]
    # The parity of Z is read, and so is Z of the control at the end; X is joined, and the ancilla's read-out reads it or not.
    found = unread(layers, pair)
    assert (1,) not in found
    assert all(set(signs) <= {0, 2} for signs in found)
