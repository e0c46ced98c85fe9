# SPDX-License-Identifier: Apache-2.0
"""Who may decode windows for a tracker.  What comes of a batch depends on none of them."""

from __future__ import annotations

from typing import Protocol

from qcos_plugins.matching_tracker.task import Task

Key = tuple[str, int, int]
"""A window that is handed out: path, fragment, number."""


class Helpers(Protocol):
    """Others who decode windows for a tracker.  ``count``: how many they are."""

    @property
    def count(self) -> int: ...

    def take(self, key: Key, task: Task, shots: int) -> bool:
        """Whether somebody has room for it now.  The answer goes to `Tracker.answered`, or never comes."""
        ...
