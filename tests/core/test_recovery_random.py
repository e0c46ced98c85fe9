# SPDX-License-Identifier: Apache-2.0
"""Two or three jobs, and everything that can die does, the kernel too, in any order, while the journal lags behind.

Whoever is not cancelled gets what an undisturbed run gives; nobody waits for ever; nothing takes effect twice; nothing is left.
"""

from __future__ import annotations

import dataclasses
import functools
import random
from typing import Any

import pytest
from honest_peers import Client
from honest_plugins import PIPELINE
from honest_world import World
from kernel_rig import unpacked

from qcosd.core.events import Away, Frozen, Limits
from qcosd.core.manifest import Restart
from qcosd.core.recovery import image_of
from qcosd.protocol import Type
from qcosd.sdk.session import Answer, Failure, Request

FAULTS = 25
STEPS = 30_000
JOBS = 4
CALM = 600.0  # seconds after the last fault in which everything must have ended: no budget of a lease is that short
ENDED = ("done", "failed", "cancelled")
LIMITS = Limits(attempts=100, ageing_period=5.0)


@functools.cache
def undisturbed(key: str, shots: int, batch: int, seed: int) -> dict[str, Any]:
    world = World()
    learnt = world.submit(world.client(), key, shots=shots, batch=batch, seed=seed, discard_budget=1000)
    while "document" not in learnt:
        world.step()
    return dict(learnt["document"])


