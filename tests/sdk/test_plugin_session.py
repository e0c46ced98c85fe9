# SPDX-License-Identifier: Apache-2.0
"""The session of a plugin: leases with epochs, results until acknowledged, silence of the kernel."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from qcosd.protocol import Message, Side, Type, decode, encode, error_table
from qcosd.sdk.plugin_session import (
    EXIT_BUS_SILENT,
    EXIT_DISMISSED,
    FaultAsked,
    LeaseGiven,
    LeaseLost,
    PluginSession,
    StopAsked,
    StreamGranted,
)
from qcosd.sdk.session import Welcomed

HELLO = {"name": "hello", "incarnation": 3, "services": ["hello.greet"], "slots": 1, "ready": True}
GRACE = 8.0


def stream_table(epoch: int = 1) -> dict[str, Any]:
    return {
        "grant": 2, "epoch": epoch, "name": "rounds", "role": "connect", "endpoint": f"memory://2.{epoch}", "secret": "s",
        "credit": 8,
    }  # fmt: skip


def held(lease: int, epoch: int = 1, stream: int | None = None, finished: bool = False) -> dict[str, Any]:
    return {"lease": lease, "epoch": epoch, "stream": stream, "finished": finished}


def lease_body(lease: int = 5, epoch: int = 1, stream: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "lease": lease, "epoch": epoch, "job": "1", "service": "hello", "op": "greet", "batch": None, "options": {},
        "shots": 1, "seed": 0, "inputs": {}, "stream": stream, "budget": 1.0,
    }  # fmt: skip


class Wire:
    """A plugin session that has been welcomed."""

    def __init__(self, heartbeat: float = 1.0) -> None:
        self.heartbeat = heartbeat
        self.now = 50.0
        self.boot = 4
        self.session = PluginSession(dict(HELLO), self.now, GRACE)
        self.session.hello(self.now)
        self.welcome()

    def sent(self) -> list[Message]:
        return [decode(frames, Side.PLUGIN) for frames in self.session.outgoing()]

    def one(self, type: Type) -> Message:
        (message,) = [message for message in self.sent() if message.type is type]
        return message

    def say(self, type: Type, body: dict[str, Any] | None = None, id: int = 0, boot: int | None = None) -> list[Any]:
        message = Message(type, body or {}, id, self.boot if boot is None else boot)
        return self.session.handle(encode(message), self.now)

    def welcome(self, hello: Message | None = None) -> list[Any]:
        """Answer HELLO; ``leases`` and ``seen`` are what it listed, and the boot that it had seen."""
        hello = hello or self.one(Type.HELLO)
        assert hello.body.items() >= {**HELLO, "versions": [1, 1], "ready": hello.body["ready"]}.items()
        self.leases, self.seen = hello.body["leases"], hello.body["boot"]
        body = {"version": 1, "boot": self.boot, "heartbeat": self.heartbeat, "limits": {}}
        return self.say(Type.WELCOME, body, hello.id)

    def reborn(self) -> list[Any]:
        """The kernel dies, its successor makes itself known and is greeted."""
        self.sent()
        self.session.lost(self.now)
        self.boot += 1
        self.session.hello(self.now)
        return self.welcome()

    def elapse(self, seconds: float) -> list[Any]:
        self.now += seconds
        return self.session.elapse(self.now)

    def lease(self, lease: int = 5, epoch: int = 1, stream: dict[str, Any] | None = None) -> list[Any]:
        return self.say(Type.LEASE, lease_body(lease, epoch, stream))

    def done(self, lease: int = 5, epoch: int = 1) -> Message:
        self.session.done(lease, epoch, {}, {}, None, self.now)
        return self.one(Type.DONE)


def test_a_lease_is_given_once_and_ends_with_the_acknowledgement() -> None:
    wire = Wire()
    (given,) = wire.lease()
    assert given == LeaseGiven(5, 1, lease_body())
    assert wire.lease() == []
    done = wire.done()
    assert wire.session.leases == {5: 1}
    assert wire.say(Type.ACK, id=done.id) == []
    assert wire.session.leases == {}


def test_a_result_is_repeated_in_the_next_registration() -> None:
    wire = Wire()
    wire.lease()
    done = wire.done()
    wire.say(Type.REHELLO, {"boot": wire.boot})
    wire.welcome()
    assert wire.one(Type.DONE) == done


def test_a_late_result_is_forgotten() -> None:
    wire = Wire()
    wire.lease()
    done = wire.done()
    assert wire.say(Type.ERROR, {"error": error_table("late")}, done.id) == []
    assert wire.session.leases == {}


def test_revoking_tells_the_operation_and_then_the_kernel() -> None:
    wire = Wire()
    wire.lease()
    assert wire.say(Type.REVOKE, {"lease": 5, "epoch": 1, "reason": "cancelled"}) == [LeaseLost(5, 1, "cancelled")]
    assert wire.say(Type.REVOKE, {"lease": 5, "epoch": 1}) == []
    wire.session.done(5, 1, {}, {}, None, wire.now)
    wire.session.progress(5, 1, 0.5, "late")
    assert wire.sent() == []
    wire.session.revoked(5, 1)
    assert wire.one(Type.REVOKED).body == {"lease": 5, "epoch": 1}
    assert wire.session.leases == {}


def test_revoking_what_has_reported_already() -> None:
    wire = Wire()
    wire.lease()
    done = wire.done()
    assert wire.say(Type.REVOKE, {"lease": 5, "epoch": 1}) == [LeaseLost(5, 1, "revoked")]
    wire.session.revoked(5, 1)
    assert wire.one(Type.REVOKED).body == {"lease": 5, "epoch": 1}
    assert wire.say(Type.ERROR, {"error": error_table("late")}, done.id) == []


def test_revoking_an_unknown_lease_or_epoch_is_answered_at_once() -> None:
    wire = Wire()
    wire.lease(5, 2)
    for lease, epoch in ((9, 1), (5, 1)):
        assert wire.say(Type.REVOKE, {"lease": lease, "epoch": epoch}) == []
        assert wire.one(Type.REVOKED).body == {"lease": lease, "epoch": epoch}
    assert wire.session.leases == {5: 2}


def test_a_higher_epoch_fences_the_lower_one() -> None:
    wire = Wire()
    wire.lease(5, 1)
    lost, given = wire.lease(5, 2)
    assert lost == LeaseLost(5, 1, "epoch 2 has begun") and given.epoch == 2
    wire.session.done(5, 1, {}, {}, None, wire.now)
    wire.session.progress(5, 1, 0.5, "")
    assert wire.sent() == []
    wire.session.revoked(5, 1)
    assert wire.session.leases == {5: 2}
    assert wire.lease(5, 1) == []


def test_leases_outlive_the_kernel_and_hello_lists_them() -> None:
    wire = Wire()
    assert (wire.leases, wire.seen) == ([], 0)
    wire.lease(5)
    wire.lease(6, 3, stream_table(4))
    done = wire.done(5)
    (welcomed,) = wire.reborn()
    assert isinstance(welcomed, Welcomed) and welcomed.reborn
    assert (wire.leases, wire.seen) == ([held(5, finished=True), held(6, 3, 4)], 4)
    again = wire.one(Type.DONE)
    assert (again.body, again.id, again.boot) == (done.body, done.id, 5)
    wire.say(Type.ACK, id=again.id)
    assert wire.done(6, 3).boot == 5


def test_a_result_that_comes_while_the_kernel_is_away_is_kept_for_it() -> None:
    wire = Wire()
    wire.lease(5)
    wire.session.lost(wire.now)
    wire.session.progress(5, 1, 0.5, "for show")
    wire.session.done(5, 1, {}, {}, None, wire.now)
    assert wire.sent() == []
    wire.boot = 5
    wire.session.hello(wire.now)
    wire.welcome()
    assert wire.leases == [held(5, finished=True)]
    assert wire.one(Type.DONE).body["lease"] == 5


def test_a_lease_that_was_lost_is_not_listed_and_may_be_given_again() -> None:
    wire = Wire()
    wire.lease(5)
    wire.say(Type.REVOKE, {"lease": 5, "epoch": 1})
    wire.reborn()
    assert wire.leases == []
    (given,) = wire.lease(5, 2)
    assert (given.lease, given.epoch) == (5, 2)
    wire.session.revoked(5, 1)
    assert wire.session.leases == {5: 2}


def test_the_next_kernel_takes_back_what_it_does_not_know() -> None:
    wire = Wire()
    wire.lease(5)
    wire.reborn()
    assert wire.say(Type.REVOKE, {"lease": 5, "epoch": 1, "reason": "unknown"}) == [LeaseLost(5, 1, "unknown")]
    wire.session.revoked(5, 1)
    assert wire.one(Type.REVOKED).body == {"lease": 5, "epoch": 1}


def test_what_the_dead_kernel_still_had_to_say_does_not_count() -> None:
    wire = Wire()
    wire.lease(5)
    done = wire.done(5)
    wire.session.lost(wire.now)
    old = [(Type.LEASE, lease_body(7), 0), (Type.REVOKE, {"lease": 5, "epoch": 1}, 0), (Type.ACK, {}, done.id),
           (Type.GOODBYE, {"error": error_table("bad_message")}, 0), (Type.STOP, {"seconds": 1.0}, 0)]  # fmt: skip
    assert [wire.say(*each) for each in old] == [[]] * len(old)
    wire.boot = 5
    wire.session.hello(wire.now)
    hello = wire.one(Type.HELLO)
    stale = {"version": 1, "boot": 4, "heartbeat": 1.0, "limits": {}}
    assert wire.say(Type.WELCOME, stale, 1, boot=4) == [], "the answer to an earlier HELLO"
    assert not wire.session.welcomed
    assert [wire.say(*each, boot=4) for each in old] == [[]] * len(old)
    wire.welcome(hello)
    assert [wire.say(*each, boot=4) for each in old] == [[]] * len(old)
    assert wire.session.leases == {5: 1} and wire.session.late == 3 * len(old) + 1
    assert wire.one(Type.DONE).id == done.id


def test_a_grant_replaces_the_stream_of_its_lease_once() -> None:
    wire = Wire()
    wire.lease(5, 1, stream_table(1))
    grant = {"lease": 5, "epoch": 1, "stream": stream_table(2)}
    assert wire.say(Type.GRANT, grant) == [StreamGranted(5, 1, stream_table(2))]
    assert wire.say(Type.GRANT, grant) == [] == wire.say(Type.GRANT, {**grant, "stream": stream_table(1)})
    wire.reborn()
    assert wire.leases == [held(5, 1, 2)]
    wire.done(5)
    assert wire.say(Type.GRANT, {**grant, "stream": stream_table(3)}) == [], "its result is the answer"
    assert wire.sent() == []


@pytest.mark.parametrize(("lease", "epoch"), [(9, 1), (5, 1), (5, 3)])
def test_a_grant_for_a_lease_that_is_not_held_is_answered_at_once(lease: int, epoch: int) -> None:
    wire = Wire()
    wire.lease(5, 2, stream_table(1))
    assert wire.say(Type.GRANT, {"lease": lease, "epoch": epoch, "stream": stream_table(2)}) == []
    assert wire.one(Type.REVOKED).body == {"lease": lease, "epoch": epoch}
    assert wire.session.leases == {5: 2}


def test_a_kernel_that_dies_ten_times_is_not_left() -> None:
    wire = Wire()
    wire.lease()
    for _ in range(10):
        wire.session.lost(wire.now)
        assert wire.elapse(GRACE * 0.9) == []
        wire.boot += 1
        wire.session.hello(wire.now)
        wire.welcome()
    assert wire.leases == [held(5)]


def test_the_grace_counts_from_the_last_word_of_the_kernel() -> None:
    wire = Wire()
    wire.elapse(GRACE * 0.2)
    wire.say(Type.PONG, id=99)
    heard = wire.now
    wire.elapse(GRACE * 0.2)
    wire.session.lost(wire.now)
    left: list[Any] = []
    while not left:
        wire.now = wire.session.next_deadline() or 0.0
        left = wire.session.elapse(wire.now)
    assert wire.now == heard + GRACE and left[0].code == EXIT_BUS_SILENT


def test_a_plugin_that_has_slept_asks_before_it_leaves() -> None:
    wire = Wire()
    assert wire.elapse(10 * GRACE) == []
    wire.one(Type.PING)
    assert wire.elapse(GRACE / 5) == []
    (stop,) = wire.elapse(GRACE / 5)
    assert stop.code == EXIT_BUS_SILENT


def test_progress_is_clipped_to_its_range() -> None:
    wire = Wire()
    wire.lease()
    wire.session.progress(5, 1, 1.7, "more than all")
    assert wire.one(Type.PROGRESS).body["fraction"] == 1.0


def test_readiness_is_told_and_remembered() -> None:
    wire = Wire()
    wire.session._hello["ready"] = False
    wire.session.ready()
    wire.one(Type.READY)
    wire.say(Type.REHELLO, {"boot": wire.boot})
    assert wire.one(Type.HELLO).body["ready"] is True


@pytest.mark.parametrize("heartbeat", [1.0, 0.2, 30.0])
def test_heartbeats_fill_the_silence(heartbeat: float) -> None:
    wire = Wire(heartbeat)
    wire.session.elapse(wire.now)
    wire.sent()
    beats = []
    for _ in range(10):
        wire.now = wire.session.next_deadline() or 0.0
        wire.session.elapse(wire.now)
        beats += [(wire.now, message.type) for message in wire.sent()]
        wire.say(Type.PONG, id=1)
    times = [50.0, *(at for at, _ in beats)]
    assert max(b - a for a, b in pairwise(times)) <= heartbeat
    assert {Type.HEARTBEAT, Type.PING} >= {type for _, type in beats}


def test_a_silent_kernel_is_asked_and_then_left() -> None:
    wire = Wire()
    left = []
    for _ in range(1000):
        wire.now = wire.session.next_deadline() or 0.0
        left += wire.session.elapse(wire.now)
        if left:
            break
    (stop,) = left
    assert isinstance(stop, StopAsked) and stop.code == EXIT_BUS_SILENT
    assert GRACE <= wire.now - 50.0 <= GRACE * 1.5
    assert Type.PING in [message.type for message in wire.sent()]


def test_a_kernel_that_answers_is_not_left() -> None:
    wire = Wire()
    for _ in range(200):
        wire.now = wire.session.next_deadline() or 0.0
        assert wire.session.elapse(wire.now) == []
        for message in wire.sent():
            if message.type is Type.PING:
                wire.say(Type.PONG, id=message.id)
    assert wire.now > 50.0 + 5 * GRACE


def test_stop_fault_and_dismissal() -> None:
    wire = Wire()
    assert wire.say(Type.STOP, {"seconds": 2.0, "reason": "bye"}) == [StopAsked("bye")]
    assert wire.say(Type.FAULT, {"kind": "slow", "seconds": 2.0}) == [FaultAsked("slow", 2.0)]
    (stop,) = wire.say(Type.GOODBYE, {"error": error_table("bad_message")})
    assert isinstance(stop, StopAsked) and stop.code == EXIT_DISMISSED
