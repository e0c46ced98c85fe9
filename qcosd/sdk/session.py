# SPDX-License-Identifier: Apache-2.0
"""One side's end of the bus without the socket: frames in, frames out, every time an argument.

``Session`` is what clients and plugins share: the handshake, correlation ids, deadlines, keep-alive, and sending open
requests again, with the same id and the same idempotency key, after the kernel has forgotten this peer or was born anew.

    session.hello(now)                           then send session.outgoing()
    call = session.request(Request(...), now)    a number; its Answer or Failure comes out of receive or tick
    for happening in session.receive(frames, now): ...
    for happening in session.tick(now): ...      at session.next_deadline(), or earlier
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from qcosd.protocol import (
    CHUNK,
    ERRORS,
    MAX_FRAME,
    SPECS,
    VERSION,
    Message,
    ProtocolError,
    Side,
    Type,
    Violation,
    decode,
    encode,
)
from qcosd.sdk.errors import DeadlineExceeded, RequestFailed, SdkError

HELLO_AGAIN = 0.5
"""Seconds without WELCOME after which HELLO is sent again: the first one may have gone to a daemon that died."""

KEEP_ALIVE = 1.0
"""Seconds of silence, with an answer due, after which the kernel is asked for a sign of life."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request before it is sent.  ``timeout``: seconds, None waits for ever.

    ``key`` makes a request with an effect idempotent.  ``again``: whether it keeps its meaning in a later boot; one
    that does not (a chunk of a transfer) fails with ``no_reply`` instead.  ``outlast``: that this kernel is shutting down
    is no answer; the next one is asked.
    """

    type: Type
    body: dict[str, Any] = field(default_factory=dict)
    payload: tuple[bytes, ...] = ()
    timeout: float | None = None
    key: str | None = None
    again: bool = True
    outlast: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that the kernel set in WELCOME: bytes of a chunk, chunks and requests that may be unanswered."""

    chunk: int = CHUNK
    blob_window: int = 1
    requests: int = 16


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The kernel knows this peer.  ``reborn``: its boot number differs from the last one.  ``body``: of WELCOME."""

    boot: int
    reborn: bool
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to a call."""

    call: int
    message: Message


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that ended in an error."""

    call: int
    error: SdkError


@dataclass(frozen=True, slots=True)
class Told:
    """A message of the kernel that answers nothing."""

    message: Message


@dataclass(frozen=True, slots=True)
class Dismissed:
    """The kernel has closed this connection, or refused it for good."""

    error: SdkError


Happening = Welcomed | Answer | Failure | Told | Dismissed


@dataclass(slots=True)
class _Call:
    request: Request
    due: float | None
    sent: bool = False
    lost: bool = False  # sent in an earlier registration, to a kernel that has forgotten it


def _encode(message: Message) -> list[bytes]:
    frames = encode(message)
    if len(frames[1]) > MAX_FRAME:
        raise Violation(f"the body of {message.type.name} has {len(frames[1])} bytes, more than {MAX_FRAME}")
    return frames


def request_failed(table: dict[str, Any]) -> SdkError:
    """The exception of an error table of the wire."""
    if table["name"] == "deadline":
        return DeadlineExceeded(table["message"])
    return RequestFailed(
        table["code"], table["name"], table["message"], table.get("details"), bool(table.get("retryable", False))
    )


class Session:
    """See the module.  ``hello`` is the body of HELLO, without the versions.

    ``boot`` is 0 before the first WELCOME.  ``late`` counts messages of another boot, which are ignored.
    ``watch``: ask for signs of life also while nothing is open (set it to hear of a new boot at once).
    """

    def __init__(self, hello: dict[str, Any]) -> None:
        self.boot = 0
        self.limits = Limits()
        self.welcomed = False
        self.late = 0
        self.watch = False
        self._hello = {"versions": [VERSION, VERSION], **hello}
        self._hellos: set[int] = set()  # ids of the HELLOs that the present attempt has sent
        self._hello_at: float | None = None  # when HELLO is sent again
        self._heard = 0.0  # when the kernel last said anything
        self._asked = 0.0  # when it was last given a reason to
        self._owed: float | None = None  # since when it owes a PONG or WELCOME
        self._last_id = 0
        self._calls: dict[int, _Call] = {}
        self._sent = 0  # calls that are sent
        self._outgoing: list[list[bytes]] = []

    # --- out

    def outgoing(self) -> list[list[bytes]]:
        """Messages to send now, in order."""
        frames, self._outgoing = self._outgoing, []
        return frames

    def hello(self, now: float) -> None:
        """Begin, or begin again on a new connection: what is open will be sent again after WELCOME."""
        self._unregister()
        self._outgoing.clear()
        self._say_hello(now)

    def lost(self, now: float) -> None:
        """The connection is down: nothing is sent before the next ``hello``.  From here on the kernel owes a sign of life."""
        self.disconnected()
        self._owed = now

    def disconnected(self) -> None:
        """The connection is given up: nothing is asked of the kernel until the next ``hello``."""
        self._unregister()
        self._outgoing.clear()
        self._hello_at = self._owed = None

    def request(self, request: Request, now: float) -> int:
        """Send a request, or keep it until WELCOME or until the kernel's limit allows it.

        Returns the number that its Answer or Failure names.  Raises Violation where the body breaks the protocol.
        """
        self._last_id += 1
        id = self._last_id
        if not self.welcomed or self._sent < len(self._calls) or self._sent >= self.limits.requests:
            _encode(
                Message(request.type, request.body, id, payload=request.payload)
            )  # it is sent later: look at it now
        due = None if request.timeout is None else now + request.timeout
        self._calls[id] = _Call(request, due, lost=not self.welcomed)
        try:
            self._send_calls(now)
        except Exception:
            self._close(id)
            raise
        return id

    def abandon(self, call: int) -> None:
        """Nobody waits for this call any more; its answer will be ignored."""
        self._close(call)

    def post(self, type: Type, body: dict[str, Any] | None = None, id: int = 0) -> None:
        """Send a message that has no reply."""
        self._outgoing.append(_encode(Message(type, body or {}, id, self.boot)))

    @property
    def open_calls(self) -> int:
        """Requests without an answer yet."""
        return len(self._calls)

    # --- in

    def receive(self, frames: list[bytes], now: float) -> list[Happening]:
        """Take one message of the kernel.  Raises ProtocolError when it is not one: the connection is of no use."""
        try:
            message = decode(frames, Side.KERNEL)
        except ProtocolError as error:
            if error.name == "unknown_type":
                return []  # a newer kernel may tell more than this version knows
            raise
        if not self._in_force(message):
            self.late += 1
            return []
        self._heard, self._owed = now, None
        if message.type is Type.WELCOME:
            return self._on_welcome(message, now)
        if message.type is Type.REHELLO:
            # One REHELLO comes for each message that was not handled; the first of them is enough.
            if self.welcomed:
                self.hello(now)
            return []
        if message.type is Type.PING:
            self.post(Type.PONG, id=message.id)
            return []
        if message.type is Type.GOODBYE:
            return self._on_goodbye(message, now)
        if message.type is Type.ERROR and message.id in self._hellos:
            self._hello_at = None
            return [Dismissed(request_failed(message.body["error"]))]
        if message.id:
            return self._on_reply(message, now)
        return [Told(message)]

    def tick(self, now: float) -> list[Happening]:
        """Let time pass: calls that are due fail; HELLO and PING go out where an answer is missing."""
        happenings: list[Happening] = []
        for id, call in list(self._calls.items()):
            if call.due is not None and now >= call.due:
                self._close(id)
                happenings.append(Failure(id, DeadlineExceeded(f"no answer to {call.request.type.name} in time")))
        if self._hello_at is not None and now >= self._hello_at:
            self._say_hello(now)
        ping = self._ping_at()
        if ping is not None and now >= ping:
            self._ask(Type.PING, {}, now)
        self._send_calls(now)
        return happenings

    def next_deadline(self) -> float | None:
        """When to call ``tick``."""
        times = [call.due for call in self._calls.values() if call.due is not None]
        times += [time for time in (self._hello_at, self._ping_at()) if time is not None]
        return min(times, default=None)

    def silent_for(self, now: float) -> float:
        """Seconds for which the kernel has owed an answer to HELLO or PING."""
        return 0.0 if self._owed is None else now - self._owed

    # --- inside

    def _in_force(self, message: Message) -> bool:
        """Whether a message is of the kernel that this side talks to now.

        What an earlier one has sent may arrive late, even after a new connection was made.
        """
        if message.type is Type.REHELLO:
            return True
        if message.type is Type.WELCOME or not self.welcomed:
            return message.type in (Type.WELCOME, Type.ERROR, Type.GOODBYE) and message.id in self._hellos
        return message.boot == self.boot

    def _hello_body(self) -> dict[str, Any]:
        return self._hello

    def _wants_life(self) -> bool:
        """Whether silence is to be questioned.  A client asks only while it waits for something."""
        return self.watch or self._sent > 0

    def _keep_alive(self) -> float:
        return KEEP_ALIVE

    def _ping_at(self) -> float | None:
        if not self.welcomed or not self._wants_life():
            return None
        return max(self._heard, self._asked) + self._keep_alive()

    def _ask(self, type: Type, body: dict[str, Any], now: float) -> int:
        """Send something that the kernel answers at once if it lives."""
        self._last_id += 1
        self._asked = now
        if self._owed is None:
            self._owed = now
        boot = 0 if type is Type.HELLO else self.boot
        self._outgoing.append(_encode(Message(type, body, self._last_id, boot)))
        return self._last_id

    def _unregister(self) -> None:
        self.welcomed = False
        self._hellos.clear()
        for call in self._calls.values():
            call.lost = call.lost or call.sent
            call.sent = False
        self._sent = 0

    def _say_hello(self, now: float) -> None:
        self._hellos.add(self._ask(Type.HELLO, self._hello_body(), now))
        self._hello_at = now + HELLO_AGAIN

    def _send_calls(self, now: float) -> None:
        if not self.welcomed or self._sent == len(self._calls):
            return
        for id, call in self._calls.items():
            if call.sent or self._sent >= self.limits.requests:
                continue
            if not self._sent:
                self._asked = now  # the keep-alive counts from here, not from the end of an idle hour
            call.sent = True
            self._sent += 1
            request = call.request
            left = None if call.due is None else max(0.0, call.due - now)
            message = Message(request.type, request.body, id, self.boot, left, request.key, request.payload)
            self._outgoing.append(_encode(message))

    def _close(self, id: int) -> None:
        call = self._calls.pop(id, None)
        if call is not None and call.sent:
            self._sent -= 1

    def _on_welcome(self, message: Message, now: float) -> list[Happening]:
        if self.welcomed:
            return []  # the answer to a HELLO that was sent twice
        body = message.body
        reborn = self.boot not in (0, body["boot"])
        self.boot = body["boot"]
        self.welcomed = True
        self._hello_at = None
        bounds, default = body["limits"], Limits()
        self.limits = Limits(
            chunk=max(1, min(CHUNK, bounds.get("chunk", default.chunk))),
            blob_window=max(1, bounds.get("blob_window", default.blob_window)),
            requests=max(1, bounds.get("requests", default.requests)),
        )
        happenings: list[Happening] = [Welcomed(self.boot, reborn, body)]
        for id, call in list(self._calls.items()):
            if call.lost and not call.request.again:
                self._close(id)
                error = RequestFailed(
                    ERRORS["no_reply"].code, "no_reply", "the kernel has forgotten it", retryable=True
                )
                happenings.append(Failure(id, error))
        self._send_calls(now)
        return happenings

    def _on_reply(self, message: Message, now: float) -> list[Happening]:
        call = self._calls.get(message.id)
        if call is None:
            return []  # a PONG, or nobody waits for it any more
        if message.type is Type.ERROR and call.request.outlast and message.body["error"]["name"] == "shutting_down":
            return []  # it stays open: the kernel will say goodbye, and the next one be asked
        self._close(message.id)
        self._send_calls(now)
        if message.type is Type.ERROR:
            return [Failure(message.id, request_failed(message.body["error"]))]
        if message.type not in SPECS[call.request.type].replies:
            text = f"{message.type.name} does not answer {call.request.type.name}"
            raise ProtocolError("bad_message", text, message.id)
        return [Answer(message.id, message)]

    def _on_goodbye(self, message: Message, now: float) -> list[Happening]:
        self._unregister()
        table = message.body.get("error")
        if table is not None:
            return [Dismissed(request_failed(table))]
        # It stops in order.  Another boot may follow, and what is open is sent again then.
        self._hello_at, self._owed = now + HELLO_AGAIN, now
        return []
