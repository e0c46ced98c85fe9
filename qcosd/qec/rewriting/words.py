# SPDX-License-Identifier: Apache-2.0
"""Unitaries of one qubit as Clifford gates with a T between each two of them, exactly, for as many T gates as a run has at most in practice."""

from __future__ import annotations

from functools import cache
from typing import Final

from qcosd.qec import clifford
from qcosd.qec.clifford import Matrix

MOST_T: Final = 6
"""T gates of a unitary that is looked up."""
IDENTITY: Final[Matrix] = (1, 0, 0, 1)
T: Final[Matrix] = (1, 0, 0, 2**-0.5 * (1 + 1j))
# What brings each axis to that of T.  A gate with T gates in it is a T about one of three axes, one about one of the two others, and
# so on, and a Clifford gate.
_AXES: Final[tuple[Matrix, ...]] = (
    IDENTITY,
    clifford.GATES["h"],
    clifford.product(clifford.GATES["h"], clifford.GATES["sdg"]),
)
_DIGITS: Final = 1e6


def word_of(matrix: Matrix) -> tuple[Matrix, ...] | None:
    """Clifford gates, first one first, with a T between each two; None if there is no such word or it is too long."""
    for gate, inverse in _cliffords():
        found = _table().get(_key(clifford.product(inverse, matrix)))
        if found is not None:
            return (*found, gate)
    return None


def adjoint(matrix: Matrix) -> Matrix:
    a, b, c, d = (complex(entry).conjugate() for entry in matrix)
    return (a, c, b, d)


@cache
def _cliffords() -> tuple[tuple[Matrix, Matrix], ...]:
    """All of them with their inverses."""
    found: dict[tuple[int, ...], Matrix] = {}
    queue = [IDENTITY]
    while queue:
        matrix = queue.pop(0)
        if _key(matrix) not in found:
            found[_key(matrix)] = matrix
            queue += [clifford.product(gate, matrix) for gate in clifford.GATES.values()]
    return tuple((matrix, adjoint(matrix)) for matrix in found.values())


@cache
def _table() -> dict[tuple[int, ...], tuple[Matrix, ...]]:
    """What unitaries without the last Clifford gate are made of."""
    found: dict[tuple[int, ...], tuple[Matrix, ...]] = {}
    level: list[tuple[Matrix, tuple[Matrix, ...]]] = [(IDENTITY, ())]
    for length in range(MOST_T + 1):
        found.update((_key(matrix), word) for matrix, word in level)
        level = [
            (clifford.product(T, clifford.product(axis, matrix)), (*word, axis))
            for matrix, word in level
            for axis in _AXES[length > 0 :]
        ]
    return found


def _key(matrix: Matrix) -> tuple[int, ...]:
    """The same for unitaries that differ in a phase and by rounding alone, but for bad luck."""
    pivot = next(entry for entry in matrix if abs(entry) > 0.1)
    turned = [complex(entry * (abs(pivot) / pivot)) for entry in matrix]
    return tuple(round(part * _DIGITS) for entry in turned for part in (entry.real, entry.imag))
