# SPDX-License-Identifier: Apache-2.0
"""Who helps running batches: workers to which an operation with a `pool` gives work away.

A batch starts with whoever is free and gets more later. Whatever becomes of an aide costs its host nothing: another one is leased in
its place, with the same grant and the next epoch, or nobody is.
"""

from __future__ import annotations

from typing import Any

from qcosd.core.aide import SHADOW, Aide
from qcosd.core.blobs import Blobs
from qcosd.core.components import Instance
from qcosd.core.demand import Provider, Step, offers
from qcosd.core.entropy import Entropy
from qcosd.core.events import Channel
from qcosd.core.job import Job
from qcosd.core.jobs import Jobs
from qcosd.core.manifest import Operation
from qcosd.core.outbox import Outbox
from qcosd.core.records import RecordType
from qcosd.core.supervisor import Supervisor
from qcosd.core.work import Lease, Work
from qcosd.core.works import Works
from qcosd.protocol import Type

SHOWN = 1024  # messages by which one who looks on may be behind

Unsent = dict[Lease, dict[str, Any]]  # leases just given out, with the bodies of their LEASE


class Aides:
    """The aides of all work in hand. ``streams``: prefix of endpoints."""

    def __init__(self, outbox: Outbox, entropy: Entropy, jobs: Jobs, supervisor: Supervisor, blobs: Blobs, works: Works, streams: str) -> None:  # fmt: skip
        self._outbox = outbox
        self._entropy = entropy
        self._jobs = jobs
        self._supervisor = supervisor
        self._blobs = blobs
        self._works = works
        self._streams = streams
        self._hosts: dict[Work, None] = {}  # work in hand that takes workers
        self._workers: dict[str, list[Provider]] = {}  # name of streams -> who works on them, best first
        for provider in offers(component.manifest for component in supervisor.components.values()):
            if (name := provider.operation.stream_in) and not provider.operation.produces:
                self._workers.setdefault(name, []).append(provider)

    # Giving work out

    def expect(self, work: Work) -> None:
        """A work item is in somebody's hands: perhaps it takes workers."""
        if any(_places(work.job, part.operation) for part in work.step.parts):
            self._hosts[work] = None

    def staff(self, unsent: Unsent, now: float) -> None:
        """Give those who help now to work that lacks some, the most urgent first. All that is needed has been given out before."""
        for work in sorted(self._hosts, key=lambda work: (-work.job.terms.priority, work.job.number, work.batch or 0)):
            helped = [lease for lease in work.live if _places(work.job, lease.part.operation)]
            if not helped or work.job.works.get(work.name) is not work:
                del self._hosts[work]
            for lease in helped:
                self._fill_places(lease, unsent, now)

    def _fill_places(self, host: Lease, unsent: Unsent, now: float) -> None:
        work = host.work
        waits = (
            self._works.leases.of_incarnation(host.incarnation)[0] is not host
        )  # it was given ahead, and has not begun
        if self._supervisor.address_of(host.incarnation) is None:
            return  # it is away, and would not hear of anybody
        nobody = set()
        for number, name in _places(work.job, host.part.operation).items():
            aide = work.aides.get((host.index, number))
            if aide is not None and aide.live and aide.step.parts[0].component in work.job.fences:
                self.take_back(aide, "its component does nothing for this job any more", now)
            if name in nobody or (aide is not None and (aide.live or aide.barred)):
                continue
            if waits if number != SHADOW else host not in unsent or host.epoch > 1:
                continue  # too early to help; or too late to look on
            if (found := self._find(work, name, now)) is None:
                nobody.add(name)
            else:
                self._lend(host, number, *found, unsent, now)

    def _find(self, work: Work, name: str, now: float) -> tuple[Provider, Instance] | None:
        """The best worker that is free. Where there is none, one more process is asked for."""
        job, usable = work.job, work.job.usable(work.batch)
        able = [
            each for each in self._workers.get(name, ())
            if each.component == job.terms.use.get(each.operation.service, each.component)
            and each.component not in job.fences and usable.issuperset(each.operation.consumes)
        ]  # fmt: skip
        for provider in able:
            active = self._supervisor.active(provider.component)
            best = max(active, key=self._works.leases.room, default=None)
            if best is not None and self._works.leases.room(best):
                return provider, best
        any(self._supervisor.want_more(provider.component, now) for provider in able)
        return None

    def _lend(self, host: Lease, number: int, provider: Provider, instance: Instance, unsent: Unsent, now: float) -> None:  # fmt: skip
        """Lease an aide, and tell its host."""
        work, job, leases = host.work, host.work.job, self._works.leases
        step = self._jobs.place(job, Step((provider,)), now)
        aide = work.aides.get((host.index, number))
        names = (aide.numbers, aide.grant, aide.epoch) if aide else ((leases.number(),), leases.number(), 0)
        body = {
            "batch": work.batch, "op": work.step.name, "index": host.index, "place": number, "step": step,
            "numbers": list(names[0]), "grant": names[1], "epoch": names[2] + 1, "incarnation": instance.incarnation,
        }  # fmt: skip
        self._jobs.record(job, RecordType.AIDE, now, **body)
        (lease,) = work.aides[host.index, number].live
        leases.add(lease)
        self._works.watch(lease, now)
        table = lease.stream(self._streams, self._entropy.secret())
        looks_on = number == SHADOW
        if looks_on:
            table["credit"] = SHOWN  # its host never waits for it
        if instance.address is not None:
            self._outbox.send(Channel.PLUGINS, instance.address, Type.LEASE, lease.body(table, self._blobs.size))
        theirs = {**table, "role": "connect", "resumes": not looks_on}
        if host in unsent:
            unsent[host].setdefault("aides", []).append(theirs)
        elif (address := self._supervisor.address_of(host.incarnation)) is not None:
            grant_body = {"lease": host.number, "epoch": host.epoch, "stream": theirs}
            self._outbox.send(Channel.PLUGINS, address, Type.GRANT, grant_body)

    # Taking it back

    def take_back(self, aide: Aide, reason: str, now: float, **why: Any) -> None:
        """An aide helps no more; ``why``: see ``aide.returned``. A lease that is not settled, and whose plugin lives, is revoked."""
        for lease in aide.live:
            self._works.revoke(lease, reason, now)
        names = {"batch": aide.batch, "op": aide.host.step.name, "index": aide.index, "place": aide.number}
        self._jobs.record(aide.job, RecordType.AIDE_BACK, now, **names, reason=reason, **why)

    def make_way(self, lacking: dict[str, int], now: float) -> bool:
        """Take aides back from components that lack so many leases, if that is all that is lacking. Whether it is."""
        ways: list[Aide] = []
        for component, count in lacking.items():
            incarnations = [instance.incarnation for instance in self._supervisor.active(component)]
            held = [lease for each in incarnations for lease in self._works.leases.of_incarnation(each)]
            theirs = [lease for lease in held if isinstance(lease, Lease) and isinstance(lease.work, Aide)]
            if len(theirs) < count:
                return False
            staying = [lease.work for lease in theirs if lease in lease.work.live and isinstance(lease.work, Aide)]
            ways += staying[: max(0, count - (len(theirs) - len(staying)))]
        for aide in ways:
            self.take_back(aide, "what it occupied is needed", now)
        return True

    def compare(self, host: Lease, named: dict[int, int], now: float) -> None:
        """A plugin that was away tells the streams of its aides, grant -> epoch. Who it has not heard of is leased anew."""
        for aide in host.work.aides.values():
            if aide.index == host.index and aide.live and named.get(aide.grant) != aide.epoch:
                self.take_back(aide, "its host has not heard of it", now)

    def ended(self, aide: Aide, lease: Lease, reason: str, now: float, **why: Any) -> None:
        """The lease of an aide has ended by its own plugin, or gone with it, or never reached it. Nobody minds; ``why``: as above."""
        if lease in aide.live:
            self.take_back(aide, reason, now, **why)

    def expire(self, aide: Aide, lease: Lease, now: float) -> None:
        """The time of an aide is over, or that which it had after its host's end."""
        if lease in aide.live:
            self.take_back(aide, f"it did not end within {lease.part.operation.budget:g} s", now, failed=True)
        else:
            self._works.revoke(lease, "what it helped with is over", now)


def _places(job: Job, operation: Operation) -> dict[int, str]:
    """Places of aides that an operation of a job may have -> names of the streams to them."""
    places = {SHADOW: operation.shadow} if operation.shadow and job.terms.shadow else {}
    return places | (dict.fromkeys(range(job.terms.workers), operation.pool) if operation.pool else {})
