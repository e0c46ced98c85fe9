# SPDX-License-Identifier: Apache-2.0
"""Where a program may be rewritten: runs of gates between operations that stay where they are, by connected qubits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from qcosd.qec.program import GATES, Op

MAX_GATES: Final = 1_000
"""Longest run that is looked at as one: a pass cannot be stopped, so this bounds how late a budget is noticed."""


def segments_of(ops: Sequence[Op]) -> Iterator[tuple[bool, tuple[Op, ...]]]:
    """Cuts operations into (True, gates) and (False, (one fence,)), which together are all of them in order.

    Fences are barriers, idles, measures, resets and ifs, whatever their qubits: none of them is ever passed.
    """
    run: list[Op] = []
    for op in ops:
        fence = op.kind not in GATES
        if run and (fence or len(run) >= MAX_GATES):
            yield True, tuple(run)
            run = []
        if fence:
            yield False, (op,)
        else:
            run.append(op)
    if run:
        yield True, tuple(run)


def components_of(gates: Sequence[Op]) -> list[tuple[int, ...]]:
    """Places of the gates of each set of qubits that two-qubit gates connect, in order of their first gate."""
    leader: dict[int, int] = {}

    def find(qubit: int) -> int:
        while leader.setdefault(qubit, qubit) != qubit:
            leader[qubit] = leader[leader[qubit]]
            qubit = leader[qubit]
        return qubit

    for op in gates:
        first = find(op.qubits[0])
        for other in op.qubits[1:]:
            leader[find(other)] = first
    groups: dict[int, list[int]] = {}
    for place, op in enumerate(gates):
        groups.setdefault(find(op.qubits[0]), []).append(place)
    return [tuple(places) for places in groups.values()]


def with_replaced(gates: Sequence[Op], replaced: Iterable[tuple[tuple[int, ...], tuple[Op, ...]]]) -> tuple[Op, ...]:
    """The gates with those at some places replaced by others, which stand where the first of them stood."""
    dropped: set[int] = set()
    put: dict[int, tuple[Op, ...]] = {}
    for places, ops in replaced:
        dropped.update(places)
        put[places[0]] = ops
    out: list[Op] = []
    for place, op in enumerate(gates):
        out += put.get(place, ())
        if place not in dropped:
            out.append(op)
    return tuple(out)
