# SPDX-License-Identifier: Apache-2.0
"""What the kernel wants done. The shell carries effects out in the given order and decides nothing.

Each effect names the journal position that it waits for (``after``, 0 = none). Effects for one destination keep their order, but
for answers: each waits for its own position only, and overtakes what waits for a later one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qcosd.core.events import Address, Channel
from qcosd.core.manifest import Manifest
from qcosd.protocol import Message, Type

if TYPE_CHECKING:
    from qcosd.core.records import Record

SIGKILL = 9
SIGTERM = 15
SIGSTOP = 19


@dataclass(frozen=True, slots=True)
class Send:
    """Send ``protocol.encode(message)`` to a peer. ``asked``: of an answer, what the request was."""

    channel: Channel
    address: Address
    message: Message
    after: int = 0
    asked: Type | None = None


@dataclass(frozen=True, slots=True)
class Publish:
    """Send [topic, *protocol.encode(message)] on the events socket."""

    topic: str
    message: Message
    after: int = 0


@dataclass(frozen=True, slots=True)
class Subscription:
    """Answer to a Subscribe, to be applied at once: XPUB_MANUAL applies to the pipe that was read last. ``granted`` false: do nothing."""

    address: Address
    topic: str
    on: bool
    granted: bool = True
    after: int = 0


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process. ``identity`` is the PLAIN user name, ``token`` (64 hex digits) the password, valid until Exited or SpawnFailed.
    ``instance`` names its place, and its log."""

    component: str
    instance: str
    incarnation: int
    identity: str
    token: str
    manifest: Manifest
    after: int = 0


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to the process of an incarnation. Nothing to do where it has ended."""

    incarnation: int
    signum: int
    after: int = 0


@dataclass(frozen=True, slots=True)
class Append:
    """Append all that one event has changed to the journal, as a whole or not at all; report Durable(position) when it is safe.

    ``position``: of the last record. There is one Append at the most among the effects of an event, the first of them.
    """

    records: tuple[Record, ...]
    position: int
    after: int = 0


@dataclass(frozen=True, slots=True)
class BlobWrite:
    """Write a chunk of the artifact that the ticket names; verify and publish it at the ``last`` one. Report BlobWritten."""

    ticket: int
    sha: str
    size: int
    offset: int
    data: bytes
    last: bool
    after: int = 0


@dataclass(frozen=True, slots=True)
class BlobDrop:
    """Forget an unfinished write."""

    ticket: int
    after: int = 0


@dataclass(frozen=True, slots=True)
class BlobRead:
    """Read a chunk. Report BlobData."""

    ticket: int
    sha: str
    offset: int
    length: int
    after: int = 0


@dataclass(frozen=True, slots=True)
class BlobDelete:
    """Remove artifacts that nobody refers to. Nothing to report."""

    shas: tuple[str, ...]
    after: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """Look at a process that is silent. Report Vitals."""

    incarnation: int
    after: int = 0


@dataclass(frozen=True, slots=True)
class SetPriority:
    """Have the system's scheduler prefer a process while it is ``online``, and no more afterwards. Report PrioritySet."""

    incarnation: int
    online: bool
    after: int = 0


@dataclass(frozen=True, slots=True)
class LogRead:
    """Read the last lines of the log of an instance, or of each log of a component, of this life of the daemon or an earlier one.
    Report LogTail."""

    name: str
    lines: int
    after: int = 0


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection of a peer and refuse its identity for ``cooldown`` seconds. PeerGone need not follow."""

    channel: Channel
    address: Address
    reason: str
    cooldown: float = 1.0
    after: int = 0


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the service manager; the keys of sd_notify, such as {"READY": "1", "STATUS": "..."}."""

    fields: dict[str, str]
    after: int = 0


@dataclass(frozen=True, slots=True)
class Log:
    """A line of the daemon's own log. ``fields`` are for machines."""

    text: str
    fields: dict[str, Any]
    after: int = 0


@dataclass(frozen=True, slots=True)
class Exit:
    """The daemon ends. Always the last effect."""

    code: int
    after: int = 0


Effect = (
    Send | Publish | Subscription | Spawn | Signal | Append | BlobWrite | BlobDrop
    | BlobRead | BlobDelete | Look | SetPriority | LogRead | Disconnect | Notify | Log | Exit
)  # fmt: skip
