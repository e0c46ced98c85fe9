# SPDX-License-Identifier: Apache-2.0
"""Single-qubit gates in Clifford gates and T gates: exact where angles are multiples of pi/4."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from qcosd.qec import clifford

EIGHTH: Final = math.pi / 4
MATRICES: Final[dict[str, clifford.Matrix]] = {
    **clifford.GATES,
    "t": (1, 0, 0, cmath.exp(1j * EIGHTH)),
    "tdg": (1, 0, 0, cmath.exp(-1j * EIGHTH)),
}

# Z^k of T^k is left to the Paulis, which cost nothing: T^3 is Z T^-1, T^5 is Z T.
_MULTIPLES: Final = ([], ["t"], ["s"], ["tdg", "z"], ["z"], ["t", "z"], ["sdg"], ["tdg"])

Turn = Callable[[float], Sequence[str]]
"""Gates for Rz of an angle, in radians."""


def off_by(angle: float) -> float:
    """How far an angle is from the next multiple of pi/4."""
    return abs(angle - round(angle / EIGHTH) * EIGHTH)


def is_multiple(angle: float) -> bool:
    """Whether it is a multiple of pi/4, but for rounding."""
    return off_by(angle) < clifford.TOLERANCE


def exact_turn(angle: float) -> Sequence[str]:
    """Rz of a multiple of pi/4."""
    return _MULTIPLES[round(angle / EIGHTH) % 8]


def gates_of(theta: float, phi: float, lam: float, turn: Turn) -> tuple[str, ...]:
    """Rz(phi) Ry(theta) Rz(lam) up to global phase: the gates, first one first.

    Takes one turn where theta is a multiple of pi, and three elsewhere.
    """
    halves = round(theta / math.pi)
    if abs(theta - halves * math.pi) >= clifford.TOLERANCE:
        word = [*turn(lam - math.pi / 2), "h", *turn(theta), "h", *turn(phi + math.pi / 2)]
    elif halves % 2 == 0:
        word = [*turn(phi + lam)]
    else:
        # A half turn about y; what comes before it turns the other way round behind it.
        word = [*turn(lam - phi), "y"]
    return folded(word)


def folded(gates: Iterable[str]) -> tuple[str, ...]:
    """Clifford gates between T gates as the cheapest ones that do the same."""
    out: list[str] = []
    pending: clifford.Matrix = (1, 0, 0, 1)
    for gate in [*gates, ""]:
        if gate in clifford.GATES:
            pending = clifford.product(clifford.GATES[gate], pending)
            continue
        out += clifford.gates_of(pending) or ()
        pending = (1, 0, 0, 1)
        if gate:
            out.append(gate)
    return tuple(out)


def error(gates: Iterable[str], angle: float) -> float:
    """Distance in operator norm, after the best global phase, between gates and Rz of an angle."""
    matrix: clifford.Matrix = (1, 0, 0, 1)
    for gate in gates:
        matrix = clifford.product(MATRICES[gate], matrix)
    a, _, _, d = matrix
    # Of two unitaries of determinant 1: |trace| / 2 is the cosine of half the angle between them.
    half = cmath.exp(-0.5j * angle)
    cosine = min(1.0, abs(a * half.conjugate() + d * half) / 2)
    return 2 * math.sin(math.acos(cosine) / 2)
