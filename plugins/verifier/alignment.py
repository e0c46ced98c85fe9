# SPDX-License-Identifier: Apache-2.0
"""Puts two programs side by side: the fences of one in the order of the other.

Steps that share no qubit and no classical bit may change places; nothing else may.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence

from qcos_plugins.verifier.finding import Wrong
from qcos_plugins.verifier.steps import Step, walk


def aligned(first: Sequence[Step], second: Sequence[Step]) -> list[Step]:
    """The second program, in an order in which its fences come as they do in the first.

    Raises Wrong when a fence is missing, changed, added, or has passed another one on one of its qubits or bits.
    """
    before = _dependencies(second)
    waiting: defaultdict[tuple[object, ...], deque[int]] = defaultdict(deque)
    for number, step in enumerate(second):
        if step.fence:
            waiting[step.key()].append(number)
    done = [False] * len(second)
    out: list[Step] = []
    for step in first:
        if not step.fence:
            continue
        if not waiting[step.key()]:
            raise Wrong(f"the {step.text()} is not there any more")
        number = waiting[step.key()].popleft()
        for needed in _needed(number, before, done):
            if second[needed].fence and needed != number:
                raise Wrong(f"the {second[needed].text()} has passed the {step.text()}")
            done[needed] = True
            out.append(second[needed])
    for number, step in enumerate(second):
        if not done[number]:
            if step.fence:
                raise Wrong(f"there is one {step.text()} too many")
            out.append(step)
    return out


def _dependencies(steps: Sequence[Step]) -> list[tuple[int, ...]]:
    """For each step those before it that it cannot change places with (the last ones; these have theirs)."""
    writer: dict[tuple[str, int], int] = {}
    readers: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    out = []
    for number, step in enumerate(steps):
        found: set[int] = set()
        reads, writes = _uses(step)
        for resource in reads | writes:
            if resource in writer:
                found.add(writer[resource])
        for resource in writes:
            found.update(readers.pop(resource, ()))
            writer[resource] = number
        for resource in reads - writes:
            readers[resource].append(number)
        found.discard(number)
        out.append(tuple(sorted(found)))
    return out


def _uses(step: Step) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """What a step reads and what it writes."""
    writes = {("qubit", qubit) for qubit in step.qubits}
    reads: set[tuple[str, int]] = set()
    for inner in walk([step]):
        writes |= {("qubit", qubit) for qubit in inner.qubits}
        if inner.bit >= 0:
            writes.add(("bit", inner.bit))
        if inner.guard is not None:
            reads |= {("bit", bit) for bit in inner.guard.bits}
    return reads, writes


def _needed(number: int, before: Sequence[tuple[int, ...]], done: Sequence[bool]) -> Iterator[int]:
    """A step and all that must come before it and has not, in order."""
    found = {number}
    look = [number]
    while look:
        for earlier in before[look.pop()]:
            if not done[earlier] and earlier not in found:
                found.add(earlier)
                look.append(earlier)
    return iter(sorted(found))
