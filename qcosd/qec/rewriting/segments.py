# SPDX-License-Identifier: Apache-2.0
"""Where a program may be rewritten: runs of gates between operations that stay where they are, by connected qubits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from qcosd.qec.program import GATES, PAULIS, Op

MAX_GATES: Final = 1_000
"""Longest run that is looked at as one: a pass cannot be stopped, so this bounds how late a budget is noticed."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive operations: gates (`unitary`), or one fence.

    `fresh`: those qubits of the gates that are prepared right before, `read`: those that are measured or reset right
    after, or not used again. Barriers and Paulis in between do not count.
    """

    unitary: bool
    ops: tuple[Op, ...]
    fresh: frozenset[int] = frozenset()
    read: frozenset[int] = frozenset()


def segments_of(ops: Sequence[Op]) -> list[Segment]:
    """Cuts operations into segments, which together are all of them in order.

    Fences are barriers, idles, measures, resets and ifs, whatever their qubits: none of them is ever passed.
    """
    runs = list(_runs(ops))
    # A qubit is ready before the first run, and nobody uses it after the last one.
    fresh = _settled(runs)
    read = _settled(runs[::-1])[::-1]
    return [
        Segment(run[0].kind in GATES, run, before, after) for run, before, after in zip(runs, fresh, read, strict=True)
    ]


def _runs(ops: Sequence[Op]) -> Iterator[tuple[Op, ...]]:
    run: list[Op] = []
    for op in ops:
        fence = op.kind not in GATES
        if run and (fence or len(run) >= MAX_GATES):
            yield tuple(run)
            run = []
        if fence:
            yield (op,)
        else:
            run.append(op)
    if run:
        yield tuple(run)


def _settled(runs: Sequence[tuple[Op, ...]]) -> list[frozenset[int]]:
    """For each run those of its qubits that a preparation or a read-out parts from all runs before it in this order."""
    everything = {qubit for run in runs for op in run for qubit in op.qubits}
    busy: set[int] = set()
    out = []
    for run in runs:
        qubits = {qubit for op in run for qubit in op.qubits}
        out.append(frozenset(qubits - busy))
        kind = run[0].kind
        if kind in ("measure", "reset"):
            busy -= qubits
        elif kind in GATES:
            busy |= {qubit for op in run if op.kind not in PAULIS for qubit in op.qubits}
        elif kind == "if" and any(op.kind not in PAULIS for op in run[0].body):
            # A branch: what was prepared before it has begun its life, what is read after it must last until then.
            busy = set(everything)
        elif kind != "barrier":
            busy |= qubits
    return out


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
