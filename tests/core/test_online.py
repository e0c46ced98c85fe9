# SPDX-License-Identifier: Apache-2.0
"""Which processes the system's scheduler is to prefer, and when no more."""

from __future__ import annotations

from kernel_rig import QEC, Rig

from qcosd.core.effects import SetPriority
from qcosd.core.events import PrioritySet
from qcosd.core.online import LINGER
from qcosd.protocol import Type

COUNTS = {"sum": {"counts": {"0": 10}}}


def told(rig: Rig) -> list[tuple[str, bool]]:
    """Component and whether it is to be preferred, of all that was said so far."""
    supervisor = rig.kernel.supervisor
    names = {each.incarnation: each.component.name for each in supervisor.instances()}
    return [(names[effect.incarnation], effect.online) for effect in rig.of(SetPriority)]


def running(**options: int) -> Rig:
    rig = Rig(*QEC)
    rig.submit(rig.client(), **options)
    rig.boot()
    return rig


def test_both_ends_of_a_stream_are_online_from_the_first_batch_to_the_last() -> None:
    rig = running(shots=20, batch=10)
    both = [("stim_adapter", True), ("matching_tracker", True)]
    assert told(rig) == both, "and nobody during the boot phase"
    for batch in (0, 1):
        assert told(rig) == both, f"nothing changes from one batch to the next ({batch})"
        out, inn = rig.lease("stim_adapter"), rig.lease("matching_tracker")
        assert rig.done("stim_adapter", out).type is Type.ACK
        assert rig.done("matching_tracker", inn, COUNTS).type is Type.ACK
    assert told(rig) == both, "the next job may come at once"
    rig.advance(LINGER)
    assert sorted(told(rig)[2:]) == [("matching_tracker", False), ("stim_adapter", False)]


def test_what_died_is_online_no_more_and_its_successor_is() -> None:
    rig = running(shots=10)
    first = {effect.incarnation for effect in rig.of(SetPriority)}
    rig.kill("matching_tracker")
    rig.give_up("stim_adapter")
    rig.advance(0.0)
    rig.advance(LINGER)
    online = {effect.incarnation: effect.online for effect in rig.of(SetPriority)}
    assert sum(online.values()) == 2, "who delivers and who takes"
    assert len(online) > len(first)


def test_a_daemon_that_comes_back_says_it_again() -> None:
    rig = running(shots=10)
    rig.effects.clear()
    rig.reboot()
    rig.advance(0.0)
    assert [online for _, online in told(rig)] == [True, True]


def test_how_the_system_schedules_a_process_is_shown_while_it_lives() -> None:
    rig = running(shots=10)
    client = rig.client()

    def shown() -> list[str | None]:
        document = rig.ask(client, Type.PLUGIN_SHOW, {"plugin": "stim_adapter"}).body["document"]
        return [row["scheduling"] for row in document["instances"]]

    assert shown() == [None]
    incarnation = rig.kernel.supervisor.components["stim_adapter"].instances[0].incarnation
    rig.feed(PrioritySet(incarnation, "nice -5, CPUs 0-1"))
    rig.feed(PrioritySet(incarnation + 1000, "nobody"))
    assert shown() == ["nice -5, CPUs 0-1"]
    rig.kill("stim_adapter")
    rig.advance(0.0)
    assert shown() == [None]
