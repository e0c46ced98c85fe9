# SPDX-License-Identifier: Apache-2.0
"""A daemon that was killed: the next one takes up what still runs, and knows what operators wanted."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from kernel_rig import Rig, manifest, plugin

from qcosd.core.effects import SIGKILL, Append, Exit, Signal, Spawn
from qcosd.core.events import Channel, Exited, Frozen, LogLine, PeerGone, Spawned, SpawnFailed, Stop, Survivor
from qcosd.core.image import Image, fold, touched
from qcosd.core.lifecycle import ALIVE
from qcosd.core.manifest import Manifest, Operation, Restart
from qcosd.core.records import Record, RecordType
from qcosd.protocol import Type

A = manifest("a", Operation("alpha", "run"), restart=Restart(max_deaths=3), replicas=2, spares=1, max_replicas=3)
B = manifest("b", Operation("beta", "run"), needs=("alpha",), restart=Restart(max_deaths=3))
OWN = (RecordType.INCARNATION, RecordType.INCARNATION_PID, RecordType.INCARNATION_END, RecordType.COMPONENT)


def records(rig: Rig) -> list[Record]:
    return [record for effect in rig.of(Append) for record in effect.records]


def journal(rig: Rig, image: Image | None = None) -> Image:
    """What the journal has after everything that has happened."""
    image = copy.deepcopy(image or {})
    fold(image, (record for record in records(rig) if record.type in (*OWN, RecordType.BOOT)))
    return image


def supervised(image: Image) -> Image:
    """The part of an image that is the supervisor's."""
    kernel = {name: body for name, body in image.get("kernel", {}).items() if name == "incarnations"}
    return {"incarnation": image.get("incarnation", {}), "component": image.get("component", {}), "kernel": kernel}


def again(image: Image, *manifests: Manifest, running: set[int] | None = None, **start: Any) -> Rig:
    """The next boot, with the processes that still run: all of them, or some."""
    alive = {int(name): body["pid"] for name, body in image.get("incarnation", {}).items()}
    survivors = tuple(Survivor(n, pid) for n, pid in alive.items() if running is None or n in running)
    return Rig(*manifests, image=copy.deepcopy(image), survivors=survivors, **start)


def killed(rig: Rig) -> list[int]:
    return [effect.incarnation for effect in rig.of(Signal) if effect.signum == SIGKILL]


def test_what_still_runs_is_adopted_once_it_says_hello() -> None:
    first = Rig(B, manifest("c", Operation("gamma", "run")), A)
    image = journal(first)
    assert image["incarnation"]["1"] == {"component": "c", "instance": 1, "token_hash": image["incarnation"]["1"]["token_hash"], "pid": 1001, "started": ""}  # fmt: skip
    rig = again(image, B, manifest("c", Operation("gamma", "run")), A)
    assert rig.of(Spawn) == []
    assert {rig.state(name) for name in "abc"} == {"awaited"}
    assert rig.events("kernel")[-1]["state"] == "starting"
    for incarnation, name in enumerate("caaab", start=1):
        rig.feed(rig.greeting(name, incarnation, boot=7))
    assert {rig.state(name) for name in "abc"} == {"ready"}
    assert [i.incarnation for i in rig.kernel.supervisor.active("a")] == [2, 3]
    assert rig.events("kernel")[-1]["state"] == "ready"
    rig.feed(Exited(5, None))
    rig.advance(0.0)
    assert rig.of(Spawn)[0].incarnation == 6  # no number is used twice


def test_what_does_not_say_hello_is_killed_and_nobody_pays() -> None:
    rig = again(journal(Rig(B, A)), B, A)
    rig.advance(4.9)
    assert killed(rig) == []
    rig.advance(0.1)
    assert sorted(killed(rig)) == [1, 2, 3, 4]
    rig.feed(Exited(1, None))
    assert [(effect.component, effect.incarnation) for effect in rig.of(Spawn)] == [("a", 5)]
    assert not rig.kernel.supervisor.components["a"].deaths
    assert rig.kernel.supervisor.instances()[1].row == 0


def test_a_survivor_may_be_on_its_way_up() -> None:
    rig = again(journal(Rig(A, hello=False)), A)
    rig.feed(rig.greeting("a", 1, ready=False))
    assert str(rig.kernel.supervisor.of_incarnation(1).state) == "starting"  # type: ignore[union-attr]
    rig.advance(20.0)
    assert 1 not in killed(rig)
    rig.tell(plugin("a", 1), Type.READY)
    assert rig.state("a") == "ready"


