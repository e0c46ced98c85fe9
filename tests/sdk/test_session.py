# SPDX-License-Identifier: Apache-2.0
"""The session of a client, against a kernel that says what each test wants."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from qcosd.protocol import Message, ProtocolError, Side, Type, Violation, decode, encode, error_table
from qcosd.sdk.errors import DeadlineExceeded, RequestFailed
from qcosd.sdk.session import HELLO_AGAIN, KEEP_ALIVE, Answer, Dismissed, Failure, Request, Session, Told, Welcomed

LIMITS = {"chunk": 1000, "blob_window": 4, "requests": 3, "frame": 1 << 20}
STATUS = {"version": "1", "pid": 1, "boot": 7, "state": "ready", "jobs": {}, "plugins": {}, "counters": {}}


class Wire:
    """A session with the other end of its connection in the hands of the test."""

    def __init__(self, boot: int = 7) -> None:
        self.session = Session({"name": "test"})
        self.boot = boot
        self.now = 100.0

    def sent(self) -> list[Message]:
        return [decode(frames, Side.CLIENT) for frames in self.session.outgoing()]

    def types(self) -> list[Type]:
        return [message.type for message in self.sent()]

    def say(self, type: Type, body: dict[str, Any] | None = None, id: int = 0, boot: int | None = None) -> list[Any]:
        message = Message(type, body or {}, id, self.boot if boot is None else boot)
        return self.session.receive(encode(message), self.now)

    def welcome(self, id: int = 1) -> list[Any]:
        body = {"version": 1, "boot": self.boot, "heartbeat": 1.0, "limits": LIMITS}
        return self.say(Type.WELCOME, body, id)

    def open(self) -> Wire:
        self.session.hello(self.now)
        (hello,) = self.sent()
        assert (hello.type, hello.boot, hello.body["versions"]) == (Type.HELLO, 0, [1, 1])
        (happening,) = self.welcome(hello.id)
        assert happening == Welcomed(7, False, happening.body)
        return self

    def ask(self, request: Request | None = None) -> tuple[int, Message]:
        call = self.session.request(request or Request(Type.STATUS), self.now)
        (message,) = self.sent()
        return call, message

    def tick(self, seconds: float) -> list[Any]:
        self.now += seconds
        return self.session.tick(self.now)


def test_a_request_waits_for_the_welcome_and_its_reply_finds_it() -> None:
    wire = Wire()
    call = wire.session.request(Request(Type.STATUS, timeout=5.0), wire.now)
    wire.session.hello(wire.now)
    (hello,) = wire.sent()
    assert hello.type is Type.HELLO
    wire.now += 2.0
    wire.welcome(hello.id)
    (message,) = wire.sent()
    assert (message.type, message.id, message.boot, message.deadline) == (Type.STATUS, call, 7, 3.0)
    (answer,) = wire.say(Type.STATUS_REPLY, STATUS, call)
    assert answer == Answer(call, answer.message)
    assert wire.say(Type.STATUS_REPLY, STATUS, call) == []


def test_limits_of_the_welcome_are_kept() -> None:
    wire = Wire().open()
    calls = [wire.session.request(Request(Type.STATUS), wire.now) for _ in range(5)]
    assert [message.id for message in wire.sent()] == calls[:3]
    wire.say(Type.STATUS_REPLY, STATUS, calls[1])
    assert [message.id for message in wire.sent()] == calls[3:4]
    wire.session.abandon(calls[0])
    wire.tick(0.0)
    assert [message.id for message in wire.sent()] == calls[4:]


def test_an_error_fails_the_call_with_its_table() -> None:
    wire = Wire().open()
    call, _ = wire.ask()
    (failure,) = wire.say(Type.ERROR, {"error": error_table("over_quota", "too much", {"limit": 3})}, call)
    assert isinstance(failure, Failure) and isinstance(failure.error, RequestFailed)
    assert (failure.error.name, failure.error.message, failure.error.retryable) == ("over_quota", "too much", True)
    assert failure.error.details == {"limit": 3}


def test_deadlines_end_calls_here_and_there() -> None:
    wire = Wire().open()
    call, message = wire.ask(Request(Type.JOB_WAIT, {"job": "1"}, timeout=2.0))
    assert message.deadline == 2.0
    assert wire.session.next_deadline() == wire.now + KEEP_ALIVE
    (failure,) = wire.tick(2.0)
    assert failure.call == call and isinstance(failure.error, DeadlineExceeded)
    call, _ = wire.ask()
    (failure,) = wire.say(Type.ERROR, {"error": error_table("deadline")}, call)
    assert isinstance(failure.error, DeadlineExceeded)


def test_a_new_boot_is_greeted_and_gets_open_requests_again_with_their_keys() -> None:
    wire = Wire().open()
    submit = Request(Type.JOB_SUBMIT, {"inputs": {}, "options": {}}, key="once")
    call, first = wire.ask(submit)
    chunk, _ = wire.ask(Request(Type.BLOB_CHUNK, {"ticket": 1, "offset": 0}, (b"x",), again=False))
    wire.boot = 8
    assert wire.say(Type.REHELLO, {"boot": 8}, call) == []
    assert wire.say(Type.REHELLO, {"boot": 8}, chunk) == []
    (hello,) = wire.sent()
    assert hello.type is Type.HELLO
    welcomed, lost = wire.welcome(hello.id)
    assert welcomed == Welcomed(8, True, welcomed.body)
    assert (lost.call, lost.error.name) == (chunk, "no_reply")
    (again,) = wire.sent()
    assert (again.id, again.key, again.body, again.boot) == (first.id, "once", first.body, 8)


def test_a_boot_number_that_goes_back_is_a_new_boot_too() -> None:
    wire = Wire().open()
    wire.say(Type.REHELLO, {"boot": 1}, boot=1)
    wire.boot = 1
    welcomed, *_ = wire.welcome(wire.sent()[0].id)
    assert welcomed.reborn and wire.session.boot == 1


def test_messages_of_another_boot_are_counted_and_ignored() -> None:
    wire = Wire().open()
    call, _ = wire.ask()
    assert wire.say(Type.STATUS_REPLY, STATUS, call, boot=6) == []
    assert (wire.session.late, wire.session.open_calls) == (1, 1)


def test_a_lost_hello_is_repeated_and_a_second_welcome_does_no_harm() -> None:
    wire = Wire()
    wire.session.hello(wire.now)
    first = wire.sent()[0].id
    assert wire.session.next_deadline() == wire.now + HELLO_AGAIN
    wire.tick(HELLO_AGAIN)
    second = wire.sent()[0].id
    assert second != first
    assert len(wire.welcome(first)) == 1
    call, _ = wire.ask()
    assert wire.welcome(second) == []
    assert wire.types() == []
    assert wire.session.open_calls == 1 and call


def test_a_lost_connection_is_silence_until_the_next_hello() -> None:
    wire = Wire().open()
    call, first = wire.ask(Request(Type.JOB_SUBMIT, {"inputs": {}, "options": {}}, key="once"))
    wire.session.lost(wire.now)
    wire.tick(10 * HELLO_AGAIN)
    assert wire.types() == [] and wire.session.silent_for(wire.now) == 10 * HELLO_AGAIN
    assert wire.say(Type.JOB_ACCEPTED, {"job": "1"}, call) == [], "of the dead kernel"
    wire.boot = 8
    wire.session.hello(wire.now)
    wire.welcome(wire.sent()[0].id)
    (again,) = wire.sent()
    assert (again.id, again.key, again.boot) == (first.id, "once", 8)


def test_an_answer_to_an_earlier_hello_registers_nobody() -> None:
    wire = Wire()
    wire.session.hello(wire.now)
    first = wire.sent()[0].id
    wire.session.hello(wire.now)  # a new connection
    assert wire.welcome(first) == [] and not wire.session.welcomed
    assert len(wire.welcome(wire.sent()[0].id)) == 1


@pytest.mark.parametrize("outlast", [True, False])
def test_a_kernel_that_shuts_down_is_no_answer_to_who_outlasts_it(outlast: bool) -> None:
    wire = Wire().open()
    call, _ = wire.ask(Request(Type.JOB_WAIT, {"job": "1"}, outlast=outlast))
    answered = wire.say(Type.ERROR, {"error": error_table("shutting_down")}, call)
    assert (answered == []) == outlast
    wire.say(Type.GOODBYE, {"reason": "stopped"})
    wire.tick(HELLO_AGAIN)
    wire.boot = 8
    wire.welcome(wire.sent()[0].id)
    assert [message.id for message in wire.sent()] == [call] * outlast
    assert wire.session.open_calls == outlast


def test_silence_is_questioned_only_while_something_is_open() -> None:
    wire = Wire().open()
    assert wire.session.next_deadline() is None
    wire.tick(1000.0)
    assert wire.types() == []
    wire.ask()
    wire.tick(KEEP_ALIVE)
    (ping,) = wire.sent()
    assert ping.type is Type.PING
    assert wire.session.silent_for(wire.now + 4.0) == 4.0
    wire.tick(KEEP_ALIVE)
    assert wire.types() == [Type.PING]
    assert wire.session.silent_for(wire.now) == KEEP_ALIVE
    wire.say(Type.PONG, id=ping.id)
    assert wire.session.silent_for(wire.now) == 0.0


def test_watching_asks_for_signs_of_life_all_the_time() -> None:
    wire = Wire().open()
    wire.session.watch = True
    wire.tick(KEEP_ALIVE)
    assert wire.types() == [Type.PING]


def test_an_idle_hour_is_not_held_against_the_next_request() -> None:
    wire = Wire().open()
    wire.now += 3600.0
    wire.ask()
    wire.tick(0.0)
    assert wire.types() == []


def test_a_ping_of_the_kernel_is_answered() -> None:
    wire = Wire().open()
    wire.say(Type.PING, id=9)
    (pong,) = wire.sent()
    assert (pong.type, pong.id) == (Type.PONG, 9)


def test_goodbye_in_order_keeps_what_is_open_for_the_next_boot() -> None:
    wire = Wire().open()
    call, _ = wire.ask()
    assert wire.say(Type.GOODBYE, {"reason": "stopped"}) == []
    assert not wire.session.welcomed
    wire.tick(HELLO_AGAIN)
    wire.boot = 8
    wire.welcome(wire.sent()[0].id)
    assert [message.id for message in wire.sent()] == [call]


def test_goodbye_with_an_error_is_the_end() -> None:
    wire = Wire().open()
    (dismissed,) = wire.say(Type.GOODBYE, {"error": error_table("bad_message", "a frame is too long")})
    assert isinstance(dismissed, Dismissed) and "too long" in str(dismissed.error)


def test_a_refused_hello_is_the_end() -> None:
    wire = Wire()
    wire.session.hello(wire.now)
    (hello,) = wire.sent()
    (dismissed,) = wire.say(Type.ERROR, {"error": error_table("unsupported_version")}, hello.id)
    assert isinstance(dismissed, Dismissed)
    wire.tick(100.0)
    assert wire.types() == []


def test_unknown_types_are_ignored_and_unasked_messages_told() -> None:
    wire = Wire().open()
    unknown = [msgpack.packb({"v": 1, "boot": 7, "type": 9999}), msgpack.packb({})]
    assert wire.session.receive(unknown, wire.now) == []
    (told,) = wire.say(Type.STOP, {"seconds": 1.0})
    assert isinstance(told, Told) and told.message.type is Type.STOP


@pytest.mark.parametrize("frames", [[], [b"\xc1", b"\x80"], [msgpack.packb({"v": 1, "boot": 7, "type": 7}), b"\xc1"]])
def test_a_malformed_message_raises(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        Wire().open().session.receive(frames, 0.0)


def test_a_reply_of_the_wrong_type_raises() -> None:
    wire = Wire().open()
    call, _ = wire.ask()
    with pytest.raises(ProtocolError, match="does not answer"):
        wire.say(Type.JOB_LISTING, {"jobs": []}, call)


@pytest.mark.parametrize("body", [{"job": 1}, {}, {"job": "no spaces"}])
def test_a_request_that_breaks_the_protocol_is_not_sent(body: dict[str, Any]) -> None:
    wire = Wire().open()
    with pytest.raises(Violation):
        wire.session.request(Request(Type.JOB_SHOW, body), wire.now)
    assert (wire.types(), wire.session.open_calls) == ([], 0)


def test_a_body_that_no_frame_can_hold_is_refused_here() -> None:
    wire = Wire().open()
    with pytest.raises(Violation, match="bytes"):
        wire.session.request(Request(Type.JOB_SUBMIT, {"inputs": {}, "options": {"x": "y" * (1 << 20)}}), wire.now)
