# SPDX-License-Identifier: Apache-2.0
"""While the journal cannot be written nobody leaves, nothing is lost, who asks is answered, and what would have to wait is refused."""

from __future__ import annotations

from typing import Any

import pytest
from honest_world import World
from kernel_rig import HELLO, Rig, received
from recovery_rig import submit

from qcosd.core.effects import BlobDelete, Send, Signal
from qcosd.core.events import Address, JournalHealth, Limits, Spawned, Stop
from qcosd.protocol import Message, Type
from qcosd.sdk.errors import RequestFailed
from qcosd.sdk.session import Answer, Failure, Request

FULL = "/state/journal.db: cannot be written (database or disk is full): make room in its directory"
OPTIONS = {"shots": 23, "batch": 5, "seed": 7, "discard_budget": 100}


def asked(world: World, kind: Type, body: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    """What a client is answered, without any time passing."""
    found: list[Answer | Failure] = []
    began = world.now
    world.ask(world.clients[0], Request(kind, body, key=key), found.append)
    while not found:
        world.step()
    assert world.now == began, "at once"
    if isinstance(found[0], Answer):
        return found[0].message.body
    assert isinstance(found[0].error, RequestFailed)
    return {"refused": found[0].error.name, "text": str(found[0].error)}


def running(until: int) -> tuple[World, dict[str, Any]]:
    """A world with a job of which so many batches are over."""
    world = World()
    learnt = world.submit(world.client(), "once", **OPTIONS)
    while len(world.kernel.jobs.active) == 0 or world.kernel.jobs.active["1"].progress()["batches"]["done"] < until:
        world.step()
    return world, learnt


@pytest.mark.parametrize("until", [0, 1, 3])
def test_plugins_stay_while_the_disk_is_full_and_the_work_goes_on_after_it(until: int) -> None:
    world, learnt = running(until)
    before = set(world.plugins)
    world.fail(FULL)
    world.settle(300.0)
    assert set(world.plugins) == before and world.unwritten
    assert "document" not in learnt, "what cannot be saved is not told"
    world.fail("")
    while "document" not in learnt:
        world.step()
    assert learnt["document"]["state"] == "done" and learnt["document"]["restarts"] == 0
    assert set(world.plugins) == before


def test_a_plugin_that_connects_while_the_disk_is_full_is_welcome() -> None:
    world, learnt = running(1)
    world.fail(FULL)
    world.settle(5.0)  # new leases have been given out, which do not reach anybody
    for plugin in list(world.plugins.values()):
        world.drop(plugin)
    before = set(world.plugins)
    world.settle(60.0)
    assert set(world.plugins) == before and all(plugin.session.welcomed for plugin in world.plugins.values())
    world.fail("")
    while "document" not in learnt:
        world.step()
    assert learnt["document"]["state"] == "done"


def test_who_asks_is_answered_from_what_is_on_disk_or_told_that_it_is_not() -> None:
    world = World()
    world.client()
    other = world.submit(world.clients[0], "other", **OPTIONS)
    while "document" not in other:
        world.step()
    learnt = world.submit(world.clients[0], "once", **OPTIONS)
    while "job" not in learnt:
        world.step()
    world.fail(FULL)
    saved = asked(world, Type.JOB_SHOW, {"job": other["job"]})["document"]
    assert saved["state"] == "done" and "unsaved" not in saved
    assert all("unsaved" not in row for row in asked(world, Type.JOB_LIST, {})["jobs"]), "nothing has changed yet"
    world.settle(10.0)
    assert world.unwritten, "and now something has"
    assert asked(world, Type.JOB_SHOW, {"job": learnt["job"]})["document"]["unsaved"] is True
    assert "unsaved" not in asked(world, Type.JOB_SHOW, {"job": other["job"]})["document"]
    assert all(row["unsaved"] for row in asked(world, Type.JOB_LIST, {})["jobs"])
    assert asked(world, Type.SNAPSHOT, {"prefix": "job."})["unsaved"] is True
    assert asked(world, Type.STATUS, {})["journal"]["fault"] == FULL
    assert asked(world, Type.PLUGIN_LIST, {})["plugins"]
    world.fail("")
    assert "unsaved" not in asked(world, Type.JOB_SHOW, {"job": learnt["job"]})["document"]


CHANGES = [
    (Type.JOB_SUBMIT, {"inputs": {}, "options": {}}),
    (Type.JOB_CANCEL, {"job": "1"}),
    (Type.PLUGIN_RESTART, {"plugin": "verify"}),
    (Type.PLUGIN_KILL, {"plugin": "verify"}),
    (Type.DRAIN, {"on": True}),
]


@pytest.mark.parametrize(("kind", "body"), CHANGES)
def test_changes_are_refused_at_once_with_the_fault_and_its_remedy(kind: Type, body: dict[str, Any]) -> None:
    world, learnt = running(1)
    world.fail(FULL)
    refusal = asked(world, kind, body, key="k")
    assert refusal["refused"] == "no_space" and FULL in refusal["text"] and "is kept" not in refusal["text"]
    world.fail("")
    while "document" not in learnt:
        world.step()
    assert learnt["document"]["state"] == "done"


def test_a_change_that_the_fault_overtakes_is_answered_too_and_takes_effect_later() -> None:
    world, learnt = running(1)
    world.fault = "not noticed yet"
    found: list[Answer | Failure] = []
    cancel = Request(Type.JOB_CANCEL, {"job": "1"}, key="k")
    world.ask(world.clients[0], cancel, found.append)
    while world.kernel.jobs.active:
        world.step()
    world.fail(FULL)
    for again in (False, True):
        while not found:
            world.step()
        assert isinstance(failure := found.pop(), Failure) and FULL in str(failure.error), again
        assert "takes effect once" in str(failure.error)
        world.ask(world.clients[0], cancel, found.append)  # the same key: nothing new
    while not found:
        world.step()
    world.fail("")
    assert asked(world, Type.JOB_CANCEL, {"job": "1"}, key="k")["document"]["state"] == "cancelled"
    while "document" not in learnt:
        world.step()
    assert learnt["document"]["state"] == "cancelled"


def test_the_daemon_can_be_stopped_by_a_client() -> None:
    rig = Rig(HELLO)
    rig.feed(JournalHealth(FULL))
    assert rig.ask(rig.client(), Type.SHUTDOWN, key="k").type is Type.ACK


def test_a_process_that_waits_for_the_journal_is_not_late() -> None:
    rig = Rig(HELLO)
    client, hello = rig.client(), rig.kernel.supervisor.components["hello"]
    rig.request(client, Type.PLUGIN_RESTART, {"plugin": "hello"})  # STOP waits, and the disk is full
    rig.feed(JournalHealth(FULL))
    rig.advance(100.0)
    assert (rig.state("hello"), rig.of(Signal)) == ("asked", [])
    rig.feed(JournalHealth(""))
    rig.hello = False
    rig.kill("hello", 0)
    rig.feed(JournalHealth(FULL))
    rig.feed(Spawned(hello.incarnation, 1))
    rig.advance(1000.0)
    assert (rig.state("hello"), rig.of(Signal), len(hello.deaths)) == ("starting", [], 0)
    rig.feed(Stop("SIGTERM"))
    rig.advance(1000.0)
    assert [signal.signum for signal in rig.of(Signal)][:2] == [15, 9], "a stop waits for nothing"


def test_nothing_is_collected_while_the_store_would_have_to_wait_for_the_journal() -> None:
    rig = Rig(HELLO, limits=Limits(artifact_grace=100.0, collect_every=100.0))
    client = rig.client()
    submit(rig, client)
    rig.put(client, b"of no use")
    rig.feed(JournalHealth(FULL))
    rig.advance(1000.0)
    assert rig.of(BlobDelete) == []
    rig.feed(JournalHealth(""))
    rig.advance(1000.0)
    assert rig.of(BlobDelete)


def test_a_welcome_waits_for_nothing_whatever_the_plugin_says_in_its_hello() -> None:
    rig = Rig(HELLO)
    submit(rig, rig.client())
    again = Address("hello/1", b"again")  # it names no lease, so that its own is given out anew
    first = len(rig.effects)
    rig.feed(
        received(again, Message(Type.HELLO, {"name": "hello", "versions": [1, 1], "services": ["hello.greet"]}, 1))
    )
    sent = {effect.message.type: effect.after for effect in rig.effects[first:] if isinstance(effect, Send)}
    assert sent == {Type.WELCOME: 0, Type.LEASE: rig.position}
