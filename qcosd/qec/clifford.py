# SPDX-License-Identifier: Apache-2.0
"""The 24 single-qubit Clifford gates, written in the gates of a logical program, up to global phase."""

from __future__ import annotations

import cmath
import heapq
import math
from collections.abc import Iterable
from functools import cache
from typing import Final

Matrix = tuple[complex, complex, complex, complex]
"""A 2 x 2 matrix, row by row."""

TOLERANCE: Final = 1e-9
"""Largest difference of an entry: far above rounding, far below any angle that somebody means."""

_R: Final = 1 / math.sqrt(2)
GATES: Final[dict[str, Matrix]] = {
    "x": (0, 1, 1, 0),
    "y": (0, -1j, 1j, 0),
    "z": (1, 0, 0, -1),
    "h": (_R, _R, _R, -_R),
    "s": (1, 0, 0, 1j),
    "sdg": (1, 0, 0, -1j),
}

# What a gate costs on the machine decides which way of writing is the best one: a Pauli is a change of frame, H is
# transversal, S takes a |Y> state and a merge. Only the order counts here.
_COSTS: Final = {"x": 1, "y": 1, "z": 1, "h": 10, "s": 100, "sdg": 100}


def product(second: Matrix, first: Matrix) -> Matrix:
    """The matrix of doing `first`, then `second`."""
    a, b, c, d = second
    e, f, g, h = first
    return (a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h)


def rotation(theta: float, phi: float, lam: float) -> Matrix:
    """The built-in gate U of OpenQASM 2 up to global phase: Rz(phi) Ry(theta) Rz(lam). Angles in radians."""
    cos, sin = math.cos(theta / 2), math.sin(theta / 2)
    return (cos, -cmath.exp(1j * lam) * sin, cmath.exp(1j * phi) * sin, cmath.exp(1j * (phi + lam)) * cos)


def gates_of(matrix: Matrix) -> tuple[str, ...] | None:
    """The cheapest gates, first one first, that make this unitary up to global phase; None if it is not Clifford."""
    if not all(cmath.isfinite(entry) for entry in matrix):
        return None
    normal = _normal(matrix)
    return next((gates for known, gates in _table() if _distance(known, normal) < TOLERANCE), None)


def cost(gates: Iterable[str]) -> int:
    """What decides which way of writing is the cheapest: only to be compared."""
    return sum(_COSTS[gate] for gate in gates)


def deviation(matrix: Matrix) -> float:
    """How far the unitary is from the nearest Clifford gate: the largest difference of an entry."""
    normal = _normal(matrix)
    return min(_distance(known, normal) for known, _ in _table())


def _distance(first: Matrix, second: Matrix) -> float:
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


def _normal(matrix: Matrix) -> Matrix:
    """The same with the global phase that makes the first entry that is not small real and positive."""
    # Entries of a Clifford gate are 0 or at least .7 in size, so .1 tells the two apart with room for rounding.
    pivot = next(entry for entry in matrix if abs(entry) > 0.1)
    a, b, c, d = (entry * (abs(pivot) / pivot) for entry in matrix)
    return (a, b, c, d)


@cache
def _table() -> tuple[tuple[Matrix, tuple[str, ...]], ...]:
    """Every Clifford gate with its cheapest writing: a shortest-path search from the identity."""
    identity: Matrix = (1, 0, 0, 1)
    found: list[tuple[Matrix, tuple[str, ...]]] = []
    queue: list[tuple[int, int, tuple[str, ...], Matrix]] = [(0, 0, (), identity)]
    while queue:
        cost, length, gates, matrix = heapq.heappop(queue)
        if any(_distance(known, matrix) < TOLERANCE for known, _ in found):
            continue
        found.append((matrix, gates))
        for name, factor in GATES.items():
            step = (cost + _COSTS[name], length + 1, (*gates, name), _normal(product(factor, matrix)))
            heapq.heappush(queue, step)
    return tuple(found)
