# SPDX-License-Identifier: Apache-2.0
"""The messages of the bus: their types, and what each of them carries. Part of the protocol; see ``qcosd.protocol``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from qcosd.schema import (
    FLAG,
    FRACTION,
    INSTANCE,
    INT,
    KEY,
    MAP,
    NAME,
    SECONDS,
    SHA256,
    TEXT,
    UINT,
    Field,
    list_of,
    map_of,
    maybe,
    one_of,
    table,
)

HEADER: tuple[Field, ...] = (
    Field("v", UINT, "protocol version of this message"),
    Field("boot", UINT, "boot number of the kernel that the sender talks to; 0 when it has had no WELCOME yet"),
    Field("type", UINT, "message type"),
    Field("id", UINT, "correlation id: chosen by the requester, repeated by the reply; 0 where no reply is due", False),
    Field("deadline", SECONDS, "seconds for which the requester waits, counted from the arrival of the request", False),
    Field("key", KEY, "idempotency key of a request that has an effect", False),
)

BOOT_MAP: tuple[Field, ...] = (
    Field("protocol", UINT, "highest protocol version of the kernel"),
    Field("component", NAME, "name of the component"),
    Field("incarnation", UINT, "number of this process"),
    Field("identity", TEXT, "PLAIN user name"),
    Field("token", TEXT, "PLAIN password"),
    Field("endpoint", TEXT, "ZeroMQ endpoint of the plugin socket"),
)


class Side(StrEnum):
    """Who may send a message type."""

    PLUGIN = "plugin"
    CLIENT = "client"
    KERNEL = "kernel"


class Type(IntEnum):
    """Message types, numbered by area."""

    # session
    HELLO = 1
    WELCOME = 2
    REHELLO = 3
    PING = 4
    PONG = 5
    ERROR = 6
    GOODBYE = 7
    HEARTBEAT = 8
    READY = 9
    ACK = 10
    STOP = 11
    FAULT = 12
    # artifacts
    BLOB_PUT = 100
    BLOB_CHUNK = 101
    BLOB_MORE = 102
    BLOB_STORED = 103
    BLOB_GET = 104
    BLOB_DATA = 105
    # work
    LEASE = 200
    PROGRESS = 201
    DONE = 202
    FAILED = 203
    REVOKE = 204
    REVOKED = 205
    GRANT = 206
    # jobs
    JOB_SUBMIT = 300
    JOB_ACCEPTED = 301
    JOB_LIST = 302
    JOB_LISTING = 303
    JOB_SHOW = 304
    JOB_WAIT = 305
    JOB_RESULT = 306
    JOB_DOCUMENT = 307
    JOB_CANCEL = 308
    # components
    PLUGIN_LIST = 400
    PLUGIN_LISTING = 401
    PLUGIN_START = 402
    PLUGIN_STOP = 403
    PLUGIN_RESTART = 404
    PLUGIN_KILL = 405
    PLUGIN_RESET = 406
    PLUGIN_FAULT = 407
    PLUGIN_SHOW = 408
    PLUGIN_DOCUMENT = 409
    PLUGIN_LOGS = 410
    PLUGIN_LINES = 411
    # kernel
    STATUS = 500
    STATUS_REPLY = 501
    SNAPSHOT = 502
    SNAPSHOT_REPLY = 503
    EVENT = 504
    DRAIN = 505
    SHUTDOWN = 506
    ACCEPT_LOSS = 507


AREAS = {0: "session", 1: "artifacts", 2: "work", 3: "jobs", 4: "components", 5: "kernel"}


ERROR_TABLE = (
    Field("code", UINT, "number in the error table"),
    Field("name", NAME, "name in the error table"),
    Field("message", TEXT, "one sentence for people; bad input starts with `FILE:LINE: `"),
    Field("details", MAP, "for machines; of an interrupt, the counter-offer", False),
    Field("retryable", FLAG, "whether the same request may succeed later", False),
)
STREAM_TABLE = (
    Field("grant", UINT, "number of the grant"),
    Field("epoch", UINT, "epoch of the grant; a higher one replaces all lower ones"),
    Field("name", NAME, "name of the stream in both manifests"),
    Field("role", one_of("bind", "connect"), "the consumer binds, the producer connects"),
    Field("endpoint", TEXT, "ZeroMQ endpoint, fresh for each grant epoch"),
    Field("secret", TEXT, "64 hex digits; the first frame of the connecting side proves it"),
    Field("credit", UINT, "block messages that may be outstanding without an acknowledgement"),
    Field("resumes", FLAG, "of the producer: it goes on with another consumer after GRANT", False),
)
AIDE_TABLE = (Field("grant", UINT, "number of a grant"), Field("epoch", UINT, "its epoch"))
HELD_TABLE = (
    Field("lease", UINT, "number of the lease"),
    Field("epoch", UINT, "its epoch"),
    Field("stream", maybe(UINT), "epoch of the grant of its stream; nil without one"),
    Field("finished", FLAG, "whether DONE or FAILED has been sent and waits for its ACK"),
    Field(
        "aides",
        list_of(table("aide", *AIDE_TABLE)),
        "the streams of its aides, as granted last. An aide of which the kernel knows another epoch is taken back and leased anew",
        False,
    ),
)
INPUT_TABLE = (Field("sha", SHA256, "digest of the artifact"), Field("size", UINT, "its bytes"))
ERROR_KIND = table("error table", *ERROR_TABLE)
STREAM_KIND = table("stream table", *STREAM_TABLE)
INPUT_KIND = table("input table", *INPUT_TABLE)
HELD_KIND = table("held lease", *HELD_TABLE)


@dataclass(frozen=True, slots=True)
class Spec:
    """What the protocol says of one message type."""

    senders: frozenset[Side]
    doc: str
    fields: tuple[Field, ...] = ()
    replies: tuple[Type, ...] = ()  # non-empty: a request; ERROR is always possible
    keyed: bool = False  # has an effect: takes an idempotency key
    payloads: int = 0  # exact number of payload frames


_P, _C, _K = Side.PLUGIN, Side.CLIENT, Side.KERNEL
_LEASE = (Field("lease", UINT, "number of the lease"), Field("epoch", UINT, "epoch of the lease"))
_JOB = (Field("job", NAME, "job id"),)
_PLUGIN = (
    Field(
        "plugin",
        INSTANCE,
        "name of the component; to PLUGIN_KILL, PLUGIN_FAULT and PLUGIN_LOGS also of one of its processes, as PLUGIN_LISTING has it",
    ),
)
_TICKET = (
    Field("ticket", UINT, "transfer, named by BLOB_MORE"),
    Field("offset", UINT, "byte at which the chunk starts"),
)
_FAULT_SECONDS = Field(
    "seconds", SECONDS, "of hang: how long (0: for ever); of slow: pause before each operation", False
)


def _spec(senders: tuple[Side, ...], doc: str, *fields: Field, replies: tuple[Type, ...] = (), keyed: bool = False, payloads: int = 0) -> Spec:  # fmt: skip
    return Spec(frozenset(senders), doc, fields, replies, keyed, payloads)


SPECS: dict[Type, Spec] = {
    Type.HELLO: _spec((_P, _C), "First message on a connection, and the answer to REHELLO. It has no reply deadline.",
        Field("name", TEXT, "component name of a plugin, program name of a client"),
        Field("versions", list_of(UINT), "lowest and highest protocol version spoken"),
        Field("incarnation", UINT, "of a plugin: the incarnation that its boot map names", False),
        Field("services", list_of(TEXT), "of a plugin: the `service.op` names that it implements", False),
        Field("ready", FLAG, "of a plugin: false when a READY follows later (default true)", False),
        Field("slots", UINT, "of a plugin: leases that it takes at a time (default 1)", False),
        Field("boot", UINT, "of a plugin: the last boot number that it has seen, 0 for none (default 0)", False),
        Field("leases", list_of(HELD_KIND), "of a plugin: the leases that it holds. Whatever else the kernel thinks it has given to it is given out again, and what the kernel does not know is revoked", False),
        replies=(Type.WELCOME,)),
    Type.WELCOME: _spec((_K,), "The peer is registered.",
        Field("version", UINT, "protocol version to use from now on"),
        Field("boot", UINT, "boot number of this kernel"),
        Field("incarnation", UINT, "of a plugin: its incarnation", False),
        Field("heartbeat", SECONDS, "send something at least this often (plugins)"),
        Field("limits", map_of(INT), "chunk, blob_window, requests, frame: bounds that the peer keeps to"),
        Field("configuration", MAP, "of a plugin: its table of the site configuration", False)),
    Type.REHELLO: _spec((_K,), "The peer is not registered in this boot: its message was not handled. Send HELLO, then resend requests with the same key.",
        Field("boot", UINT, "boot number of this kernel")),
    Type.PING: _spec((_P, _C, _K), "Asks for a PONG, which comes when everything before it has been handled. Answers that wait for the journal may come later.", replies=(Type.PONG,)),
    Type.PONG: _spec((_P, _C, _K), "Everything that the sender of the PING sent before it has been handled."),
    Type.ERROR: _spec((_P, _K), "The request with this id failed.",
        Field("error", ERROR_KIND, "what went wrong")),
    Type.GOODBYE: _spec((_P, _C, _K), "The sender leaves, or closes this connection.",
        Field("reason", TEXT, "why", False), Field("error", ERROR_KIND, "the breach that closed it", False),
        Field("status", UINT, "of a plugin: the status with which it will exit (default 0). With 75 it says that the kernel was silent, and what it had in hand is not to blame", False)),
    Type.HEARTBEAT: _spec((_P,), "Sign of life. Any other message is one too."),
    Type.READY: _spec((_P,), "The plugin that said `ready: false` takes leases from now on."),
    Type.ACK: _spec((_K,), "The request with this id has been carried out; nothing more to say."),
    Type.STOP: _spec((_K,), "Give up what is in hand, send GOODBYE, exit 0. SIGTERM follows, then SIGKILL.",
        Field("seconds", SECONDS, "until SIGTERM"), Field("reason", TEXT, "why", False)),
    Type.FAULT: _spec((_K,), "Fault injection, carried out by the plugin on itself.",
        Field("kind", one_of("crash", "hang", "slow"), "what to do to oneself"), _FAULT_SECONDS),

    Type.BLOB_PUT: _spec((_P, _C), "Store an artifact. The payload is its first chunk: all of it when `size` is at most a chunk. Answered by BLOB_STORED at once where it is here already.",
        Field("sha", SHA256, "digest of the whole"), Field("size", UINT, "bytes of the whole"),
        replies=(Type.BLOB_STORED, Type.BLOB_MORE), payloads=1),
    Type.BLOB_CHUNK: _spec((_P, _C), "A further chunk, in order. At most `blob_window` of them may be unanswered.",
        *_TICKET, replies=(Type.BLOB_STORED, Type.BLOB_MORE), payloads=1),
    Type.BLOB_MORE: _spec((_K,), "The chunk has been written; `offset` bytes are here.", *_TICKET),
    Type.BLOB_STORED: _spec((_K,), "The artifact is complete and has the announced digest.",
        Field("sha", SHA256, "digest"), Field("size", UINT, "bytes")),
    Type.BLOB_GET: _spec((_P, _C), "Fetch one chunk. A plugin may fetch inputs of leases that it holds. At most `blob_window` may be unanswered.",
        Field("sha", SHA256, "digest"), Field("offset", UINT, "first byte"), replies=(Type.BLOB_DATA,)),
    Type.BLOB_DATA: _spec((_K,), "The bytes from `offset`, a chunk at most.",
        Field("sha", SHA256, "digest"), Field("offset", UINT, "first byte"), Field("size", UINT, "bytes of the whole"), payloads=1),

    Type.LEASE: _spec((_K,), "The right to do one piece of work. Ends by DONE or FAILED, or by REVOKE.", *_LEASE,
        *_JOB, Field("service", NAME, "service"), Field("op", NAME, "operation"),
        Field("batch", maybe(UINT), "index of the batch; nil for an operation of the whole job"),
        Field("options", MAP, "options of the job, as submitted, but for `plan`"), Field("shots", UINT, "shots of this batch, or of the job"),
        Field("seed", UINT, "seed of this batch, or of the job"),
        Field("inputs", map_of(INPUT_KIND), "artifact kind -> digest and size"),
        Field("stream", maybe(STREAM_KIND), "stream to open, or nil"), Field("budget", SECONDS, "after which the lease expires"),
        Field("summaries", MAP, "of a check: kind that it checks -> summary that was reported with it", False),
        Field("aides", list_of(STREAM_KIND), "streams to those who were leased at the same moment to help; later ones come as GRANT", False)),
    Type.PROGRESS: _spec((_P,), "How far the work is. For show, never journaled.", *_LEASE,
        Field("fraction", FRACTION, "0 to 1"), Field("text", TEXT, "what is being done")),
    Type.DONE: _spec((_P,), "The work is done. Repeat it until acknowledged: a repeat has no further effect.", *_LEASE,
        Field("outputs", map_of(SHA256), "artifact kind -> digest; all must be stored before"),
        Field("facts", MAP, "small map for the job document", False), Field("summary", maybe(MAP), "mergeable result of a batch", False),
        Field("stream", UINT, "of a producer: epoch of the grant whose consumer has acknowledged everything", False),
        replies=(Type.ACK,)),
    Type.FAILED: _spec((_P,), "The work cannot be done, or an interrupt. Repeat it until acknowledged.", *_LEASE,
        Field("error", ERROR_KIND, "why"), replies=(Type.ACK,)),
    Type.REVOKE: _spec((_K,), "Abandon the lease; then send REVOKED. The answer to what was sent about it meanwhile is the error `late`.", *_LEASE,
        Field("reason", TEXT, "why", False)),
    Type.REVOKED: _spec((_P,), "Nothing runs any more for this lease (also when it was not known).", *_LEASE),

    Type.GRANT: _spec((_K,), "The other end of the stream of this lease is somebody else now, who knows what was acknowledged: drop the old connection, open this one, begin with the last checkpoint, and send again what is not acknowledged. Where the number of the grant is not that of the stream of the lease, it is the stream to an aide: a further one, or another one in the place of one that is gone.", *_LEASE,
        Field("stream", STREAM_KIND, "stream to open, or to open instead")),

    Type.JOB_SUBMIT: _spec((_C,), "Run a job. The inputs must be stored before.",
        Field("inputs", map_of(SHA256), "artifact kind -> digest"), Field("options", MAP, "options of the job"),
        replies=(Type.JOB_ACCEPTED,), keyed=True),
    Type.JOB_ACCEPTED: _spec((_K,), "The job is accepted; nothing loses it from here on.", *_JOB),
    Type.JOB_LIST: _spec((_C,), "Jobs, newest first.", Field("limit", UINT, "at most so many (default 100)", False),
        replies=(Type.JOB_LISTING,)),
    Type.JOB_LISTING: _spec((_K,), "Jobs, newest first: {job, state, submitted, cause}. `unsaved` is there, and true, where the journal cannot be written and has not all of what is said here: it is forgotten if the daemon ends now.", Field("jobs", list_of(MAP), "rows")),
    Type.JOB_SHOW: _spec((_C,), "The job as it is now.", *_JOB, replies=(Type.JOB_DOCUMENT,)),
    Type.JOB_WAIT: _spec((_C,), "The job once it is done, failed or cancelled; the error `deadline` if that takes longer.", *_JOB,
        replies=(Type.JOB_DOCUMENT,)),
    Type.JOB_RESULT: _spec((_C,), "The job if it is done, failed or cancelled, else the error `not_finished`.", *_JOB,
        replies=(Type.JOB_DOCUMENT,)),
    Type.JOB_DOCUMENT: _spec((_K,), "Everything the kernel knows of a job.", Field("document", MAP, "see Job document; `unsaved` as in JOB_LISTING")),
    Type.JOB_CANCEL: _spec((_C,), "End the job as cancelled. Without effect on a job that has ended.", *_JOB,
        replies=(Type.JOB_DOCUMENT,), keyed=True),

    Type.PLUGIN_LIST: _spec((_C,), "The components.", replies=(Type.PLUGIN_LISTING,)),
    Type.PLUGIN_LISTING: _spec((_K,), "The processes of the components: {name, service, state, role, pid, incarnation, restarts, uptime, cause}. The name is NAME for the first of a component, NAME:2 and so on for the others; the role is active (takes leases) or spare.",
        Field("plugins", list_of(MAP), "rows")),
    Type.PLUGIN_START: _spec((_C,), "Start a component that was stopped.", *_PLUGIN, replies=(Type.ACK,), keyed=True),
    Type.PLUGIN_STOP: _spec((_C,), "Stop a component in order, and keep it stopped.", *_PLUGIN, replies=(Type.ACK,), keyed=True),
    Type.PLUGIN_RESTART: _spec((_C,), "Stop a component in order and start it again, one process after the other. With a key: once, also if the daemon dies meanwhile.", *_PLUGIN, replies=(Type.ACK,), keyed=True),
    Type.PLUGIN_KILL: _spec((_C,), "SIGKILL; another process is started at once, and nobody pays for the death.", *_PLUGIN, replies=(Type.ACK,), keyed=True),
    Type.PLUGIN_RESET: _spec((_C,), "Forget the deaths of a component; start it if it had failed.", *_PLUGIN, replies=(Type.ACK,), keyed=True),
    Type.PLUGIN_FAULT: _spec((_P, _C), "Pass FAULT on to a component, or freeze it: the kernel sends SIGSTOP, and notices like anybody else. A plugin needs the right `fault`.", *_PLUGIN,
        Field("kind", one_of("crash", "hang", "slow", "freeze"), "what is done to it"), _FAULT_SECONDS,
        replies=(Type.ACK,), keyed=True),
    Type.PLUGIN_SHOW: _spec((_C,), "Everything there is about a component.", *_PLUGIN, replies=(Type.PLUGIN_DOCUMENT,)),
    Type.PLUGIN_DOCUMENT: _spec((_K,), "Everything there is about a component: {name, version, state, wanted, failed, deaths, instances, services, rank, replicas, needs, rights, readiness_timeout, restart, stop, limits}. Instances are rows as in PLUGIN_LISTING with their leases {lease, epoch, job, op, batch, age, revoked}.",
        Field("document", MAP, "the component")),
    Type.PLUGIN_LOGS: _spec((_C,), "The end of what a component has printed; where there are several logs, of each process after a line that names it.", *_PLUGIN,
        Field("lines", UINT, "so many lines of a log at the most (default 50, at most 1000)", False), replies=(Type.PLUGIN_LINES,)),
    Type.PLUGIN_LINES: _spec((_K,), "The end of a log, the oldest line first.", Field("lines", list_of(TEXT), "lines without their end")),

    Type.STATUS: _spec((_C,), "The kernel at a glance.", replies=(Type.STATUS_REPLY,)),
    Type.STATUS_REPLY: _spec((_K,), "The kernel at a glance.",
        Field("version", TEXT, "version of the daemon"), Field("pid", UINT, "process id of the daemon"), Field("boot", UINT, "boot number"),
        Field("state", one_of("starting", "ready", "degraded", "draining", "stopping"), "state of the kernel; `starting`: some component is on its way, for the first time or again"),
        Field("jobs", map_of(UINT), "job state -> number of jobs"), Field("plugins", map_of(TEXT), "component -> state"),
        Field("counters", map_of(UINT), "late, malformed, refused, ... since start"),
        Field("uptime", SECONDS, "since the daemon was started", False),
        Field("journal", MAP, "{position, fault, rolled_back}: number of the last record; what is wrong, empty where nothing is", False),
        Field("adopted", list_of(TEXT), "processes that have outlived an earlier boot, as PLUGIN_LISTING names them", False),
        Field("space", map_of(UINT), "{free, total}: bytes of the file system of the state directory; empty until it has been looked at", False)),
    Type.SNAPSHOT: _spec((_C,), "State and sequence number of every topic with this prefix.",
        Field("prefix", TEXT, "prefix of topics; empty for all"), replies=(Type.SNAPSHOT_REPLY,)),
    Type.SNAPSHOT_REPLY: _spec((_K,), "State and sequence number of topics.",
        Field("topics", map_of(table("topic row", Field("seq", UINT, "last number"), Field("state", MAP, "last state"))), "topic -> {seq, state}"),
        Field("unsaved", FLAG, "as in JOB_LISTING", False)),
    Type.EVENT: _spec((_K,), "On the events socket only, after a frame with the topic. `seq` 0 says that a subscription to exactly `topic` is in force.",
        Field("topic", TEXT, "topic"), Field("seq", UINT, "1, 2, 3, ... in each topic and boot"), Field("state", MAP, "the whole state of the topic")),
    Type.DRAIN: _spec((_C,), "Take no new jobs (`on`), or take them again.", Field("on", FLAG, "whether to drain"), replies=(Type.ACK,), keyed=True),
    Type.SHUTDOWN: _spec((_C,), "Stop all components in order, then the daemon.", replies=(Type.ACK,), keyed=True),
    Type.ACCEPT_LOSS: _spec((_C,), "The journal has lost records (`rolled_back`): accept that, and go on with what there is. Without effect where nothing is lost.",
        replies=(Type.ACK,), keyed=True),
}  # fmt: skip
