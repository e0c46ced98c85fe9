# SPDX-License-Identifier: Apache-2.0
"""Every exception that the SDK raises on purpose.  Anything else that comes out of it is a bug; please report it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class SdkError(Exception):
    """The base of all of them."""


class Refused(SdkError):
    """Raised by an operation: this work cannot be done, and a retry will not help (except code ``retry_later``).

    ``code`` is a name of the error table of docs/PROTOCOL.md, e.g. ``bad_input`` with the message "ghz.qasm:3: text".
    ``wrong_input`` accuses whoever made an input: ``details`` say which one, {"kind": KIND} or {"stream": NAME}.
    """

    def __init__(self, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details: dict[str, Any] = dict(details or {})


class Interrupt(Refused):
    """Raised by an operation: a typed request that the kernel re-plan, e.g. ``does_not_fit``.

    ``details`` carry the counter-offer, in the terms of the interrupt.
    """


class Revoked(SdkError):
    """The lease of the running operation has ended; nothing that it still reports will count."""


class RequestFailed(SdkError):
    """The kernel answered a request with an error of its table."""

    def __init__(
        self, code: int, name: str, message: str, details: Mapping[str, Any] | None = None, retryable: bool = False
    ) -> None:
        super().__init__(message or name)
        self.code = code
        self.name = name
        self.message = message
        self.details: dict[str, Any] = dict(details or {})
        self.retryable = retryable


class DeadlineExceeded(SdkError, TimeoutError):
    """The caller's own deadline passed before there was an answer."""


class DaemonAbsent(SdkError):
    """No daemon: there is no socket and nobody holds the lock."""

    def __init__(self, runtime_dir: str) -> None:
        super().__init__(f"no qcosd in {runtime_dir}")
        self.runtime_dir = runtime_dir


class DaemonSilent(SdkError):
    """A socket or a held lock is there, but nobody answered within ``connect_grace``.

    ``pid`` is what the lock says (None if it says nothing); ``state`` is that process's state in words.
    """

    def __init__(self, runtime_dir: str, pid: int | None, state: str) -> None:
        who = f"pid {pid}, {state}" if pid is not None else state
        super().__init__(f"qcosd in {runtime_dir} does not answer ({who})")
        self.runtime_dir = runtime_dir
        self.pid = pid
        self.state = state


class StreamClosed(SdkError):
    """The other end of a stream closed it, or is gone."""


class StreamFault(SdkError):
    """The other end of a stream broke its rules: a wrong secret, more than its credit, a malformed frame."""
