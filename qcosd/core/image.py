# SPDX-License-Identifier: Apache-2.0
"""What the journal says: a map of entities, made by applying records in order. The kernel starts from it, snapshots hold it.

An entity is named by its area and its name in it, and its body is a map that msgpack takes. A record changes the entities that
``touched`` names and no others, so that a snapshot can be brought up to date piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from qcosd.core.records import Record, RecordType, Upgrade

Body = dict[str, Any]
Image = dict[str, dict[str, Body]]  # area -> name -> body
Entity = tuple[str, str]  # area, name

VERSIONS: dict[str, int] = {}  # area -> version of the layout of its bodies, where that is not 1
# Area and version of a body -> what makes it a body of the next version. The previous version of each area has to be here.
UPGRADES: dict[tuple[str, int], Upgrade] = {}


def fold(image: Image, records: Iterable[Record]) -> None:
    """Apply records to an image, in place. It must hold what they touch, as far as that exists."""
    for record in records:
        _RULES.get(record.type, _NO_RULE)[1](image, record)


def touched(record: Record) -> tuple[Entity, ...]:
    """The entities that a record may make, change or remove."""
    return _RULES.get(record.type, _NO_RULE)[0](record)


def _boot(image: Image, record: Record) -> None:
    image.setdefault("kernel", {})["boot"] = {"number": record.body["boot"]}


Rule = tuple[Callable[[Record], tuple[Entity, ...]], Callable[[Image, Record], None]]

_NO_RULE: Rule = (lambda record: (), lambda image, record: None)  # what is for the journal itself, or not kept yet
_RULES: dict[RecordType, Rule] = {
    RecordType.BOOT: (lambda record: (("kernel", "boot"),), _boot),
}
