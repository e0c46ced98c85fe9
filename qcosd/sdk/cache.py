# SPDX-License-Identifier: Apache-2.0
"""Artifacts that were fetched once are not fetched again: least recently used first out, bounded in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict

CACHE_BYTES = 128 << 20


class ArtifactCache:
    """SHA-256 -> bytes.  May be used from several threads.  What is bigger than a quarter of it is not kept."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._held = 0
        self._artifacts: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, sha: str) -> bytes | None:
        """The bytes, None if they are not here."""
        with self._lock:
            data = self._artifacts.get(sha)
            if data is not None:
                self._artifacts.move_to_end(sha)
            return data

    def keep(self, sha: str, data: bytes) -> None:
        """Remember verified bytes."""
        if len(data) > self._limit // 4:
            return
        with self._lock:
            if sha in self._artifacts:
                return
            self._artifacts[sha] = data
            self._held += len(data)
            while self._held > self._limit:
                _, dropped = self._artifacts.popitem(last=False)
                self._held -= len(dropped)