class Chaos:
    """A world and what goes wrong in it."""

    def __init__(self, seed: int) -> None:
        self.choice = choice = random.Random(seed)
        rule = Restart(max_deaths=choice.choice([3, 1000]))
        crew = []
        for service in PIPELINE:
            for number in range(choice.randint(1, 2)):
                name = service.name if not number else f"{service.name}{number}"
                more = {"replicas": choice.randint(1, 2), "spares": choice.randint(0, 1)}
                more["max_replicas"] = more["replicas"] + choice.randint(0, 1)
                crew.append(dataclasses.replace(service, name=name, rank=number, restart=rule, **more))
        liars = choice.choice([(), (), ("optimise1",), ("tracker1",)])
        self.world = World(*crew, choice=choice, slots=choice.randint(1, 2), liars=liars, limits=LIMITS)
        self.world.survive = lambda plugin: choice.random() < self.survival
        self.survival = 1.0
        self.jobs: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.cancelled: set[str] = set()
        self.seen: dict[str, str] = {}  # job -> state, as somebody was told
        self.operator = self.world.client("uid:0")
        self.stopped: set[str] = set()
        for number in range(choice.randint(1, 3)):
            self.submit(number)

    def submit(self, number: int, *, urgent: bool = False) -> None:
        """A job, whose client sends the same request twice on two connections."""
        terms = {"shots": self.choice.randint(5, 25), "batch": self.choice.randint(4, 9), "seed": number}
        options = {**terms, "discard_budget": 1000, "priority": 5 if urgent else self.choice.randint(0, 2)}
        options["set"] = {"workers": self.choice.randint(0, 3)}
        if self.choice.random() < 0.5:
            options["set"]["shadow"] = "another"
        if self.choice.random() < 0.1:
            options["deadline"] = 5.0
        for _ in range(2):
            client = self.world.client(f"uid:{number + 1}")
            learnt = self.world.submit(client, f"key{number}", **options)
            self.jobs.append((options, learnt))

    # What goes wrong

    def fault(self) -> None:
        world, choice = self.world, self.choice
        plugins = list(world.plugins.values())
        match choice.choice(
            [
                "kernel",
                "plugin",
                "plugin",
                "connection",
                "operator",
                "frozen",
                "away",
                "later",
                "look",
                "cancel",
                "urgent",
            ]
        ):
            case "kernel":
                self.survival = choice.choice([0.0, 0.5, 1.0])
                for _ in range(choice.choice([1, 1, 2, 3])):
                    world.crash()
                    for _ in range(choice.choice([0, 5, 50])):
                        self.step()
            case "plugin" if plugins:
                world.die(choice.choice(plugins), choice.choice([-11, -9, None, 1]))
            case "connection" if plugins:
                world.drop(choice.choice([*plugins, *world.clients]))
            case "frozen" if plugins:
                world.events.append(Frozen(choice.choice(plugins).incarnation))
            case "away":
                world.events.append(Away(choice.choice([2.0, 100.0])))
            case "later":
                if tasks := [t for p in plugins for t in p.tasks.values() if not t.over]:
                    choice.choice(tasks).fail("retry_later", "not now", world.now)
            case "operator":
                self.command(choice.choice(sorted(world.manifests)))
            case "look":
                self.look(choice.choice(world.clients))
            case "cancel" if choice.random() < 0.2:
                self.cancel()
            case "urgent" if len(self.jobs) < 2 * JOBS:
                self.submit(len(self.jobs) // 2, urgent=True)

    def command(self, plugin: str) -> None:
        kind = self.choice.choice(
            [Type.PLUGIN_STOP, Type.PLUGIN_START, Type.PLUGIN_RESTART, Type.PLUGIN_KILL, Type.PLUGIN_RESET]
        )
        self.world.ask(self.operator, Request(kind, {"plugin": plugin}, key=f"k{self.choice.random()}"))

    def cancel(self) -> None:
        known = [learnt["job"] for _, learnt in self.jobs if "job" in learnt]
        if known:
            job = self.choice.choice(known)
            self.cancelled.add(job)
            self.world.ask(
                self.operator, Request(Type.JOB_CANCEL, {"job": job}, key=f"c{self.choice.random()}"), self.told
            )

    def look(self, client: Client) -> None:
        """What somebody was told is never taken back."""
        self.world.ask(client, Request(Type.JOB_LIST, {}), functools.partial(self.listed, dict(self.seen)))

    def listed(self, before: dict[str, str], answer: Answer | Failure) -> None:
        assert isinstance(answer, Answer), answer
        rows = {row["job"]: row["state"] for row in answer.message.body["jobs"]}
        for job, state in before.items():
            assert job in rows, f"job {job} is gone"
            assert state not in ENDED or rows[job] == state, (job, state, rows[job])
        self.seen.update({job: state for job, state in rows.items() if self.seen.get(job) not in ENDED})

    def told(self, answer: Answer | Failure) -> None:
        assert isinstance(answer, Answer), answer
        document = answer.message.body["document"]
        assert self.seen.get(document["job"]) in (None, document["state"]) or self.seen[document["job"]] not in ENDED
        self.seen[document["job"]] = document["state"]

    # And what comes of it

    def step(self) -> None:
        before = self.world.events_fed
        self.world.step()
        if self.world.events_fed != before:
            assert unpacked(self.world.image) == unpacked(image_of(self.world.kernel))
            self.account()

    def account(self) -> None:
        """Whatever a job counts on is in the hands of a process that exists."""
        kernel = self.world.kernel
        for lease in [
            lease for job in kernel.jobs.active.values() for work in job.works.values() for lease in work.leases
        ]:
            assert kernel.scheduler.leases.get(lease.number, lease.epoch, lease.incarnation) is lease
            assert not lease.revoked
            assert kernel.supervisor.of_incarnation(lease.incarnation) is not None

    def run(self) -> None:
        for _ in range(FAULTS):
            for _ in range(self.choice.choice([1, 10, 60])):
                self.step()
            self.fault()
        start = self.world.now
        while not all("document" in learnt for _, learnt in self.jobs):
            assert self.world.now < start + CALM, f"somebody waits for ever: {self.standing()}"
            self.step()
            if self.world.now > start + 10.0 and self.choice.random() < 0.05:
                self.repair()
        self.world.settle(60.0)

    def repair(self) -> None:
        """The operator starts what was stopped or has failed."""
        for name, component in self.world.kernel.supervisor.components.items():
            if str(component.state) in ("down", "failed"):
                self.world.ask(
                    self.operator, Request(Type.PLUGIN_START, {"plugin": name}, key=f"s{self.choice.random()}")
                )

    def standing(self) -> str:
        kernel = self.world.kernel
        jobs = [
            (
                job.id,
                str(job.state),
                job.cause,
                [(w.place, w.epoch, [x.place for x in w.live]) for w in job.works.values()],
            )
            for job in kernel.jobs.active.values()
        ]
        return f"{jobs} {[(i.name, str(i.state), i.cause) for i in kernel.supervisor.instances()]}"

    def examine(self) -> None:
        numbers: dict[str, str] = {}
        for options, learnt in self.jobs:
            document = learnt["document"]
            assert numbers.setdefault(str(options["seed"]), learnt["job"]) == learnt["job"], "a key is one job"
            assert self.seen.get(learnt["job"]) not in ENDED or self.seen[learnt["job"]] == document["state"]
            if document["state"] == "cancelled":
                assert learnt["job"] in self.cancelled
            elif document["state"] == "failed":
                assert document["error"]["name"] == "deadline", document["error"]
                assert options.get("deadline")
            else:
                self.compare(options, document)
        assert self.world.leftovers() == []

    def compare(self, options: dict[str, Any], document: dict[str, Any]) -> None:
        key = f"key{options['seed']}"
        expected = undisturbed(key, options["shots"], options["batch"], options["seed"])
        kind = {"optimise1": "optimised", "tracker1": "counts"}.get("".join(self.world.liars))
        if kind is not None and kind not in document["verified"]:
            assert any(f"{kind}: not verified" in text for text in document["degraded"])
        else:
            for name in ("summary", "outputs", "artifacts", "batches"):
                assert document[name] == expected[name], name
        total = document["summary"]["sum"]
        assert total["batches"] == document["batches"]["total"] == len(document["outputs"])
        assert total["shots_accepted"] == options["shots"]


def chaos(seed: int) -> None:
    world = Chaos(seed)
    world.run()
    world.examine()


@pytest.mark.parametrize("seed", range(16))
def test_nothing_is_lost_and_nothing_takes_effect_twice(seed: int) -> None:
    chaos(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1000, 1120))
def test_nothing_is_lost_in_many_other_ways(seed: int) -> None:
    chaos(seed)
