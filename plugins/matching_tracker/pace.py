# SPDX-License-Identifier: Apache-2.0
"""The times of a batch: how long decoding takes, how late blocks are, and whether that goes well."""

from __future__ import annotations

from collections.abc import Callable

from qcos_plugins.matching_tracker.helpers import Key
from qcos_plugins.matching_tracker.load import Load, behind
from qcos_plugins.matching_tracker.outcomes import Outcomes, latency_label, reaction_label
from qcos_plugins.matching_tracker.path import Path
from qcos_plugins.matching_tracker.plan import Plans

from qcosd.qec.stream import Block


class Pace:
    """``outcomes``: where all of it is added up.  ``load``: shared by the batches of a job.  ``hands``: how many decode, the tracker
    and its helpers.  ``clock``: seconds; None for nothing of all this."""

    def __init__(
        self, outcomes: Outcomes, clock: Callable[[], float] | None, load: Load, hands: Callable[[], int]
    ) -> None:
        self._outcomes = outcomes
        self._clock = clock
        self._load = load
        self._hands = hands
        self._handed: dict[Key, float] = {}
        self._helped = 0.0  # seconds that others have decoded since the last block
        self._round_ns = 0.0  # how long a round of the program takes on the machine's clock

    def handed_out(self, key: Key, began: float) -> None:
        """A window is in somebody's hands; its last block came at ``began``."""
        self._handed[key] = began

    def committed(self, path: Path, number: int, began: float) -> None:
        """A window of a path is committed; its last block came at ``began`` unless it was handed out."""
        if self._clock is not None:
            if self._handed:
                began = self._handed.pop((path.name, path.fragment.index, number), began)
            self._outcomes.latency_us[latency_label(self._clock() - began)] += 1

    def helped(self, busy: float) -> None:
        """Somebody else has decoded for so many seconds."""
        self._helped += busy
        self._outcomes.busy_ns += round(1e9 * busy)

    def took(self, block: Block, before: int, busy: float | None, plans: Plans) -> None:
        """A block has been taken, in ``busy`` seconds; None if something was built meanwhile, which says nothing about others.

        ``before``: the machine's time, in ns, at the end of the path's last block, 0 if there was none.  Raises Behind if decoding
        cannot keep up with a machine whose rounds leave on a clock.
        """
        outcomes = self._outcomes
        outcomes.stall_rounds += block.stalled
        if block.late_ns is not None:
            outcomes.lateness_us[latency_label(block.late_ns / 1e9)] += 1
        if block.reacted_ns is not None:
            outcomes.reaction_us[reaction_label(block.reacted_ns)] += 1
        if busy is None:
            return
        outcomes.busy_ns += round(1e9 * busy)
        outcomes.busy_rounds += len(block.m)
        if block.late_ns is None or not block.m or self._clock is None:
            return
        if before or not block.path:  # nothing says when a branch began
            self._round_ns = (block.t_hw_ns - before) / (len(block.m) + block.stalled)
        span = self._round_ns * len(block.m)
        outcomes.hardware_ns += round(span)
        shared, self._helped = (busy + self._helped) / self._hands(), 0.0
        utilisation = self._load.add(shared, span / 1e9)
        if utilisation is not None:
            raise behind(plans, utilisation, self._round_ns / 1e3, self._clock)
