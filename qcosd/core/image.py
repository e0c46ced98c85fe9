# SPDX-License-Identifier: Apache-2.0
"""What the journal says: a map of entities, made by applying records in order. The kernel starts from it, snapshots hold it.

An entity is named by its area and its name in it, and its body is a map that msgpack takes. A record changes the entities that
``touched`` names and no others, so that a snapshot can be brought up to date piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from qcosd.core import incarnations
from qcosd.core.job import JOB_RULES, Job
from qcosd.core.job_image import accepted, body_of, job_of
from qcosd.core.records import Record, RecordType, Upgrade
from qcosd.core.requests import key_name

Body = dict[str, Any]
Image = dict[str, dict[str, Body]]  # area -> name -> body
Entity = tuple[str, str]  # area, name

VERSIONS: dict[str, int] = {}  # area -> version of the layout of its bodies, where that is not 1
# Area and version of a body -> what makes it a body of the next version. The previous version of each area has to be here.
UPGRADES: dict[tuple[str, int], Upgrade] = {}
BOOTS_KEPT = 100  # starts of the daemon that are remembered


def fold(image: Image, records: Iterable[Record]) -> None:
    """Apply records to an image, in place. It must hold what they touch, as far as that exists."""
    folding = Folding(image)
    for record in records:
        folding.apply(record)
    folding.finish()


def touched(record: Record) -> tuple[Entity, ...]:
    """The entities that a record may make, change or remove."""
    return _RULES[record.type][0](record)


def later_boots(times: Iterable[list[Any]], boot: int, at: float) -> list[list[Any]]:
    """The latest starts of the daemon with one more: boot number, seconds since the epoch."""
    return [*times, [boot, at]][-BOOTS_KEPT:]


class Folding:
    """An image that records are being applied to. Jobs are unpacked while it lasts."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self._jobs: dict[str, Job] = {}

    def apply(self, record: Record) -> None:
        """Let one record have its effect."""
        _RULES[record.type][1](self, record)

    def finish(self) -> None:
        """Pack the jobs again."""
        for name, job in self._jobs.items():
            self.put("job", name, body_of(job))

    def put(self, area: str, name: str, body: Body) -> None:
        """Make or replace an entity."""
        self.image.setdefault(area, {})[name] = body

    def drop(self, area: str, name: str) -> None:
        """Remove an entity, if it exists."""
        self.image.get(area, {}).pop(name, None)

    def last(self, name: str, number: int) -> None:
        """A number has been used: the counter of that name is there now, or further."""
        known = self.image.get("kernel", {}).get(name, {"last": 0})["last"]
        self.put("kernel", name, {"last": max(known, number)})

    def job(self, name: str) -> Job:
        """The unpacked job."""
        if name not in self._jobs:
            self._jobs[name] = job_of(self.image["job"][name])
        return self._jobs[name]

    def begin_job(self, job: Job) -> None:
        """A job that is new."""
        self._jobs[job.id] = job

    def end_job(self, name: str) -> None:
        """Nothing is left of an active job."""
        self._jobs.pop(name, None)
        self.drop("job", name)


Apply = Callable[[Folding, Record], None]
Rule = tuple[Callable[[Record], tuple[Entity, ...]], Apply]


def _own(record: Record) -> Entity:
    return "job", record.body["job"]


def _incarnation(apply: Callable[[Image, Record], None]) -> Apply:
    return lambda folding, record: apply(folding.image, record)


def _boot(folding: Folding, record: Record) -> None:
    times = folding.image.get("kernel", {}).get("boot", {}).get("times", [])
    boot = record.body["boot"]
    folding.put("kernel", "boot", {"last": boot, "times": later_boots(times, boot, record.at)})


def _rollback_accepted(folding: Folding, record: Record) -> None:
    for name, number in record.body["counters"].items():
        folding.last(name, number)


def _job_accepted(folding: Folding, record: Record) -> None:
    folding.last("jobs", int(record.body["job"]))
    folding.begin_job(accepted(record.body, record.at))


def _job(folding: Folding, record: Record) -> None:
    job = folding.job(record.body["job"])
    job.apply(record.type, record.body, record.at)


def _lease(folding: Folding, record: Record) -> None:
    folding.last("numbers", max(record.body["grant"], *record.body["numbers"]))
    _job(folding, record)


def _job_ended(folding: Folding, record: Record) -> None:
    name = record.body["job"]
    folding.end_job(name)
    folding.put("history", name, {"document": record.body["document"], "owner": record.body["owner"]})


def _job_forgotten(folding: Folding, record: Record) -> None:
    for name in record.body["jobs"]:
        folding.drop("history", name)


def _key(record: Record) -> str:
    return key_name(record.body["identity"], record.body["key"])


def _key_begun(folding: Folding, record: Record) -> None:
    folding.put("begun", _key(record), record.body)


def _request_key(folding: Folding, record: Record) -> None:
    folding.drop("begun", _key(record))
    folding.put("key", _key(record), record.body)


def _keys_forgotten(folding: Folding, record: Record) -> None:
    for name in record.body["names"]:
        folding.drop("key", name)
        folding.drop("begun", name)


_T = RecordType
_RULES: dict[RecordType, Rule] = {
    _T.BOOT: (lambda record: (("kernel", "boot"),), _boot),
    _T.INCARNATION: (incarnations.touched, _incarnation(incarnations.begin)),
    _T.INCARNATION_PID: (incarnations.touched, _incarnation(incarnations.run)),
    _T.INCARNATION_END: (incarnations.touched, _incarnation(incarnations.end)),
    _T.COMPONENT: (incarnations.touched, _incarnation(incarnations.want)),
    _T.ROLLBACK_ACCEPTED: (
        lambda record: tuple(("kernel", name) for name in record.body["counters"]),
        _rollback_accepted,
    ),
    _T.JOB_ACCEPTED: (lambda record: (_own(record), ("kernel", "jobs")), _job_accepted),
    **{kind: (lambda record: (_own(record),), _job) for kind in JOB_RULES},
    **{kind: (lambda record: (_own(record), ("kernel", "numbers")), _lease) for kind in (_T.LEASE, _T.AIDE)},
    _T.JOB_ENDED: (lambda record: (_own(record), ("history", record.body["job"])), _job_ended),
    _T.JOB_FORGOTTEN: (lambda record: tuple(("history", name) for name in record.body["jobs"]), _job_forgotten),
    _T.KEY_BEGUN: (lambda record: (("begun", _key(record)),), _key_begun),
    _T.REQUEST_KEY: (lambda record: (("key", _key(record)), ("begun", _key(record))), _request_key),
    _T.KEYS_FORGOTTEN: (
        lambda record: tuple((area, name) for area in ("key", "begun") for name in record.body["names"]),
        _keys_forgotten,
    ),
}
