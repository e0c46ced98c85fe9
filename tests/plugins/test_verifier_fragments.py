# SPDX-License-Identifier: Apache-2.0
"""Right fragments pass; each kind of wrong ones, made by changing one thing of right ones, is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from logical_programs import conditional, idle, measure, op, program, programs, random_program
from qcos_plugins.grid_mapper.mapper import placed
from qcos_plugins.surface_code.prepare import prepare
from qcos_plugins.verifier.finding import Wrong
from qcos_plugins.verifier.fragments import check_fragments
from qcos_plugins.verifier.placement import check_calibration, check_placement

from qcosd.qec.calibration import Calibration
from qcosd.qec.device import Device
from qcosd.qec.fragment import (
    Detector,
    Event,
    Fragment,
    FragmentProgram,
    Frame,
    Init,
    Instruction,
    Measure,
    Merge,
    Part,
    Slot,
    Split,
)
from qcosd.qec.placement import Placement
from qcosd.qec.program import LogicalProgram

BELL = program(2, 2, op("h", 0), op("cx", 0, 1), measure(0, 0), measure(1, 1))
ECHO = program(2, 2, op("h", 0), op("cx", 0, 1), op("s", 1), op("sdg", 1), op("cx", 0, 1), op("h", 0), measure(0, 0), measure(1, 1))  # fmt: skip
TURNS = program(1, 1, op("h", 0), op("s", 0), op("h", 0), op("s", 0), op("s", 0), op("h", 0), op("sdg", 0), op("h", 0), measure(0, 0))  # fmt: skip
BRANCH = program(
    2, 2, op("h", 0), measure(0, 0), conditional((0,), "==", 1, op("h", 1), op("s", 1), op("h", 1)), measure(1, 1)
)


def each_part(fragments: FragmentProgram, change: Callable[[Part], Part]) -> FragmentProgram:
    return each_slot(fragments, lambda slot: slot._replace(parts=tuple(map(change, slot.parts))))


def each_slot(fragments: FragmentProgram, change: Callable[[Slot], Slot]) -> FragmentProgram:
    def of(fragment: Fragment) -> Fragment:
        return replace(fragment, slots=tuple(map(change, fragment.slots)))

    return replace(fragments, fragments=tuple(map(of, fragments.fragments)))


def first_event(fragments: FragmentProgram, kind: type, change: Callable[..., Event | None]) -> FragmentProgram:
    """The first event of a kind changed, or left out."""
    done = []

    def of(slot: Slot) -> Slot:
        events = []
        for event in slot.events:
            if isinstance(event, kind) and not done:
                done.append(event)
                events += [made for made in [change(event)] if made is not None]
            else:
                events.append(event)
        return slot._replace(events=tuple(events))

    changed = each_slot(fragments, of)
    assert done
    return changed


def refused(logical: LogicalProgram, fragments: FragmentProgram, *words: str) -> str:
    with pytest.raises(Wrong) as wrong:
        check_fragments(logical, fragments, fragments.distance)
    assert not words or any(word in str(wrong.value) for word in words), wrong.value
    return str(wrong.value)


# ---- right ones


@settings(max_examples=10, deadline=None)
@given(programs(qubits=3, length=12))
def test_random_programs_pass(logical):
    facts = check_fragments(logical, prepare(logical, 3), 3)
    assert facts["paths"] >= 1 and facts["shots"] >= 1
    assert facts.get("distance", 3) == 3


@settings(max_examples=4, deadline=None)
@given(programs(qubits=2, length=8, hadamards=False))
def test_random_programs_without_movement_pass(logical):
    check_fragments(logical, prepare(logical, 3, movement=False), 3)


@pytest.mark.parametrize("logical", [BELL, ECHO, TURNS, BRANCH])
def test_the_distance_is_found(logical):
    assert check_fragments(logical, prepare(logical, 5), 5)["distance"] == 5


def test_both_ways_of_a_decision_are_run():
    assert check_fragments(BRANCH, prepare(BRANCH, 3), 3)["paths"] == 2
    nested = program(
        3, 3, op("h", 0), measure(0, 0), conditional((0,), "==", 1, op("h", 1), measure(1, 1), conditional((1,), "==", 1, op("h", 2))), measure(2, 2)
    )  # fmt: skip
    assert check_fragments(nested, prepare(nested, 3), 3)["paths"] == 3


def test_a_reset_does_not_decide_what_others_give():
    logical = program(2, 1, op("h", 0), op("cx", 0, 1), op("reset", 0), measure(1, 0))
    assert check_fragments(logical, prepare(logical, 3), 3)["shots"] == 16


def test_long_waits_are_shortened_and_counted():
    logical = program(1, 1, idle(5000, 0), measure(0, 0))
    assert check_fragments(logical, prepare(logical, 3), 3)["distance"] == 3


def test_what_is_too_large_is_said(monkeypatch):
    monkeypatch.setattr("qcos_plugins.verifier.lattice.MOST_RECORDS", 200)
    assert "records" in check_fragments(BELL, prepare(BELL, 3), 3)["skipped"][0]
    monkeypatch.setattr("qcos_plugins.verifier.lattice.MOST_RECORDS", 2000)
    monkeypatch.setattr("qcos_plugins.verifier.fragments.MOST_DETECTORS", 100)
    assert "distance" in check_fragments(BELL, prepare(BELL, 3), 3)["skipped"][0]


# ---- wrong ones


@pytest.mark.parametrize("logical", [BELL, ECHO, TURNS, BRANCH])
def test_a_missing_detector(logical):
    right = prepare(logical, 3)
    watched = [part for f in right.fragments for slot in f.slots for part in slot.parts if part.detectors]
    for chosen in Random(1).sample(watched, 6):

        def drop(part: Part, chosen: Part = chosen) -> Part:
            return part._replace(detectors=part.detectors[1:]) if part is chosen else part

        refused(logical, each_part(right, drop), "no detector looks")


def test_all_detectors_missing():
    refused(BELL, each_part(prepare(BELL, 3), lambda part: part._replace(detectors=())), "no detector looks")


def test_a_detector_that_is_not_even():
    def break_one(part: Part) -> Part:
        if not part.detectors:
            return part
        x, y, kind, records = part.detectors[0]
        return part._replace(detectors=(Detector(x, y, kind, records[:-1]), *part.detectors[1:]))

    refused(ECHO, each_part(prepare(ECHO, 3), break_one), "odd", "errors change")


def test_a_swapped_basis_of_birth():
    other = {"R": "RX", "RX": "R"}

    def swap(part: Part) -> Part:
        changed = tuple(
            Instruction(other.get(n, n), t) if len(t) == 9 else Instruction(n, t) for n, t in part.instructions
        )
        return part._replace(instructions=changed)

    refused(ECHO, each_part(prepare(ECHO, 3), swap))
    # The event alone: what it says of the coin flips is only words, and changes what is decoded.
    plus = program(1, 1, op("h", 0), measure(0, 0))
    refused(plus, prepare(program(1, 1, measure(0, 0)), 3), "leaves to chance")
    refused(program(1, 1, measure(0, 0)), prepare(plus, 3), "rules out")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Measure, lambda e: e._replace(bit=1 - e.bit) if e.bit >= 0 else e._replace(records=e.records[1:])),
        (Measure, lambda e: e._replace(records=e.records[1:])),
        (Merge, lambda e: e._replace(records=e.records[1:])),
        (Split, lambda e: e._replace(records=e.records[1:])),
        (Merge, lambda e: e._replace(basis="X" if e.basis == "Z" else "Z")),
        (Frame, lambda e: None),
        (Frame, lambda e: e._replace(constant=1 - e.constant)),
        (Frame, lambda e: e._replace(pauli="X" if e.pauli == "Z" else "Z")),
        (Init, lambda e: None),
        (Measure, lambda e: None),
    ],
)
def test_events_that_do_not_tell_what_happens(kind, change):
    # Every outcome is certain, so every sign shows.
    logical = ECHO
    for distance in (3, 5):
        right = prepare(logical, distance)
        refused(logical, first_event(right, kind, change))


def test_another_program_is_refused():
    different = 0
    for seed in range(8):
        mine, other = (random_program(Random(f"{seed}/{which}"), 2, 2, 10) for which in "ab")
        try:
            check_fragments(mine, prepare(other, 3), 3)
        except Wrong:
            different += 1
    assert different >= 7


def test_decisions_the_other_way_round():
    right = prepare(BRANCH, 3)
    first = right.fragments[0]
    assert first.decision is not None
    turned = first.decision._replace(otherwise=first.decision.then, then=first.decision.otherwise)
    refused(BRANCH, replace(right, fragments=(replace(first, decision=turned), *right.fragments[1:])))
    back = first.decision._replace(then=0)
    refused(BRANCH, replace(right, fragments=(replace(first, decision=back), *right.fragments[1:])), "not behind")


def test_a_condition_that_reads_another_value():
    logical = program(2, 2, op("h", 0), measure(0, 0), conditional((0,), "==", 1, op("x", 1)), measure(1, 1))
    other = program(2, 2, op("h", 0), measure(0, 0), conditional((0,), "==", 0, op("x", 1)), measure(1, 1))
    refused(logical, prepare(other, 3), "rules out")


def test_an_idle_that_is_too_short():
    logical = program(1, 1, op("h", 0), idle(4, 0), measure(0, 0))
    shorter = program(1, 1, op("h", 0), idle(2, 0), measure(0, 0))
    assert check_fragments(logical, prepare(logical, 3), 3)
    refused(logical, prepare(shorter, 3), "left alone")


def test_registers_distance_and_qubits():
    right = prepare(BELL, 3)
    refused(BELL, replace(right, registers=(("d", 2),)), "registers")
    refused(BELL, replace(right, qubits=3), "qubits")
    with pytest.raises(Wrong, match="asked for"):
        check_fragments(BELL, right, 5)


def test_operations_side_by_side_that_share_a_site():
    def twice(slot: Slot) -> Slot:
        last = slot.parts[-1]
        return slot._replace(parts=(*slot.parts, last._replace(detectors=(), patches=(99,))))

    refused(BELL, each_slot(prepare(BELL, 3), twice), "share site", "measured 2 times")


def test_a_plaquette_that_is_not_measured():
    def drop(part: Part) -> Part:
        kept = tuple(Instruction(n, t[1:] if n == "M" and len(t) > 1 else t) for n, t in part.instructions)
        return part._replace(instructions=kept)

    refused(BELL, each_part(prepare(BELL, 3), drop), "is measured 0 times")


def test_a_qubit_that_is_left_alive():
    def no_reading(slot: Slot) -> Slot:
        return slot._replace(events=tuple(e for e in slot.events if not (isinstance(e, Measure) and e.bit == 1)))

    refused(BELL, each_slot(prepare(BELL, 3), no_reading), "still alive", "not done", "no detector looks")


# ---- placements and calibrations


def small() -> tuple[FragmentProgram, Device, Placement]:
    fragments, device = prepare(BELL, 3), Device(width=60, height=40, dead=frozenset({(1, 1)}))
    placement, _ = placed(fragments, device)
    return fragments, device, placement


def test_a_placement_of_the_mapper_passes():
    facts = check_placement(*small())
    assert facts["sites"] > 50 and facts["couplers"] > 50


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda p: replace(p, device="other"), "device"),
        (lambda p: replace(p, offset=(p.offset[0] + 1, p.offset[1])), "measure sites"),
        (lambda p: replace(p, offset=(0, 0)), "no site"),
        (lambda p: replace(p, offset=(58, 0)), "no site"),
        (lambda p: replace(p, offset=(-2, 0)), "no site"),
        (lambda p: replace(p, coordinates=p.coordinates[1:]), "has no site"),
        (lambda p: replace(p, coordinates=(p.coordinates[1], *p.coordinates[1:])), "same coordinate"),
    ],
)
def test_wrong_placements_are_refused(change, word):
    fragments, device, placement = small()
    with pytest.raises(Wrong, match=word):
        check_placement(fragments, device, change(placement))


def test_a_program_that_moves_needs_a_device_that_does():
    fragments = prepare(TURNS, 3)
    placement, _ = placed(fragments, Device())
    with pytest.raises(Wrong, match="moves"):
        check_placement(fragments, Device(movement=False), placement)


def test_calibrations():
    device = Device(width=10, height=10, dead=frozenset({(4, 4)}))
    good = replace(Calibration.uniform(1e-3), sites={(2, 2): {"idle": 0.01}}, couplers={((1, 1), (2, 2)): 0.02})
    assert check_calibration(device, good) == {"calibration": good.id, "sites": 1, "couplers": 1}
    for wrong in (
        Calibration.uniform(0.0),
        replace(good, sites={(4, 4): {"idle": 0.01}}),
        replace(good, sites={(12, 2): {"idle": 0.01}}),
        replace(good, couplers={((3, 3), (4, 4)): 0.02}),
        replace(good, couplers={((1, 1), (2, 6)): 0.02}),
    ):
        with pytest.raises(Wrong):
            check_calibration(device, wrong)
