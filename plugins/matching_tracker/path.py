# SPDX-License-Identifier: Apache-2.0
"""A path of a batch: shots that have seen the same slots, and all that is known of them."""

from __future__ import annotations

from copy import copy

import numpy as np
from qcos_plugins.matching_tracker.content import SlotContent
from qcos_plugins.matching_tracker.frames import DECODED, Ledger
from qcos_plugins.matching_tracker.packed import Bits, ones, select
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.window import Window, next_window

from qcosd.qec.fragment import Decision, Measure


class Path:
    """``shots``: their numbers in the batch, increasing.  Slots are absolute, counted from the beginning of the program.

    Buffered are the detectors and event parities of slots from ``committed`` to ``received``, packed along the shots,
    and the records of the last slot received.
    """

    def __init__(self, plans: Plans, shots: int) -> None:
        self._plans = plans
        self.name = ""
        self.shots = np.arange(shots)
        self.fragment = plans.program.fragments[0]
        self.received = 0
        self.committed = 0
        self.rounds = 0
        self.records = 0
        self.detectors = 0
        self._ahead = plans.contents(0)  # slots of the fragment
        self._start = 0  # of the fragment
        self._contents: list[SlotContent] = []  # slots committed - 1 (if any) to received
        self._syndrome: list[Bits] = []
        self._parities: list[Bits] = []  # one array a slot, from committed on
        self._last: Bits | None = None  # records of slot received - 1
        self.ledger = Ledger(plans.frame_rows, plans.tags, plans.program.bits, shots)

    # ---- where it stands

    @property
    def slot(self) -> int:
        """The next slot within the fragment."""
        return self.received - self._start

    @property
    def total(self) -> int | None:
        """Length of the path in slots; None while a decision is ahead."""
        return None if self.fragment.decision else self._start + self.fragment.length

    @property
    def complete(self) -> bool:
        """Every slot of the fragment has arrived."""
        return self.slot == self.fragment.length

    def expected(self, count: int) -> tuple[int, ...]:
        """Records of each of the next ``count`` slots; fewer at the end of the fragment."""
        return tuple(content.records for content in self._ahead[self.slot : self.slot + count])

    # ---- what happens to it

    def take(self, records: Bits) -> int:
        """The records of the next slot, uint8 (m, bytes).  Returns the number of detection events in it."""
        content = self._ahead[self.slot]
        before = self._contents[-1] if self._contents else None
        both = records if self._last is None else np.concatenate((self._last, records))
        detectors, parities = self._plans.syndrome(before, content).of(both)
        self._contents.append(content)
        self._syndrome.append(detectors)
        self._parities.append(parities)
        self._last = records
        self.received += 1
        self.records += content.records
        self.rounds += content.has_round
        self.detectors += len(detectors)
        return ones(detectors)

    def ready(self) -> Window | None:
        """The next window, if all its slots are here."""
        window = next_window(self.committed, self._plans.commit, self._plans.buffer, self.total)
        return window if window is not None and window.needs <= self.received else None

    def commit(self, window: Window, *, drop_artifacts: bool = False) -> None:
        """Decodes a window and settles its committed slots, once and for ever."""
        older = int(self.committed > 0)  # a slot before the window is kept
        before = self._contents[0] if older else None
        contents = self._contents[older : older + window.needs - window.start]
        plan = self._plans.window(before, contents, window)
        syndrome = np.concatenate(self._syndrome) if len(self._syndrome) > 1 else self._syndrome[0]
        found = [instance.decode(syndrome, len(self.shots)) for instance in plan.instances]
        ledger = self.ledger
        for instance, prediction in zip(plan.instances, found, strict=True):
            if len(instance.artifacts) and not drop_artifacts:
                syndrome[instance.artifacts] ^= prediction[len(instance.template.columns) :]
            ledger.parities[instance.tags, DECODED] ^= prediction[instance.parity_columns]
        committed = window.commit - window.start
        for i in range(committed):
            rows = iter(self._parities[i])
            for event, names in zip(contents[i].slot.events, contents[i].event_records, strict=True):
                ledger.apply(event, window.start + i, window.commit, None if names is None else next(rows))
        for instance, prediction in zip(plan.instances, found, strict=True):
            ledger.frames[instance.frames, DECODED] ^= prediction[instance.frame_columns]
        self.committed = window.commit
        self._contents = self._contents[older + committed - 1 :]
        self._syndrome = [syndrome[plan.committed_rows :]]
        self._parities = self._parities[committed:]

    def pending_bits(self) -> set[int]:
        """Classical bits that slots not yet committed will write."""
        waiting = self._contents[int(self.committed > 0) :]
        return {e.bit for content in waiting for e in content.slot.events if isinstance(e, Measure)}

    def child(self, name: str, decision: Decision, value: int, chosen: np.ndarray) -> Path:
        """The path on which ``decision`` came out as ``value``; ``chosen``: its shots, as indices into this path's."""
        assert self.complete, "a fragment ends with its last slot"
        other = copy(self)
        other.name = name
        other.shots = self.shots[chosen]
        other.fragment = self._plans.program.fragments[decision.then if value else decision.otherwise]
        other._ahead = self._plans.contents(other.fragment.index)
        other._start = self.received
        other._contents = list(self._contents)
        shots = len(self.shots)
        other._syndrome = [select(rows, shots, chosen) for rows in self._syndrome]
        other._parities = [select(rows, shots, chosen) for rows in self._parities]
        other._last = None if self._last is None else select(self._last, shots, chosen)
        other.ledger = self.ledger.select(chosen)
        return other
