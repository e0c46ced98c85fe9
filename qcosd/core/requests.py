# SPDX-License-Identifier: Apache-2.0
"""Reply slots. Every request gets exactly one answer: its reply, an error, or none because the requester is gone.

A slot that is not answered at once is parked on a subject (``job.7``, ``plugin.hello``) and has an alarm at its deadline.
Idempotency: a request with a key is carried out once for each (identity, key); its reply is kept and given again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack

from qcosd.core.alarms import Alarms
from qcosd.core.events import Channel, Limits
from qcosd.core.outbox import Outbox
from qcosd.core.peers import Peer
from qcosd.core.quota import Quota, Resource
from qcosd.core.records import RecordType
from qcosd.protocol import SPECS, Message, Type

KEY_LIFETIME = 86_400.0  # seconds for which the reply to a key is kept


class Refused(Exception):
    """A request cannot be granted. ``name`` is in protocol.ERRORS."""

    def __init__(self, name: str, text: str = "", details: dict[str, Any] | None = None) -> None:
        super().__init__(text)
        self.name = name
        self.text = text
        self.details = details


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request. ``after``: journal position that it waits for."""

    type: Type
    body: dict[str, Any] = field(default_factory=dict)
    payload: tuple[bytes, ...] = ()
    after: int = 0


@dataclass(eq=False, slots=True)
class Slot:
    """One request that is to be answered."""

    peer: Peer
    id: int
    type: Type
    deadline: float
    key: tuple[str, str] | None = None
    subject: str | None = None
    want: str = ""  # of a parked slot: the state of the subject that answers it
    pending: bool = True


@dataclass(slots=True)
class Keyed:
    """What became of a keyed request."""

    digest: bytes
    expires: float  # monotonic; does not count while the job is remembered that the reply names
    reply: Reply | None = None
    job: str = ""
    begun: list[int] | None = None  # it has had its effect, or is having it, on these processes
    orphan: bool = False  # nobody waits for the reply
    position: int = 0  # of the record that has the reply
    joined: list[Slot] = field(default_factory=list)  # repeats that came before the reply


