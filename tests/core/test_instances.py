# SPDX-License-Identifier: Apache-2.0
"""Components with several processes: replicas, more of them when work waits, spares that take over."""

from __future__ import annotations

from typing import Any

import pytest
from kernel_rig import Rig, manifest, plugin

from qcosd.core.components import Instance
from qcosd.core.effects import SIGKILL, Exit, LogRead, Signal, Spawn
from qcosd.core.events import Exited, Frozen, LogLine, Stop
from qcosd.core.manifest import Manifest, Operation, Restart
from qcosd.protocol import Message, Type

GREET = Operation("hello", "greet", ("greeting",), ("greeted",))


def crew(**changes: Any) -> Manifest:
    return manifest("hello", GREET, **changes)


def rows(rig: Rig) -> dict[str, dict[str, Any]]:
    client = rig.client()
    return {row["name"]: row for row in rig.ask(client, Type.PLUGIN_LIST).body["plugins"]}


def active(rig: Rig, name: str = "hello") -> list[int]:
    """Numbers of the instances to which work may be given."""
    return [instance.number for instance in rig.kernel.supervisor.active(name)]


def instance(rig: Rig, number: int, name: str = "hello") -> Instance:
    return next(i for i in rig.kernel.supervisor.components[name].instances if i.number == number)


def leases(rig: Rig, incarnation: int) -> list[Message]:
    return [message for message in rig.inbox[plugin("hello", incarnation)] if message.type is Type.LEASE]


def test_there_is_a_row_for_each_process() -> None:
    rig = Rig(crew(replicas=2, spares=1))
    assert {name: (row["role"], row["state"], row["incarnation"]) for name, row in rows(rig).items()} == {
        "hello": ("active", "ready", 1),
        "hello:2": ("active", "ready", 2),
        "hello:3": ("spare", "ready", 3),
    }
    assert rig.events("plugin.hello:3")[-1]["state"] == "ready"
    assert rig.ask(rig.client(), Type.STATUS).body["plugins"] == {"hello": "ready"}


def test_work_goes_to_the_replica_with_the_most_room_and_never_to_a_spare() -> None:
    rig = Rig(crew(replicas=2, spares=1))
    client = rig.client()
    for _ in range(3):
        rig.submit(client, "greeting", target="greeted")
    assert [len(leases(rig, incarnation)) for incarnation in (1, 2, 3)] == [1, 1, 0]


@pytest.mark.parametrize("end", ["dies", "is frozen", "leaves", "is killed on demand"])
def test_a_spare_takes_over_in_the_same_event(end: str) -> None:
    rig = Rig(crew(spares=1, replicas=2))
    client = rig.client()
    jobs = [rig.submit(client, "greeting", target="greeted") for _ in range(2)]
    if end == "is frozen":
        rig.feed(Frozen(2))
        assert instance(rig, 2).cause == "frozen (stopped by a signal)"
    elif end == "leaves":
        rig.tell(plugin("hello", 2), Type.GOODBYE)
    elif end == "is killed on demand":
        rig.ask(client, Type.PLUGIN_KILL, {"plugin": "hello:2"})
    if end != "dies":
        assert active(rig) == [1, 3]
    rig.feed(Exited(2, -9))
    assert active(rig) == [1, 3]
    assert [message.body["job"] for message in leases(rig, 3)] == jobs[1:]
    rig.advance(0.0)
    assert {name: (row["role"], row["state"]) for name, row in rows(rig).items()} == {
        "hello": ("active", "ready"), "hello:2": ("spare", "ready"), "hello:3": ("active", "ready")
    }  # fmt: skip
    assert len(rig.kernel.supervisor.components["hello"].deaths) == 0  # the lease paid, or nobody


def test_a_spare_that_is_ready_first_is_the_active_one() -> None:
    rig = Rig(crew(spares=1), hello=False)
    rig.feed(rig.greeting("hello", 2))
    assert active(rig) == [2]
    rig.feed(rig.greeting("hello", 1))
    assert active(rig) == [2]
    assert rows(rig)["hello"]["role"] == "spare"


def test_one_instance_can_be_killed_by_name() -> None:
    rig = Rig(crew(replicas=2))
    client = rig.client()
    assert rig.ask(client, Type.PLUGIN_KILL, {"plugin": "hello:2"}).type is Type.ACK
    assert [(s.incarnation, s.signum) for s in rig.of(Signal)] == [(2, SIGKILL)]
    assert rig.refusal(client, Type.PLUGIN_KILL, {"plugin": "hello:3"}) == "no_such_plugin"
    assert rig.refusal(client, Type.PLUGIN_STOP, {"plugin": "hello:2"}) == "no_such_plugin"
    rig.feed(Exited(2, -9))
    assert {name: row["incarnation"] for name, row in rows(rig).items()} == {"hello": 1, "hello:2": 3}


