# SPDX-License-Identifier: Apache-2.0
"""Whether two programs mean the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from random import Random
from typing import Any, Final

from qcos_plugins.verifier.finding import TooLarge, Wrong
from qcos_plugins.verifier.lockstep import run_side_by_side
from qcos_plugins.verifier.residue import compare
from qcos_plugins.verifier.steps import Step, unrolled, walk
from qcos_plugins.verifier.worlds import ROUNDING

MOST_READ: Final = 5
"""Measurements into bits that a condition reads, up to which all their outcomes are gone through."""
MOST_STEPS: Final = 200_000
SAMPLED: Final = 24


def equivalent(
    first: Sequence[Step],
    second: Sequence[Step],
    bits: int,
    seed: int = 0,
    normal: Callable[[Iterable[Step]], list[Step]] = list,
    tolerance: float = ROUNDING,
) -> dict[str, Any]:
    """How it was found that they do: ``method`` and, for some, ``paths``.

    From whatever state, with any outcomes, the same bits and the same states; every measurement, reset, idle, barrier and
    `if` in the same order on each of its qubits and bits.  First by comparing them gate by gate, which is exact; where that
    is not enough (gates may pass a measurement that does not mind them) by running both.  ``normal``: how steps without
    any `if` are written alike.  ``tolerance``: by which matrices and probabilities may differ.  Raises Wrong, TooLarge.
    """
    try:
        return {"method": compare(normal(first), normal(second), tolerance=tolerance)}
    except Wrong as wrong:
        reason = wrong
    try:
        found = _by_paths(first, second, bits, seed, normal, tolerance)
        if found is not None:
            return found
    except (Wrong, TooLarge):
        pass
    try:
        return {"method": "simulation", "paths": run_side_by_side(first, second, bits, seed, normal, tolerance)}
    except TooLarge:
        # Too large to be sure: what was found may be a gate that has passed a measurement.
        raise TooLarge(f"it may not be the same ({reason}), and is too large to be simulated") from None


def _by_paths(
    first: Sequence[Step],
    second: Sequence[Step],
    bits: int,
    seed: int,
    normal: Callable[[Iterable[Step]], list[Step]],
    tolerance: float,
) -> dict[str, Any] | None:
    """Compares what both do for given outcomes, for all that matter or for a sample of them.  None without conditions."""
    read = {bit for step in walk((*first, *second)) if step.guard is not None for bit in step.guard.bits}
    if not read:
        return None
    writes = sum(step.kind == "measure" and step.bit in read for step in walk(first))
    every = writes <= MOST_READ
    paths = 0
    for outcomes in _assignments(first, read, bits, every, seed):
        if paths * (len(first) + len(second)) > MOST_STEPS:
            break
        paths += 1
        sides = [
            normal(unrolled(steps, bits, lambda bit, n, _, known=outcomes: known.get((bit, n), 0)))
            for steps in (first, second)
        ]
        compare(*sides, tolerance=tolerance)
    return {"method": "tableau" if every else "tableau, sampled paths", "paths": paths}


def _assignments(
    steps: Sequence[Step], read: set[int], bits: int, every: bool, seed: int
) -> Iterator[dict[tuple[int, int], int]]:
    """What measurements into the bits that are read give."""
    counts: dict[int, int] = {}
    for step in walk(steps):
        if step.kind == "measure" and step.bit in read:
            counts[step.bit] = counts.get(step.bit, 0) + 1
    places = [(bit, n) for bit, count in sorted(counts.items()) for n in range(count)]
    if every:
        for values in product((0, 1), repeat=len(places)):
            yield dict(zip(places, values, strict=True))
        return
    random = Random(f"assignments/{seed}")
    for guard in dict.fromkeys(step.guard for step in walk(steps) if step.guard is not None):
        for holds in (True, False):
            wish = guard.wish(holds) or {}
            yield {(bit, n): wish.get(bit, random.randrange(2)) for bit, n in places}
    for _ in range(SAMPLED):
        yield {place: random.randrange(2) for place in places}


def check_registers(first: Iterable[tuple[str, int]], second: Iterable[tuple[str, int]], what: str) -> None:
    """Raises Wrong unless both are the same registers in the same order."""
    mine, other = [tuple(register) for register in first], [tuple(register) for register in second]
    if mine != other:
        raise Wrong(f"{what} registers are {_names(other)}, {_names(mine)} expected")


def _names(registers: Iterable[tuple[Any, ...]]) -> str:
    return ", ".join(f"{name}[{size}]" for name, size in registers) or "none"
