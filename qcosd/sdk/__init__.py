# SPDX-License-Identifier: Apache-2.0
"""What plugins and clients are written on.  docs/PLUGINS.md shows how.

Names are loaded when they are first used, so that a client does not pay for what only plugins need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qcosd.sdk.async_client import Client
    from qcosd.sdk.client import BlockingClient
    from qcosd.sdk.errors import (
        DaemonAbsent,
        DaemonSilent,
        DeadlineExceeded,
        Interrupt,
        Refused,
        RequestFailed,
        Revoked,
        SdkError,
        StreamClosed,
        StreamFault,
    )
    from qcosd.sdk.lease import Lease, Result
    from qcosd.sdk.plugin import Plugin
    from qcosd.sdk.pool import Pool
    from qcosd.sdk.stream_session import StreamMessage
    from qcosd.sdk.streams import StreamReader, StreamWriter, wait

__all__ = [
    "BlockingClient",
    "Client",
    "DaemonAbsent",
    "DaemonSilent",
    "DeadlineExceeded",
    "Interrupt",
    "Lease",
    "Plugin",
    "Pool",
    "Refused",
    "RequestFailed",
    "Result",
    "Revoked",
    "SdkError",
    "StreamClosed",
    "StreamFault",
    "StreamMessage",
    "StreamReader",
    "StreamWriter",
    "wait",
]

_HOMES = {
    "BlockingClient": "client",
    "Client": "async_client",
    "Lease": "lease",
    "Plugin": "plugin",
    "Pool": "pool",
    "Result": "lease",
    "StreamMessage": "stream_session",
    "StreamReader": "streams",
    "StreamWriter": "streams",
    "wait": "streams",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
