# SPDX-License-Identifier: Apache-2.0
"""The kernel is killed at every event, in the middle of its effects: the job ends as if nothing had happened, and nothing is left.

The first effect of an event that changes anything is its Append: of a cut before it nothing is journaled and nobody has heard
anything; of a cut behind it everything is journaled and perhaps nobody has heard.
"""

from __future__ import annotations

import functools
import random
from typing import Any

import pytest
from honest_world import World
from kernel_rig import unpacked

from qcosd.core.recovery import image_of
from qcosd.protocol import Type
from qcosd.sdk.session import Answer, Request

OPTIONS = {"shots": 23, "batch": 5, "seed": 7, "discard_budget": 100, "set": {"workers": 2}}
STEPS = 20_000  # a run without a cut takes a few hundred


def same(document: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on who died when."""
    names = (
        "job",
        "state",
        "inputs",
        "artifacts",
        "outputs",
        "summary",
        "plan",
        "batches",
        "verified",
        "degraded",
        "fenced",
        "error",
    )
    return {name: document[name] for name in names}


def run(world: World) -> dict[str, Any]:
    """A client submits a job under a key and waits for its document."""
    client = world.client()
    learnt = world.submit(client, "once", **OPTIONS)
    for _ in range(STEPS):
        if "document" in learnt:
            return dict(learnt["document"])
        world.step()
    raise AssertionError(f"it does not end: {world.kernel.jobs.active}")


@functools.cache
def undisturbed() -> tuple[dict[str, Any], list[int]]:
    """The document of a run that nobody disturbs, and how many effects each of its events has."""
    world = World()
    document = run(world)
    return document, list(world.effects_of)


def half(seed: int) -> Any:
    return lambda plugin: hash((seed, plugin.incarnation)) % 2 == 0


SURVIVE: dict[str, Any] = {"all": lambda plugin: True, "none": lambda plugin: False}


def examine(cut: tuple[int, int], who: str) -> None:
    survive = SURVIVE.get(who) or half(sum(cut))
    world = World(cut=cut, survive=survive, luck=random.Random(repr((cut, who))))
    document = run(world)
    assert world.cut is None, "the cut was never made"
    assert same(document) == same(undisturbed()[0])
    world.settle(15.0)
    assert world.leftovers() == []
    assert world.journal() == unpacked(image_of(world.kernel))
    jobs: list[Any] = []
    world.ask(world.clients[0], Request(Type.JOB_LIST, {}), jobs.append)
    while not jobs:
        world.step()
    assert isinstance(jobs[0], Answer)
    assert [row["job"] for row in jobs[0].message.body["jobs"]] == [document["job"]]


def test_the_undisturbed_run_is_worth_disturbing() -> None:
    document, effects = undisturbed()
    assert document["state"] == "done"
    assert document["batches"]["total"] > 5, "discards are made up for"
    assert document["summary"]["sum"]["batches"] == document["batches"]["total"]
    assert document["summary"]["sum"]["shots_accepted"] == OPTIONS["shots"]
    assert document["verified"] == ["counts", "optimised"]
    assert (document["restarts"], document["shots_restarted"]) == (0, 0)
    assert max(effects) > 5


def cuts() -> list[tuple[int, int]]:
    return [(event, prefix) for event, count in enumerate(undisturbed()[1]) for prefix in range(count + 1)]


@pytest.mark.parametrize("who", ["all", "none", "half"])
@pytest.mark.parametrize("share", range(2))
def test_the_kernel_dies_here_and_there(who: str, share: int) -> None:
    chosen = cuts()[{"all": 0, "none": 5, "half": 11}[who] :: 37]
    for cut in chosen[share::2]:
        examine(cut, who)


@pytest.mark.long
@pytest.mark.parametrize("who", ["all", "none", "half"])
@pytest.mark.parametrize("share", range(16))
def test_the_kernel_dies_everywhere(who: str, share: int) -> None:
    for cut in cuts()[share::16]:
        examine(cut, who)
