# SPDX-License-Identifier: Apache-2.0
"""Tokens and stream secrets, derived from the random seed that the shell gives at the start."""

from __future__ import annotations

import hashlib


class Entropy:
    """A keyed hash of a counter: no secret tells anything about another one, and the core stays deterministic."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) < 32:
            raise ValueError("the seed must have 32 bytes")
        self._seed = seed
        self._count = 0

    def secret(self) -> str:
        """A fresh secret of 64 hex digits."""
        self._count += 1
        return hashlib.blake2b(
            self._count.to_bytes(8, "big"), key=self._seed[:64], digest_size=32, person=b"qcosd"
        ).hexdigest()