class Requests:
    """All open slots, the parked ones by subject, and the replies kept by key."""

    def __init__(self, outbox: Outbox, alarms: Alarms, quota: Quota, limits: Limits) -> None:
        self._outbox = outbox
        self._alarms = alarms
        self._quota = quota
        self._limits = limits
        self._open: dict[tuple[Channel, bytes, str, int], Slot] = {}
        self._of_peer: dict[int, set[Slot]] = {}
        self._parked: dict[str, list[Slot]] = {}
        self._keys: dict[tuple[str, str], Keyed] = {}  # in the order of their age
        self._fleeting: dict[tuple[str, str], None] = {}  # those that time ends
        self._of_job: dict[str, tuple[str, str]] = {}

    def __len__(self) -> int:
        """Open slots."""
        return len(self._open)

    def open(self, peer: Peer, message: Message, now: float) -> Slot | None:
        """A slot for a request; None if the id is in use, which breaks the protocol. Raises Refused when over quota."""
        name = _name(peer, message.id)
        if name in self._open:
            return None
        if not self._quota.charge(peer.address, Resource.REQUESTS):
            raise Refused("over_quota", f"{self._limits.requests} requests are unanswered")
        default = self._limits.longest_deadline if message.type is Type.JOB_WAIT else self._limits.request_deadline
        wait = default if message.deadline is None else min(message.deadline, self._limits.longest_deadline)
        slot = Slot(peer, message.id, message.type, now + wait)
        self._open[name] = slot
        self._of_peer.setdefault(id(peer), set()).add(slot)
        return slot

    def recall(self, slot: Slot, message: Message, now: float) -> bool:
        """Bind a slot to its key. True where the request was seen before: the slot is then answered now or with the first."""
        if message.key is None or not SPECS[message.type].keyed:
            return False
        key = (slot.peer.address.identity, message.key)
        digest = _digest(message)
        self._expire_keys(now)
        kept = self._keys.get(key)
        # What is done under a key is done when the key is safe: a daemon that dies in between must not do it twice.
        self._outbox.patient = message.type is not Type.SHUTDOWN
        if kept is None:
            slot.key = key
            self._keys[key] = Keyed(digest, now + KEY_LIFETIME)
            self._fleeting[key] = None
            return False
        if kept.digest != digest:
            whose = f", that of job {kept.job}" if kept.job else ""
            raise Refused("key_conflict", f"the key {message.key!r} was used for a different request{whose}")
        if kept.orphan:
            slot.key, kept.orphan = key, False
            return False
        if kept.reply is None:
            kept.joined.append(slot)
            self.park(slot, "")
        else:
            self.answer(slot, replace(kept.reply, after=kept.position), now)  # it may not be durable yet
        return True

    def begin(self, slot: Slot, processes: list[int], now: float) -> list[int] | None:
        """The request is about to have its effect on these processes. Those that an earlier one with its key has begun with, if any:
        what has become of them is done."""
        if slot.key is None or (kept := self._keys[slot.key]).begun is not None:
            return slot.key and kept.begun
        kept.begun = processes
        self._outbox.append(RecordType.KEY_BEGUN, now, **self._body(slot.key, kept))
        return None

    def park(self, slot: Slot, subject: str, want: str = "") -> None:
        """Leave a slot open until its subject has something to say, or its deadline."""
        slot.subject, slot.want = subject, want
        if subject:
            self._parked.setdefault(subject, []).append(slot)
        self._alarms.set(("slot", slot), slot.deadline)

    def parked(self, subject: str) -> list[Slot]:
        """Slots that wait for a subject."""
        return list(self._parked.get(subject, ()))

    def answer(self, slot: Slot, reply: Reply, now: float) -> None:
        """Answer a slot. Nothing to do for one that is closed: its deadline has passed or its peer is gone."""
        if not slot.pending:
            return
        self._close(slot)
        joined: list[Slot] = []
        if slot.key is not None and (kept := self._keys.get(slot.key)) is not None:
            self._remember(slot.key, kept, reply)
            self._outbox.append(RecordType.REQUEST_KEY, now, **self._body(slot.key, kept))
            kept.position = self._outbox.position
            joined, kept.joined = kept.joined, []
        self._outbox.send(
            slot.peer.channel, slot.peer.address, reply.type, reply.body,
            id=slot.id, payload=reply.payload, after=reply.after, asked=slot.type,
        )  # fmt: skip
        for other in joined:
            self.answer(other, reply, now)

    def refuse(self, slot: Slot, refused: Refused) -> None:
        """Answer a slot with an error. The key is free again where nothing has happened under it."""
        if not slot.pending:
            return
        self._close(slot)
        self._outbox.error(
            slot.peer.channel, slot.peer.address, slot.id, refused.name, refused.text, refused.details, slot.type
        )
        if slot.key is not None and (kept := self._keys.get(slot.key)) is not None and kept.reply is None:
            joined, kept.joined, kept.orphan = kept.joined, [], True
            if kept.begun is None:
                self._forget_key(slot.key)
            for other in joined:
                self.refuse(other, refused)

    def expire(self, slot: Slot) -> None:
        """The deadline of a slot has come. Repeats of a keyed request wait on by themselves."""
        self._pass_on(slot)
        self.refuse(slot, Refused("deadline"))

    def goodbye(self, peer: Peer) -> None:
        """A requester is gone: its slots close without an answer."""
        for slot in list(self._of_peer.get(id(peer), ())):
            self._pass_on(slot)
            self._close(slot)

    def refuse_all(self, refused: Refused) -> None:
        """Answer everything that is parked with an error."""
        for slot in list(self._open.values()):
            if slot.subject is not None:
                self.refuse(slot, refused)

    def _pass_on(self, slot: Slot) -> None:
        """Let a repeat of a keyed request take the place of the first one."""
        if slot.key is None or (kept := self._keys.get(slot.key)) is None or kept.reply is not None:
            return
        heirs = [other for other in kept.joined if other.pending and other is not slot]
        if heirs:
            heir, kept.joined = heirs[0], heirs[1:]
            heir.key, slot.key = slot.key, None
            if slot.subject:
                self.park(heir, slot.subject, slot.want)
        elif kept.begun is not None:
            slot.key, kept.orphan = None, True
        else:
            self._forget_key(slot.key)

    def _close(self, slot: Slot) -> None:
        slot.pending = False
        del self._open[_name(slot.peer, slot.id)]
        slots = self._of_peer[id(slot.peer)]
        slots.discard(slot)
        if not slots:
            del self._of_peer[id(slot.peer)]
        if slot.subject:
            waiting = self._parked[slot.subject]
            waiting.remove(slot)
            if not waiting:
                del self._parked[slot.subject]
        self._alarms.clear(("slot", slot))
        self._quota.release(slot.peer.address, Resource.REQUESTS)

    def forget_jobs(self, names: list[str], now: float) -> None:
        """These jobs are not remembered any more, nor are the keys that they were submitted with."""
        self._forget_keys([key for name in names if (key := self._of_job.get(name)) is not None], now)

    def image(self) -> dict[str, dict[str, Any]]:
        """What the journal has of keyed requests."""
        areas: dict[str, dict[str, Any]] = {"key": {}, "begun": {}}
        for key, kept in self._keys.items():
            if kept.reply is not None or kept.begun is not None:
                areas["begun" if kept.reply is None else "key"][key_name(*key)] = self._body(key, kept)
        return areas

    def restore(self, replies: dict[str, dict[str, Any]], begun: dict[str, dict[str, Any]]) -> None:
        """Take the keys of earlier boots."""
        for body in sorted([*replies.values(), *begun.values()], key=lambda body: float(body["expires"])):
            key = body["identity"], body["key"]
            kept = self._keys[key] = Keyed(body["digest"], body["expires"] - self._outbox.wall)
            self._fleeting[key] = None
            if "processes" in body:
                kept.begun, kept.orphan = body["processes"], True
            else:
                self._remember(key, kept, Reply(Type(body["type"]), body["body"]))

    def _body(self, key: tuple[str, str], kept: Keyed) -> dict[str, Any]:
        reply = kept.reply
        said = {"type": int(reply.type), "body": reply.body} if reply else {"processes": kept.begun}
        return {"identity": key[0], "key": key[1], "digest": kept.digest, "expires": kept.expires + self._outbox.wall, **said}  # fmt: skip

    def _remember(self, key: tuple[str, str], kept: Keyed, reply: Reply) -> None:
        """The reply to a key is there. One that names a new job is kept as long as the job."""
        kept.reply = reply
        if reply.type is Type.JOB_ACCEPTED:
            kept.job = reply.body["job"]
            self._of_job[kept.job] = key
            self._fleeting.pop(key, None)

    def _expire_keys(self, now: float) -> None:
        """Forget keys whose time is over, and the oldest where there are too many."""
        surplus = len(self._fleeting) - self._limits.keys_kept
        over = []
        for number, key in enumerate(self._fleeting):
            kept = self._keys[key]
            if kept.expires > now and number >= surplus:
                break
            if kept.reply is not None or kept.orphan:
                over.append(key)
        self._forget_keys(over, now)

    def _forget_keys(self, keys: list[tuple[str, str]], now: float) -> None:
        if keys:
            self._outbox.append(RecordType.KEYS_FORGOTTEN, now, names=[key_name(*key) for key in keys])
        for key in keys:
            self._forget_key(key)

    def _forget_key(self, key: tuple[str, str]) -> None:
        kept = self._keys.pop(key)
        self._fleeting.pop(key, None)
        self._of_job.pop(kept.job, None)


def key_name(identity: str, key: str) -> str:
    """Name of a keyed request among all of them."""
    return f"{identity} {key}"


def _name(peer: Peer, id: int) -> tuple[Channel, bytes, str, int]:
    return peer.channel, peer.address.routing, peer.address.identity, id


def _digest(message: Message) -> bytes:
    return hashlib.sha256(msgpack.packb([int(message.type), _ordered(message.body)])).digest()


def _ordered(value: Any) -> Any:
    """The value with maps in the order of their keys, so that equal requests have equal digests."""
    if isinstance(value, dict):
        return [[key, _ordered(value[key])] for key in sorted(value, key=repr)]
    if isinstance(value, list):
        return [_ordered(element) for element in value]
    return value
