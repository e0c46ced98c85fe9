# SPDX-License-Identifier: Apache-2.0
"""What an operator asks for under a key is done once, whenever the daemon is killed: the key is safe before anything is done."""

from __future__ import annotations

import functools
import random
from collections import Counter
from typing import Any

import pytest
from honest_world import World
from kernel_rig import HELLO, Rig
from recovery_rig import greet, reboot

from qcosd.core.effects import SIGKILL, SIGSTOP, SIGTERM, Send, Signal
from qcosd.core.events import Address, Channel, Exited, PeerGone
from qcosd.core.records import RecordType
from qcosd.core.recovery import image_of
from qcosd.protocol import Type
from qcosd.sdk.session import Answer, Failure, Request

RESTART = {"plugin": "hello"}


class Nursery(World):
    """A world that counts the processes which were told their secret, by component."""

    def __init__(self, **options: Any) -> None:
        self.born: Counter[str] = Counter()
        super().__init__(**options)

    def bear(self, incarnation: int) -> None:
        self.born[self.unborn.get(incarnation, "nobody")] += 1
        super().bear(incarnation)


def course(cut: tuple[int, int] | None) -> tuple[Nursery, int, list[Answer | Failure]]:
    """A client restarts a plugin under a key; the number of the first event that this could have."""
    world = Nursery(cut=cut, luck=random.Random(repr(cut)))
    client = world.client()
    while world.kernel.state != "ready":
        world.step()
    began, found = world.events_fed, list[Answer | Failure]()
    world.ask(client, Request(Type.PLUGIN_RESTART, {"plugin": "verifier"}, key="k"), found.append)
    for _ in range(5000):
        if found:
            break
        world.step()
    return world, began, found


@functools.cache
def cuts() -> list[tuple[int, int]]:
    world, began, _ = course(None)
    return [(at, prefix) for at in range(began, world.events_fed) for prefix in range(world.effects_of[at] + 1)]


@pytest.mark.parametrize("share", range(4))
def test_a_restart_is_done_once_wherever_the_daemon_is_killed(share: int) -> None:
    assert len(cuts()) > 20
    for cut in cuts()[share::4]:
        world, _, found = course(cut)
        assert world.cut is None, "the cut was never made"
        assert isinstance(found[0], Answer), cut
        world.settle(15.0)
        once = dict.fromkeys(world.manifests, 1) | {"verifier": 2}
        assert {name: world.born[name] for name in once} == once, cut
        assert not world.journal().get("begun") and not image_of(world.kernel)["begun"]


def ask_again(rig: Rig, name: str, kind: Type = Type.PLUGIN_RESTART) -> tuple[Address, int]:
    client = rig.client(name)
    return client, rig.request(client, kind, RESTART, key="k")


def stops(rig: Rig) -> int:
    return sum(effect.message.type is Type.STOP for effect in rig.of(Send)) + len(rig.of(Signal))


@pytest.mark.parametrize("how", ["leaves", "has no time"])
def test_a_restart_is_not_done_again_for_a_client_that_was_gone_when_it_was_done(how: str) -> None:
    rig = Rig(HELLO)
    client = rig.client()
    rig.request(client, Type.PLUGIN_RESTART, RESTART, key="k", deadline=1.0)
    if how == "leaves":
        rig.feed(PeerGone(Channel.CLIENTS, client, "left"))
    rig.advance(1.0)
    rig.feed(Exited(1, 0))
    rig.advance(0.0)
    for name in ("again", "and again"):
        client, number = ask_again(rig, name)
        assert [answer.type for answer in rig.answers(client, number)] == [Type.ACK]
    assert (stops(rig), rig.kernel.supervisor.last) == (1, 2)


def test_who_asks_again_in_the_middle_waits_for_the_same_restart() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    rig.request(client, Type.PLUGIN_RESTART, RESTART, key="k")
    rig.feed(PeerGone(Channel.CLIENTS, client, "left"))
    client, number = ask_again(rig, "again")
    rig.feed(Exited(1, 0))
    rig.advance(0.0)
    assert [answer.type for answer in rig.answers(client, number)] == [Type.ACK]
    assert (stops(rig), rig.kernel.supervisor.last) == (1, 2)


def test_what_an_earlier_daemon_has_not_done_is_done_by_the_next_one() -> None:
    rig = Rig(HELLO)
    rig.request(rig.client(), Type.PLUGIN_RESTART, RESTART, key="k")
    reboot(rig)  # STOP has not arrived
    client, number = ask_again(rig, "again")
    greet(rig, "hello", 1)
    assert rig.state("hello") == "asked"
    rig.feed(Exited(1, 0))
    rig.advance(0.0)
    assert [answer.type for answer in rig.answers(client, number)] == [Type.ACK]


def test_a_stop_that_was_begun_does_not_undo_what_somebody_has_wanted_since() -> None:
    rig = Rig(HELLO)
    client, number = ask_again(rig, "first", Type.PLUGIN_STOP)
    rig.reboot()
    client = rig.client("second")
    started = rig.request(client, Type.PLUGIN_START, RESTART, key="start")
    again, number = ask_again(rig, "first again", Type.PLUGIN_STOP)
    rig.advance(1.0)
    assert [answer.type for answer in rig.answers(client, started)] == [Type.ACK]
    rig.advance(1000.0)
    assert rig.state("hello") == "ready"
    assert rig.answers(again, number)[0].body["error"]["name"] == "deadline"


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_what_is_done_to_a_process_waits_for_the_key_under_which_it_was_asked(fault: str) -> None:
    rig = Rig(HELLO)
    body = {"plugin": "hello"} if fault == "kill" else {"plugin": "hello", "kind": "freeze"}
    kind = Type.PLUGIN_KILL if fault == "kill" else Type.PLUGIN_FAULT
    assert rig.ask(rig.client(), kind, body, key="k").type is Type.ACK
    assert rig.records[-1].type is RecordType.REQUEST_KEY
    assert rig.of(Signal) == [Signal(1, SIGKILL if fault == "kill" else SIGSTOP, after=rig.position)]


def test_a_stop_of_the_daemon_waits_for_no_key() -> None:
    rig = Rig(HELLO, hello=False)
    assert rig.ask(rig.client(), Type.SHUTDOWN, key="k").type is Type.ACK
    assert rig.of(Signal) == [Signal(1, SIGTERM)]


def test_keys_that_nobody_asks_for_again_are_forgotten_in_time() -> None:
    rig = Rig(HELLO)
    rig.request(rig.client(), Type.PLUGIN_RESTART, RESTART, key="k", deadline=1.0)
    rig.advance(100_000.0)
    assert set(rig.journal()["begun"]) == {"uid:1000 k"}
    rig.reboot()
    rig.ask(rig.client("c2"), Type.DRAIN, {"on": False}, key="other")
    assert "begun" not in rig.journal() and not image_of(rig.kernel)["begun"]
