# SPDX-License-Identifier: Apache-2.0
"""Every moment at which something is due, in one heap. An alarm has a key; setting it again moves it."""

from __future__ import annotations

import heapq
from typing import Any

AlarmKey = tuple[Any, ...]  # (area, ...)
_SLACK = 64  # entries that no longer count and are tolerated in any case


class Alarms:
    """A heap with lazy deletion: an entry counts only while it is the latest of its key.

    Entries that do not count are swept once they are the majority: they hold on to what their key names, a lease with its job for
    instance, until a time that may be hours away.
    """

    def __init__(self) -> None:
        self._due: dict[AlarmKey, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, AlarmKey]] = []
        self._serial = 0

    def set(self, key: AlarmKey, at: float) -> None:
        """Have the key come due at a time, instead of any time set before."""
        self._serial += 1
        self._due[key] = (at, self._serial)
        heapq.heappush(self._heap, (at, self._serial, key))
        if len(self._heap) > 2 * len(self._due) + _SLACK:
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[:2]]
            heapq.heapify(self._heap)

    def clear(self, key: AlarmKey) -> None:
        """Forget the key, if it is set."""
        self._due.pop(key, None)

    def next(self) -> float | None:
        """The earliest time set."""
        self._prune()
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: float) -> AlarmKey | None:
        """One key whose time has come, forgotten thereby; None when there is no more."""
        self._prune()
        if not self._heap or self._heap[0][0] > now:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._due[key]
        return key

    @property
    def entries(self) -> int:
        """Entries of the heap, those included that do not count any more."""
        return len(self._heap)

    def __len__(self) -> int:
        return len(self._due)

    def _prune(self) -> None:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][:2]:
            heapq.heappop(self._heap)
