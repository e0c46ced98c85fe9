# SPDX-License-Identifier: Apache-2.0
"""A plugin's end of the bus without the socket: leases with epochs on top of ``Session``.

A lease is *held* from LEASE until its result is acknowledged, or until REVOKED has been sent; the kernel may die and be
born anew meanwhile, and hears of it in HELLO.  What the operation says about a lease that is no longer held is dropped
here; what the kernel says about an epoch that is not the current one is answered and otherwise ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from qcosd.protocol import EXIT_BUS_SILENT, HEARTBEAT, Type, error_table
from qcosd.sdk.session import Answer, Dismissed, Failure, Happening, Request, Session, Told, Welcomed

BUS_GRACE = 10.0
"""Seconds since the last word of the kernel after which a plugin makes itself safe and stops."""

ASK_AGAIN = 4
"""Times within ``bus_grace`` that a kernel is due to have answered: it is asked after the first quarter of silence."""

BEAT_EARLY = 0.9
"""Part of the kernel's heartbeat after which a plugin gives a sign of life."""


@dataclass(frozen=True, slots=True)
class LeaseGiven:
    """Work to do.  ``body``: of LEASE."""

    lease: int
    epoch: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """The work is not wanted any more; call ``revoked`` when nothing runs for it."""

    lease: int
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class StreamGranted:
    """The other end of a stream of this lease is somebody else now, or there is a further stream, to an aide.  ``grant``: the
    stream table to go on with."""

    lease: int
    epoch: int
    grant: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StopAsked:
    """Give up what is in hand and leave."""

    reason: str
    code: int = 0


@dataclass(frozen=True, slots=True)
class FaultAsked:
    """Do this to yourself: ``crash``, ``hang`` or ``slow``."""

    kind: str
    seconds: float


PluginHappening = Happening | LeaseGiven | LeaseLost | StreamGranted | StopAsked | FaultAsked

EXIT_DISMISSED = 76
"""Exit code of a plugin that the kernel has turned away (EX_PROTOCOL)."""


@dataclass(slots=True)
class _Held:
    epoch: int
    grant: int | None  # of its own stream
    streams: dict[int, int]  # grant -> its epoch, of its own stream and those of its aides
    lost: bool = False
    calls: set[int] = field(default_factory=set)  # its DONE or FAILED


