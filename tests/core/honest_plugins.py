# SPDX-License-Identifier: Apache-2.0
"""Honest plugins: what a plugin makes follows from what it was given and from nothing else, so that results can be compared bit by bit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from honest_peers import Peer
from kernel_rig import manifest

from qcosd.core.events import Channel
from qcosd.core.manifest import Operation
from qcosd.protocol import Type, error_table
from qcosd.sdk.plugin_session import PluginSession
from qcosd.sdk.session import Request

ROUNDS = 3  # blocks of a stream
PATIENCE = 3.0  # seconds for which a consumer waits for its producer
CHECK_PROGRAM = Operation("verify", "program", ("logical", "optimised"), checks=("optimised",))
CHECK_COUNTS = Operation("verify", "counts", ("counts",), checks=("counts",), each="batch")
TRACK = Operation(
    "track",
    "run",
    ("optimised",),
    ("counts",),
    each="batch",
    stream_in="rounds",
    pool="windows",
    shadow="shadow",
    ahead=True,
)
PIPELINE = (
    manifest("compile", Operation("compile", "compile", ("source",), ("logical",), preempt="kill")),
    manifest("optimise", Operation("optimise", "optimise", ("logical",), ("optimised",), preempt="kill")),
    manifest(
        "adapter",
        Operation("hardware", "describe", (), ("device",)),
        Operation(
            "hardware", "run", ("optimised", "device"), each="batch", stream_out="rounds", resumes=True, ahead=True
        ),
    ),
    manifest("tracker", TRACK),
    manifest("decoder", Operation("decode", "windows", ("optimised",), each="batch", stream_in="windows")),
    manifest("verifier", CHECK_PROGRAM, CHECK_COUNTS),
)


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(eq=False)
class Task:
    """A lease in the hands of a plugin."""

    plugin: Plugin
    lease: int
    epoch: int
    body: dict[str, Any]
    stream: dict[str, Any] | None  # as granted last
    acked: int = 0  # of a producer: blocks that a consumer has acknowledged; of a consumer: blocks that it has
    state: str = ""  # the checkpoint of the last acknowledgement
    met: bool = False  # of a consumer: whether a producer has ever connected
    since: float = 0.0
    over: bool = False
    calls: set[int] = field(default_factory=set)  # BLOB_PUTs without an answer
    outputs: dict[str, str] | None = None
    aides: dict[int, dict[str, Any]] = field(default_factory=dict)  # grant -> stream to who helps, as granted last

    @property
    def name(self) -> str:
        return f"{self.body['service']}.{self.body['op']}"

    @property
    def binds(self) -> bool:
        return self.stream is not None and self.stream["role"] == "bind"

    @property
    def helps(self) -> bool:
        return self.stream is not None and self.stream["name"] == "windows"

    def granted(self, stream: dict[str, Any]) -> None:
        """The kernel has named another end of a stream."""
        if self.stream is not None and stream["grant"] == self.stream["grant"]:
            self.stream = stream
        else:
            assert stream["role"] == "connect" and stream["resumes"]
            assert stream["epoch"] > self.aides.get(stream["grant"], {"epoch": 0})["epoch"]
            self.aides[stream["grant"]] = stream

    def take_block(self, producer: Task, store: dict[str, bytes], now: float) -> None:
        """One more block, and its acknowledgement with the consumer's checkpoint."""
        if not self.met:
            self.met, self.acked, self.state = True, producer.acked, producer.state
        assert (producer.acked, producer.state) == (self.acked, self.state)
        if producer.acked < ROUNDS:
            self.since = now
            block = digest(producer.body["seed"], producer.body["inputs"], producer.acked)
            self.state = producer.state = digest(self.state, block)
            self.acked = producer.acked = producer.acked + 1
        if producer.acked == ROUNDS:
            self.work(store, now)
            producer.work(store, now)

    def work(self, store: dict[str, bytes], now: float) -> None:
        """Do the work, and begin to store what comes out."""
        self.over = True
        accused = self.lie(store) if self.body["service"] == "verify" else None
        if accused is not None:
            self.fail("wrong_input", "a lie", now, kind=accused)
            return
        operation = next(o for o in self.plugin.operations if o.name == self.name)
        self.outputs = {}
        for kind in operation.produces:
            made = {"kind": kind, "inputs": self.body["inputs"], "batch": self.body["batch"], "seed": self.body["seed"]}
            content = {**made, "state": self.state, **({"lie": True} if self.plugin.liar else {})}
            data = json.dumps(content, sort_keys=True).encode()
            self.outputs[kind] = sha = hashlib.sha256(data).hexdigest()
            body = {"sha": sha, "size": len(data)}
            self.calls.add(self.plugin.session.request(Request(Type.BLOB_PUT, body, (data,)), now))
        self.report(now)

    def lie(self, store: dict[str, bytes]) -> str | None:
        """Kind of an input that a liar has made."""
        shas = {kind: row["sha"] for kind, row in self.body["inputs"].items()}
        return next((kind for kind, sha in shas.items() if b'"lie"' in store[sha]), None)

    def report(self, now: float) -> None:
        """Everything is stored: DONE."""
        if self.calls or self.outputs is None:
            return
        summary, session = None, self.plugin.session
        if "counts" in self.outputs:
            shots = self.body["shots"]
            luck = int(self.state, 16)
            discarded = luck % 3 if shots > 2 else 0
            ones = luck // 3 % (shots - discarded + 1)
            summary = {
                "same": {"decoder": "plain"},
                "sum": {
                    "counts": {"0": shots - discarded - ones, "1": ones},
                    "shots_accepted": shots - discarded,
                    "shots_discarded": discarded,
                    "batches": 1,
                },
                "max": {"depth": luck % 7},
            }
        assert isinstance(session, PluginSession)
        ended_with = self.stream["epoch"] if self.stream is not None else None
        session.done(self.lease, self.epoch, self.outputs, {"depth": 3}, summary, now, ended_with)
        self.plugin.tasks.pop((self.lease, self.epoch), None)

    def fail(self, name: str, message: str, now: float, **details: Any) -> None:
        self.over = True
        assert isinstance(self.plugin.session, PluginSession)
        self.plugin.session.failed(self.lease, self.epoch, error_table(name, message, details), now)
        self.plugin.tasks.pop((self.lease, self.epoch), None)


@dataclass(eq=False)
class Plugin(Peer):
    """A plugin process."""

    operations: tuple[Operation, ...] = ()
    incarnation: int = 0
    liar: bool = False
    tasks: dict[tuple[int, int], Task] = field(default_factory=dict)

    channel = Channel.PLUGINS


def producer_of(task: Task, plugins: Iterable[Plugin]) -> Task | None:
    """Who is connected to a consumer."""
    assert task.stream is not None
    for plugin in plugins:
        for other in plugin.tasks.values():
            stream = other.stream
            if stream is None or other is task or other.over or stream["role"] != "connect":
                continue
            if (stream["grant"], stream["epoch"]) == (task.stream["grant"], task.stream["epoch"]):
                assert stream["secret"] == task.stream["secret"]
                return other
    return None


def host_of(task: Task, plugins: Iterable[Plugin]) -> Task | None:
    """Who is connected to somebody who helps."""
    assert task.stream is not None
    for plugin in plugins:
        for other in plugin.tasks.values():
            theirs = other.aides.get(task.stream["grant"])
            if theirs is not None and theirs["epoch"] == task.stream["epoch"]:
                assert {**theirs, "role": "bind", "resumes": False} == task.stream
                return other
    return None
