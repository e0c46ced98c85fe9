# SPDX-License-Identifier: Apache-2.0
"""A foreign experiment: what somebody else's machine has recorded, in terms that a tracker decodes without knowing the code.

The artifact `experiment` says what the records mean; the artifact `experiment_shots` holds them.  Records are numbered in the
order in which they are played, slot after slot.  They are measurements, or detection events themselves where only these
were published: then each detector has one record, and so has each observable.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import msgpack

from qcosd.qec.fragment import open_artifact

VERSION = 1


class Parity(NamedTuple):
    """The sum of some records and a constant (0 or 1), modulo 2: 0 without noise.

    ``number``: of the detector or observable in the error model.
    """

    number: int
    constant: int
    records: tuple[int, ...]


class Slot(NamedTuple):
    """``records``: how many arrive with it.  ``detectors``: those that are complete when it has arrived, and not before."""

    records: int
    detectors: tuple[Parity, ...]


@dataclass(frozen=True)
class Experiment:
    """``name``: for people.  ``model``: a decomposed error model in stim's format, every error of which is made of edges.

    ``window``: slots to commit at once, and to look ahead; 0 to decode everything together.  ``slots``: in order of time.
    ``observables``: what a logical error flips.
    """

    name: str
    model: str
    window: int
    slots: tuple[Slot, ...]
    observables: tuple[Parity, ...]

    @cached_property
    def records(self) -> int:
        """Records of a shot."""
        return sum(slot.records for slot in self.slots)

    @cached_property
    def detectors(self) -> int:
        return sum(len(slot.detectors) for slot in self.slots)

    def to_bytes(self) -> bytes:
        doc = {
            "version": VERSION,
            "name": self.name,
            "model": self.model,
            "window": self.window,
            "slots": self.slots,
            "observables": self.observables,
        }
        return bytes(msgpack.packb(doc))

    @classmethod
    def from_bytes(cls, data: bytes) -> Experiment:
        """Raises ValueError when the bytes are no `experiment` artifact of this version, or one that contradicts itself."""
        doc = open_artifact("experiment", VERSION, data)
        try:
            experiment = cls(
                name=_text(doc["name"]),
                model=_text(doc["model"]),
                window=_count(doc["window"]),
                slots=tuple(Slot(_count(m), tuple(_parity(d) for d in detectors)) for m, detectors in doc["slots"]),
                observables=tuple(_parity(o) for o in doc["observables"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not an experiment artifact: {error!r}") from error
        experiment._check()
        return experiment

    def _check(self) -> None:
        arrived = 0
        for place, slot in enumerate(self.slots):
            arrived += slot.records
            for detector in slot.detectors:
                if any(record >= arrived for record in detector.records):
                    raise ValueError(f"experiment: detector {detector.number} of slot {place} reads a later record")
        if any(record >= arrived for observable in self.observables for record in observable.records):
            raise ValueError("experiment: an observable reads a record that does not exist")
        numbers = sorted(d.number for slot in self.slots for d in slot.detectors)
        if numbers != list(range(len(numbers))) or [o.number for o in self.observables] != list(
            range(len(self.observables))
        ):
            raise ValueError("experiment: detectors or observables are not numbered from 0 without gaps")


@dataclass(frozen=True)
class ExperimentShots:
    """``data``: stim's b8 format, a row of ceil(records/8) bytes for each shot, little-endian bits, padding zero."""

    shots: int
    records: int
    data: bytes

    @property
    def row(self) -> int:
        """Bytes of a shot."""
        return (self.records + 7) // 8

    def to_bytes(self) -> bytes:
        doc = {"version": VERSION, "shots": self.shots, "records": self.records, "data": self.data}
        return bytes(msgpack.packb(doc))

    @classmethod
    def from_bytes(cls, data: bytes) -> ExperimentShots:
        """Raises ValueError."""
        doc = open_artifact("experiment_shots", VERSION, data)
        try:
            held = cls(_count(doc["shots"]), _count(doc["records"]), doc["data"])
            if not isinstance(held.data, bytes) or len(held.data) != held.shots * held.row:
                raise ValueError("data of another size than announced")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not an experiment_shots artifact: {error!r}") from error
        return held


def _parity(item: Any) -> Parity:
    number, constant, records = item
    if constant not in (0, 1):
        raise ValueError(f"a constant of {constant!r}")
    return Parity(_count(number), constant, tuple(_count(record) for record in records))


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text expected")
    return value
