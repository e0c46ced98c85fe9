# SPDX-License-Identifier: Apache-2.0
"""Journal records: what must survive the kernel. Every record type has a number and a version of its layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Safety(IntEnum):
    """How durable a record must be before effects that wait for it may go out."""

    CRASH = 0  # survives the daemon
    POWER = 1  # survives the machine


class RecordType(IntEnum):
    """Kinds of records, numbered for ever."""

    BOOT = 1
    INCARNATION = 2
    INCARNATION_PID = 3
    INCARNATION_END = 4
    COMPONENT = 5  # what an operator wants of it
    ROLLBACK_ACCEPTED = 6  # an operator accepts what the journal has lost; counters that go on from there
    JOB_ACCEPTED = 10
    JOB_ENDED = 11
    OUTPUT = 12  # something was delivered, or facts alone
    LEASE = 13
    LEASE_END = 14
    FENCE = 15
    STEP = 16  # a step that later records name by its place
    WORK_BACK = 17  # leases are given up
    DROPPED = 18  # what somebody has had a hand in
    BATCHES = 19
    REVIEW = 20  # a check is over
    DEGRADED = 21
    JOB_FORGOTTEN = 22
    HOLD = 24  # a job waits for a component that is not there (`cause`), or does so no more
    AIDE = 25  # somebody is given a further part of a running batch, to help
    AIDE_BACK = 26  # and has ended, or is taken back
    REQUEST_KEY = 30
    KEYS_FORGOTTEN = 31
    KEY_BEGUN = 32  # what a keyed request asks for is about to be done; its reply comes later


Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

VERSIONS: dict[RecordType, int] = dict.fromkeys(RecordType, 1)
# Type and version of a body -> what makes it a body of the next version. The previous version of each type has to be here.
UPGRADES: dict[tuple[RecordType, int], Upgrade] = {}
# Their processes die with the machine, or what they say can be lost with what they belong to.
CRASH_SAFE = frozenset(
    {
        RecordType.INCARNATION, RecordType.INCARNATION_PID, RecordType.INCARNATION_END, RecordType.STEP, RecordType.LEASE,
        RecordType.LEASE_END, RecordType.WORK_BACK, RecordType.AIDE, RecordType.AIDE_BACK, RecordType.HOLD, RecordType.JOB_FORGOTTEN, RecordType.KEYS_FORGOTTEN,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Record:
    """One journal record. ``body`` is a msgpack map; ``at`` in seconds since the epoch."""

    type: RecordType
    body: dict[str, Any]
    at: float

    @property
    def version(self) -> int:
        """Version of the layout of ``body``."""
        return VERSIONS[self.type]

    @property
    def safety(self) -> Safety:
        """How durable it must be."""
        return Safety.CRASH if self.type in CRASH_SAFE else Safety.POWER
