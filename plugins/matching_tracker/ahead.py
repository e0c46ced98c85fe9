# SPDX-License-Identifier: Apache-2.0
"""The windows of a program before it runs: what is built now is not waited for when its rounds arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from qcos_plugins.matching_tracker.content import SlotContent
from qcos_plugins.matching_tracker.plan import MAX_PLANS, Plans
from qcos_plugins.matching_tracker.window import Window

MOST = MAX_PLANS // 2
"""Windows that are prepared; what a longer program needs beyond them is built when it is needed."""


class Due(NamedTuple):
    """A window of some path, the slot before it, and its slots; the window counts slots from anywhere."""

    window: Window
    before: SlotContent | None
    contents: Sequence[SlotContent]


def prepare(plans: Plans, report: Callable[[int], None]) -> int:
    """Builds what the windows of all paths need, or the first `MOST`; returns how many these are.

    ``report`` is told how many there are so far, before each.  Raises WrongFragments.
    """
    count = 0
    for due in islice(windows(plans), MOST):
        report(count)
        plans.window(due.before, due.contents, due.window)
        count += 1
    return count


def windows(plans: Plans) -> Iterator[Due]:
    """Each distinct window of the program once, those of the path on which every decision is 0 first.

    A walk over the graph of fragments.  What the windows of a fragment are depends on the slots that are not committed when
    it begins, and on nothing else of the past.
    """
    begun, found = set(), set()
    ahead: list[tuple[int, list[SlotContent], int]] = [(0, [], 0)]
    while ahead:
        index, slots, start = ahead.pop()
        entry = (index, start, *_numbers(slots))
        if entry in begun:
            continue
        begun.add(entry)
        fragment = plans.program.fragments[index]
        slots = slots + plans.contents(index)
        for window in plans.windows(start, len(slots) - fragment.length, fragment):
            begin = window.start
            older = slots[begin - 1 : begin] if begin else []
            contents = slots[begin : window.needs]
            kind = (window.commit - begin, window.end - begin, window.lead, window.closed)
            key = (*kind, *_numbers(older), -1, *_numbers(contents))
            if key not in found:
                found.add(key)
                yield Due(window, older[0] if older else None, contents)
            start = window.commit
        if fragment.decision:
            older = min(start, 1)
            left = slots[start - older :]
            ahead += [(child, left, older) for child in (fragment.decision.then, fragment.decision.otherwise)]


def _numbers(contents: Sequence[SlotContent]) -> Iterator[int]:
    return (content.number for content in contents)
