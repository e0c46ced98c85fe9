# SPDX-License-Identifier: Apache-2.0
"""Where artifacts come from: who made each one, and out of what."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from qcosd.core.demand import Provider, Step

Guilty = Callable[[Provider], bool]


class Source(NamedTuple):
    """How an artifact came about: the step, and the incarnation that did each part of it. ``summary``: what was reported with it,
    kept where somebody will check it."""

    step: Step
    incarnations: tuple[int, ...]
    summary: dict[str, Any] | None = None

    @property
    def maker(self) -> tuple[str, int]:
        """Component and incarnation that delivered it."""
        return self.step.parts[0].component, self.incarnations[0]


def tainted(steps: Iterable[Step], guilty: Guilty) -> tuple[frozenset[str], list[Step]]:
    """Kinds of which a guilty part has made or fed something, with all kinds made from those; and the steps that made them."""
    rest = list({id(step): step for step in steps}.values())
    lost: frozenset[str] = frozenset()
    bad: list[Step] = []
    while found := [step for step in rest if step.consumes & lost or any(map(guilty, step.parts))]:
        bad += found
        rest = [step for step in rest if step not in found]
        lost = lost.union(*(step.produces for step in found))
    return lost, bad
