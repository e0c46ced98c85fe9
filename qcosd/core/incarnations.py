# SPDX-License-Identifier: Apache-2.0
"""What the journal says of processes: which were started and have not ended, what operators want, which components have failed.

Areas of the image: ``incarnation`` (number -> {component, instance, token_hash, pid, started}), ``component`` (name -> {wanted,
failed}, of those that were stopped or have failed), and ``kernel`` with ``incarnations`` -> {last}.
"""

from __future__ import annotations

from typing import Any

from qcosd.core.records import Record, RecordType

Image = dict[str, dict[str, dict[str, Any]]]
Entity = tuple[str, str]


def touched(record: Record) -> tuple[Entity, ...]:
    """The entities that a record may make, change or remove."""
    if record.type is RecordType.COMPONENT:
        return (("component", record.body["component"]),)
    own = ("incarnation", str(record.body["incarnation"]))
    return (own, ("kernel", "incarnations")) if record.type is RecordType.INCARNATION else (own,)


def begin(image: Image, record: Record) -> None:
    """INCARNATION: a process is about to be started."""
    body = record.body
    image.setdefault("incarnation", {})[str(body["incarnation"])] = {
        "component": body["component"],
        "instance": body["instance"],
        "token_hash": body["token_hash"],
        "pid": 0,
        "started": "",
    }
    image.setdefault("kernel", {})["incarnations"] = {"last": body["incarnation"]}


def run(image: Image, record: Record) -> None:
    """INCARNATION_PID: the process runs."""
    found = image["incarnation"][str(record.body["incarnation"])]
    found["pid"], found["started"] = record.body["pid"], record.body["started"]


def end(image: Image, record: Record) -> None:
    """INCARNATION_END: there is no such process any more."""
    image["incarnation"].pop(str(record.body["incarnation"]))


def want(image: Image, record: Record) -> None:
    """COMPONENT: what an operator wants, and whether it has failed. What goes without saying is not kept."""
    components = image.setdefault("component", {})
    components.pop(record.body["component"], None)
    if record.body["failed"] or not record.body["wanted"]:
        components[record.body["component"]] = {"wanted": record.body["wanted"], "failed": record.body["failed"]}
