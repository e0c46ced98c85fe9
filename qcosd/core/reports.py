# SPDX-License-Identifier: Apache-2.0
"""What becomes of leases: what plugins report of them, what their deadlines and the deaths of plugins do to them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qcosd.core.aide import Aide
from qcosd.core.alarms import Alarms
from qcosd.core.blame import Verdict, verdict
from qcosd.core.blobs import Blobs
from qcosd.core.components import Instance
from qcosd.core.job import ENDED, Job, JobState
from qcosd.core.jobs import Jobs
from qcosd.core.leases import Stranger
from qcosd.core.records import RecordType
from qcosd.core.requests import Refused
from qcosd.core.results import SummaryError
from qcosd.core.scheduler import Scheduler
from qcosd.core.supervisor import Supervisor
from qcosd.core.work import Lease, Work
from qcosd.protocol import error_table

DEFERRALS = 20  # `retry_later` in a row that a work item may get
DEFER_FIRST, DEFER_MAX = 0.1, 8.0  # seconds until it is tried again: doubling
NO_SPACE_PAUSE = 1.0  # seconds until what could not be stored is made again, however often
NOT_NOW = ("retry_later", "no_space")  # errors that say nothing about the work
STRIKES = (
    4  # deaths by a signal from outside that count as one: too little memory sends it, and so does somebody's hand
)
LAST_LINES, LONGEST_LINE = 5, 200  # of what a plugin printed before it died, for the story of the job
HOPELESS = 2  # times the attempts of a work item after which it is poison even if nobody else got on


class Reports:
    """Leases in the hands of plugins."""

    def __init__(
        self, alarms: Alarms, jobs: Jobs, supervisor: Supervisor, blobs: Blobs, scheduler: Scheduler, attempts: int
    ) -> None:
        self._alarms = alarms
        self._jobs = jobs
        self._supervisor = supervisor
        self._blobs = blobs
        self._scheduler = scheduler
        self._works = scheduler.works
        self._leases = scheduler.leases
        self._aides = scheduler.aides
        self._attempts = attempts

    @property
    def last(self) -> int:
        """Number of a lease or grant that was given out last."""
        return self._leases.last

    # What plugins say

    def progress(self, number: int, epoch: int, incarnation: int, fraction: float, text: str) -> None:
        """A plugin tells how far it is. Raises Refused(late)."""
        lease = self._current(number, epoch, incarnation)
        work, job = lease.work, lease.work.job
        if not lease.delivers or work.delivered or job.state in ENDED:
            return
        lease.fraction = fraction
        job.stage = f"{work.step.name}: {text}" if text else work.step.name
        self._scheduler.show(job)

    def done(self, number: int, epoch: int, incarnation: int, outputs: dict[str, str], facts: dict[str, Any], summary: dict[str, Any] | None, now: float, stream: int | None = None) -> None:  # fmt: skip
        """A plugin has done its part. Raises Refused. ``stream``: epoch of the grant with which a producer came to its end."""
        if self._leases.was_settled(number, epoch, incarnation):
            return
        lease = self._current(number, epoch, incarnation)
        work, job = lease.work, lease.work.job
        try:
            lease.check(outputs, self._blobs.has)
            if lease.delivers:
                self._jobs.deliver(work, outputs, facts, summary, now)
            elif facts and not work.delivered and not work.helps:
                self._jobs.note(work, lease.part.operation.name, facts, now)
        except (Refused, SummaryError) as breach:
            self._settle(lease, now, error=str(breach))
            self._judge(lease, error_table("wrong_output", str(breach)), now)
            raise Refused("wrong_output", str(breach)) from None
        self._settle(lease, now)
        if work.helps:
            return
        if lease.delivers:
            self._scheduler.delivered(work, now)
            if job.state not in ENDED:
                self._scheduler.show(job)
        elif stream is not None and stream < work.epoch and not work.delivered and job.state not in ENDED:
            # Its consumer had everything, and died with it; the next one would wait for ever for somebody who is gone.
            self._scheduler.again(work, "the stream ended with the consumer before", now)

    def failed(self, number: int, epoch: int, incarnation: int, error: dict[str, Any], now: float) -> None:
        """A plugin cannot do its part. Raises Refused(late)."""
        if self._leases.was_settled(number, epoch, incarnation):
            return
        lease = self._current(number, epoch, incarnation, failing=error["name"] not in NOT_NOW)
        work = lease.work
        self._settle(lease, now, error=error["message"] or error["name"])
        if work.helps or work.delivered or work.job.state in ENDED:
            return
        if error["name"] in ("wrong_input", "wrong_output") or lease.cut_short(error):
            self._judge(lease, error, now)
        elif error["name"] == "no_space":
            self._defer(work, NO_SPACE_PAUSE, "there was no space for what it has made", now)
        elif error["name"] == "retry_later" and work.deferrals < DEFERRALS:
            work.deferrals += 1
            pause = min(DEFER_MAX, DEFER_FIRST * 2.0 ** (work.deferrals - 1))
            self._defer(work, pause, "the other side of the stream is deferred", now)
        else:
            self._scheduler.fail(work, error, now, lease.place)

    def _defer(self, work: Work, pause: float, reason: str, now: float) -> None:
        """Try it again after a pause."""
        work.deferred, work.not_before = True, now + pause
        self._alarms.set(("retry", work), work.not_before)
        self._scheduler.again(work, reason, now)

    def revoked(self, number: int, epoch: int, incarnation: int) -> None:
        """A plugin has given a revoked lease up."""
        lease = self._leases.get(number, epoch, incarnation)
        if lease is not None and lease.revoked:
            self._works.free(lease)
            self._scheduler.stir()

    def reconcile(self, instance: Instance, held: list[dict[str, Any]], now: float) -> None:
        """A plugin that was away tells which leases it holds. What it does not name has never reached it, or was given up: it is
        given out again. What the kernel does not know is revoked, unless its result is on its way and will be answered."""
        named = {(row["lease"], row["epoch"]): row for row in held}
        for lease in self._leases.of_incarnation(instance.incarnation):
            row = named.pop((lease.number, lease.epoch), None)
            if row is None and isinstance(lease, Lease) and not lease.revoked:
                self._works.free(lease)
                self._lose([lease], f"{instance.name} knows nothing of it", (), now)
            elif row is None:
                self._works.free(lease)
            elif lease.revoked:
                self._works.remind(lease, "it was taken back")
            elif isinstance(lease, Lease) and not row["finished"] and self._missed_grant(lease, row["stream"]):
                # It has missed a GRANT, whose secret nobody remembers: the consumer begins anew, with a fresh grant.
                self._scheduler.again(lease.work, "a grant was lost", now, parts=None if lease.delivers else (0,))
            elif isinstance(lease, Lease) and not row["finished"]:
                self._aides.compare(lease, {aide["grant"]: aide["epoch"] for aide in row.get("aides", ())}, now)
        for (number, epoch), row in named.items():
            if not row["finished"]:
                self._works.expel(number, epoch, instance.incarnation, "the kernel does not know it", now)
        self._scheduler.stir()

    def _missed_grant(self, lease: Lease, epoch: int | None) -> bool:
        work = lease.work
        return epoch not in (None, work.epoch) and not work.delivered and work.job.state not in ENDED

    # What time and death do

    def expire(self, lease: Lease | Stranger, now: float) -> Instance | None:
        """The alarm of a lease. The instance to be killed, where it has not given up a revoked lease in time."""
        if self._works.silenced:
            self._works.renew(lease, now)  # perhaps it has never heard of that, or waits for an answer
            return None
        if isinstance(lease, Stranger) or lease.revoked:
            return self._supervisor.of_incarnation(lease.incarnation)
        work = lease.work
        if isinstance(work, Aide):
            self._aides.expire(work, lease, now)
        elif work.job.state in ENDED:
            self._works.revoke(lease, "the job has ended", now)
        elif work.delivered:
            self._scheduler.again(work, "the result is here", now, parts=(lease.index,))
        else:
            budget = lease.part.operation.budget
            text = f"{lease.part.operation.name} did not end within {budget:g} s"
            self._scheduler.fail(work, error_table("budget", text), now, lease.place)
        return None

    def lost(self, instance: Instance, reason: str, now: float, *, blamed: bool = True) -> bool:
        """A plugin has died: its leases go back. Whether it had any in hand, which then pay for the death, unless it is not ``blamed``
        on anybody: it ended because it was told to, or for what it delivered to some job, or nobody knows why. Who only helped pays
        for itself."""
        held = self._free(instance.incarnation)
        ours = blamed and instance.wanted and not instance.reborn and not instance.guilty
        in_force = [lease for lease in held if isinstance(lease, Lease) and not lease.revoked]
        why = {"blamed": ours and not instance.outside, "struck": ours and instance.outside}
        self._lose(in_force, f"{instance.name}: {reason}", instance.log, now, died=True, **why)
        return not all(isinstance(lease, Lease) and lease.work.helps for lease in held)

    def abandon(self, incarnation: int, reason: str, now: float) -> None:
        """A plugin of an earlier boot has not outlived it. Nobody pays for that."""
        held = [lease for lease in self._free(incarnation) if isinstance(lease, Lease)]
        self._lose(held, reason, (), now, died=True)

    def _free(self, incarnation: int) -> list[Lease | Stranger]:
        held = self._leases.of_incarnation(incarnation)
        for lease in held:
            self._works.free(lease)
        self._scheduler.stir()
        return held

    def _lose(self, leases: list[Lease], reason: str, log: Iterable[str], now: float, **why: bool) -> None:
        """Leases have gone with their plugin, or never reached it. ``log``: what it printed last."""
        paid = why.get("blamed") or why.get("struck")
        for lease in leases:
            if isinstance(lease.work, Aide):
                self._aides.ended(lease.work, lease, reason, now, failed=bool(paid))
        for work in dict.fromkeys(lease.work for lease in leases if not lease.work.helps):
            indices = {lease.index for lease in leases if lease.work is work}
            if work.job.state in ENDED or work.name not in work.job.works:
                continue
            if work.delivered:
                self._scheduler.again(work, reason, now, parts=tuple(indices))
                continue
            if paid and (work.others is None or not work.deaths + work.strikes):
                work.others = self._scheduler.done_by_others(work)
            streams = len(work.step.parts) > 1 and work.step.parts[1].operation.resumes
            goes_on = streams and indices == {0} and any(not lease.delivers for lease in work.live)
            said = [line[:LONGEST_LINE] for line in log][-LAST_LINES:]
            self._scheduler.again(work, reason, now, parts=(0,) if goes_on else None, log=said, **why)
            if paid and self._is_poison(work):
                often = f"{work.place} killed its plugin {work.deaths + work.strikes} times in a row"
                text = f"{often}; the last time {reason}"
                self._scheduler.fail(work, error_table("poison", text, {"log": list(log)}), now)

    def _is_poison(self, work: Work) -> bool:
        """It has died in many hands in a row. While nobody else gets on either it may be the plugin that is broken."""
        got_on = self._scheduler.done_by_others(work) > (work.others or 0)
        deaths = work.deaths + work.strikes // STRIKES
        return deaths >= self._attempts * (1 if got_on else HOPELESS)

    # Faults of what was delivered

    def _judge(self, lease: Lease, error: dict[str, Any], now: float) -> None:
        """Something delivered was wrong: go on without whoever did it."""
        job = lease.work.job
        if job.state in ENDED or lease.work.helps:
            return
        found = verdict(lease, error)
        if found.component is None:
            table = error_table("bad_input", found.reason, error.get("details"))
            self._scheduler.finish(job, JobState.FAILED, now, {**table, "chain": [lease.place]})
        else:
            self._fence(job, found.component, found, lease.place, now)

    def _fence(self, job: Job, name: str, found: Verdict, place: str, now: float) -> None:
        """Keep a component away from a job, with all that it has made for it; its process ends, like that of one that crashed."""
        self._jobs.record(job, RecordType.FENCE, now, component=name, reason=found.reason, place=place)
        instance = self._supervisor.of_incarnation(found.incarnation)
        if instance is not None and instance.wanted:
            self._supervisor.kill(instance, f"delivered something wrong: {found.reason}", now, guilty=True)
        self._scheduler.forget(job, [[name, None]], now)
        self._scheduler.replan(job, now)
        if job.state not in ENDED:
            self._scheduler.show(job)

    # Inner parts

    def _current(self, number: int, epoch: int, incarnation: int, *, failing: bool = False) -> Lease:
        lease = self._leases.get(number, epoch, incarnation)
        if not isinstance(lease, Lease) or (lease.revoked and not (failing and lease.overtaken)):
            raise Refused("late", f"lease {number} epoch {epoch} is not in force")
        return lease

    def _settle(self, lease: Lease, now: float, *, error: str = "") -> None:
        self._works.settle(lease, now, well=not error)
        if isinstance(lease.work, Aide):
            self._aides.ended(lease.work, lease, error or "it is done", now, failed=bool(error), finished=not error)
        self._scheduler.stir()