class PluginSession(Session):
    """See the module.  ``hello`` needs name, incarnation, services, slots and ready."""

    def __init__(self, hello: dict[str, Any], now: float, bus_grace: float = BUS_GRACE) -> None:
        super().__init__(hello)
        self.bus_grace = bus_grace
        self.heartbeat = HEARTBEAT
        self._heard = now
        self._held: dict[int, _Held] = {}
        self._beat_at = now + self.heartbeat
        self._over = False

    @property
    def leases(self) -> dict[int, int]:
        """Number -> epoch of the leases that are held."""
        return {lease: held.epoch for lease, held in self._held.items()}

    def handle(self, frames: list[bytes], now: float) -> list[PluginHappening]:
        """Take one message of the kernel.  What concerns leases comes out in the terms of this file."""
        happenings: list[PluginHappening] = []
        for happening in self.receive(frames, now):
            happenings.extend(self._translate(happening))
        return happenings

    def elapse(self, now: float) -> list[PluginHappening]:
        """Let time pass; call it at ``next_deadline()`` after everything that has arrived was handled."""
        happenings: list[PluginHappening] = []
        for happening in self.tick(now):
            happenings.extend(self._translate(happening))
        if now >= self._beat_at and self.welcomed and not self._outgoing:
            self._beat(now)
        if now >= self._beat_at or self._outgoing:
            self._beat_at = now + self.heartbeat  # any message is a sign of life
        alone_at = self._alone_at()
        if not self._over and alone_at is not None and now >= alone_at:
            self._over = True
            happenings.append(StopAsked(f"the kernel has been silent for {self.bus_grace:g} s", EXIT_BUS_SILENT))
        return happenings

    def next_deadline(self) -> float | None:
        times = [self._beat_at]
        later = super().next_deadline()
        if later is not None:
            times.append(later)
        alone_at = self._alone_at()
        if alone_at is not None and not self._over:
            times.append(alone_at)
        return min(times)

    # --- what the operation says

    def progress(self, lease: int, epoch: int, fraction: float, text: str) -> None:
        """For show; dropped where the lease is no longer held, or the kernel not there."""
        if self._holds(lease, epoch) is not None and self.welcomed:
            body = {"lease": lease, "epoch": epoch, "fraction": min(1.0, max(0.0, fraction)), "text": text}
            self.post(Type.PROGRESS, body)

    def done(
        self,
        lease: int,
        epoch: int,
        outputs: dict[str, str],
        facts: dict[str, Any],
        summary: dict[str, Any] | None,
        now: float,
        stream: int | None = None,
    ) -> None:
        """Report a result; its outputs are stored already.  Repeated until the kernel acknowledges it.

        ``stream``: epoch of the grant with which the work's stream came to its end.
        """
        body = {"lease": lease, "epoch": epoch, "outputs": outputs, "facts": facts, "summary": summary}
        if stream is not None:
            body["stream"] = stream
        self._finish(lease, epoch, Request(Type.DONE, body), now)

    def failed(self, lease: int, epoch: int, error: dict[str, Any], now: float) -> None:
        """Report a failure or an interrupt.  ``error``: as ``protocol.error_table`` makes it."""
        self._finish(lease, epoch, Request(Type.FAILED, {"lease": lease, "epoch": epoch, "error": error}), now)

    def revoked(self, lease: int, epoch: int) -> None:
        """Nothing runs any more for a lease that was lost."""
        held = self._held.get(lease)
        if held is not None and held.epoch == epoch:
            del self._held[lease]
            for call in held.calls:
                self.abandon(call)
        if self.welcomed:
            self.post(Type.REVOKED, {"lease": lease, "epoch": epoch})

    def ready(self) -> None:
        """Leases are welcome from now on, in this and in later boots."""
        self._hello["ready"] = True
        if self.welcomed:
            self.post(Type.READY)

    def goodbye(self, reason: str, status: int = 0) -> None:
        """Leave.  ``status``: with which the process is about to exit."""
        self._over = True
        self.post(Type.GOODBYE, {"reason": reason, "status": status})

    # --- inside

    def _hello_body(self) -> dict[str, Any]:
        leases = [
            {"lease": lease, "epoch": held.epoch, "finished": bool(held.calls), **_streams(held)}
            for lease, held in self._held.items()
            if not held.lost  # it has been given up here, whatever the kernel remembers
        ]
        return {**self._hello, "boot": self.boot, "leases": leases}

    def _wants_life(self) -> bool:
        return not self._over

    def _beat(self, now: float) -> None:
        """Give a sign of life. Where a question to the kernel would be due before the next one, that is the sign."""
        ping = self._ping_at()
        if ping is not None and ping < now + self.heartbeat:
            self._ask(Type.PING, {}, now)
        else:
            self.post(Type.HEARTBEAT)

    def _keep_alive(self) -> float:
        return self.bus_grace / ASK_AGAIN

    def _alone_at(self) -> float | None:
        """When the kernel counts as gone.  One that was asked only just now (this process may have slept) gets a chance."""
        if self._owed is None:
            return None
        return max(self._heard + self.bus_grace, self._owed + self.bus_grace / ASK_AGAIN)

    def _holds(self, lease: int, epoch: int) -> _Held | None:
        held = self._held.get(lease)
        return held if held is not None and held.epoch == epoch and not held.lost else None

    def _finish(self, lease: int, epoch: int, request: Request, now: float) -> None:
        held = self._holds(lease, epoch)
        if held is not None:
            held.calls.add(self.request(request, now))

    def _translate(self, happening: Happening) -> Sequence[PluginHappening]:
        match happening:
            case Welcomed(body=body):
                self.heartbeat = max(0.05, body["heartbeat"] * BEAT_EARLY)
                self._beat_at = min(self._beat_at, self._heard + self.heartbeat)
                return [happening]
            case Answer(call=call) | Failure(call=call):
                # An error (late, or a result that the kernel does not take) ends the lease like an acknowledgement.
                for lease, held in list(self._held.items()):
                    if call in held.calls:
                        del self._held[lease]
                        return []
                return [happening]
            case Dismissed(error=error):
                return [StopAsked(f"turned away: {error}", EXIT_DISMISSED)]
            case Told(message=message):
                return self._on_told(message.type, message.body)

    def _on_told(self, type: Type, body: dict[str, Any]) -> Sequence[PluginHappening]:
        if type is Type.LEASE:
            return self._on_lease(body)
        if type is Type.REVOKE:
            return self._on_revoke(body["lease"], body["epoch"], body.get("reason") or "revoked")
        if type is Type.GRANT:
            return self._on_grant(body["lease"], body["epoch"], body["stream"])
        if type is Type.STOP:
            return [StopAsked(body.get("reason") or "asked to")]
        if type is Type.FAULT:
            return [FaultAsked(body["kind"], body.get("seconds", 0.0))]
        return []

    def _on_lease(self, body: dict[str, Any]) -> Sequence[PluginHappening]:
        lease, epoch = body["lease"], body["epoch"]
        held = self._held.get(lease)
        if held is not None and held.epoch >= epoch:
            return []  # a repeat, or late
        happenings: list[PluginHappening] = []
        if held is not None and not held.lost:
            happenings.append(LeaseLost(lease, held.epoch, f"epoch {epoch} has begun"))
        own = body["stream"]
        tables = [*([own] if own is not None else []), *body.get("aides", ())]
        granted = {table["grant"]: table["epoch"] for table in tables}
        self._held[lease] = _Held(epoch, own["grant"] if own is not None else None, granted)
        return [*happenings, LeaseGiven(lease, epoch, body)]

    def _on_revoke(self, lease: int, epoch: int, reason: str) -> Sequence[PluginHappening]:
        held = self._held.get(lease)
        if held is None or held.epoch != epoch:
            self.post(Type.REVOKED, {"lease": lease, "epoch": epoch})
            return []
        if held.lost:
            return []
        held.lost = True
        return [LeaseLost(lease, epoch, reason)]

    def _on_grant(self, lease: int, epoch: int, grant: dict[str, Any]) -> Sequence[PluginHappening]:
        held = self._held.get(lease)
        if held is None or held.epoch != epoch:
            self.post(Type.REVOKED, {"lease": lease, "epoch": epoch})
            return []
        if held.lost or held.calls or held.grant is None or grant["epoch"] <= held.streams.get(grant["grant"], 0):
            return []  # REVOKED or the result is on its way, or it is a repeat
        held.streams[grant["grant"]] = grant["epoch"]
        return [StreamGranted(lease, epoch, grant)]


def _streams(held: _Held) -> dict[str, Any]:
    """What HELLO says of the streams of a lease."""
    aides = [{"grant": grant, "epoch": epoch} for grant, epoch in held.streams.items() if grant != held.grant]
    own = None if held.grant is None else held.streams[held.grant]
    return {"stream": own, **({"aides": aides} if aides else {})}


def bug_table(error: BaseException) -> dict[str, Any]:
    """The error table of an exception that an operation did not mean to raise."""
    return error_table("internal", f"{type(error).__name__}: {error}"[:4096])
