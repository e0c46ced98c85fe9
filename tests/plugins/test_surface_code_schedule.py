# SPDX-License-Identifier: Apache-2.0
"""When and where prepared programs do things."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logical_programs import conditional, idle, measure, op, program, programs
from qcos_plugins.surface_code.builder import Builder
from qcos_plugins.surface_code.floor import Floor, Need
from qcos_plugins.surface_code.prepare import facts, prepare

from qcosd.qec.fragment import FragmentProgram, Frame, Handover, Init, Measure, Merge
from qcosd.qec.geometry import cell_rect

NOISELESS = {"R", "RX", "H", "M", "MX", "I", "CX", "PERM", "TICK", "HANDOVER_Y"}


def events(fragment):
    """(slot, event) in order."""
    return [(t, event) for t, slot in enumerate(fragment.sequence()) for event in slot.events]


def overlaps(slot) -> bool:
    boxes = [region.rect for region in slot.regions]
    return any(
        a.x0 <= b.x1 and b.x0 <= a.x1 and a.y0 <= b.y1 and b.y0 <= a.y1
        for i, a in enumerate(boxes)
        for b in boxes[i + 1 :]
    )


def check(prepared, d):
    """What holds for every prepared program."""
    assert FragmentProgram.from_bytes(prepared.to_bytes()) == prepared
    by_index = {fragment.index: fragment for fragment in prepared.fragments}
    tags = [e.tag for f in prepared.fragments for _, e in events(f) if isinstance(e, Merge | Measure)]
    assert len(tags) == len(set(tags))
    for fragment in prepared.fragments:
        slots = list(fragment.sequence())
        begun = {e.tag: t for t, e in events(fragment) if isinstance(e, Merge)}
        for t, event in events(fragment):
            assert t % d == 0
            if isinstance(event, Frame):
                assert all(begun[tag] + 2 <= t for tag in event.tags if tag in begun)
        for t, slot in enumerate(slots):
            assert not overlaps(slot)
            assert {name for part in slot.parts for name, _ in part.instructions} <= NOISELESS
            assert list(slot.parts) == sorted(slot.parts, key=lambda part: part.rank)
            assert slot.regions or (fragment.decision is None and t == len(slots) - 1)
        alive = {patch: rect for region in slots[-1].regions for patch, rect in [(region.patches[0], region.rect)]}
        if fragment.decision is None:
            assert not slots[-1].regions
            continue
        assert fragment.length % d == 0
        assert not any(region.basis for region in slots[-1].regions)
        for follower in (fragment.decision.then, fragment.decision.otherwise):
            assert dict(by_index[follower].entry) == alive
        written = [
            t for t, e in events(fragment) if isinstance(e, Measure) and e.bit in fragment.decision.condition.bits
        ]
        committed = -(-(max(written, default=-1) + 1) // d) * d
        assert fragment.length - d >= committed


@settings(max_examples=40, deadline=None)
@given(programs(qubits=3, bits=2, length=14), st.sampled_from([3, 5]), st.just(True))
def test_rules_on_random_programs(logical, d, movement):
    check(prepare(logical, d, movement), d)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_corridors_of_many_qubits_never_overlap(seed):
    random = Random(seed)
    n = 6
    ops = []
    for _ in range(4):
        order = random.sample(range(n), n)
        ops += [op("cx", a, b) for a, b in zip(order[::2], order[1::2], strict=True)]
        ops += [op("s", random.randrange(n))]
    check(prepare(program(n, n, *ops, *(measure(q, q) for q in range(n))), 3), 3)


def test_cxs_whose_corridors_do_not_meet_run_at_once():
    prepared = prepare(program(4, 4, op("cx", 0, 1), op("cx", 2, 3), *(measure(q, q) for q in range(4))), 3)
    assert facts(prepared)["rounds"] == 6


def test_disjoint_cxs_whose_corridors_cross_wait_for_each_other():
    # The row of cx(1, 3) and the column of cx(0, 2) meet on cell (4, 1).
    prepared = prepare(program(4, 4, op("cx", 1, 3), op("cx", 0, 2), *(measure(q, q) for q in range(4))), 3)
    assert facts(prepared)["rounds"] == 6  # the row is needed in the first block, the column in the second
    prepared = prepare(program(4, 4, idle(1, 1), op("cx", 1, 3), op("cx", 0, 2), *(measure(q, q) for q in range(4))), 3)
    assert facts(prepared)["rounds"] == 12 - 3  # here they collide: the second cx starts a block later


def test_a_corridor_freed_by_a_later_operation_is_taken_in_the_same_slot():
    # cx(0, 2) stands behind cx(1, 3) in the program and before it in time.
    logical = program(4, 4, idle(2, 1), op("cx", 1, 3), op("cx", 0, 2), *(measure(q, q) for q in range(4)))
    prepared = prepare(logical, 3)
    check(prepared, 3)
    begun = [t for t, e in events(prepared.fragments[0]) if isinstance(e, Merge)]
    assert begun == [0, 3, 6, 9]


def test_the_length_of_simple_programs():
    d = 5
    assert facts(prepare(program(1, 1, measure(0, 0)), d))["rounds"] == d
    assert facts(prepare(program(1, 1, op("h", 0), op("h", 0), measure(0, 0)), d))["rounds"] == 2 * d
    assert facts(prepare(program(1, 1, op("s", 0), op("sdg", 0), measure(0, 0)), d))["rounds"] == 2 * d
    assert facts(prepare(program(2, 2, op("cx", 0, 1), measure(0, 0), measure(1, 1)), d))["rounds"] == 2 * d
    assert facts(prepare(program(1, 1, idle(7, 0), measure(0, 0)), d))["rounds"] == 7 * d
    assert facts(prepare(program(1, 2, measure(0, 0), op("x", 0), measure(0, 1)), d))["rounds"] == 2 * d
    assert facts(prepare(program(1, 0), d))["rounds"] == 0
    assert facts(prepare(program(1, 1, op("x", 0)), d))["patches"] == 0


def test_births_are_late_and_deaths_early():
    (fragment,) = prepare(program(2, 1, op("x", 1), op("h", 0), op("cx", 0, 1), measure(1, 0)), 3).fragments
    born = {e.patch: t for t, e in events(fragment) if isinstance(e, Init)}
    died = {e.patch: (t, e.bit) for t, e in events(fragment) if isinstance(e, Measure)}
    assert (born[0], born[1]) == (0, 3)
    assert (died[0], died[1]) == ((6, -1), (6, 0))


def test_a_barrier_makes_both_qubits_wait():
    logical = program(2, 2, idle(3, 0), op("barrier", 0, 1), op("s", 1), measure(0, 0), measure(1, 1))
    (fragment,) = prepare(logical, 3).fragments
    assert [t for t, e in events(fragment) if isinstance(e, Handover)] == [9]


def test_a_measured_qubit_is_prepared_again_only_if_it_is_used():
    def births(*ops):
        (fragment,) = prepare(program(1, 2, *ops), 3).fragments
        return [e.basis for _, e in events(fragment) if isinstance(e, Init)]

    assert births(measure(0, 0)) == ["Z"]
    assert births(measure(0, 0), op("x", 0)) == ["Z"]
    assert births(measure(0, 0), measure(0, 1)) == ["Z", "Z"]
    assert births(measure(0, 0), op("reset", 0), op("h", 0), measure(0, 1)) == ["Z", "X"]
    assert births(op("reset", 0), measure(0, 0)) == ["Z"]


@pytest.mark.parametrize("d", [3, 5])
def test_a_decision_waits_for_the_window_that_commits_its_bit(d):
    first, *_ = prepare(
        program(2, 2, measure(0, 0), conditional((0,), "==", 1, op("h", 1)), measure(1, 1)), d
    ).fragments
    assert first.length == 3 * d  # measured in slot d, committed up to 2d, and a buffer of d
    assert [t for t, e in events(first) if isinstance(e, Init)] == [0, d]  # no slot is without a patch


def test_a_decision_on_bits_never_measured_waits_for_nothing():
    first, *_ = prepare(program(1, 2, conditional((1,), "==", 0, op("h", 0)), measure(0, 0)), 3).fragments
    assert first.length == 3


def test_fragments_grow_linearly_with_decisions():
    def ifs(n):
        ops = [measure(0, 0)]
        for _ in range(n):
            ops += [conditional((0,), "==", 1, op("h", 0)), op("cx", 0, 1), measure(1, 0)]
        return prepare(program(2, 1, *ops), 3)

    sizes = {n: ifs(n) for n in (1, 10, 20)}
    assert [len(p.fragments) for p in sizes.values()] == [3, 21, 41]
    assert [facts(p)["decisions"] for p in sizes.values()] == [1, 10, 20]
    assert [f.decision.k for f in sizes[10].path([0, 1] * 5)[:-1]] == list(range(10))
    assert len(sizes[20].to_bytes()) < 3 * len(sizes[10].to_bytes())


def test_long_idles_are_run_length_encoded():
    prepared = prepare(program(2, 2, op("h", 0), idle(10**6, 0, 1), op("cx", 0, 1), measure(0, 0), measure(1, 1)), 5)
    (fragment,) = prepared.fragments
    assert fragment.rounds == 5 * 10**6 + 10
    assert len(fragment.timeline) < 10
    assert len(prepared.to_bytes()) < 50_000


def test_equal_slots_stand_once():
    (fragment,) = prepare(program(1, 1, *[op("s", 0), op("h", 0)] * 10, measure(0, 0)), 3).fragments
    idle_and_merged = [slot for slot in fragment.slots if not slot.events]
    assert len(idle_and_merged) == 2


def test_assumptions_are_named():
    texts = prepare(program(1, 1, op("s", 0), op("h", 0), measure(0, 0)), 3).assumptions
    assert len(texts) == 2 and "|Y>" in texts[0] and "moves" in texts[1]
    assert prepare(program(1, 1, measure(0, 0)), 3).assumptions == ()


def test_a_floor_finds_the_first_gap():
    floor = Floor()
    assert floor.reserve(0, [Need((0, 0), 0, 3)]) == 0
    assert floor.reserve(6, [Need((0, 0), 0, 3)]) == 6
    assert floor.reserve(0, [Need((0, 0), 0, 3)]) == 3
    assert floor.reserve(0, [Need((0, 0), 3, 6), Need((1, 0), 0, 3)]) == 6
    assert floor.reserve(0, [Need((1, 0), 0, 3), Need((2, 0), 0, 3)]) == 0


def test_the_builder_refuses_what_cannot_be():
    builder = Builder(3)
    builder.init(0, (0, 0))
    builder.init(1, (2, 0))
    with pytest.raises(ValueError, match="alive already"):
        builder.init(0, (4, 4))
    with pytest.raises(ValueError, match="hold"):
        builder.init(2, (2, 0))
    builder.join(0, 1)
    with pytest.raises(ValueError, match="hold"):
        builder.init(2, (1, 0))
    with pytest.raises(ValueError, match="merged"):
        builder.measure(0)
    builder.round()
    builder.split(0, 1)
    builder.round()
    with pytest.raises(ValueError, match="close it with a round"):
        builder.measure(0)
        builder.fragment()
    with pytest.raises(ValueError, match="rank"):
        builder.init(0, (0, 0))
        builder.measure(0)
    with pytest.raises(ValueError, match="odd"):
        Builder(4)


def test_a_fragment_begins_where_the_last_one_ended():
    """Cut in the middle, a program has the slots of the whole one."""
    whole = Builder(3)
    whole.init(0, (2, 1))
    whole.idle(6)
    whole.measure(0, "Z", 0)
    first = Builder(3)
    first.init(0, (2, 1))
    first.idle(3)
    second = Builder(3, {0: (2, 1)})
    second.idle(3)
    second.measure(0, "Z", 0, tag=0)
    parts = [*first.fragment(0).sequence(), *second.fragment(1).sequence()]
    assert parts == list(whole.fragment().sequence())
    assert second.fragment(1).entry == ((0, cell_rect((2, 1), 3)),)
