# SPDX-License-Identifier: Apache-2.0
"""All leases that occupy a plugin: those in force, those revoked that it has not given up yet, and those of another boot."""

from __future__ import annotations

from dataclasses import dataclass

from qcosd.core.components import Instance
from qcosd.core.events import Limits
from qcosd.core.work import Lease

# Leases whose end is remembered of an incarnation, to acknowledge repeats: it repeats what it has not heard the answer to, and has
# no more than that many unanswered.
SETTLED_KEPT = Limits().requests


@dataclass(eq=False, slots=True)
class Stranger:
    """A lease that a plugin holds and the kernel does not know any more. It is revoked from the beginning."""

    number: int
    epoch: int
    incarnation: int
    revoked: bool = True


class Leases:
    """Leases by number and epoch, and how many of them each incarnation has."""

    def __init__(self) -> None:
        self._of: dict[int, dict[tuple[int, int], Lease | Stranger]] = {}  # incarnation -> its leases
        self._settled: dict[
            int, dict[tuple[int, int], None]
        ] = {}  # incarnation -> leases that it has ended, as (lease, epoch)
        self._touched: set[int] = set()  # incarnations whose leases have changed since they were taken
        self.last = 0  # number given out last, of a lease or a grant

    def number(self) -> int:
        """A fresh number, for a lease or a grant."""
        self.last += 1
        return self.last

    def add(self, lease: Lease | Stranger) -> None:
        """A lease occupies its plugin."""
        self._touched.add(lease.incarnation)
        self._of.setdefault(lease.incarnation, {})[lease.number, lease.epoch] = lease

    def remove(self, lease: Lease | Stranger, *, settled: bool) -> None:
        """A lease occupies its plugin no more. ``settled``: by DONE or FAILED, which may be repeated."""
        self._touched.add(lease.incarnation)
        name = lease.number, lease.epoch
        del self._of[lease.incarnation][name]
        if not self._of[lease.incarnation]:
            del self._of[lease.incarnation]
        if settled:
            kept = self._settled.setdefault(lease.incarnation, {})
            kept[name] = None
            if len(kept) > SETTLED_KEPT:
                del kept[next(iter(kept))]

    def get(self, number: int, epoch: int, incarnation: int) -> Lease | Stranger | None:
        """The lease that the incarnation holds under these numbers."""
        return self._of.get(incarnation, {}).get((number, epoch))

    def was_settled(self, number: int, epoch: int, incarnation: int) -> bool:
        """Whether that incarnation has ended that lease before."""
        return (number, epoch) in self._settled.get(incarnation, ())

    def forget(self, incarnation: int) -> None:
        """An incarnation has ended: it repeats nothing."""
        self._settled.pop(incarnation, None)

    @property
    def remembered(self) -> int:
        """Leases whose end is remembered."""
        return sum(map(len, self._settled.values()))

    def load(self, incarnation: int) -> int:
        """Leases that occupy an incarnation."""
        return len(self._of.get(incarnation, ()))

    def room(self, instance: Instance) -> int:
        """Leases that an instance could take besides those that occupy it."""
        return max(0, instance.slots - self.load(instance.incarnation))

    def of_incarnation(self, incarnation: int) -> list[Lease | Stranger]:
        """Leases that occupy an incarnation."""
        return list(self._of.get(incarnation, {}).values())

    def take_touched(self) -> list[int]:
        """Incarnations that got or lost a lease since the last call, in order."""
        touched, self._touched = sorted(self._touched), set()
        return touched

    def incarnations(self) -> list[int]:
        """Incarnations that have any."""
        return list(self._of)

    def inputs(self, incarnation: int) -> frozenset[str]:
        """Digests that an incarnation may fetch: the inputs of the leases that it holds."""
        return frozenset(
            digest
            for lease in self.of_incarnation(incarnation)
            if isinstance(lease, Lease)
            for kind, digest in lease.work.job.has(lease.work.batch).items()
            if kind in lease.part.operation.consumes
        )

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))
