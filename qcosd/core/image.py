# SPDX-License-Identifier: Apache-2.0
"""What the journal says: a map of entities, made by applying records in order. The kernel starts from it, snapshots hold it.

An entity is named by its area and its name in it, and its body is a map that msgpack takes. A record changes the entities that
``touched`` names and no others, so that a snapshot can be brought up to date piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from qcosd.core import incarnations
from qcosd.core.records import Record, RecordType

Body = dict[str, Any]
Image = dict[str, dict[str, Body]]  # area -> name -> body
Entity = tuple[str, str]  # area, name


def fold(image: Image, records: Iterable[Record]) -> None:
    """Apply records to an image, in place. It must hold what they touch, as far as that exists."""
    for record in records:
        _RULES[record.type][1](image, record)


def touched(record: Record) -> tuple[Entity, ...]:
    """The entities that a record may make, change or remove."""
    return _RULES[record.type][0](record)


def _boot(image: Image, record: Record) -> None:
    image.setdefault("kernel", {})["boot"] = {"number": record.body["boot"]}


Rule = tuple[Callable[[Record], tuple[Entity, ...]], Callable[[Image, Record], None]]

_RULES: dict[RecordType, Rule] = {
    RecordType.BOOT: (lambda record: (("kernel", "boot"),), _boot),
    RecordType.INCARNATION: (incarnations.touched, incarnations.begin),
    RecordType.INCARNATION_PID: (incarnations.touched, incarnations.run),
    RecordType.INCARNATION_END: (incarnations.touched, incarnations.end),
    RecordType.COMPONENT: (incarnations.touched, incarnations.want),
}
