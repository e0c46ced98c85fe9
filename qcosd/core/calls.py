# SPDX-License-Identifier: Apache-2.0
"""What each message type does: the typed dispatch table. A handler returns the reply, or None where the slot is parked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qcosd.core import admission, inspection, recovery
from qcosd.core.components import Component, Instance
from qcosd.core.effects import SIGSTOP, LogRead, Signal
from qcosd.core.events import Channel
from qcosd.core.job import ENDED, Job, JobState
from qcosd.core.jobs import Ended
from qcosd.core.lifecycle import ALIVE, Trigger
from qcosd.core.peers import Peer
from qcosd.core.requests import Refused, Reply, Slot
from qcosd.protocol import EXIT_BUS_SILENT, Message, Side, Type

if TYPE_CHECKING:
    from qcosd.core.kernel import Kernel

LISTED = 100  # jobs of a listing that names no limit
LOGGED = 50  # lines of a log where the request names no number
MOST_LOGGED = 1000


@dataclass(frozen=True, slots=True)
class Call:
    """A message in the hands of its handler."""

    peer: Peer
    message: Message
    slot: Slot | None  # of a request
    now: float

    @property
    def body(self) -> dict[str, Any]:
        """Body of the message; its known fields have been checked."""
        return self.message.body

    @property
    def open_slot(self) -> Slot:
        """Slot of a request."""
        if self.slot is None:
            raise RuntimeError(f"{self.message.type.name} is no request")
        return self.slot

    @property
    def lease(self) -> tuple[int, int, int]:
        """What names a lease: number, epoch, and the incarnation that speaks."""
        return self.body["lease"], self.body["epoch"], self.peer.incarnation


def _nothing(kernel: Kernel, call: Call) -> None:
    """It was heard; that is all."""


def _ping(kernel: Kernel, call: Call) -> Reply:
    return Reply(Type.PONG)


def _goodbye(kernel: Kernel, call: Call) -> None:
    # One that was told nothing by a kernel which is here blames the kernel, whatever it has in hand.
    blamed = call.body.get("status") != EXIT_BUS_SILENT
    kernel.goodbye(call.peer, call.body.get("reason", "left"), call.now, blamed=blamed)


def _ready(kernel: Kernel, call: Call) -> None:
    instance = kernel.supervisor.of_incarnation(call.peer.incarnation)
    if instance is not None:
        kernel.supervisor.fire(instance, Trigger.READY, call.now)


def _blob_put(kernel: Kernel, call: Call) -> None:
    kernel.blobs.put(call.open_slot, call.body["sha"], call.body["size"], call.message.payload[0], call.now)


def _blob_chunk(kernel: Kernel, call: Call) -> None:
    kernel.blobs.chunk(call.open_slot, call.body["ticket"], call.body["offset"], call.message.payload[0])


def _blob_get(kernel: Kernel, call: Call) -> None:
    sha = call.body["sha"]
    if call.peer.side is Side.PLUGIN and sha not in kernel.scheduler.leases.inputs(call.peer.incarnation):
        raise Refused("not_allowed", f"artifact {sha} is no input of a lease in hand")
    kernel.blobs.get(call.open_slot, sha, call.body["offset"])


def _progress(kernel: Kernel, call: Call) -> None:
    kernel.reports.progress(*call.lease, call.body["fraction"], call.body["text"])


def _done(kernel: Kernel, call: Call) -> Reply:
    body = call.body
    kernel.reports.done(
        *call.lease, body["outputs"], body.get("facts", {}), body.get("summary"), call.now, body.get("stream")
    )
    return Reply(Type.ACK, after=kernel.outbox.position)


def _failed(kernel: Kernel, call: Call) -> Reply:
    kernel.reports.failed(*call.lease, call.body["error"], call.now)
    return Reply(Type.ACK, after=kernel.outbox.position)


def _revoked(kernel: Kernel, call: Call) -> None:
    kernel.reports.revoked(*call.lease)


def _job_submit(kernel: Kernel, call: Call) -> Reply:
    _refuse_when_stopping(kernel)
    if kernel.draining:
        raise Refused("shutting_down", "the kernel is draining and takes no new jobs")
    _refuse_when_fenced(kernel)
    inputs = call.body["inputs"]
    given = admission.check(kernel, inputs, call.body["options"])
    job = kernel.jobs.submit(call.peer.address.identity, inputs, call.body["options"], call.now, given)
    kernel.scheduler.replan(job, call.now)
    return Reply(Type.JOB_ACCEPTED, {"job": job.id})


def _job_list(kernel: Kernel, call: Call) -> Reply:
    rows = kernel.jobs.newest(call.body.get("limit", LISTED))
    return Reply(Type.JOB_LISTING, {"jobs": rows}, after=kernel.jobs.position)


def _document(kernel: Kernel, job: Job | Ended, now: float) -> Reply:
    return Reply(Type.JOB_DOCUMENT, {"document": kernel.jobs.document(job, now)}, after=job.position)


def _job_show(kernel: Kernel, call: Call) -> Reply:
    return _document(kernel, _job(kernel, call), call.now)


def _job_wait(kernel: Kernel, call: Call) -> Reply | None:
    job = _job(kernel, call)
    if job.state in ENDED:
        return _document(kernel, job, call.now)
    _refuse_when_stopping(kernel)
    kernel.requests.park(call.open_slot, f"job.{call.body['job']}")
    return None


def _job_result(kernel: Kernel, call: Call) -> Reply:
    job = _job(kernel, call)
    if job.state not in ENDED:
        raise Refused("not_finished", f"job {call.body['job']} is {job.state}")
    return _document(kernel, job, call.now)


def _job_cancel(kernel: Kernel, call: Call) -> Reply:
    job = _job(kernel, call)
    if isinstance(job, Job) and job.state not in ENDED:
        kernel.scheduler.end(job, JobState.CANCELLED, call.now, "cancelled")
    return _document(kernel, job, call.now)


def _plugin_list(kernel: Kernel, call: Call) -> Reply:
    components = kernel.supervisor.components.values()
    return Reply(
        Type.PLUGIN_LISTING, {"plugins": [row for component in components for row in component.describe(call.now)]}
    )


def _plugin_show(kernel: Kernel, call: Call) -> Reply:
    document = inspection.component_document(kernel, _component(kernel, call), call.now)
    return Reply(Type.PLUGIN_DOCUMENT, {"document": document})


def _plugin_logs(kernel: Kernel, call: Call) -> None:
    _instances(kernel, call)  # it must exist
    name, lines = call.body["plugin"], min(call.body.get("lines", LOGGED), MOST_LOGGED)
    kernel.requests.park(call.open_slot, inspection.log_subject(name, lines))
    kernel.outbox.put(LogRead(name, lines))


def _plugin_start(kernel: Kernel, call: Call) -> Reply | None:
    return _command(kernel, call, Trigger.START, "up")


def _plugin_stop(kernel: Kernel, call: Call) -> Reply | None:
    return _command(kernel, call, Trigger.STOP, "down")


def _plugin_restart(kernel: Kernel, call: Call) -> Reply | None:
    return _command(kernel, call, Trigger.RESTART, "up")


def _plugin_kill(kernel: Kernel, call: Call) -> Reply:
    instances = _instances(kernel, call)
    if not any(instance.state in ALIVE for instance in instances):
        raise Refused("no_process", f"{call.body['plugin']} has no process: it is {instances[0].state}")
    for instance in instances:
        kernel.supervisor.kill(instance, "killed on demand", call.now, blameless=True)
    return Reply(Type.ACK)


def _plugin_reset(kernel: Kernel, call: Call) -> Reply:
    _refuse_when_stopping(kernel)
    _refuse_when_fenced(kernel)
    kernel.supervisor.command(_component(kernel, call), Trigger.RESET, call.now)
    return Reply(Type.ACK)


def _plugin_fault(kernel: Kernel, call: Call) -> Reply:
    if call.peer.side is Side.PLUGIN and "fault" not in call.peer.rights:
        raise Refused("not_allowed", f"{call.peer.name} has no right to inject faults")
    instances = [instance for instance in _instances(kernel, call) if instance.address is not None]
    if not instances:
        raise Refused("no_reply", f"{call.body['plugin']} is not connected")
    if call.body["kind"] == "freeze":  # a frozen process could not obey a message, and must not be able to refuse one
        for instance in instances:
            kernel.outbox.put(Signal(instance.incarnation, SIGSTOP))
        return Reply(Type.ACK)
    body = {"kind": call.body["kind"], "seconds": call.body.get("seconds", 0)}
    for instance in instances:
        if instance.address is not None:
            kernel.outbox.send(Channel.PLUGINS, instance.address, Type.FAULT, body)
    return Reply(Type.ACK)


def _status(kernel: Kernel, call: Call) -> Reply:
    body = {
        "version": kernel.start.version,
        "pid": kernel.start.pid,
        "boot": kernel.start.boot,
        "state": kernel.state,
        "jobs": kernel.jobs.counts(),
        "plugins": {name: str(component.state) for name, component in kernel.supervisor.components.items()},
        "counters": dict(kernel.counters),
        **inspection.status(kernel, call.now),
    }
    return Reply(Type.STATUS_REPLY, body)


def _accept_loss(kernel: Kernel, call: Call) -> Reply:
    recovery.accept(kernel, call.now)
    return Reply(Type.ACK, after=kernel.outbox.position)


def _snapshot(kernel: Kernel, call: Call) -> Reply:
    return Reply(
        Type.SNAPSHOT_REPLY, {"topics": kernel.topics.snapshot(call.body["prefix"])}, after=kernel.outbox.position
    )


def _drain(kernel: Kernel, call: Call) -> Reply:
    kernel.draining = call.body["on"]
    return Reply(Type.ACK)


def _shutdown(kernel: Kernel, call: Call) -> Reply:
    if not kernel.supervisor.stopping:
        kernel.stop(f"asked to by {call.peer.address.identity}", call.now)
    return Reply(Type.ACK)


def _refuse_when_stopping(kernel: Kernel) -> None:
    if kernel.supervisor.stopping:
        raise Refused("shutting_down")


def _refuse_when_fenced(kernel: Kernel) -> None:
    if kernel.rolled_back:
        raise Refused("rolled_back", f"{kernel.rolled_back}; `qcosctl doctor --accept` takes the loss and goes on")


def _job(kernel: Kernel, call: Call) -> Job | Ended:
    """The job that a request names. Raises Refused; where the journal was rolled back, the job may be what it has lost."""
    try:
        return kernel.jobs.get(call.body["job"])
    except Refused as unknown:
        if not kernel.rolled_back:
            raise
        remedy = "a newer copy of the state directory may have it; `qcosctl doctor --accept` goes on without"
        raise Refused("rolled_back", f"{unknown.text}: {kernel.rolled_back}; {remedy}") from None


def _component(kernel: Kernel, call: Call) -> Component:
    component = kernel.supervisor.components.get(call.body["plugin"])
    if component is None:
        raise Refused("no_such_plugin", f"no plugin {call.body['plugin']}")
    return component


def _instances(kernel: Kernel, call: Call) -> list[Instance]:
    """All instances of a component, or the one that ``NAME:2`` names."""
    named = kernel.supervisor.named(call.body["plugin"])
    return named if ":" in call.body["plugin"] and named else _component(kernel, call).instances


def _command(kernel: Kernel, call: Call, trigger: Trigger, want: str) -> Reply | None:
    """Fire a trigger and answer once the component is where it is wanted."""
    _refuse_when_stopping(kernel)
    if trigger is not Trigger.STOP:
        _refuse_when_fenced(kernel)
    component = _component(kernel, call)
    processes = [instance.incarnation for instance in component.instances if instance.state in ALIVE]
    begun = kernel.requests.begin(call.open_slot, processes, call.now)
    if begun is None:
        kernel.supervisor.command(component, trigger, call.now)
    elif trigger is Trigger.RESTART:
        kernel.supervisor.roll(component, list(begun), call.now)
    kernel.requests.park(call.open_slot, f"plugin.{component.name}", want)
    kernel.answer_component(component, call.now)
    return None


Handler = Callable[["Kernel", Call], Reply | None]

HANDLERS: dict[Type, Handler] = {
    Type.PING: _ping,
    Type.PONG: _nothing,
    Type.ERROR: _nothing,
    Type.GOODBYE: _goodbye,
    Type.HEARTBEAT: _nothing,
    Type.READY: _ready,
    Type.BLOB_PUT: _blob_put,
    Type.BLOB_CHUNK: _blob_chunk,
    Type.BLOB_GET: _blob_get,
    Type.PROGRESS: _progress,
    Type.DONE: _done,
    Type.FAILED: _failed,
    Type.REVOKED: _revoked,
    Type.JOB_SUBMIT: _job_submit,
    Type.JOB_LIST: _job_list,
    Type.JOB_SHOW: _job_show,
    Type.JOB_WAIT: _job_wait,
    Type.JOB_RESULT: _job_result,
    Type.JOB_CANCEL: _job_cancel,
    Type.PLUGIN_LIST: _plugin_list,
    Type.PLUGIN_START: _plugin_start,
    Type.PLUGIN_STOP: _plugin_stop,
    Type.PLUGIN_RESTART: _plugin_restart,
    Type.PLUGIN_KILL: _plugin_kill,
    Type.PLUGIN_RESET: _plugin_reset,
    Type.PLUGIN_FAULT: _plugin_fault,
    Type.PLUGIN_SHOW: _plugin_show,
    Type.PLUGIN_LOGS: _plugin_logs,
    Type.STATUS: _status,
    Type.SNAPSHOT: _snapshot,
    Type.DRAIN: _drain,
    Type.SHUTDOWN: _shutdown,
    Type.ACCEPT_LOSS: _accept_loss,
}