def test_each_instance_has_last_words_and_a_log_of_its_own() -> None:
    rig = Rig(crew(replicas=2))
    client = rig.client()
    jobs = [rig.submit(client, "greeting", target="greeted") for _ in range(2)]
    rig.feed(LogLine("hello:2", "out of memory"))
    rig.feed(LogLine("hello", "all is well"))
    rig.feed(LogLine("hello:3", "nobody has this place"))
    rig.feed(Exited(2, -9))
    assert [row["log"] for row in rig.document(client, jobs[1])["story"] if row["event"] == "lost"] == [
        ["out of memory"]
    ]
    rig.request(client, Type.PLUGIN_LOGS, {"plugin": "hello:2"})
    assert rig.of(LogRead) == [LogRead("hello:2", 50)]


def test_where_there_is_no_process_none_is_killed() -> None:
    rig = Rig(crew(replicas=2))
    client = rig.client()
    rig.feed(Exited(2, -9))
    assert rig.refusal(client, Type.PLUGIN_KILL, {"plugin": "hello:2"}) == "no_process"
    assert rig.ask(client, Type.PLUGIN_KILL, {"plugin": "hello"}).type is Type.ACK, "one of the two has a process"
    rig.request(client, Type.PLUGIN_STOP, {"plugin": "hello"})
    for each in rig.kernel.supervisor.instances():
        rig.feed(Exited(each.incarnation, 0))
    error = rig.ask(client, Type.PLUGIN_KILL, {"plugin": "hello"}).body["error"]
    assert (error["name"], error["message"]) == ("no_process", "hello has no process: it is down")


def test_commands_are_for_all_processes_and_answered_when_all_have_followed() -> None:
    rig = Rig(crew(replicas=2, spares=1))
    client = rig.client()
    stop = rig.request(client, Type.PLUGIN_STOP, {"plugin": "hello"})
    for incarnation in (3, 1):
        rig.feed(Exited(incarnation, 0))
    assert rig.answers(client, stop) == []
    rig.feed(Exited(2, 0))
    assert [answer.type for answer in rig.answers(client, stop)] == [Type.ACK]
    assert {row["state"] for row in rows(rig).values()} == {"down"}
    assert rig.ask(client, Type.PLUGIN_START, {"plugin": "hello"}).type is Type.ACK
    assert sorted(row["role"] for row in rows(rig).values()) == ["active", "active", "spare"]
    restart = rig.request(client, Type.PLUGIN_RESTART, {"plugin": "hello"})
    for incarnation in (4, 5):
        rig.feed(Exited(incarnation, 0))
        assert rig.answers(client, restart) == []
    rig.feed(Exited(6, 0))
    assert [answer.type for answer in rig.answers(client, restart)] == [Type.ACK]


def test_a_restart_goes_from_one_to_the_next_when_the_one_before_is_ready_again() -> None:
    rig = Rig(crew(replicas=2, spares=1))
    client = rig.client()
    restart = rig.request(client, Type.PLUGIN_RESTART, {"plugin": "hello"})
    for incarnation in (1, 2, 3):
        assert {name: row["state"] for name, row in rows(rig).items() if row["state"] != "ready"} == {
            "hello" if incarnation == 1 else f"hello:{incarnation}": "asked"
        }
        assert len(active(rig)) == 2, "the work has as many hands as ever"
        assert rig.answers(client, restart) == []
        rig.feed(Exited(incarnation, 0))
    assert [answer.type for answer in rig.answers(client, restart)] == [Type.ACK]
    assert {row["incarnation"] for row in rows(rig).values()} == {4, 5, 6}


def test_a_restart_that_fails_leaves_the_others_as_they_are() -> None:
    rig = Rig(crew(replicas=3, restart=Restart(max_deaths=1)))
    client = rig.client()
    restart = rig.request(client, Type.PLUGIN_RESTART, {"plugin": "hello"})
    rig.hello = False
    rig.feed(Exited(1, 0))
    rig.feed(Exited(4, 1))
    assert rig.answers(client, restart)[0].body["error"]["name"] == "no_provider"
    assert [row["state"] for row in rows(rig).values()] == ["failed", "ready", "ready"]
    rig.hello = True
    restart = rig.request(client, Type.PLUGIN_RESTART, {"plugin": "hello"})
    assert [row["state"] for row in rows(rig).values()] == ["ready", "asked", "ready"]  # first the one that is down
    rig.ask(client, Type.PLUGIN_RESET, {"plugin": "hello"})
    stop = rig.request(client, Type.PLUGIN_STOP, {"plugin": "hello"})
    for incarnation in (2, 3, 5):
        rig.feed(Exited(incarnation, 0))
    assert [answer.type for answer in rig.answers(client, stop)] == [Type.ACK]
    assert rig.answers(client, restart)[0].body["error"]["name"] == "no_reply"


