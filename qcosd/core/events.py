# SPDX-License-Identifier: Apache-2.0
"""What happens to the kernel: everything that the shell reports to ``Kernel.handle``. All values are immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from qcosd.core.manifest import Manifest
from qcosd.protocol import EXIT_BUS_SILENT


class Channel(StrEnum):
    """One of the two ROUTERs."""

    PLUGINS = "plugins"
    CLIENTS = "clients"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a peer is. ``identity`` is what authentication says: ``COMPONENT/INCARNATION`` of a plugin (the PLAIN user name
    that Spawn.identity gave), ``uid:N`` or an operator's name of a client. ``routing`` is the ROUTER's routing id."""

    identity: str
    routing: bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the kernel. Times in seconds."""

    requests: int = 256  # unanswered requests of a peer
    blob_window: int = 8  # unanswered chunks of a peer
    blob_bytes: int = 1 << 30  # bytes of unfinished artifacts of a peer
    subscriptions: int = 64  # of a client identity
    jobs_waiting: int = 10_000  # jobs that have not ended
    jobs_kept: int = 1_000  # ended jobs that are remembered
    keys_kept: int = 10_000  # replies that are kept for repeats of their requests
    request_deadline: float = 60.0  # of a request that names none
    longest_deadline: float = 86_400.0
    revoke_grace: float = 10.0  # from REVOKE to SIGKILL where no REVOKED comes
    ageing_period: float = 30.0  # waiting so long raises the effective priority by one
    adopt_grace: float = 5.0  # from the start to the HELLO of a process of an earlier boot
    reconnect_grace: float = 5.0  # from the end of a plugin's connection to its next HELLO
    surplus_idle: float = (
        30.0  # without a call for more replicas, after which one that is more than `replicas` is stopped
    )
    attempts: int = 5  # deaths of one work item in a row that make it poison
    credit: int = 8  # of a stream
    batch: int = 256  # shots of a batch where the job names none
    artifact_grace: float = 3600.0  # for which an artifact is kept that nothing refers to
    collect_every: float = 600.0  # between two looks for such artifacts


@dataclass(frozen=True, slots=True)
class Survivor:
    """A process of an earlier boot that still runs. The shell has told it from others by pid and start time, watches it, and
    admits it with the token whose hash the journal has."""

    incarnation: int
    pid: int


@dataclass(frozen=True, slots=True)
class Start:
    """First event. ``entropy``: 32 random bytes, from which tokens and stream secrets are derived. ``wall``: seconds since the
    epoch at this moment. ``streams``: prefix of stream endpoints, such as ``ipc:///run/qcos/streams/``."""

    manifests: tuple[Manifest, ...]
    boot: int
    pid: int
    version: str
    entropy: bytes
    wall: float
    streams: str
    limits: Limits = field(default_factory=Limits)
    # Component -> its table, passed on in WELCOME.
    configuration: dict[str, dict[str, Any]] = field(default_factory=dict)
    # What the journal has of earlier boots: area -> name -> body, see ``qcosd.core.image``.
    image: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    position: int = 0  # of the journal's last record
    survivors: tuple[Survivor, ...] = ()
    artifacts: Mapping[str, int] = field(default_factory=dict)  # digest -> bytes of what the store has
    rolled_back: str = ""  # why the journal has lost what it once had; empty where it has not


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop everything in order (SIGTERM, SIGINT). A second Stop kills what is left."""

    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """Frames from a peer, without the routing id. The kernel decodes."""

    channel: Channel
    address: Address
    frames: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PeerGone:
    """The connection of a peer has ended, or sending to it failed (queue full, unreachable)."""

    channel: Channel
    address: Address
    reason: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A subscriber asks for (``on``) or gives up a topic prefix. The answer is a Subscription among the effects of this very call."""

    address: Address
    topic: str
    on: bool


@dataclass(frozen=True, slots=True)
class Spawned:
    """The process of an incarnation runs. ``started`` names the moment of its start, so that a later boot can tell it from
    another process with the same pid."""

    incarnation: int
    pid: int
    started: str = ""


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The process of an incarnation could not be started. No Exited follows."""

    incarnation: int
    reason: str


FROM_OUTSIDE = (None, -9, EXIT_BUS_SILENT)
"""How a process ends for no reason of its own: unknown, SIGKILL, or it has heard from no daemon (PLUGINS.md)."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The process has ended. ``status``: exit code, or minus the signal; None when unknown."""

    incarnation: int
    status: int | None


@dataclass(frozen=True, slots=True)
class Frozen:
    """The process has been stopped (SIGSTOP) and stays so: the shell has seen it twice in a row."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Vitals:
    """Answer to a Look. ``cpu``: seconds that the process has used so far; None where it cannot be read."""

    incarnation: int
    cpu: float | None


@dataclass(frozen=True, slots=True)
class PrioritySet:
    """A SetPriority has been carried out. ``result``: how the system schedules the process now, and what it refused; for people."""

    incarnation: int
    result: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """An instance of a component printed a line."""

    instance: str
    text: str


@dataclass(frozen=True, slots=True)
class LogTail:
    """Answer to a LogRead: the last lines of a log, the oldest first. ``asked``: as many as were wanted."""

    name: str
    asked: int
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes of the file system of the state directory: those that the daemon could still use, and all."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Durable:
    """Every record up to ``position`` is as safe as its type asks for."""

    position: int


@dataclass(frozen=True, slots=True)
class JournalHealth:
    """The journal cannot write (``fault`` says why, for people), or can again (empty). Records are kept and tried again
    meanwhile, and what waits for them waits on."""

    fault: str


@dataclass(frozen=True, slots=True)
class BlobWritten:
    """A BlobWrite has been carried out. ``error``: None, or a name of protocol.ERRORS (wrong_digest, no_space)."""

    ticket: int
    offset: int  # of the BlobWrite
    error: str | None = None


@dataclass(frozen=True, slots=True)
class BlobData:
    """A BlobRead has been carried out. ``data`` is None where the artifact cannot be read."""

    ticket: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing but time. To be sent when ``Kernel.next_deadline()`` has come."""


@dataclass(frozen=True, slots=True)
class Away:
    """The daemon did not run, or had other work, for that many ``seconds`` until now: it has heard nobody meanwhile. Comes before
    anything that has waited for it."""

    seconds: float


Event = (
    Start | Stop | Received | PeerGone | Subscribe | Spawned | SpawnFailed | Exited | Frozen | Vitals
    | PrioritySet | LogLine | LogTail | Space | Durable | JournalHealth | BlobWritten | BlobData | Away | Tick
)  # fmt: skip
