# SPDX-License-Identifier: Apache-2.0
"""Jobs among plugins that lie, refuse, die and come late, in any order: what comes out is of one piece, or nothing does.

Every artifact here says who made it and out of which other artifacts, so that the whole ancestry of a result can be examined.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from kernel_rig import ADAPTER, COMPILE, MAP, OPTIMISE, QECC, TRACKER, Rig, manifest, unpacked

from qcosd.core.image import Image
from qcosd.core.manifest import Manifest, Operation
from qcosd.core.recovery import image_of
from qcosd.protocol import Type
from qcosd.shell.journal_file import JournalFile, pack

CHECKS = (
    Operation("verify", "program", ("logical", "optimised"), checks=("optimised",)),
    Operation("verify", "layout", ("fragments", "placement"), checks=("fragments", "placement")),
    Operation("verify", "counts", ("counts",), checks=("counts",), each="batch"),
)
SERVICES = (COMPILE, OPTIMISE, QECC, MAP, ADAPTER, TRACKER, manifest("verifier", *CHECKS))
SHOTS, BATCH = 23, 4


def crew(choice: random.Random) -> list[Manifest]:
    """One to three components of each service."""
    found = []
    for service in SERVICES:
        for number in range(choice.randint(1, 3)):
            found.append(dataclasses.replace(service, name=f"{service.name}{number}", rank=choice.randint(0, 2)))
    return found


class World:
    """A kernel, a job, and plugins that behave badly now and then."""

    def __init__(self, seed: int) -> None:
        self.choice = random.Random(seed)
        self.rig = Rig(*crew(self.choice), hello=False)
        self.slots = {name: self.choice.randint(1, 3) for name in self.rig.manifests}
        self.liars = {name for name in self.rig.manifests if self.choice.random() < 0.25}
        for name in self.rig.manifests:
            self.greet(name)
        self.client = self.rig.client()
        self.job = self.rig.submit(self.client, shots=SHOTS, batch=BATCH, seed=seed)
        self.leases: dict[tuple[int, int], tuple[str, dict[str, Any]]] = {}
        self.machine: dict[tuple[int, int], str] = {}  # grant and epoch -> producer

    def greet(self, name: str) -> None:
        incarnation = self.rig.kernel.supervisor.components[name].incarnation
        self.rig.feed(self.rig.greeting(name, incarnation, slots=self.slots[name]))

    def document(self) -> dict[str, Any]:
        return self.rig.document(self.client, self.job)

    def step(self) -> bool:
        """One thing happens; False where nothing can any more."""
        self.collect()
        states = {name: self.rig.state(name) for name in self.rig.manifests}
        if self.choice.random() < 0.01:
            self.rig.request(self.client, Type.PLUGIN_STOP, {"plugin": self.choice.choice(sorted(states))})
            return True
        ending = [name for name, state in states.items() if state in ("killing", "asked", "terminating")]
        if ending and (not self.leases or self.choice.random() < 0.5):
            self.end(self.choice.choice(ending))
            return True
        if not self.leases:
            self.wait(states)
            return bool(self.leases) or self.document()["state"] in ("done", "failed")
        name, lease = self.leases.pop(self.choice.choice(sorted(self.leases)))
        self.act(name, lease)
        return True

    def wait(self, states: dict[str, str]) -> None:
        """Nobody has anything to do: time passes, and the operator starts what is down."""
        self.rig.advance(10.0)
        for name, state in states.items():
            if state in ("down", "failed"):
                self.rig.request(self.client, Type.PLUGIN_START, {"plugin": name})
        for name in states:
            if self.rig.state(name) == "starting":
                self.greet(name)
        self.collect()

    def collect(self) -> None:
        """Read what the kernel has sent; give up what it revokes, upon which it may send more."""
        while inboxes := {
            n: inbox for n in self.rig.manifests if (inbox := self.rig.inbox.pop(self.rig.address(n), []))
        }:
            for name, message in [(name, message) for name, inbox in inboxes.items() for message in inbox]:
                key = (message.body.get("lease", 0), message.body.get("epoch", 0))
                if message.type is Type.LEASE:
                    self.leases[key] = name, message.body
                    if (stream := message.body["stream"]) and stream["role"] == "connect":
                        self.machine[stream["grant"], stream["epoch"]] = name
                elif message.type is Type.REVOKE:
                    self.leases.pop(key, None)
                    if self.rig.state(name) == "ready":
                        self.rig.tell(
                            self.rig.address(name), Type.REVOKED, dict(zip(("lease", "epoch"), key, strict=True))
                        )

    def end(self, name: str) -> None:
        """The process of a component ends, and the next one comes up."""
        self.leases = {key: value for key, value in self.leases.items() if value[0] != name}
        self.rig.kill(name)
        self.rig.advance(0.3)
        if self.rig.state(name) == "starting":
            self.greet(name)

    def act(self, name: str, lease: dict[str, Any]) -> None:
        luck = self.choice.random()
        if luck < 0.04:
            self.end(name)
        elif luck < 0.08:
            self.rig.fail(name, lease, "retry_later", "not now")
        elif (accused := self.accused(name, lease)) and self.choice.random() < 0.7:
            self.rig.fail(name, lease, "wrong_input", "I see a lie", **accused)
        elif name in self.liars and name.startswith("verifier") and self.choice.random() < 0.5:
            self.rig.fail(name, lease, self.choice.choice(["wrong_output", "internal", "wrong_input"]), "sorry")
        else:
            self.deliver(name, lease)

    def accused(self, name: str, lease: dict[str, Any]) -> dict[str, str]:
        """A lie among the inputs, as far as it can be seen."""
        for kind, row in lease["inputs"].items():
            if kind != "source" and self.content(row["sha"])["by"] in self.liars:
                return {"kind": kind}
        stream = lease["stream"]
        if stream and stream["role"] == "bind" and self.machine[stream["grant"], stream["epoch"]] in self.liars:
            return {"stream": "rounds"}
        return {}

    def content(self, sha: str) -> dict[str, Any]:
        return dict(json.loads(self.rig.store[sha]))

    def deliver(self, name: str, lease: dict[str, Any]) -> None:
        operation = next(
            o for o in self.rig.manifests[name].operations if (o.service, o.op) == (lease["service"], lease["op"])
        )
        stream, address = lease["stream"], self.rig.address(name)
        made = {
            "by": name,
            "from": {kind: row["sha"] for kind, row in lease["inputs"].items()},
            "batch": lease["batch"],
            "machine": self.machine[stream["grant"], stream["epoch"]] if stream else None,
        }
        outputs = {k: self.rig.put(address, json.dumps({**made, "kind": k}).encode()) for k in operation.produces}
        body: dict[str, Any] = {"lease": lease["lease"], "epoch": lease["epoch"], "outputs": outputs}
        if operation.produces == ("counts",):
            discarded = lease["seed"] % (lease["shots"] + 1)
            accepted = lease["shots"] - discarded
            body["summary"] = {
                "same": {"tracker": name, "machine": made["machine"]},
                "sum": {"shots_accepted": accepted, "shots_discarded": discarded, "batches": 1},
            }
        answer = self.rig.ask(address, Type.DONE, body)
        assert answer.type is Type.ACK or answer.body["error"]["name"] == "late", answer

    def clear_up(self) -> None:
        """Everybody answers what is still open; nothing may be left of a job that has ended."""
        scheduler = self.rig.kernel.scheduler
        for _ in range(100):
            self.collect()
            for name, lease in self.leases.values():
                self.rig.fail(name, lease, "internal")  # of work that delivered: the other side of a stream
            self.leases.clear()
            ending = [n for n in self.rig.manifests if self.rig.state(n) in ("killing", "asked", "terminating")]
            if not ending:
                break
            self.end(ending[0])
        assert len(scheduler.leases) == 0 and not self.rig.kernel.jobs.active
        assert {area for area, *_ in self.rig.kernel.alarms._due} <= {
            "component",
            "silence",
            "slot",
            "collect",
            "online",
        }

    def examine(self, document: dict[str, Any]) -> None:
        """Every artifact comes from those that the job has, and from nobody who was found wrong."""
        fenced = set(document["fenced"])
        services: dict[str, set[str]] = {}
        whole = document["artifacts"]
        shas = [sha for kind, sha in whole.items() if kind != "source"] + [sha for sha in document["outputs"] if sha]
        for sha in shas:
            made = self.content(sha)
            for kind, used in made["from"].items():
                assert whole[kind] == used, f"{made} was made from another {kind}"
            hands = {made["by"], made["machine"]} - {None}
            assert not hands & fenced, made
            for hand in hands:
                services.setdefault(hand.rstrip("0123456789"), set()).add(hand)
        assert all(len(names) == 1 for names in services.values()), services
        if document["summary"]:
            assert document["summary"]["sum"]["batches"] == sum(bool(sha) for sha in document["outputs"])


def discarded(seed: int, sizes: list[int]) -> int:
    """Shots that the plugins here discard of batches of these sizes."""
    digests = [hashlib.sha256(f"{seed}/{b}".encode()).digest()[:8] for b in range(len(sizes))]
    seeds = [int.from_bytes(digest, "big") & (2**63 - 1) for digest in digests]
    return sum(s % (n + 1) for s, n in zip(seeds, sizes, strict=True))


def batch_sizes(seed: int, batches: int) -> list[int]:
    """Shots of each batch: those of the first cut, then of what was missing, and so on."""
    sizes: list[int] = []
    while len(sizes) < batches:
        missing = SHOTS - sum(sizes) + discarded(seed, sizes)
        sizes += [min(BATCH, missing - start) for start in range(0, missing, BATCH)]
    return sizes


@pytest.mark.parametrize("seed", range(150))
def test_what_comes_out_is_of_one_piece(seed: int) -> None:
    world = World(seed)
    for _ in range(3000):
        document = world.document()
        world.examine(document)
        assert world.rig.journal() == unpacked(image_of(world.rig.kernel))
        if document["state"] in ("done", "failed"):
            break
        assert world.step(), f"nothing happens any more: {document}"
    else:
        raise AssertionError("it does not end")
    world.clear_up()
    if document["state"] == "done":
        total = document["summary"]["sum"]
        sizes = batch_sizes(seed, document["batches"]["total"])
        assert total["shots_accepted"] + total["shots_discarded"] == sum(sizes)
        assert total["shots_accepted"] == SHOTS or total["shots_discarded"] > SHOTS
        assert document["batches"]["done"] == len(sizes) == total["batches"]
        assert total["shots_discarded"] == discarded(seed, sizes)
    else:
        error = document["error"]
        assert error["name"] in ("wrong_output", "poison", "retry_later"), error
        if error["name"] == "wrong_output":
            assert all(name in error["message"] for name in error["details"]["fenced"])


@pytest.mark.parametrize("seed", range(6))
def test_a_snapshot_made_piece_by_piece_is_the_whole(seed: int, tmp_path: Path) -> None:
    world = World(seed)
    for _ in range(400):
        if world.document()["state"] in ("done", "failed") or not world.step():
            break
    records = world.rig.records
    file = JournalFile(tmp_path)
    while file.position < len(records):
        event = records[file.position : file.position + world.choice.randint(1, 9)]
        file.write(pack(event, file.position + len(event)), power=False)
        if world.choice.random() < 0.5:
            file.fold_some(world.choice.randint(file.folded, file.position))
    assert file.folded and without_empty(file.image()) == without_empty(world.rig.journal())
    while file.unfolded:
        file.fold_some(file.position)
    assert without_empty(file.image()) == without_empty(world.rig.journal())
    file.close()


def without_empty(image: Image) -> Image:
    return {area: entities for area, entities in image.items() if entities}
