# SPDX-License-Identifier: Apache-2.0
"""What can be asked of the kernel, each as a conversation that waits for nothing by itself.

A conversation is a generator: it yields the requests to send next, is sent their replies in the same order, and returns
its result.  Where a request fails the exception is thrown into it.  The blocking client, the asynchronous client and
the worker threads of a plugin drive the same ones.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from qcosd.protocol import SPECS, Message, Type
from qcosd.sdk.errors import DeadlineExceeded, RequestFailed
from qcosd.sdk.session import Limits, Request

T = TypeVar("T")
Talk = Generator[list[Request], list[Message], T]

TRANSFER_ATTEMPTS = 5
"""Times that a transfer is begun with the same kernel, which has forgotten it; deaths of the kernel are not counted."""

LONGEST_WAIT = 3600.0
"""Seconds of one JOB_WAIT; a longer wait is several of them."""

PLUGIN_ACTIONS = {
    "start": Type.PLUGIN_START,
    "stop": Type.PLUGIN_STOP,
    "restart": Type.PLUGIN_RESTART,
    "kill": Type.PLUGIN_KILL,
    "reset": Type.PLUGIN_RESET,
}


def fresh_key() -> str:
    """An idempotency key that nobody else has."""
    return os.urandom(16).hex()


def ask(request: Request) -> Talk[Message]:
    """One request, one reply.  One that has an effect gets a key of its own where it has none: it may have to be sent again."""
    if not request.key and SPECS[request.type].keyed:
        request = replace(request, key=fresh_key())
    replies = yield [request]
    return replies[0]


def _body(request: Request) -> Talk[dict[str, Any]]:
    message = yield from ask(request)
    return message.body


def put(data: bytes, limits: Callable[[], Limits], timeout: float | None) -> Talk[str]:
    """Store an artifact; returns its SHA-256 in hex.  ``timeout`` is of each chunk, not of the whole."""
    digest = hashlib.sha256(data).hexdigest()
    attempts, boot = 0, -1
    while True:
        bounds = limits()
        start = Request(Type.BLOB_PUT, {"sha": digest, "size": len(data)}, (data[: bounds.chunk],), timeout)
        first = yield from ask(start)
        attempts, boot = (attempts + 1 if first.boot == boot else 1), first.boot
        try:
            yield from _put_rest(digest, data, first, bounds, timeout)
            return digest
        except RequestFailed as error:
            if error.name != "no_reply" or attempts >= TRANSFER_ATTEMPTS:
                raise


def _put_rest(digest: str, data: bytes, reply: Message, limits: Limits, timeout: float | None) -> Talk[None]:
    size = len(data)
    offset = limits.chunk
    while reply.type is not Type.BLOB_STORED:
        if offset >= size:
            raise RequestFailed(
                0, "internal", f"the kernel has all of {digest[:12]} and does not say that it is stored"
            )
        ticket = reply.body["ticket"]
        window = range(offset, min(size, offset + limits.blob_window * limits.chunk), limits.chunk)
        replies = yield [
            Request(
                Type.BLOB_CHUNK,
                {"ticket": ticket, "offset": at},
                (data[at : at + limits.chunk],),
                timeout,
                again=False,
            )
            for at in window
        ]
        stored = [each for each in replies if each.type is Type.BLOB_STORED]
        reply = stored[0] if stored else replies[-1]
        offset = window.stop if window.stop >= size else window[-1] + limits.chunk


def get(digest: str, limits: Callable[[], Limits], timeout: float | None) -> Talk[bytes]:
    """Fetch an artifact and verify it.  ``timeout`` is of each chunk, not of the whole."""
    first = yield from ask(Request(Type.BLOB_GET, {"sha": digest, "offset": 0}, timeout=timeout))
    size = first.body["size"]
    parts, have = [first.payload[0]], len(first.payload[0])
    chunk = max(1, have)
    while have < size:
        window = range(have, min(size, have + limits().blob_window * chunk), chunk)
        replies = yield [Request(Type.BLOB_GET, {"sha": digest, "offset": at}, timeout=timeout) for at in window]
        for at, reply in zip(window, replies, strict=True):
            if at != have or not reply.payload[0]:
                break  # a shorter chunk came than was expected: ask again from where it ended
            parts.append(reply.payload[0])
            have += len(reply.payload[0])
        else:
            continue
        if not replies[0].payload[0]:
            raise RequestFailed(0, "wrong_digest", f"artifact {digest[:12]} ends after {have} of {size} bytes")
    data = b"".join(parts)
    if hashlib.sha256(data).hexdigest() != digest:
        raise RequestFailed(0, "wrong_digest", f"the bytes of artifact {digest[:12]} do not have that digest")
    return data


def submit(options: Mapping[str, Any], inputs: Mapping[str, str], key: str | None, timeout: float | None) -> Talk[str]:
    """Run a job; returns its id."""
    body = {"inputs": dict(inputs), "options": dict(options)}
    answer = yield from _body(Request(Type.JOB_SUBMIT, body, timeout=timeout, key=key))
    return str(answer["job"])


def job(id: str, timeout: float | None) -> Talk[dict[str, Any]]:
    """The job document as it is now."""
    answer = yield from _body(Request(Type.JOB_SHOW, {"job": id}, timeout=timeout))
    return dict(answer["document"])


def jobs(limit: int, timeout: float | None) -> Talk[list[dict[str, Any]]]:
    """Rows {job, state, submitted, cause}, newest first."""
    answer = yield from _body(Request(Type.JOB_LIST, {"limit": limit}, timeout=timeout))
    return list(answer["jobs"])


def wait(id: str, timeout: float | None) -> Talk[dict[str, Any]]:
    """The job document once the job has ended.  Without a timeout it waits for ever; kernels may come and go."""
    while True:
        span = LONGEST_WAIT if timeout is None else timeout
        try:
            answer = yield from _body(Request(Type.JOB_WAIT, {"job": id}, timeout=span, outlast=True))
        except DeadlineExceeded:
            if timeout is None:
                continue
            raise DeadlineExceeded(f"job {id} has not ended within {timeout:g} s") from None
        return dict(answer["document"])


def cancel(id: str, key: str | None, timeout: float | None) -> Talk[dict[str, Any]]:
    """End a job as cancelled; returns its document."""
    answer = yield from _body(Request(Type.JOB_CANCEL, {"job": id}, timeout=timeout, key=key))
    return dict(answer["document"])


def plugins(timeout: float | None) -> Talk[list[dict[str, Any]]]:
    """Rows {name, service, state, pid, incarnation, restarts, uptime, cause}."""
    answer = yield from _body(Request(Type.PLUGIN_LIST, timeout=timeout))
    return list(answer["plugins"])


def plugin(action: str, name: str, key: str | None, timeout: float | None) -> Talk[None]:
    """``action``: start, stop, restart, kill or reset.  Raises ValueError for another one."""
    if action not in PLUGIN_ACTIONS:
        raise ValueError(f"{action!r} is not one of {', '.join(PLUGIN_ACTIONS)}")
    yield from ask(Request(PLUGIN_ACTIONS[action], {"plugin": name}, timeout=timeout, key=key))


def fault(name: str, kind: str, seconds: float, key: str | None, timeout: float | None) -> Talk[None]:
    """Fault injection: ``kind`` is crash, hang, slow or freeze."""
    body = {"plugin": name, "kind": kind, "seconds": float(seconds)}
    yield from ask(Request(Type.PLUGIN_FAULT, body, timeout=timeout, key=key))


def status(timeout: float | None) -> Talk[dict[str, Any]]:
    """{version, pid, boot, state, jobs, plugins, counters}."""
    answer = yield from _body(Request(Type.STATUS, timeout=timeout))
    return answer


def snapshot(prefix: str, timeout: float | None) -> Talk[Message]:
    """The SNAPSHOT_REPLY; its header names the boot that it belongs to."""
    message = yield from ask(Request(Type.SNAPSHOT, {"prefix": prefix}, timeout=timeout))
    return message


def ping(timeout: float | None) -> Talk[None]:
    """A barrier: everything that was sent before has been handled when it returns."""
    yield from ask(Request(Type.PING, timeout=timeout))


def drain(on: bool, key: str | None, timeout: float | None) -> Talk[None]:
    """Take no new jobs, or take them again."""
    yield from ask(Request(Type.DRAIN, {"on": on}, timeout=timeout, key=key))


def shutdown(key: str | None, timeout: float | None) -> Talk[None]:
    """Stop all components in order, then the daemon."""
    yield from ask(Request(Type.SHUTDOWN, timeout=timeout, key=key))
