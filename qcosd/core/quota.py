# SPDX-License-Identifier: Apache-2.0
"""What each peer has outstanding. Every charge is given back by whoever made it, or all at once when the peer goes."""

from __future__ import annotations

from enum import StrEnum

from qcosd.core.events import Address, Limits


class Resource(StrEnum):
    """What is bounded."""

    REQUESTS = "requests"
    CHUNKS = "chunks"
    BLOB_BYTES = "blob_bytes"


class Quota:
    """Charges of peers, each below its limit."""

    def __init__(self, limits: Limits) -> None:
        self._limits = {
            Resource.REQUESTS: limits.requests,
            Resource.CHUNKS: limits.blob_window,
            Resource.BLOB_BYTES: limits.blob_bytes,
        }
        self._used: dict[Address, dict[Resource, int]] = {}

    def charge(self, address: Address, resource: Resource, amount: int = 1) -> bool:
        """Charge a peer; False, and nothing charged, where that would exceed the limit."""
        used = self._used.get(address, {}).get(resource, 0) + amount
        if used > self._limits[resource]:
            return False
        self._used.setdefault(address, {})[resource] = used
        return True

    def release(self, address: Address, resource: Resource, amount: int = 1) -> None:
        """Give a charge back."""
        used = self._used[address]
        used[resource] -= amount
        if used[resource] < 0:
            raise ValueError(f"{address.identity} gives back more {resource} than it took")
        if not used[resource]:
            del used[resource]
        if not used:
            del self._used[address]

    def used(self, address: Address, resource: Resource) -> int:
        """What a peer has outstanding."""
        return self._used.get(address, {}).get(resource, 0)

    def __len__(self) -> int:
        """Peers that have anything outstanding."""
        return len(self._used)