def test_what_ended_while_the_daemon_was_away_is_started_anew_and_nobody_pays() -> None:
    rig = again(journal(Rig(A)), A, running={2})
    ends = [record.body for record in records(rig) if record.type is RecordType.INCARNATION_END]
    assert [(body["incarnation"], body["reason"]) for body in ends] == [
        (1, "ended while the daemon was away"),
        (3, "ended while the daemon was away"),
    ]
    assert [effect.incarnation for effect in rig.of(Spawn)] == [4, 5]
    assert not rig.kernel.supervisor.components["a"].deaths


def test_whom_nobody_wants_is_killed_and_awaited_before_the_end() -> None:
    first = Rig(A, B)
    first.request(first.client(), Type.PLUGIN_STOP, {"plugin": "b"})
    few = manifest("a", Operation("alpha", "run"))
    rig = again(journal(first), few, B)
    assert sorted(killed(rig)) == [2, 3, 4]  # two beyond the number wanted, and one that was being stopped
    rig.feed(rig.greeting("a", 2))
    assert rig.kernel.counters["late"] == 1  # a dead man's message
    for incarnation in (2, 3):
        rig.feed(Exited(incarnation, None))
    assert journal(rig, journal(first))["incarnation"].keys() == {"1", "4"}
    rig.feed(Stop("SIGTERM"))
    rig.feed(Exited(1, None))
    assert rig.of(Exit) == []
    rig.feed(Exited(4, None))
    assert len(rig.of(Exit)) == 1


def test_a_survivor_beyond_replicas_is_kept_while_there_is_room() -> None:
    first = Rig(A)
    first.kernel.supervisor.want_more("a", first.now)
    first.feed(LogLine("a", "an event"))
    rig = again(journal(first), A)
    for incarnation in (1, 2, 3, 4):
        rig.feed(rig.greeting("a", incarnation))
    assert len(rig.kernel.supervisor.active("a")) == 3 and killed(rig) == []
    rig.advance(30.0)
    rig.feed(Exited(next(i.incarnation for i in rig.kernel.supervisor.instances() if str(i.state) == "asked"), 0))
    assert len(rig.kernel.supervisor.active("a")) == 2


def test_what_operators_stopped_and_what_failed_stays_so() -> None:
    first = Rig(A, B)
    client = first.client()
    for _ in range(3):
        first.advance(1.0)
        first.kill("b", status=3)
    first.request(client, Type.PLUGIN_STOP, {"plugin": "a"})
    image = journal(first)
    assert image["component"] == {
        "a": {"wanted": False, "failed": ""},
        "b": {"wanted": True, "failed": "died 3 times within 60 s; the last time: exited with status 3"},
    }
    rig = again(image, A, B, running=set())
    assert rig.of(Spawn) == []
    assert (rig.state("a"), rig.state("b")) == ("down", "failed")
    assert rig.kernel.supervisor.components["b"].cause == image["component"]["b"]["failed"]
    assert rig.events("kernel")[-1]["state"] == "degraded"
    client = rig.client()
    rig.ask(client, Type.PLUGIN_START, {"plugin": "a"})
    rig.ask(client, Type.PLUGIN_RESET, {"plugin": "b"})
    assert (rig.state("a"), rig.state("b")) == ("ready", "ready")
    assert journal(rig, image)["component"] == {}


def test_a_shutdown_is_no_wish_of_an_operator() -> None:
    first = Rig(B, manifest("a", Operation("alpha", "run"), restart=Restart(policy="never")))
    first.kill("a")
    first.feed(Stop("SIGTERM"))
    first.feed(Exited(2, 0))
    assert len(first.of(Exit)) == 1
    rig = again(journal(first), B, A)
    assert (rig.state("a"), rig.state("b")) == ("failed", "waiting")


def test_the_wishes_for_a_component_that_is_away_are_kept() -> None:
    first = Rig(A)
    first.request(first.client(), Type.PLUGIN_STOP, {"plugin": "a"})
    second = again(journal(first), B, running=set())
    third = again(journal(second, journal(first)), A)
    assert third.state("a") == "down"


def test_somebody_who_has_seen_a_later_boot_is_noticed() -> None:
    rig = Rig(A, hello=False)
    rig.feed(rig.greeting("a", 1, boot=7))
    assert not rig.kernel.rolled_back
    rig.feed(rig.greeting("a", 2, boot=8))
    assert "a:2 has seen boot 8" in rig.kernel.rolled_back


