# SPDX-License-Identifier: Apache-2.0
"""A lease and a stream out of nothing, to call an operation like a function.  Import them from ``qcosd.sdk.testing``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from qcosd.sdk.lease import Lease
from qcosd.sdk.links import memory_pair
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
    return Lease(body, fetch=held.__getitem__, report=report, stream=stream)
