# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is: operations run in the order in which their leases came.

Two plugins that are given the same two batches must begin with the same one, or each would wait for the other.
"""

from __future__ import annotations

import threading


class Turns:
    """``places``: how many run at a time."""

    def __init__(self, places: int) -> None:
        if places < 1:
            raise ValueError(f"a concurrency of {places}")
        self._places = places
        self._queue: list[object] = []
        self._changed = threading.Condition()

    def join(self, who: object) -> None:
        """Take the next place in the queue."""
        with self._changed:
            self._queue.append(who)

    def wait(self, who: object, given_up: threading.Event) -> None:
        """Block until it is somebody's turn, or he has given up; whoever sets the event calls `stir`."""
        with self._changed:
            self._changed.wait_for(lambda: given_up.is_set() or who in self._queue[: self._places])

    def stir(self) -> None:
        """Somebody may have given up."""
        with self._changed:
            self._changed.notify_all()

    def leave(self, who: object) -> None:
        """Make room for the next one."""
        with self._changed:
            self._queue.remove(who)
            self._changed.notify_all()
