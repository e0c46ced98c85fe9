# SPDX-License-Identifier: Apache-2.0
"""Frozen, busy and dead are told apart, and a daemon that was held up blames nobody for it."""

from __future__ import annotations

import pytest
from kernel_rig import Rig, manifest, plugin

from qcosd.core.effects import SIGKILL, Look, Signal
from qcosd.core.events import Away, Channel, Exited, Frozen, JournalHealth, PeerGone, Tick, Vitals
from qcosd.core.manifest import Operation
from qcosd.protocol import HEARTBEAT, Type

HELLO = manifest("hello", Operation("hello", "greet", ("greeting",), ("greeted",)))


class Silent(Rig):
    """Plugins that say nothing after HELLO and use a share of a core."""

    use: float | None = 0.0

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.kernel.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            looks = len(self.of(Look))
            self.feed(Tick())
            for look in self.of(Look)[looks:]:
                self.feed(Vitals(look.incarnation, None if self.use is None else self.use * self.now))
        self.now = end


def silent(use: float | None) -> Silent:
    rig = Silent(HELLO)
    rig.silent, rig.use = True, use
    return rig


def killed(rig: Rig) -> list[int]:
    return [effect.incarnation for effect in rig.of(Signal) if effect.signum == SIGKILL]


@pytest.mark.parametrize("state", ["starting", "ready", "awaited", "asked", "terminating"])
def test_a_frozen_process_is_killed_at_once_in_every_state(state: str) -> None:
    rig = Rig(HELLO, hello=state != "starting")
    if state == "awaited":
        rig.feed(PeerGone(Channel.PLUGINS, plugin("hello", 1), "cut"))
    elif state == "asked":
        rig.request(rig.client(), Type.PLUGIN_STOP, {"plugin": "hello"})
    elif state == "terminating":
        rig.tell(plugin("hello", 1), Type.GOODBYE)
    assert rig.state("hello") == state
    rig.feed(Frozen(1))
    rig.feed(Frozen(99))
    assert killed(rig) == [1]
    rig.feed(Exited(1, -9))
    cause = rig.kernel.supervisor.components["hello"].cause
    assert cause == ("" if state == "asked" else "frozen (stopped by a signal)")


def test_nobody_pays_for_a_signal_from_outside_while_it_stands_ready() -> None:
    rig = Rig(HELLO)
    rig.feed(Frozen(1))
    rig.feed(Exited(1, -9))
    assert not rig.kernel.supervisor.components["hello"].deaths


def test_who_is_silent_and_idle_pays_itself() -> None:
    rig = silent(0.0)
    rig.advance(4 * HEARTBEAT)
    rig.feed(Exited(1, -9))
    assert len(rig.kernel.supervisor.components["hello"].deaths) == 1


def test_who_is_frozen_at_work_has_it_done_by_the_next() -> None:
    rig = Rig(HELLO)
    job = rig.submit(client := rig.client(), "greeting", target="greeted")
    rig.feed(Frozen(1))
    rig.feed(Exited(1, -9))
    rig.advance(0.0)
    rig.work("hello")
    document = rig.document(client, job)
    assert (document["state"], document["restarts"]) == ("done", 1)
    assert not rig.kernel.supervisor.components["hello"].deaths


def test_silent_without_use_of_the_cpu_is_dead() -> None:
    rig = silent(0.0)
    rig.advance(2 * HEARTBEAT)
    assert len(rig.of(Look)) == 1 and killed(rig) == []
    rig.advance(2 * HEARTBEAT)
    assert killed(rig)[0] == 1
    rig.feed(Exited(1, -9))
    assert rig.kernel.supervisor.components["hello"].cause.startswith("silent: no heartbeat for ")


def test_the_threads_of_libzmq_alone_are_no_life() -> None:
    rig = silent(0.001)
    rig.advance(4 * HEARTBEAT)
    assert killed(rig)[0] == 1


def test_silent_with_use_of_the_cpu_is_busy_until_it_speaks() -> None:
    rig = silent(0.5)
    rig.advance(41.0)
    assert killed(rig) == [] and rig.state("hello") == "ready"
    row = rig.ask(rig.client(), Type.PLUGIN_LIST).body["plugins"][0]
    assert row["cause"] == "busy: no heartbeat for 40 s, using the CPU"
    rig.tell(plugin("hello", 1), Type.HEARTBEAT)
    rig.advance(HEARTBEAT)
    assert rig.events("plugin.hello")[-1]["cause"] is None
    rig.use = 0.0
    rig.advance(3 * HEARTBEAT)
    rig.use = None
    rig.advance(100.0)
    assert killed(rig) == [1] * len(killed(rig)) and killed(rig)


def test_who_cannot_be_looked_at_is_not_judged() -> None:
    rig = silent(None)
    rig.advance(100.0)
    assert killed(rig) == []