STEPS = ["kill", "gone", "back", "cut", "exit", "stop", "start", "restart", "reset", "more", "frozen", "fail", "tick", "rest", "down"]  # fmt: skip


def disturb(rig: Rig, step: str, pick: int) -> None:
    """One thing happens to one of the processes."""
    alive = [i for i in rig.kernel.supervisor.instances() if i.state in ALIVE]
    one = alive[pick % len(alive)] if alive else None
    name = "ab"[pick % 2]
    requests = {"stop": Type.PLUGIN_STOP, "start": Type.PLUGIN_START, "restart": Type.PLUGIN_RESTART, "reset": Type.PLUGIN_RESET, "kill": Type.PLUGIN_KILL}  # fmt: skip
    if step in requests:
        rig.request(rig.client(f"c{rig.ids}"), requests[step], {"plugin": name})
    elif step == "more":
        rig.kernel.supervisor.want_more("a", rig.now)
        rig.feed(LogLine("a", "the event of which that was part"))
    elif step == "tick":
        rig.advance(1.0)
    elif step == "rest":
        rig.advance(40.0)
    elif step == "down" and pick == 0:
        rig.feed(Stop("SIGTERM"))
    elif one is not None and step == "back":
        rig.feed(rig.greeting(one.component.name, one.incarnation))
    elif one is not None and step == "gone":
        rig.tell(plugin(one.component.name, one.incarnation), Type.GOODBYE)
    elif one is not None and step == "cut":
        rig.feed(PeerGone(Channel.PLUGINS, plugin(one.component.name, one.incarnation), "cut"))
    elif one is not None and step == "exit":
        rig.feed(Exited(one.incarnation, -9))
    elif one is not None and step == "frozen":
        rig.feed(Frozen(one.incarnation))
    elif one is not None and step == "fail":
        rig.feed(SpawnFailed(one.incarnation, "no memory"))


@given(
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 5)), max_size=20), st.booleans(), st.sets(st.integers(1, 30))
)  # fmt: skip
def test_the_fold_of_the_records_is_the_live_state_and_what_the_next_boot_starts_from(
    steps: list[tuple[str, int]], hello: bool, running: set[int]
) -> None:
    rig = Rig(A, B, hello=hello)
    for step, pick in steps:
        disturb(rig, step, pick)
        assert supervised(journal(rig)) == rig.kernel.supervisor.image()
    image = journal(rig)
    wishes = rig.kernel.supervisor.image()["component"]
    following = again(image, B, A, running=running, hello=hello)
    supervisor = following.kernel.supervisor
    assert supervised(journal(following, image)) == supervisor.image()
    assert supervisor.image()["component"] == wishes
    adopted = {i.incarnation: i for i in supervisor.instances() if i.state in ALIVE and i.incarnation <= rig.kernel.supervisor.last}  # fmt: skip
    assert adopted.keys() | set(killed(following)) == running & {int(name) for name in image["incarnation"]}
    for incarnation, instance in adopted.items():
        assert instance.record == image["incarnation"][str(incarnation)]
    for step, pick in steps:
        disturb(following, step, pick)
    assert supervised(journal(following, image)) == supervisor.image()


def test_a_record_touches_what_it_says() -> None:
    rig = Rig(A)
    rig.request(rig.client(), Type.PLUGIN_STOP, {"plugin": "a"})
    rig.feed(Exited(1, 0))
    image: Image = {}
    for record in records(rig):
        before = copy.deepcopy(image)
        fold(image, [record])
        changed = {
            (area, name)
            for area in {*before, *image}
            for name in {*before.get(area, {}), *image.get(area, {})}
            if before.get(area, {}).get(name) != image.get(area, {}).get(name)
        }
        assert changed <= set(touched(record)), record


def test_the_start_of_a_process_is_recorded_by_two_records() -> None:
    rig = Rig(manifest("a"), hello=False)
    rig.feed(Spawned(1, 77, "boot:123"))
    body = journal(rig)["incarnation"]["1"]
    assert (body["pid"], body["started"]) == (77, "boot:123")
    spawn = rig.of(Spawn)[0]
    first = next(e for e in rig.effects if isinstance(e, Append) and e.records[-1].type is RecordType.INCARNATION)
    assert spawn.after == first.position
    assert spawn.token not in str(records(rig))
