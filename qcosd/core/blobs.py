# SPDX-License-Identifier: Apache-2.0
"""Artifacts: which ones are here, and the transfers under way. The bytes themselves are the shell's."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from qcosd.core.effects import BlobDelete, BlobDrop, BlobRead, BlobWrite
from qcosd.core.events import Address
from qcosd.core.outbox import Outbox
from qcosd.core.quota import Quota, Resource
from qcosd.core.requests import Refused, Reply, Requests, Slot
from qcosd.protocol import CHUNK, Type


@dataclass(eq=False, slots=True)
class Upload:
    """An artifact on its way in."""

    address: Address
    sha: str
    size: int
    received: int = 0
    # Offset of a chunk -> who waits for it, and its end.
    waiting: dict[int, tuple[Slot, int]] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Download:
    """A chunk on its way out."""

    slot: Slot
    sha: str
    offset: int


class Blobs:
    """Stored artifacts by digest, and transfers by ticket. Every chunk in either direction is charged to its peer."""

    def __init__(self, outbox: Outbox, requests: Requests, quota: Quota) -> None:
        self._outbox = outbox
        self._requests = requests
        self._quota = quota
        self._stored: dict[str, int] = {}
        self.touched: dict[
            str, float
        ] = {}  # digest -> when it was put last; a file in the store is record enough of itself
        self._uploads: dict[int, Upload] = {}
        self._downloads: dict[int, Download] = {}
        self._ticket = 0

    def restore(self, artifacts: Mapping[str, int]) -> None:
        """Take what the store has."""
        self._stored.update(artifacts)

    def unused(self, used: Collection[str], since: float) -> list[str]:
        """Artifacts that are not used and were not put since then."""
        return [sha for sha in self._stored if sha not in used and self.touched.get(sha, -math.inf) < since]

    def delete(self, shas: list[str]) -> None:
        """Forget artifacts and have their files removed."""
        for sha in shas:
            del self._stored[sha]
            self.touched.pop(sha, None)
        # What referred to them last may have been given up a moment ago, and not be so on disk yet.
        self._outbox.put(BlobDelete(tuple(shas), self._outbox.position))

    def has(self, sha: str) -> bool:
        """Whether an artifact is here."""
        return sha in self._stored

    def size(self, sha: str) -> int:
        """Bytes of an artifact that is here."""
        return self._stored[sha]

    def __len__(self) -> int:
        """Transfers under way."""
        return len(self._uploads) + len(self._downloads)

    def put(self, slot: Slot, sha: str, size: int, data: bytes, now: float) -> None:
        """First chunk of an artifact. Raises Refused."""
        if sha in self._stored:
            self.touched[sha] = now
            self._requests.answer(slot, Reply(Type.BLOB_STORED, {"sha": sha, "size": self._stored[sha]}), now)
            return
        address = slot.peer.address
        if len(data) > size or (size and not data):
            raise Refused("bad_input", f"a first chunk of {len(data)} bytes for {size} bytes")
        if not self._quota.charge(address, Resource.BLOB_BYTES, size):
            raise Refused("over_quota", f"{size} bytes are more than this peer may have under way")
        self._ticket += 1
        self._uploads[self._ticket] = Upload(address, sha, size)
        try:
            self._write(self._ticket, slot, 0, data)
        except Refused:
            self._drop(self._ticket)
            raise

    def chunk(self, slot: Slot, ticket: int, offset: int, data: bytes) -> None:
        """A further chunk. Raises Refused."""
        upload = self._uploads.get(ticket)
        if upload is None or upload.address != slot.peer.address:
            raise Refused("bad_input", f"no transfer has ticket {ticket}")
        if offset != upload.received or not data or offset + len(data) > upload.size:
            raise Refused("bad_input", f"{len(data)} bytes at {offset}; expected at {upload.received} of {upload.size}")
        self._write(ticket, slot, offset, data)

    def written(self, ticket: int, offset: int, error: str | None, now: float) -> None:
        """The shell has written a chunk, or could not."""
        upload = self._uploads.get(ticket)
        if upload is None or offset not in upload.waiting:
            return
        slot, end = upload.waiting.pop(offset)
        self._quota.release(upload.address, Resource.CHUNKS)
        if error is not None:
            self._requests.refuse(slot, Refused(error))
            self._drop(ticket, Refused(error))  # whichever of its chunks is looked at first says why
        elif end == upload.size:
            self._stored[upload.sha] = upload.size
            self.touched[upload.sha] = now
            del self._uploads[ticket]
            self._quota.release(upload.address, Resource.BLOB_BYTES, upload.size)
            body = {"sha": upload.sha, "size": upload.size}
            self._requests.answer(slot, Reply(Type.BLOB_STORED, body), now)
        else:
            self._requests.answer(slot, Reply(Type.BLOB_MORE, {"ticket": ticket, "offset": end}), now)

    def get(self, slot: Slot, sha: str, offset: int) -> None:
        """One chunk of an artifact. Raises Refused."""
        if sha not in self._stored:
            raise Refused("no_such_artifact", f"no artifact {sha}")
        if offset and offset >= self._stored[sha]:
            raise Refused("bad_input", f"offset {offset} of {self._stored[sha]} bytes")
        if not self._quota.charge(slot.peer.address, Resource.CHUNKS):
            raise Refused("over_quota", "too many chunks are unanswered")
        self._ticket += 1
        self._downloads[self._ticket] = Download(slot, sha, offset)
        self._requests.park(slot, "")
        self._outbox.put(BlobRead(self._ticket, sha, offset, min(CHUNK, self._stored[sha] - offset)))

    def read(self, ticket: int, data: bytes | None, now: float) -> None:
        """The shell has read a chunk, or could not."""
        download = self._downloads.pop(ticket, None)
        if download is None:
            return
        slot, sha = download.slot, download.sha
        self._quota.release(slot.peer.address, Resource.CHUNKS)
        if data is None:
            self._requests.refuse(slot, Refused("no_such_artifact", f"artifact {sha} cannot be read"))
            return
        body = {"sha": sha, "offset": download.offset, "size": self._stored[sha]}
        self._requests.answer(slot, Reply(Type.BLOB_DATA, body, payload=(data,)), now)

    def goodbye(self, address: Address) -> None:
        """A peer is gone: drop its transfers."""
        for ticket in [ticket for ticket, upload in self._uploads.items() if upload.address == address]:
            self._drop(ticket)
        for ticket in [ticket for ticket, download in self._downloads.items() if download.slot.peer.address == address]:
            del self._downloads[ticket]
            self._quota.release(address, Resource.CHUNKS)

    def _write(self, ticket: int, slot: Slot, offset: int, data: bytes) -> None:
        upload = self._uploads[ticket]
        if not self._quota.charge(upload.address, Resource.CHUNKS):
            raise Refused("over_quota", "too many chunks are unanswered")
        upload.received = offset + len(data)
        upload.waiting[offset] = (slot, upload.received)
        self._requests.park(slot, "")
        last = upload.received == upload.size
        self._outbox.put(BlobWrite(ticket, upload.sha, upload.size, offset, data, last))

    def _drop(self, ticket: int, why: Refused | None = None) -> None:
        """Give up an upload."""
        upload = self._uploads.pop(ticket)
        self._quota.release(upload.address, Resource.BLOB_BYTES, upload.size)
        for slot, _ in upload.waiting.values():
            self._quota.release(upload.address, Resource.CHUNKS)
            self._requests.refuse(slot, why or Refused("no_such_artifact", "the transfer was given up"))
        self._outbox.put(BlobDrop(ticket))
