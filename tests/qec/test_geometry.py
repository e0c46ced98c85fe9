# SPDX-License-Identifier: Apache-2.0
"""Geometry of patches: the code really is the rotated surface code, in every cell and merged across a seam."""

from __future__ import annotations

import pytest

from qcosd.qec.geometry import CX_ORDER, Rect, cell_rect, plaquette_basis, rotate, spanning_rect


def overlap(a: frozenset[tuple[int, int]], b: frozenset[tuple[int, int]]) -> int:
    return len(a & b)


def assert_is_code(rect: Rect, logical_qubits: int) -> None:
    plaquettes = rect.plaquettes()
    assert len(plaquettes) == len(rect.data()) - logical_qubits
    for p in plaquettes:
        for q in plaquettes:
            if p.basis != q.basis:
                assert overlap(p.support(), q.support()) % 2 == 0
        crossing = rect.row() if p.basis == "Z" else rect.column()
        assert overlap(p.support(), frozenset(crossing)) % 2 == 0, (
            "a logical operator meets a stabiliser of the other basis evenly"
        )
    assert overlap(frozenset(rect.row()), frozenset(rect.column())) == 1, "X and Z of one patch anticommute"


@pytest.mark.parametrize("distance", [3, 5, 7])
@pytest.mark.parametrize("cell", [(0, 0), (1, 0), (0, 1), (4, 3)])
def test_a_cell_holds_one_logical_qubit(distance: int, cell: tuple[int, int]) -> None:
    rect = cell_rect(cell, distance)
    assert len(rect.data()) == distance**2
    assert_is_code(rect, logical_qubits=1)


@pytest.mark.parametrize("other", [(3, 1), (1, 2)])
def test_a_merged_rectangle_is_one_code(other: tuple[int, int]) -> None:
    assert_is_code(spanning_rect([cell_rect((1, 1), 3), cell_rect(other, 3)]), logical_qubits=1)


def test_colours_agree_in_all_cells() -> None:
    home = {(p.centre, p.basis) for p in cell_rect((0, 0), 5).plaquettes()}
    away = {((p.centre[0] - 24, p.centre[1] - 12), p.basis) for p in cell_rect((2, 1), 5).plaquettes()}
    assert home == away


def test_no_data_qubit_is_met_twice_in_one_layer() -> None:
    for layer in range(4):
        met = [p.corners[CX_ORDER[p.basis][layer]] for p in cell_rect((0, 0), 5).plaquettes()]
        data = [q for q in met if q is not None]
        assert len(data) == len(set(data))


def test_the_quarter_turn_exchanges_the_colours_and_stays_on_the_patch() -> None:
    rect = cell_rect((2, 1), 5)
    assert {rotate(q, rect) for q in rect.data()} == set(rect.data())
    turned = {(rotate(p.centre, rect), "X" if p.basis == "Z" else "Z") for p in rect.plaquettes()}
    assert turned == {(p.centre, p.basis) for p in rect.plaquettes()}
    assert all(plaquette_basis(centre) == basis for centre, basis in turned)
    assert {rotate(q, rect) for q in rect.row()} == set(rect.column()), "old X lies where the new Z is read"
