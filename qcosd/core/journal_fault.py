# SPDX-License-Identifier: Apache-2.0
"""While the journal cannot be written: what was accepted is kept and waits, what changes something is refused, who asks is answered."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qcosd.core.effects import Send
from qcosd.core.events import Channel, JournalHealth
from qcosd.core.requests import Refused
from qcosd.protocol import SPECS, Message, Type, error_table

if TYPE_CHECKING:
    from qcosd.core.kernel import Kernel

# Answers that say nothing which could be forgotten, even if the event that they came with has changed something.
_ANYWAY = frozenset({Type.BLOB_PUT, Type.BLOB_CHUNK, Type.BLOB_GET, Type.SHUTDOWN})
_LATER = "; what was asked is kept and takes effect once that is over, unless the daemon ends before: do not ask for it under another key"


def on_health(kernel: Kernel, event: JournalHealth, now: float) -> None:
    """The journal cannot be written, or can again."""
    if event.fault == kernel.journal_fault:
        return
    kernel.journal_fault = event.fault
    kernel.scheduler.works.silence(bool(event.fault), now)
    kernel.supervisor.silenced = bool(event.fault)
    kernel.supervisor.postpone(now)
    text = "the journal cannot be written" if event.fault else "the journal can be written again"
    kernel.log(text, reason=event.fault or "-")


def refuse_changes(kernel: Kernel, message: Message, client: bool) -> None:
    """A change would wait for the journal, nobody knows how long. Raises Refused. The daemon can be stopped all the same."""
    changes = SPECS[message.type].keyed or (client and message.type is Type.BLOB_PUT)
    if kernel.journal_fault and changes and message.type is not Type.SHUTDOWN:
        raise Refused("no_space", f"the journal cannot be written: {kernel.journal_fault}")


def meanwhile(send: Send, fault: str) -> Send | None:
    """What a client is told at once in the place of an answer that waits for a journal with a fault; None: it has to wait.

    Who waits for the end of a job is told of it when that is safe and not before.
    """
    asked, message = send.asked, send.message
    if send.channel is not Channel.CLIENTS or asked in (None, Type.JOB_WAIT):
        return None
    assert asked is not None
    if SPECS[asked].keyed and asked is not Type.SHUTDOWN and message.type is not Type.ERROR:
        body = {"error": error_table("no_space", f"the journal cannot be written: {fault}{_LATER}")}
        return replace(send, message=replace(message, type=Type.ERROR, body=body), after=0)
    if asked in _ANYWAY or message.type is Type.ERROR:
        return replace(send, after=0)
    return replace(send, message=replace(message, body=_marked(message)), after=0)


def _marked(message: Message) -> dict[str, Any]:
    """The body of an answer that says more than what is on disk."""
    mark = {"unsaved": True}
    match message.type:
        case Type.JOB_DOCUMENT:
            return {"document": message.body["document"] | mark}
        case Type.JOB_LISTING:
            return {"jobs": [row | mark for row in message.body["jobs"]]}
        case _:
            return message.body | mark
