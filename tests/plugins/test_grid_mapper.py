# SPDX-License-Identifier: Apache-2.0
"""The mapper: programs land on living sites, keep apart and coupled, or are told what would fit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logical_programs import measure, op, program
from qcos_plugins.grid_mapper.footprint import Footprint, OverlapError, check_apart, footprint_of, sites_of
from qcos_plugins.grid_mapper.mapper import CannotMove, DoesNotFit, NotCoupled, check_coupled, placed
from qcos_plugins.grid_mapper.search import largest_distance, offset_for
from qcos_plugins.surface_code.prepare import prepare

from qcosd.qec.device import Device
from qcosd.qec.fragment import Fragment, FragmentProgram, Region, Slot
from qcosd.qec.geometry import Coord, Rect, cell_rect
from qcosd.qec.placement import Placement, PlacementError

ONE = program(1, 1, measure(0, 0))
BELL = program(2, 2, op("h", 0), op("cx", 0, 1), measure(0, 0), measure(1, 1))
GHZ = program(3, 3, op("h", 0), op("cx", 0, 1), op("cx", 1, 2), *(measure(k, k) for k in range(3)))
TURN = program(1, 1, op("h", 0), op("s", 0), op("h", 0), measure(0, 0))


def in_plane(fragments: FragmentProgram) -> tuple[set[Coord], set[frozenset[Coord]]]:
    """Sites and CX pairs of a program, read once more."""
    sites, pairs = set(), set()
    for fragment in fragments.fragments:
        for slot in fragment.slots:
            for part in slot.parts:
                for name, targets in part.instructions:
                    sites |= set(targets)
                    if name == "CX":
                        pairs |= {frozenset(targets[k : k + 2]) for k in range(0, len(targets), 2)}
    return sites, pairs


# ---- what fits


@pytest.mark.parametrize("distance", [3, 5])
@pytest.mark.parametrize("logical", [ONE, BELL, GHZ, TURN])
def test_the_default_device_grows_to_fit(logical: object, distance: int) -> None:
    fragments = prepare(logical, distance)
    placement, facts = placed(fragments, Device())
    sites, pairs = in_plane(fragments)
    assert set(placement.index) == sites
    assert sorted(placement.index.values()) == list(range(len(sites)))
    assert facts["sites"] == len(sites)
    for pair in pairs:
        (ax, ay), (bx, by) = (placement.on_device(site) for site in pair)
        assert abs(ax - bx) == abs(ay - by) == 1
    assert all(min(placement.on_device(site)) >= 0 for site in sites)
    assert all((site[0] + placement.offset[0]) % 2 == site[0] % 2 for site in sites)


def test_one_patch_needs_what_the_textbook_says() -> None:
    footprint = footprint_of(prepare(ONE, 5))
    assert len(footprint.sites) == 2 * 5 * 5 - 1
    # Data qubits span 9, the measure qubits of both sides one more each, and the grid begins at an even coordinate.
    assert footprint.extent == (12, 12)


def test_an_exact_fit_is_found_and_one_less_is_refused() -> None:
    fragments = prepare(BELL, 3)
    width, height = footprint_of(fragments).extent
    assert placed(fragments, Device(width=width, height=height))[0].offset == (2, 2)
    for device in (Device(width=width - 1, height=height), Device(width=width, height=height - 1)):
        with pytest.raises(DoesNotFit):
            placed(fragments, device)


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.tuples(st.integers(0, 15), st.integers(0, 13)).map(lambda p: (2 * p[0], 2 * p[1])), max_size=6),
    st.booleans(),
)
def test_dead_sites_are_avoided_or_the_search_was_exhausted(dead: set[Coord], odd: bool) -> None:
    shifted = frozenset((x + odd, y + odd) for x, y in dead)
    device = Device(width=32, height=28, dead=shifted)
    fragments = prepare(BELL, 3)
    sites, _ = in_plane(fragments)
    # Every even translation, tried one after the other.
    fitting = [
        (ox, oy)
        for oy in range(-40, 40, 2)
        for ox in range(-40, 40, 2)
        if all(device.has((x + ox, y + oy)) for x, y in sites)
    ]
    try:
        placement, _ = placed(fragments, device)
    except DoesNotFit as error:
        assert not fitting
        assert error.details["dead"] == len(shifted)
    else:
        assert placement.offset == fitting[0]


def test_dead_sites_push_a_program_away_on_an_endless_grid() -> None:
    fragments = prepare(ONE, 3)
    dead = frozenset((2 * x, 2 * y) for x in range(30) for y in range(30))
    placement, _ = placed(fragments, Device(dead=dead))
    assert not dead & {placement.on_device(site) for site in placement.index}


def test_a_dead_site_that_nothing_uses_does_not_matter() -> None:
    fragments = prepare(BELL, 3)
    sites, _ = in_plane(fragments)
    unused = next((x, y) for x in range(1, 20, 2) for y in range(1, 14, 2) if (x, y) not in sites)
    device = Device(width=24, height=16, dead=frozenset({(unused[0] + 2, unused[1] + 2)}))
    assert placed(fragments, device)[0].offset == (2, 2)


# ---- what does not


def test_the_counter_offer_really_fits_and_the_next_distance_does_not() -> None:
    device = Device(name="lab", width=50, height=40, dead=frozenset({(0, 0), (21, 21)}))
    with pytest.raises(DoesNotFit) as caught:
        placed(prepare(BELL, 9), device)
    details = caught.value.details
    assert details["needed_sites"] == len(in_plane(prepare(BELL, 9))[0])
    assert details["needed"] == list(footprint_of(prepare(BELL, 9)).extent)
    assert details["available"] == [50, 40]
    assert details["dead"] == 2
    distance = details["largest_distance"]
    assert distance in (3, 5, 7)
    placed(prepare(BELL, distance), device)
    with pytest.raises(DoesNotFit):
        placed(prepare(BELL, distance + 2), device)
    assert f"distance {distance} fits" in str(caught.value) and "lab has 50 x 40" in str(caught.value)


def test_without_any_room_there_is_no_offer() -> None:
    with pytest.raises(DoesNotFit, match="no smaller distance fits") as caught:
        placed(prepare(GHZ, 5), Device(width=9, height=9))
    assert caught.value.details["largest_distance"] is None


def test_one_side_may_be_unlimited() -> None:
    fragments = prepare(BELL, 5)
    assert largest_distance(fragments, Device(width=24)) == 3
    with pytest.raises(DoesNotFit, match="24 x any") as caught:
        placed(fragments, Device(width=24))
    assert caught.value.details["available"] == [24, None]


def test_moving_qubits_takes_a_device_that_can() -> None:
    fragments = prepare(TURN, 3)
    placed(fragments, Device(movement=True))
    with pytest.raises(CannotMove, match="rigid"):
        placed(fragments, Device(name="rigid", movement=False))
    placed(prepare(BELL, 3, movement=False), Device(movement=False))


# ---- wrong programs


def with_regions(*regions: Region) -> FragmentProgram:
    fragment = Fragment(0, (), (Slot((), (), regions),), ((0, 1),))
    return FragmentProgram(3, 2, (("c", 1),), (fragment,))


def test_regions_of_one_slot_may_touch_but_not_overlap() -> None:
    left, right = cell_rect((0, 0), 3), cell_rect((1, 0), 3)
    footprint_of(with_regions(Region(left, (0,)), Region(right, (1,))))
    merged = Region(Rect(left.x0, left.y0, right.x1, right.y1), (0, 1), "Z")
    with pytest.raises(OverlapError, match=r"patches \[0, 1\] and \[1\] share site"):
        footprint_of(with_regions(merged, Region(right, (1,))))


def test_measure_sites_count_as_overlap() -> None:
    patch = cell_rect((0, 0), 3)
    below = Rect(patch.x0, patch.y1 + 2, patch.x1, patch.y1 + 6)
    assert not set(patch.data()) & set(below.data())
    assert set(sites_of(patch)) & set(sites_of(below))
    with pytest.raises(OverlapError):
        check_apart(Slot((), (), (Region(patch, (0,)), Region(below, (1,)))), "here")


def test_a_cx_of_sites_that_are_not_neighbours_is_refused() -> None:
    sites = frozenset({(0, 0), (3, 3), (1, 1)})
    placement = Placement.of("lab", (0, 0), sites)
    check_coupled(placement, Footprint(sites, frozenset({((0, 0), (1, 1))}), False), Device(name="lab"))
    with pytest.raises(NotCoupled, match=r"lab does not couple \[0, 0\] and \[3, 3\]"):
        check_coupled(placement, Footprint(sites, frozenset({((0, 0), (3, 3))}), False), Device(name="lab"))


def test_a_dead_site_has_no_coupler() -> None:
    sites = frozenset({(0, 0), (1, 1)})
    footprint = Footprint(sites, frozenset({((0, 0), (1, 1))}), False)
    with pytest.raises(NotCoupled):
        check_coupled(Placement.of("lab", (0, 0), sites), footprint, Device(dead=frozenset({(1, 1)})))


def test_a_program_without_operations_takes_no_room() -> None:
    placement, facts = placed(with_regions(), Device(width=1, height=1))
    assert placement.coordinates == ()
    assert facts["sites"] == 0


# ---- the artifact

coordinates = st.tuples(st.integers(-9, 9), st.integers(-9, 9))


@given(st.sets(coordinates), st.integers(-5, 5), st.integers(-5, 5))
def test_a_placement_survives_the_journey(used: set[Coord], x: int, y: int) -> None:
    placement = Placement.of("lab", (2 * x, 2 * y), used)
    again = Placement.from_bytes(placement.to_bytes())
    assert again == placement
    assert again.to_bytes() == placement.to_bytes()


@given(st.binary(max_size=60))
def test_any_bytes_raise_only_placement_error(data: bytes) -> None:
    with pytest.raises(PlacementError):
        Placement.from_bytes(data)


def test_the_first_offset_is_the_smallest() -> None:
    assert offset_for([(-1, -1), (4, 4)], Device()) == (2, 2)
    assert offset_for([(0, 0)], Device()) == (0, 0)
    assert offset_for([(10, 8), (11, 9)], Device()) == (-10, -8)
    assert offset_for([(0, 0), (1, 1)], Device(width=2, height=2)) == (0, 0)
    assert offset_for([(0, 0), (2, 2)], Device(width=2, height=3)) is None
