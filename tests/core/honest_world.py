# SPDX-License-Identifier: Apache-2.0
"""A kernel among honest plugins and clients, all of which may die at any moment.

Plugins and clients are the sessions of the SDK, frames and all; the gate that holds effects back is the daemon's. What is pretended
is the rest: connections are queues, processes are objects, the journal is a list, and time passes when nothing else can happen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from honest_daemon import Daemon
from honest_peers import Client, Peer
from honest_plugins import PATIENCE, Plugin, Task, host_of, producer_of

from qcosd.core.events import Channel, Received, Tick
from qcosd.protocol import Type
from qcosd.sdk.errors import RequestFailed
from qcosd.sdk.plugin_session import LeaseGiven, LeaseLost, PluginSession, StopAsked, StreamGranted
from qcosd.sdk.session import Answer, Failure, Request, Session


class World(Daemon):
    """Everything: what clients ask, what can happen next, and that it does."""

    # Clients

    def client(self, name: str = "uid:1000") -> Client:
        client = Client(name, Session({"name": "client"}))
        self.clients.append(client)
        self.greet(client)
        return client

    def ask(self, client: Client, request: Request, then: Callable[[Answer | Failure], None] | None = None) -> None:
        call = client.session.request(request, self.now)
        client.waiting[call] = then or (lambda answer: None)

    def submit(self, client: Client, key: str, **options: Any) -> dict[str, Any]:
        """A client stores a program, submits it under a key and waits. What it has learnt so far is in the map that is returned."""
        learnt: dict[str, Any] = {}
        program = f"program {key}".encode()
        sha = hashlib.sha256(program).hexdigest()

        def stored(answer: Answer | Failure) -> None:
            assert isinstance(answer, Answer), answer
            body = {"inputs": {"source": sha}, "options": options}
            self.ask(client, Request(Type.JOB_SUBMIT, body, key=key), accepted)

        def accepted(answer: Answer | Failure) -> None:
            assert isinstance(answer, Answer), answer
            assert learnt.setdefault("job", answer.message.body["job"]) == answer.message.body["job"]
            self.ask(client, Request(Type.JOB_WAIT, {"job": learnt["job"]}), ended)

        def ended(answer: Answer | Failure) -> None:
            assert isinstance(answer, Answer), answer
            learnt["document"] = answer.message.body["document"]

        self.ask(client, Request(Type.BLOB_PUT, {"sha": sha, "size": len(program)}, (program,)), stored)
        return learnt

    # What can happen next

    def actions(self) -> Iterator[Callable[[], None]]:
        if self.unwritten and not self.fault:
            yield self.write
        if self.events:
            yield lambda: self.feed(self.events.popleft())
        for peer in self.peers():
            peer.outbox.extend(peer.session.outgoing())
            if peer.inbox:
                yield partial(self.hear, peer)
            if peer.outbox:
                yield partial(self.speak, peer)
        for plugin in self.plugins.values():
            for task in plugin.tasks.values():
                if task.stream is None and not task.calls and not task.over:
                    yield partial(task.work, self.store, self.now)
                elif task.helps:
                    if not task.over and (host := host_of(task, self.plugins.values())) is not None:
                        meeting = host.lease, host.epoch, task.lease, task.epoch
                        if host.over and host.outputs is not None:  # its stream has come to its end
                            yield partial(task.work, self.store, self.now)
                        elif meeting not in self.helped:
                            yield partial(self.helped.add, meeting)
                elif (
                    task.binds and not task.over and (producer := producer_of(task, self.plugins.values())) is not None
                ):
                    yield partial(task.take_block, producer, self.store, self.now)

    def step(self) -> None:
        """One thing happens; where nothing can, time passes."""
        if self.choice is None:
            if (action := next(self.actions(), None)) is None:
                action = self.pass_time
        else:
            action = self.choice.choice(list(self.actions()) or [self.pass_time])
        action()

    def speak(self, peer: Peer) -> None:
        self.feed(Received(peer.channel, peer.address, tuple(peer.outbox.popleft())))

    def hear(self, peer: Peer) -> None:
        frames = peer.inbox.popleft()
        if isinstance(peer, Plugin):
            assert isinstance(peer.session, PluginSession)
            self.take(peer, peer.session.handle(frames, self.now))
        else:
            self.take(peer, peer.session.receive(frames, self.now))

    def pass_time(self) -> None:
        """Until somebody has a reason to do something."""
        due = [at for peer in self.peers() if (at := peer.session.next_deadline()) is not None]
        kernel = self.kernel.next_deadline()
        due += [kernel] if kernel is not None else []
        alone = [
            t
            for p in self.plugins.values()
            for t in p.tasks.values()
            if t.binds and not t.helps and not t.over and not t.outputs
        ]
        due += [task.since + PATIENCE for task in alone]
        self.now = max(self.now, min(due))
        if kernel is not None and kernel <= self.now:
            self.feed(Tick())
        for peer in self.peers():
            if isinstance(peer.session, PluginSession):
                self.take(peer, peer.session.elapse(self.now))
            else:
                self.take(peer, peer.session.tick(self.now))
        for task in alone:
            if task.since + PATIENCE <= self.now and not task.over:
                task.fail("retry_later", "nobody sends", self.now, stream="rounds")

    def take(self, peer: Peer, happenings: list[Any]) -> None:
        for happening in happenings:
            match happening:
                case Answer(call=call) | Failure(call=call) if isinstance(peer, Client):
                    peer.waiting.pop(call)(happening)
                case Answer(call=call) if isinstance(peer, Plugin):
                    for task in list(peer.tasks.values()):
                        if call in task.calls:
                            task.calls.discard(call)
                            task.report(self.now)
                case Failure(call=call, error=error) if isinstance(peer, Plugin):
                    late = (
                        isinstance(error, RequestFailed) and error.name == "late"
                    )  # a result that the next epoch overtook
                    assert late and not any(call in task.calls for task in peer.tasks.values()), error
                case LeaseGiven(lease, epoch, body) if isinstance(peer, Plugin):
                    task = Task(peer, lease, epoch, body, body["stream"], since=self.now)
                    peer.tasks[lease, epoch] = task
                    for stream in body.get("aides", ()):
                        task.granted(stream)
                case LeaseLost(lease, epoch, _) if isinstance(peer, Plugin):
                    if (lost := peer.tasks.pop((lease, epoch), None)) is not None:  # else its result is on the way
                        lost.over = True
                    assert isinstance(peer.session, PluginSession)
                    peer.session.revoked(lease, epoch)
                case StreamGranted(lease, epoch, grant) if isinstance(peer, Plugin):
                    peer.tasks[lease, epoch].granted(grant)
                case StopAsked(reason, code) if isinstance(peer, Plugin):
                    assert isinstance(peer.session, PluginSession)
                    peer.session.goodbye(reason)
                    for frames in (*peer.outbox, *peer.session.outgoing()):
                        self.events.append(Received(Channel.PLUGINS, peer.address, tuple(frames)))
                    if peer.alive:
                        self.die(peer, code)
                    return

    # What must hold

    def leftovers(self) -> list[str]:
        """What is left of jobs, once all have ended and everybody has had time to tidy up."""
        kernel = self.kernel
        areas = {area for area, *_ in kernel.alarms._due} - {"component", "silence", "collect", "surplus", "online"}
        counted = {
            "leases": len(kernel.scheduler.leases),
            "jobs": len(kernel.jobs.active),
            "works": len(self.journal().get("job", {})),
            "slots": len(kernel.requests),
            "urgency": len(kernel.scheduler._urgency._needs),
            "tasks": sum(len(plugin.tasks) for plugin in self.plugins.values()),
            "held": sum(len(p.session.leases) for p in self.plugins.values() if isinstance(p.session, PluginSession)),
            "transfers": len(kernel.blobs),
        }
        return [f"{name}: {count}" for name, count in counted.items() if count] + sorted(areas)

    def settle(self, seconds: float) -> None:
        """Let time pass, whatever happens in it."""
        end = self.now + seconds
        while self.now < end:
            self.step()
