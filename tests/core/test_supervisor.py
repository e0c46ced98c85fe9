# SPDX-License-Identifier: Apache-2.0
"""Supervision: the table is total, and the rules above it hold."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_rig import Rig, manifest, plugin

from qcosd.core.effects import SIGKILL, SIGTERM, Exit, Signal, Spawn
from qcosd.core.events import Channel, Exited, PeerGone, SpawnFailed, Stop
from qcosd.core.lifecycle import ALIVE, EXITS, TABLE, Action, State, Trigger
from qcosd.core.manifest import Operation, Restart, StopLadder
from qcosd.protocol import Type

A = manifest("a", Operation("alpha", "run"), restart=Restart(max_deaths=3))
B = manifest("b", Operation("beta", "run"), needs=("alpha",))
C = manifest("c", Operation("gamma", "run"), needs=("beta",))


def signals(rig: Rig) -> list[tuple[int, int]]:
    return [(effect.incarnation, effect.signum) for effect in rig.of(Signal)]


def spawned(rig: Rig) -> list[str]:
    return [effect.component for effect in rig.of(Spawn)]


def incarnation(rig: Rig, name: str) -> int:
    return rig.kernel.supervisor.components[name].incarnation


def test_table_is_total() -> None:
    assert set(TABLE) == set(State)
    assert all(set(row) == set(Trigger) for row in TABLE.values())


@pytest.mark.parametrize("state", State)
def test_the_end_of_a_process_is_an_end_and_nothing_else(state: State) -> None:
    for trigger in EXITS:
        after, actions = TABLE[state][trigger]
        assert after not in ALIVE or (state not in ALIVE and after is state)
        assert not set(actions) & {Action.ASK, Action.TERM, Action.KILL}


@pytest.mark.parametrize("state", sorted(ALIVE))
def test_no_process_is_forgotten(state: State) -> None:
    """A state with a process is left for one without only by the end of the process."""
    for trigger in set(Trigger) - EXITS:
        assert TABLE[state][trigger][0] in ALIVE


@pytest.mark.parametrize("state", sorted(ALIVE - {State.READY}))
def test_a_process_that_does_nothing_is_killed_in_the_end(state: State) -> None:
    for _ in range(len(State)):
        state, actions = TABLE[state][Trigger.TIMEOUT]
    assert (state, actions) == (State.KILLING, (Action.KILL,))


def test_every_state_can_be_reached() -> None:
    reached = {State.DOWN}
    for _ in State:
        reached |= {cell[0] for state in reached for cell in TABLE[state].values()}
    assert reached == set(State)


def test_starts_in_the_order_of_needs() -> None:
    rig = Rig(C, B, A, hello=False)
    assert spawned(rig) == ["a"]
    assert "waits for service beta" in rig.kernel.supervisor.components["c"].cause
    rig.feed(rig.greeting("a", 1))
    assert spawned(rig) == ["a", "b"]
    rig.feed(rig.greeting("b", 2))
    rig.feed(rig.greeting("c", 3))
    assert {name: rig.state(name) for name in "abc"} == dict.fromkeys("abc", "ready")
    assert rig.events("kernel")[-1]["state"] == "ready"


def test_readiness_may_come_after_hello() -> None:
    rig = Rig(A, hello=False)
    rig.feed(rig.greeting("a", 1, ready=False))
    assert rig.state("a") == "starting"
    rig.tell(plugin("a", 1), Type.READY)
    assert rig.state("a") == "ready"


def test_not_ready_in_time_is_a_death() -> None:
    rig = Rig(A, hello=False)
    rig.advance(30.1)
    assert signals(rig) == [(1, SIGKILL)]
    rig.feed(Exited(1, -9))
    assert rig.state("a") == "backoff"
    assert rig.kernel.supervisor.components["a"].cause == "not ready within 30 s"


def test_restart_at_once_then_after_doubling_pauses_and_stable_time_forgets() -> None:
    calm = manifest("a", Operation("alpha", "run"), restart=Restart(max_deaths=100))
    rig = Rig(calm)
    pauses = []
    for _ in range(9):
        rig.kill("a")
        before = rig.now
        while rig.state("a") != "ready":
            due = rig.kernel.next_deadline()
            assert due is not None
            rig.advance(due - rig.now)
        pauses.append(round(rig.now - before, 3))
    assert pauses == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    rig.advance(5.0)
    rig.kill("a")
    rig.advance(0.0)
    assert rig.state("a") == "ready"


def test_too_many_deaths_are_failure_until_reset() -> None:
    rig = Rig(A)
    for _ in range(3):
        rig.advance(1.0)
        rig.kill("a", status=3)
    assert rig.state("a") == "failed"
    rig.advance(1000.0)
    assert rig.state("a") == "failed"
    client = rig.client()
    row = rig.ask(client, Type.PLUGIN_LIST).body["plugins"][0]
    assert (row["state"], row["cause"]) == ("failed", "died 3 times within 60 s; the last time: exited with status 3")
    assert rig.ask(client, Type.STATUS).body["state"] == "degraded"
    rig.ask(client, Type.PLUGIN_RESET, {"plugin": "a"})
    assert rig.state("a") == "ready"


def test_deaths_far_apart_do_not_add_up() -> None:
    rig = Rig(A)
    for _ in range(10):
        rig.kill("a")
        rig.advance(61.0)
    assert rig.state("a") == "ready"


def test_a_process_that_cannot_be_started_is_a_death() -> None:
    rig = Rig(manifest("a", restart=Restart(policy="never")), hello=False)
    rig.feed(SpawnFailed(1, "no such file"))
    assert rig.state("a") == "failed"
    assert rig.kernel.supervisor.components["a"].cause == "could not be started: no such file"


def test_stop_ladder() -> None:
    rig = Rig(manifest("a", stop=StopLadder(ask=2.0, term=3.0)))
    client = rig.client()
    number = rig.request(client, Type.PLUGIN_STOP, {"plugin": "a"}, deadline=60.0)
    assert rig.read(plugin("a", 1), Type.STOP).body["seconds"] == 2.0
    assert signals(rig) == []
    rig.advance(2.0)
    assert signals(rig) == [(1, SIGTERM)]
    rig.advance(3.0)
    assert signals(rig) == [(1, SIGTERM), (1, SIGKILL)]
    assert rig.answers(client, number) == []
    rig.feed(Exited(1, -9))
    assert [answer.type for answer in rig.answers(client, number)] == [Type.ACK]
    rig.advance(100.0)
    assert rig.state("a") == "down"
    assert rig.ask(client, Type.PLUGIN_START, {"plugin": "a"}).type is Type.ACK
    assert rig.state("a") == "ready"


def test_a_kill_on_demand_is_a_death_that_nobody_pays_for() -> None:
    rig = Rig(A)
    rig.ask(rig.client(), Type.PLUGIN_KILL, {"plugin": "a"})
    assert signals(rig) == [(1, SIGKILL)]
    rig.advance(5.0)
    assert signals(rig) == [(1, SIGKILL), (1, SIGKILL)]  # it is sent again as long as there is a process
    rig.feed(Exited(1, None))
    assert (incarnation(rig, "a"), rig.state("a")) == (2, "ready")
    assert not rig.kernel.supervisor.components["a"].deaths
    rig.feed(Exited(1, -9))
    rig.feed(Exited(77, 0))
    assert rig.state("a") == "ready"


def test_who_waits_for_a_component_that_fails_is_told() -> None:
    rig = Rig(A)
    client = rig.client()
    rig.kill("a")
    number = rig.request(client, Type.PLUGIN_START, {"plugin": "a"})
    for _ in range(2):
        rig.hello = False
        rig.advance(1.0)
        rig.feed(Exited(incarnation(rig, "a"), 1))
    answer = rig.answers(client, number)[0]
    assert answer.body["error"]["name"] == "no_provider"
    assert "exited with status 1" in answer.body["error"]["message"]


def test_a_hello_of_another_incarnation_is_a_breach() -> None:
    rig = Rig(A, hello=False)
    body = {"name": "a", "versions": [1, 1], "incarnation": 9, "services": ["alpha.run"]}
    rig.tell(plugin("a", 1), Type.HELLO, body, id=1)
    assert rig.read(plugin("a", 1), Type.GOODBYE).body["error"]["name"] == "late"
    assert signals(rig) == [(1, SIGKILL)]


def test_restart_is_no_death() -> None:
    rig = Rig(A)
    client = rig.client()
    number = rig.request(client, Type.PLUGIN_RESTART, {"plugin": "a"})
    rig.kill("a", status=0)
    assert [answer.type for answer in rig.answers(client, number)] == [Type.ACK]
    assert (incarnation(rig, "a"), rig.state("a")) == (2, "ready")
    assert not rig.kernel.supervisor.components["a"].deaths


def test_a_start_during_the_stop_comes_after_it() -> None:
    rig = Rig(A)
    client = rig.client()
    stop = rig.request(client, Type.PLUGIN_STOP, {"plugin": "a"})
    start = rig.request(client, Type.PLUGIN_START, {"plugin": "a"})
    rig.kill("a", status=0)
    assert rig.state("a") == "ready"
    assert [answer.type for answer in rig.answers(client, start)] == [Type.ACK]
    rig.advance(61.0)
    assert rig.answers(client, stop)[0].body["error"]["name"] == "deadline"


def test_a_plugin_that_leaves_is_ended_and_started_again() -> None:
    rig = Rig(A)
    rig.tell(plugin("a", 1), Type.GOODBYE, {"reason": "tired"})
    assert signals(rig) == [(1, SIGTERM)]
    rig.feed(Exited(1, 0))
    rig.advance(0.0)
    assert incarnation(rig, "a") == 2


def test_a_cut_connection_ends_the_process_unless_it_comes_back_in_time() -> None:
    rig = Rig(A)
    rig.feed(PeerGone(Channel.PLUGINS, plugin("a", 1), "unreachable"))
    assert rig.state("a") == "awaited"
    assert rig.ask(client := rig.client(), Type.STATUS).body["state"] == "starting"
    rig.advance(4.9)
    rig.feed(rig.greeting("a", 1))
    assert rig.state("a") == rig.ask(client, Type.STATUS).body["state"] == "ready"
    rig.feed(PeerGone(Channel.PLUGINS, plugin("a", 1), "unreachable"))
    rig.advance(5.0)
    assert signals(rig) == [(1, SIGKILL)]
    rig.feed(Exited(1, -9))
    assert rig.kernel.supervisor.components["a"].cause == "did not connect within 5 s"
    assert len(rig.kernel.supervisor.components["a"].deaths) == 1


def test_frames_of_an_old_incarnation_are_refused_and_counted() -> None:
    rig = Rig(A)
    rig.kill("a")
    rig.advance(0.0)
    rig.inbox.clear()
    rig.tell(plugin("a", 1), Type.HEARTBEAT)
    rig.feed(rig.greeting("a", 1))
    rig.feed(rig.greeting("a", 9))
    assert rig.kernel.counters["late"] == 3
    assert not rig.inbox
    assert (incarnation(rig, "a"), rig.state("a")) == (2, "ready")


def test_a_plugin_that_lacks_what_its_manifest_promises_is_killed() -> None:
    rig = Rig(A, hello=False)
    rig.feed(rig.greeting("a", 1, services=["other.thing"]))
    assert "alpha.run" in rig.read(plugin("a", 1), Type.GOODBYE).body["error"]["message"]
    assert signals(rig) == [(1, SIGKILL)]
    rig.feed(Exited(1, -9))
    assert "alpha.run" in rig.kernel.supervisor.components["a"].cause


def test_shutdown_in_reverse_order() -> None:
    rig = Rig(A, B, C)
    client = rig.client()
    rig.ask(client, Type.SHUTDOWN)
    assert [rig.state(name) for name in "abc"] == ["ready", "ready", "asked"]
    rig.kill("c", status=0)
    assert [rig.state(name) for name in "abc"] == ["ready", "asked", "down"]
    rig.kill("b", status=0)
    assert rig.of(Exit) == []
    rig.kill("a", status=0)
    assert [effect.code for effect in rig.of(Exit)] == [0]
    assert isinstance(rig.effects[-1], Exit)
    assert rig.read(client, Type.GOODBYE)


def test_shutdown_waits_for_nothing_that_does_not_run() -> None:
    rig = Rig(A, B, hello=False)
    rig.feed(Stop("SIGTERM"))
    assert rig.state("b") == "down"
    assert signals(rig) == [(1, SIGTERM)]
    rig.feed(Exited(1, -15))
    assert [effect.code for effect in rig.of(Exit)] == [0]


def test_a_second_stop_kills() -> None:
    rig = Rig(A, B, C)
    rig.feed(Stop("SIGTERM"))
    rig.feed(Stop("SIGTERM"))
    assert sorted(signals(rig)) == [(1, SIGKILL), (2, SIGKILL), (3, SIGKILL)]


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["kill", "gone", "exit0", "stop", "start", "restart", "reset", "goodbye", "tick"]), max_size=25
    )
)
def test_whatever_happens_a_wanted_component_is_ready_again_or_failed(steps: list[str]) -> None:
    rig = Rig(A)
    client = rig.client()
    requests = {
        "stop": Type.PLUGIN_STOP,
        "start": Type.PLUGIN_START,
        "restart": Type.PLUGIN_RESTART,
        "reset": Type.PLUGIN_RESET,
    }
    for step in steps:
        here = rig.address("a")
        if step in requests:
            rig.request(client, requests[step], {"plugin": "a"})
        elif step == "goodbye":
            rig.tell(here, Type.GOODBYE)
        elif step == "gone":
            rig.feed(PeerGone(Channel.PLUGINS, here, "gone"))
        elif step == "tick":
            rig.advance(1.0)
        else:
            rig.feed(Exited(incarnation(rig, "a"), 0 if step == "exit0" else -9))
    # Whatever process is left obeys signals from here on.
    for _ in range(10):
        rig.advance(10.0)
        if rig.state("a") in ("asked", "terminating", "killing"):
            rig.feed(Exited(incarnation(rig, "a"), -15))
    component = rig.kernel.supervisor.components["a"]
    assert component.state in ((State.READY, State.FAILED) if component.wanted else (State.DOWN, State.FAILED))
    assert len(rig.kernel.quota) == 0
    assert len(rig.kernel.requests) == 0