def test_any_message_is_a_sign_of_life() -> None:
    rig = silent(0.0)
    for _ in range(20):
        rig.advance(1.9 * HEARTBEAT)
        rig.tell(plugin("hello", 1), Type.PONG)
    assert rig.of(Look) == []


def test_a_late_answer_of_a_dead_process_says_nothing_about_its_successor() -> None:
    rig = silent(0.0)
    rig.advance(2 * HEARTBEAT)
    rig.feed(Exited(1, -9))
    rig.advance(0.0)
    for cpu in (1.0, 1.0, None):
        rig.now += 10.0
        rig.feed(Vitals(1, cpu))
    assert killed(rig) == [] and rig.state("hello") == "ready"


def test_when_the_daemon_itself_was_held_up_nobody_is_silent() -> None:
    rig = silent(0.0)
    rig.advance(1.9 * HEARTBEAT)
    rig.now += 60.0
    rig.feed(Away(60.0))
    rig.feed(Tick())
    assert rig.of(Look) == []
    rig.advance(0.2 * HEARTBEAT)
    assert len(rig.of(Look)) == 1


@pytest.mark.parametrize("away", [True, False])
def test_when_the_daemon_itself_was_held_up_an_earlier_look_says_nothing(away: bool) -> None:
    rig = silent(0.5)
    rig.advance(4 * HEARTBEAT)
    used = 0.5 * rig.now
    rig.now += 60.0
    if away:
        rig.feed(Away(60.0))
    rig.feed(Vitals(1, used + 0.3))  # busy for a little of that minute; what it has said since waits to be read
    assert killed(rig) == ([] if away else [1])


def test_who_was_busy_when_the_daemon_was_held_up_is_so_until_it_speaks() -> None:
    rig = silent(0.5)
    rig.advance(4 * HEARTBEAT)
    assert rig.events("plugin.hello")[-1]["cause"].startswith("busy: ")
    rig.feed(Away(60.0))
    rig.tell(plugin("hello", 1), Type.HEARTBEAT)
    rig.advance(HEARTBEAT)
    assert rig.events("plugin.hello")[-1]["cause"] is None


@pytest.mark.parametrize("away", [True, False])
def test_when_the_daemon_itself_was_held_up_a_cut_plugin_has_its_time_anew(away: bool) -> None:
    rig = Rig(HELLO)
    rig.feed(PeerGone(Channel.PLUGINS, plugin("hello", 1), "cut"))
    rig.now += 60.0
    if away:
        rig.feed(Away(60.0))
    rig.feed(Tick())
    assert killed(rig) == ([] if away else [1])
    rig.feed(rig.greeting("hello", 1))
    assert rig.state("hello") == ("ready" if away else "killing")


BRIEF = manifest("hello", Operation("hello", "greet", ("greeting",), ("greeted",), budget=30.0))


@pytest.mark.parametrize("away", [True, False])
def test_when_the_daemon_itself_was_held_up_work_has_its_time_anew(away: bool) -> None:
    rig = Rig(BRIEF)
    job = rig.submit(client := rig.client(), "greeting", target="greeted")
    rig.now += 60.0
    if away:
        rig.feed(Away(60.0))
    rig.feed(Tick())
    assert rig.document(client, job)["state"] == ("booting" if away else "failed")
    rig.advance(29.0)
    assert rig.document(client, job)["state"] == ("booting" if away else "failed")
    rig.advance(2.0)
    assert rig.document(client, job)["error"]["name"] == "budget"


def test_when_the_daemon_itself_was_held_up_what_was_taken_back_has_its_time_anew() -> None:
    rig = Rig(BRIEF)
    job = rig.submit(client := rig.client(), "greeting", target="greeted")
    rig.ask(client, Type.JOB_CANCEL, {"job": job})
    rig.now += 60.0
    rig.feed(Away(60.0))
    rig.feed(Tick())
    assert killed(rig) == []
    rig.advance(11.0)
    assert killed(rig)[0] == 1


def test_work_that_waits_for_the_journal_is_not_late() -> None:
    rig = Rig(BRIEF)
    client = rig.client()
    jobs = [rig.submit(client, "greeting", target="greeted") for _ in range(2)]
    rig.ask(client, Type.JOB_CANCEL, {"job": jobs[1]})
    rig.feed(JournalHealth("no space left on device"))
    rig.advance(100.0)
    assert killed(rig) == [] and rig.document(client, jobs[0])["state"] == "booting"
    rig.feed(JournalHealth(""))
    rig.advance(29.0)
    assert rig.document(client, jobs[0])["state"] == "booting"
    rig.advance(2.0)
    assert rig.document(client, jobs[0])["error"]["name"] == "budget"