def test_deaths_of_all_processes_count_together_and_the_others_go_on() -> None:
    rig = Rig(crew(replicas=3, restart=Restart(max_deaths=2)))
    client = rig.client()
    rig.feed(Exited(1, 3))
    rig.feed(Exited(2, 3))
    assert [row["state"] for row in rows(rig).values()] == ["backoff", "failed", "ready"]
    assert rig.ask(client, Type.STATUS).body["state"] == "degraded"
    job = rig.submit(client, "greeting", target="greeted")
    assert len(leases(rig, 3)) == 1 and rig.document(client, job)["state"] != "held"
    rig.ask(client, Type.PLUGIN_RESET, {"plugin": "hello"})
    rig.advance(0.0)
    assert {row["state"] for row in rows(rig).values()} == {"ready"}


def test_more_are_started_while_work_waits_and_stopped_when_idle() -> None:
    rig = Rig(crew(replicas=1, max_replicas=3))
    supervisor = rig.kernel.supervisor
    for _ in range(9):
        supervisor.want_more("hello", rig.now)
        rig.advance(0.0)
        rig.feed(LogLine("hello", "an event in which the process is started"))
    assert active(rig) == [1, 2, 3]
    client = rig.client()
    jobs = [rig.submit(client, "greeting", target="greeted") for _ in range(3)]
    rig.advance(29.0)
    supervisor.want_more("hello", rig.now)
    rig.advance(29.0)
    assert active(rig) == [1, 2, 3]  # they were wanted meanwhile
    rig.advance(31.0)
    assert active(rig) == [1, 2, 3]  # all are busy
    for message in leases(rig, 3):
        lease = message.body
        body = {"lease": lease["lease"], "epoch": lease["epoch"], "outputs": {"greeted": rig.put(client, b"hi")}}
        assert rig.ask(plugin("hello", 3), Type.DONE, body).type is Type.ACK
    rig.advance(30.0)
    assert rig.read(plugin("hello", 3), Type.STOP)
    rig.feed(Exited(3, 0))
    assert rows(rig).keys() == {"hello", "hello:2"}
    assert rig.document(client, jobs[2])["state"] == "done"
    rig.advance(300.0)
    assert active(rig) == [1, 2]


def test_one_more_is_not_started_while_one_is_coming_up_nor_beyond_the_bound() -> None:
    rig = Rig(crew(max_replicas=3), hello=False)
    rig.feed(rig.greeting("hello", 1))
    for _ in range(5):
        rig.kernel.supervisor.want_more("hello", rig.now)
        rig.feed(LogLine("hello", "an event"))
    assert len(rig.of(Spawn)) == 2
    fixed = Rig(crew())
    fixed.kernel.supervisor.want_more("hello", fixed.now)
    fixed.feed(LogLine("hello", "an event"))
    assert len(fixed.of(Spawn)) == 1


def test_with_a_spare_one_more_is_there_at_once() -> None:
    rig = Rig(crew(max_replicas=2, spares=1), hello=False)
    for incarnation in (1, 2):
        rig.feed(rig.greeting("hello", incarnation))
    rig.kernel.supervisor.want_more("hello", rig.now)
    assert active(rig) == [1, 2]
    rig.feed(LogLine("hello", "an event"))
    assert rows(rig)["hello:3"]["role"] == "spare"
    rig.feed(rig.greeting("hello", 3))
    rig.advance(30.0)
    rig.feed(Exited(2, 0))
    assert {name: row["role"] for name, row in rows(rig).items()} == {"hello": "active", "hello:3": "spare"}


def test_shutdown_waits_for_all_processes_of_those_that_need_it() -> None:
    user = manifest("user", Operation("use", "it"), needs=("hello",), replicas=2)
    rig = Rig(crew(spares=1), user)
    rig.feed(Stop("SIGTERM"))
    assert [i.incarnation for i in rig.kernel.supervisor.instances() if str(i.state) == "asked"] == [3, 4]
    rig.feed(Exited(3, 0))
    assert {rig.state("hello"), str(instance(rig, 2).state)} == {"ready"}
    rig.feed(Exited(4, 0))
    assert {rig.state("hello"), str(instance(rig, 2).state)} == {"asked"}
    rig.feed(Exited(1, 0))
    assert rig.of(Exit) == []
    rig.feed(Exited(2, 0))
    assert [effect.code for effect in rig.of(Exit)] == [0]
