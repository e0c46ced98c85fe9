# SPDX-License-Identifier: Apache-2.0
"""The pieces that the tracker is made of: windows and their local circuits, packed bits, conditions, frames."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
import sampled
import stim
from hypothesis import given, settings
from hypothesis import strategies as st
from qcos_plugins.matching_tracker import packed
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.condition import holds
from qcos_plugins.matching_tracker.content import Interner, SlotContent
from qcos_plugins.matching_tracker.frames import DECODED, UNDECODED, Ledger, NotFinal
from qcos_plugins.matching_tracker.local import local_circuit
from qcos_plugins.matching_tracker.outcomes import keys, latency_label
from qcos_plugins.matching_tracker.packed import mask, ones, pack, select, totals, transpose, unpack
from qcos_plugins.matching_tracker.syndrome import Gather
from qcos_plugins.matching_tracker.window import Window, next_window, region_windows
from qcos_plugins.surface_code.builder import Builder

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram, Frame, Hadamard, Init, Measure, Merge, Split
from qcosd.qec.geometry import cell_rect
from qcosd.qec.program import COMPARISONS, Condition

D = 3
RATES = Calibration.uniform(1e-3)


# ---- windows


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 7), st.integers(0, 9))
def test_windows_commit_every_slot_once(total: int, step: int, buffer: int) -> None:
    windows, start = [], 0
    while (window := next_window(start, step, buffer, total)) is not None:
        windows.append(window)
        start = window.commit
    assert [w.start for w in windows] == [0, *(w.commit for w in windows[:-1])]
    assert windows[-1] == Window(windows[-1].start, total, total)
    for w in windows[:-1]:
        assert w == Window(w.start, w.start + step, w.start + step + buffer, buffer == 0)
        assert w.needs <= total


def test_windows_before_a_decision_do_not_know_the_end() -> None:
    assert next_window(6, 3, 3, None) == Window(6, 9, 12)
    assert next_window(6, 3, 3, 12) == Window(6, 12, 12)
    assert next_window(12, 3, 3, 12) is None


def contents(program: FragmentProgram) -> list[SlotContent]:
    interner = Interner(program.distance)
    return [interner.content(slot) for slot in program.fragments[0].sequence()]


def rejoined() -> FragmentProgram:
    """Three patches; an ancilla joins two of them, is read out, and is born again to join other two."""
    b = Builder(D)
    for i in range(4):
        b.init(i, (i, i), "Z")
    b.idle(1)
    b.cnot(0, 1, ancilla=9)
    b.cnot(2, 3, ancilla=9)
    for i in range(4):
        b.measure(i, "Z", bit=i)
    return b.program(bits=4)


def test_regions_are_joined_by_merges_and_not_by_names() -> None:
    slots = contents(rejoined())
    border = 1 + 2 * D
    regions = region_windows(slots[border - 2], slots[border - 1 : border + 1])
    members = {tuple(sorted(life.patch for life in r.lives)) for r in regions}
    # Before the border 9 is joined with 1, from it on with 2.
    assert members == {(0,), (1, 9), (2, 9), (3,)}


def test_a_region_is_recognised_wherever_it_stands() -> None:
    def region(cell: tuple[int, int]) -> object:
        b = Builder(D)
        b.init(7, cell, "X")
        b.idle(4)
        (found,) = region_windows(None, contents(finished(b, 7))[:4])
        return found.key

    def finished(b: Builder, patch: int) -> FragmentProgram:
        b.measure(patch, "X", bit=0)
        return b.program(bits=1)

    assert region((0, 0)) == region((3, 1))
    b = Builder(D)
    b.init(7, (0, 0), "Z")
    b.idle(4)
    (other,) = region_windows(None, contents(finished(b, 7))[:4])
    assert other.key != region((0, 0))


PROGRAMS = {
    "memory": lambda: sampled.memory(D, 7),
    "cnot": lambda: sampled.cnot(D, "Z"),
    "ghz3-x": lambda: sampled.ghz(D, 3, "X"),
    "hhh": lambda: sampled.hadamards(D, "Z"),
    "s-s": lambda: sampled.phases(D, dagger=False),
    "rejoined": rejoined,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_local_circuits_have_the_edges_of_the_whole_program(name: str) -> None:
    """At every phase of the clock: the edges that a window commits are those of the whole circuit, none lost, none added."""
    program = PROGRAMS[name]()
    slots = contents(program)
    whole = sampled.whole_circuit(program, RATES, [])
    everywhere = edges(whole.text, whole.detectors)
    for start in range(len(slots)):
        end = min(start + 2 * D, len(slots))
        commit = end if end == len(slots) else start + D
        found = set()
        for region in region_windows(slots[start - 1] if start else None, slots[start:end]):
            local = local_circuit(region, commit - start, end - start, D, RATES)
            left, top = region.origin
            names = [(start + d.slot, d.kind, d.x + left, d.y + top) for d in local.detectors]
            found |= edges(local.text, names)
        assert committed(found, start, commit) == committed(everywhere, start, commit)


def edges(text: str, names: list[tuple[int, int, int, int]]) -> set[frozenset[tuple[int, int, int, int]]]:
    model = stim.Circuit(text).detector_error_model(decompose_errors=True).flattened()
    found = set()
    for error in model:
        if error.type == "error":
            for component in error.target_groups():
                found.add(frozenset(names[t.val] for t in component if t.is_relative_detector_id()))
    return found - {frozenset()}


def committed(found: set[frozenset[tuple[int, int, int, int]]], start: int, commit: int) -> set:
    return {edge for edge in found if start <= min(name[0] for name in edge) < commit}


def test_the_reference_round_is_noiseless_and_the_round_after_it_is_not() -> None:
    slots = contents(sampled.memory(D, 9))
    (region,) = region_windows(slots[2], slots[3:9])
    text = str(stim.Circuit(local_circuit(region, 3, 6, D, RATES).text).flattened())
    reference, _, rest = text.partition("DEPOLARIZE1")
    assert "ERROR" not in reference
    assert "DEPOLARIZE2" not in reference
    assert reference.count("M ") == 1
    assert len(re.findall(r"^DEPOLARIZE1", "DEPOLARIZE1" + rest, re.MULTILINE)) == 1 + 6


def test_cuts_at_births_lie_before_the_noise_of_the_reset() -> None:
    slots = contents(sampled.memory(D, 9))
    (region,) = region_windows(None, slots[:6])
    lines = local_circuit(region, 3, 6, D, RATES).text.splitlines()
    assert [line.split()[0] for line in lines[:4]] == [
        "R",
        "OBSERVABLE_INCLUDE(0)",
        "OBSERVABLE_INCLUDE(1)",
        "X_ERROR(0.001)",
    ]


def test_a_template_forgets_what_lies_before_its_first_round() -> None:
    """Windows that differ only in how the slot before them began share a template."""
    templates = TemplateCache()

    def template(basis: str) -> object:
        b = Builder(D)
        b.init(0, (0, 0), basis)
        b.idle(9)
        b.measure(0, basis, bit=0)
        slots = contents(b.program(bits=1))
        (region,) = region_windows(slots[3], slots[4:8])
        return templates.template(region, 2, 4, D, RATES, decoder="pymatching-correlated")

    assert template("X") is template("Z")
    assert templates.misses == 1


def test_the_cache_keeps_within_its_bound() -> None:
    slots = contents(sampled.memory(D, 30))
    templates = TemplateCache(max_edges=1)
    for length in (3, 4, 5):
        (region,) = region_windows(slots[2], slots[3 : 3 + length])
        templates.template(region, 2, length, D, RATES, decoder="pymatching")
        assert len(templates) == 1
    (region,) = region_windows(slots[2], slots[3:6])
    templates.template(region, 2, 3, D, RATES, decoder="pymatching")
    assert templates.misses == 4


# ---- packed bits


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 20), st.randoms(use_true_random=False))
def test_packed_bits(shots: int, rows: int, random) -> None:
    values = np.array([[random.randrange(2) for _ in range(shots)] for _ in range(rows)], np.uint8)
    packed = pack(values)
    assert np.array_equal(unpack(packed, shots), values)
    assert ones(packed) == values.sum()
    assert np.array_equal(unpack(transpose(packed, shots), rows), values.T)
    chosen = np.array(sorted(random.sample(range(shots), random.randint(1, shots))))
    assert np.array_equal(unpack(select(packed, shots, chosen), len(chosen)), values[:, chosen])
    assert np.array_equal(unpack(mask(shots), 8 * len(mask(shots))), [1] * shots + [0] * (-shots % 8))


@pytest.mark.parametrize("blockwise", [0, 1 << 30])
@pytest.mark.parametrize(("rows", "shots"), [(1, 3), (7, 9), (8, 64), (700, 77), (33, 1025)])
def test_bits_are_transposed_block_by_block_or_one_by_one(
    rows: int, shots: int, blockwise: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "BLOCKWISE", blockwise)
    values = np.random.default_rng(rows).integers(0, 2, (rows, shots), np.uint8)
    assert np.array_equal(transpose(pack(values), shots), pack(np.ascontiguousarray(values.T)))
    assert np.array_equal(totals(pack(values), shots), values.sum(axis=0))


def test_gather_is_the_parity_of_each_set() -> None:
    rows = np.random.default_rng(1).integers(0, 256, (9, 5), np.uint8)
    rows[-1] = 0
    for sets in ([[0, 1], [2], [], [3, 4, 5, 6], [7, 0]], [[]], []):
        expected = [np.bitwise_xor.reduce(rows[s], axis=0) for s in sets]
        assert np.array_equal(Gather(sets).of(rows), np.reshape(expected, (len(sets), 5)))


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("size", [1, 3])
def test_conditions_agree_with_their_definition(comparison: str, size: int) -> None:
    shots = 2**size
    values = np.array(list(product((0, 1), repeat=size)), np.uint8)  # one row a shot
    bits = pack(np.ascontiguousarray(np.vstack([1 - values.T[:1], values.T])))  # bit 0 is not read
    for constant in range(2**size + 2):
        condition = Condition(tuple(range(1, size + 1)), comparison, constant)
        assert list(unpack(holds(condition, bits), shots)) == [condition.holds(list(v)) for v in values]


def test_count_keys_follow_the_registers() -> None:
    bits = np.array([[1, 1, 0], [0, 0, 0], [1, 1, 1]], np.uint8)
    assert keys(bits, (("a", 1), ("b", 2))) == {"1 01": 2, "0 01": 1}
    assert keys(np.zeros((0, 4), np.uint8), ()) == {"": 4}


def test_latency_buckets() -> None:
    edges = [int(latency_label(t * 1e-6)) for t in (0.3, 1.5, 4, 9, 11, 49, 51, 4e6)]
    assert edges == [1, 2, 5, 10, 20, 50, 100, 5_000_000]


# ---- frames


def row(value: int) -> np.ndarray:
    return np.array([value], np.uint8)


class Book:
    """A ledger of eight shots and three patches, fed by hand."""

    def __init__(self) -> None:
        self.ledger = Ledger({0: 0, 1: 1, 2: 2}, tags=4, bits=2, shots=8)
        rect = cell_rect((0, 0), D)
        for patch in range(3):
            self.apply(Init(patch, rect, "Z"))

    def apply(self, event, raw: int | None = None, slot: int = 0, commit: int = 100) -> None:
        self.ledger.apply(event, slot, commit, None if raw is None else row(raw))

    def signs(self, patch: int) -> tuple[int, int]:
        x, z = self.ledger.frames[2 * patch : 2 * patch + 2, DECODED, 0]
        return int(x), int(z)


def test_a_zz_merge_measures_the_z_signs_and_joins_the_x_signs() -> None:
    book = Book()
    book.ledger.frames[0:4, :, 0] = [[1], [2], [4], [8]]
    book.apply(Merge(0, 1, "Z", 0, (), ()), 16)
    assert book.ledger.parities[0, DECODED, 0] == 2 ^ 8 ^ 16
    assert (book.signs(0), book.signs(1)) == ((1 ^ 4, 2), (0, 8))
    book.apply(Split(0, 1, "Z", ()), 32)
    assert (book.signs(0), book.signs(1)) == ((1 ^ 4 ^ 32, 2), (0, 8))


def test_an_xx_merge_is_the_mirror_image() -> None:
    book = Book()
    book.ledger.frames[0:4, :, 0] = [[1], [2], [4], [8]]
    book.apply(Merge(0, 1, "X", 0, (), ()), 16)
    assert book.ledger.parities[0, DECODED, 0] == 1 ^ 4 ^ 16
    book.apply(Split(0, 1, "X", ()), 32)
    assert (book.signs(0), book.signs(1)) == ((1, 2 ^ 8 ^ 32), (4, 0))


def test_h_swaps_the_signs_and_an_applied_pauli_flips_the_other_one() -> None:
    book = Book()
    book.ledger.frames[0:2, :, 0] = [[1], [2]]
    book.apply(Hadamard(0, ()), 4)
    assert book.signs(0) == (2 ^ 4, 1)
    book.apply(Frame(1, "X", constant=1))
    book.apply(Frame(2, "Z", constant=1))
    assert (book.signs(1), book.signs(2)) == ((0, 255), (255, 0))
    book.apply(Frame(1, "Y", constant=1))
    assert book.signs(1) == (255, 0)


def test_undecoded_values_go_their_own_way() -> None:
    book = Book()
    book.ledger.frames[1, DECODED] = 1
    book.apply(Measure(0, "Z", 0, (), bit=1), 6)
    assert book.ledger.bits[1, DECODED, 0] == 7
    assert book.ledger.bits[1, UNDECODED, 0] == 6
    book.apply(Frame(1, "X", condition=Condition((1,), "==", 1)))
    assert list(book.ledger.frames[3, :, 0]) == [7, 6, 7]


def test_a_frame_must_not_read_a_parity_before_it_is_final() -> None:
    for commit, final in ((6, False), (7, True)):
        book = Book()
        book.apply(Merge(0, 1, "Z", 0, (), ()), 0, slot=5, commit=commit)
        if final:
            book.apply(Frame(2, "X", (0,)), slot=6, commit=commit)
        else:
            with pytest.raises(NotFinal, match="parity 0"):
                book.apply(Frame(2, "X", (0,)), slot=5, commit=commit)
    with pytest.raises(NotFinal):
        Book().apply(Frame(2, "X", (3,)))


def test_a_tag_is_measured_once() -> None:
    book = Book()
    book.apply(Measure(0, "Z", 0, ()), 0)
    with pytest.raises(ValueError, match="parity 0"):
        book.apply(Measure(1, "Z", 0, ()), 0)
