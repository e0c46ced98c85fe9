# SPDX-License-Identifier: Apache-2.0
"""A lease, a stream and workers out of nothing, to call an operation like a function.  Import them from ``qcosd.sdk.testing``."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from qcosd.sdk.errors import SdkError
from qcosd.sdk.lease import Lease
from qcosd.sdk.links import Link, memory_pair
from qcosd.sdk.pool import Pool
from qcosd.sdk.stream_session import Grant
from qcosd.sdk.streams import StreamReader, StreamWriter


def stream_pair(credit: int = 1, name: str = "rounds") -> tuple[StreamReader, StreamWriter]:
    """Both ends of a stream, joined in memory.  Use each from one thread."""
    reader, writer = memory_pair()
    secret = os.urandom(32).hex()
    return (
        StreamReader(Grant(1, 1, name, "bind", "memory", secret, credit), reader),
        StreamWriter(Grant(1, 1, name, "connect", "memory", secret, credit), writer),
    )


class Workers:
    """A pool whose workers are threads.  ``pool`` is what a lease is given; ``main``: the stream of that lease, if it has one.

    workers = Workers(main=stream)
    workers.hire(lambda reader: decode(make_lease("decode.windows", inputs, stream=reader)))
    track(make_lease("track.run", inputs, stream=stream, pool=workers.pool))
    """

    def __init__(self, main: StreamReader | StreamWriter | None = None, credit: int = 8, name: str = "windows") -> None:
        self._credit = credit
        self._name = name
        self._links: dict[tuple[int, int], Link] = {}
        self._epochs: dict[int, int] = {}
        self.pool = Pool(main, lambda grant: self._links[grant.grant, grant.epoch])

    def hire(self, work: Callable[[StreamReader], object], place: int | None = None) -> int:
        """Let ``work`` have the other end of a stream, in a thread; when it returns the stream is closed.  Its place in the pool:
        that of a worker whose end it takes over, or the next one."""
        place = len(self._epochs) if place is None else place
        grant = 1000 + place
        epoch = self._epochs[place] = self._epochs.get(place, 0) + 1
        bound, self._links[grant, epoch] = memory_pair()
        terms = (f"memory://{grant}.{epoch}", os.urandom(32).hex(), self._credit)
        reader = StreamReader(Grant(grant, epoch, self._name, "bind", *terms), bound)
        threading.Thread(target=_employ, args=(work, reader), name=f"worker {place}", daemon=True).start()
        self.pool.grant(Grant(grant, epoch, self._name, "connect", *terms, resumes=True))
        return place


def _employ(work: Callable[[StreamReader], object], reader: StreamReader) -> None:
    finished = False
    try:
        with contextlib.suppress(SdkError):
            work(reader)
            finished = True
    finally:
        reader.close(final=finished)


def make_lease(
    name: str,
    inputs: Mapping[str, bytes] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    shots: int = 1,
    seed: int = 0,
    batch: int | None = None,
    stream: StreamReader | StreamWriter | None = None,
    summaries: Mapping[str, Any] | None = None,
    pool: Pool | None = None,
    report: Callable[[float, str], None] = lambda fraction, text: None,
) -> Lease:
    """A lease of ``service.op`` out of nothing, to call an operation like a function.  ``report`` gets its progress."""
    service, _, op = name.partition(".")
    held = {hashlib.sha256(data).hexdigest(): data for data in (inputs or {}).values()}
    body = {
        "lease": 1,
        "epoch": 1,
        "job": "1",
        "service": service,
        "op": op,
        "batch": batch,
        "options": dict(options or {}),
        "shots": shots,
        "seed": seed,
        "budget": 3600.0,
        "summaries": dict(summaries or {}),
        "inputs": {k: {"sha": hashlib.sha256(v).hexdigest(), "size": len(v)} for k, v in (inputs or {}).items()},
    }
    return Lease(body, fetch=held.__getitem__, report=report, stream=stream, pool=pool)
