# SPDX-License-Identifier: Apache-2.0
"""Kill and freeze plugins and the daemon while jobs run, and compare every result with that of an undisturbed run.

`tools/chaos` makes two private worlds. In the first the jobs run undisturbed. In the second the same jobs run, with the same seeds,
while faults are injected: signals from outside, which the kernel knows nothing of. A keeper starts the daemon again at once, as a
service manager does. Half of the faults strike at a random moment, half right after something has happened (a job accepted, work
given out, a batch delivered, a job ended); some strike two or three victims at once.

At the end: every job is there and its result is that of the undisturbed run, bit for bit; every key names one job; and no process is
left that nobody owns. The exit code is 1 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chaos_jobs import ADAPTERS, Clients, Course, Spec, listed, repeat, specs
from chaos_world import World, until

from qcosd.ctl.chaos import quantile, report
from qcosd.ctl.injection import DAEMON, FREEZE, KILL, Fault, Injector, Struck
from qcosd.ctl.output import table
from qcosd.sdk.client import BlockingClient
from qcosd.sdk.errors import SdkError

CLIENTS = 4  # jobs at a time
DAEMON_SHARE = 0.2  # of the faults that strike at a random moment
CHOSEN_SHARE = 0.5  # of the faults that strike right after something has happened
BURST_SHARE = 0.15  # of the faults that come together with one or two others
SIZE = 0.6  # of a job, for each fault that there is for each job: it is to be under way while they strike
PAUSE = 0.5  # seconds that a fault at a random moment waits at most
MOMENT_PATIENCE = 2.0  # seconds that a fault at a chosen moment waits for it
SETTLE = 20.0  # seconds that a process may take to notice that nobody owns it


class Moments:
    """What has just happened to jobs, as the event stream tells it: (what, service whose plugins have to do with it)."""

    def __init__(self, world: World, patience: float) -> None:
        self._world, self._patience = world, patience
        self._happened = threading.Condition()
        self._last: tuple[str, str] | None = None
        self._over = False
        self._thread = threading.Thread(target=self._watch, name="moments", daemon=True)
        self._thread.start()

    def next(self, seconds: float) -> tuple[str, str] | None:
        """The first moment from now on; None where nothing happens for so long."""
        with self._happened:
            self._last = None
            self._happened.wait_for(lambda: self._last is not None, seconds)
            return self._last

    def close(self) -> None:
        self._over = True

    def _watch(self) -> None:
        seen: dict[str, Mapping[str, Any]] = {}
        while not self._over:
            with contextlib.suppress(SdkError), BlockingClient(self._world.runtime, self._patience) as client:
                for event in client.events(["job."], timeout=self._patience):
                    moment = _moment(seen.get(event.topic), event.state)
                    seen[event.topic] = event.state
                    if moment is not None:
                        with self._happened:
                            self._last = moment
                            self._happened.notify_all()
                    if self._over:
                        return


def _moment(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> tuple[str, str] | None:
    if before is None:
        return ("accepted", "")
    if now["state"] != before["state"] and now["state"] in ("done", "failed"):
        return ("ended", "")
    if now.get("batches") != before.get("batches"):
        return ("batch delivered", "track")
    if now["stage"] != before["stage"] and now["stage"]:
        return ("work given", now["stage"].partition(".")[0])
    return None


class Campaign:
    """Faults and jobs in one world."""

    def __init__(self, world: World, jobs: Sequence[Spec], faults: Sequence[str], seed: int, targets: str, patience: float, loud: bool) -> None:  # fmt: skip
        self._world, self._kinds, self._targets, self._patience, self._loud = (
            world,
            list(faults),
            targets,
            patience,
            loud,
        )
        self._generator = random.Random(seed)
        self._generator.shuffle(self._kinds)
        self._paced = threading.Condition()
        self._per_fault = len(jobs) / max(1, len(faults))
        self.injector = Injector(world.runtime, patience=patience, directly=True)
        self.struck: list[Struck] = []
        self.moments: dict[str, int] = {}
        self.busy = 0  # faults that struck while a job was under way
        self.skipped = 0
        self.clients = Clients(world.runtime, jobs, CLIENTS, patience=10 * patience, release=self._release)

    def _release(self, n: int) -> None:
        """Jobs are spread over the faults: the next one comes when its share of them has struck."""
        with self._paced:
            self._paced.wait_for(
                lambda: n - CLIENTS < self._per_fault * len(self.struck) or not self._kinds, self._patience
            )

    def run(self) -> list[Course]:
        """Do all faults, let the jobs end, and return what became of them."""
        moments = Moments(self._world, self._patience)
        self.clients.start()
        try:
            while self._kinds:
                self._volley(moments)
                with self._paced:
                    self._paced.notify_all()
        finally:
            self._kinds.clear()
            with self._paced:
                self._paced.notify_all()
            moments.close()
        return self.clients.join()

    def _volley(self, moments: Moments) -> None:
        """One fault, or some at once, and the recovery from them."""
        number = 1 if self._generator.random() >= BURST_SHARE else self._generator.randint(2, 3)
        service: str | None = None
        name = "random"
        if self._generator.random() < CHOSEN_SHARE and (moment := moments.next(MOMENT_PATIENCE)) is not None:
            name, service = moment
        else:
            time.sleep(self._generator.uniform(0.0, PAUSE))
        hits: list[Struck] = []
        for _ in range(min(number, len(self._kinds))):
            target = self._target(service, {hit.fault.target for hit in hits})
            try:
                hit = self.injector.strike(Fault(self._kinds[-1], target))
            except SdkError as error:  # a daemon that has just been struck is not there to be asked
                if not hits:
                    self._world.keeper.await_life(len(self._world.keeper.lives), self._patience)
                    self._say(f"the daemon did not answer: {error}")
                break
            if hit is None:
                self.skipped += 1
                continue
            self._kinds.pop()
            self.busy += self.clients.open > 0
            self.moments[name] = self.moments.get(name, 0) + 1
            hits.append(hit)
            if target == DAEMON:  # whoever is asked for the next victim is not there
                break
        for hit in sorted(hits, key=lambda hit: hit.fault.target != DAEMON):
            self.injector.await_recovery(hit)
            self.struck.append(hit)
            end = f"{hit.seconds:.3f} s" if hit.seconds is not None else f"NOT recovered: {hit.trouble}"
            self._say(f"{len(self.struck):4} {name:<16} {hit.fault.kind} {hit.fault.target}: {end}; {self.clients.ended} jobs ended, {self.clients.open} open")  # fmt: skip

    def _target(self, service: str | None, taken: set[str]) -> str:
        """A victim: whoever has to do with what has just happened, or anybody."""
        if self._targets == DAEMON:
            return DAEMON
        spared = self._targets == "plugins"  # the daemon
        rows = self.injector.plugins()
        if service is not None:
            services = {service, "hardware"} if service == "track" else {service}
            near = [
                name for name, row in rows.items() if services & set(row["service"].split(", ")) and name not in taken
            ]
            return self._generator.choice(
                [*near, *([DAEMON] if not spared else []), *([] if near or not spared else rows)]
            )
        if not spared and self._generator.random() < DAEMON_SHARE:
            return DAEMON
        return self._generator.choice([name for name in rows if name not in taken])

    def _say(self, text: str) -> None:
        if self._loud:
            print(text, file=sys.stderr, flush=True)


def undisturbed(jobs: Sequence[Spec], patience: float) -> list[Course]:
    """The reference: the same jobs in a world of their own."""
    with World() as world:
        courses = Clients(world.runtime, jobs, CLIENTS, 10 * patience).start().join()
    if bad := [course for course in courses if course.lost or course.failed]:
        sys.exit(f"the undisturbed run has failed already: {bad[0].spec}: {bad[0].trouble or bad[0].document}")
    return courses


def campaign(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole of it; the report."""
    adapters = ADAPTERS if arguments.adapters == "both" else (arguments.adapters,)
    size = max(1.0, SIZE * (arguments.kills + arguments.freezes) / arguments.jobs)
    jobs = specs(arguments.jobs, adapters, arguments.seed, size)
    loud = not arguments.quiet
    if loud:
        print(f"seed {arguments.seed}: {len(jobs)} jobs undisturbed ...", file=sys.stderr, flush=True)
    reference = undisturbed(jobs, arguments.patience)
    faults = [KILL] * arguments.kills + [FREEZE] * arguments.freezes
    start = time.monotonic()
    with World() as world:
        trial = Campaign(world, jobs, faults, arguments.seed, arguments.targets, arguments.patience, loud)
        courses = trial.run()
        aftermath = list(_aftermath(world, courses, arguments.patience))
        trial.injector.close()
        seconds = time.monotonic() - start
        strays = _strays(world)
        ended = world.keeper.stop()
        orphans = {} if until(lambda: not world.processes(), SETTLE) else world.processes()
        boots = len(world.keeper.lives)
        if arguments.keep_log:
            arguments.keep_log.write_text(world.log())
    wrong = {
        course.spec.key: changed
        for course, other in zip(courses, reference, strict=True)
        if not course.lost and not course.failed and (changed := course.differences(other))
    }
    latencies = sorted(course.document["seconds"]["total"] for course in courses if course.document)
    return {
        "seed": arguments.seed, "seconds": round(seconds, 1), **report(trial.struck), "busy": trial.busy, "skipped": trial.skipped,
        "resets": trial.injector.resets, "moments": trial.moments, "boots": boots, "stopped": ended,
        "jobs": len(courses),
        "right": sum(not course.lost and not course.failed for course in courses) - len(wrong),
        "wrong": wrong,
        "failed": {course.spec.key: _why(course) for course in courses if course.failed},
        "lost": {course.spec.key: course.trouble for course in courses if course.lost},
        "twice": aftermath,
        "retries": sum(course.retries for course in courses),
        "job_seconds": {"p50": quantile(latencies, 0.5), "p99": quantile(latencies, 0.99)},
        "orphans": [*strays.values(), *orphans.values()],
    }  # fmt: skip


def _why(course: Course) -> str:
    document = course.document or {}
    return str((document.get("error") or {}).get("message") or document.get("cause") or document.get("state"))


def _aftermath(world: World, courses: Sequence[Course], patience: float) -> Iterator[str]:
    """What has happened more than once: keys that name more than one job, and jobs that nobody has asked for."""
    try:
        repeat(world.runtime, courses, patience)
        known = set(listed(world.runtime, patience))
    except SdkError as error:
        yield f"the daemon does not answer at the end: {error}"
        return
    for course in courses:
        if len(course.numbers) > 1:
            yield f"the key {course.spec.key} is that of jobs {', '.join(sorted(course.numbers))}"
    for job in sorted(known - set().union(*(course.numbers for course in courses))):
        yield f"nobody has asked for job {job}"


def _strays(world: World) -> dict[int, str]:
    """Processes of this world that neither the daemon nor a plugin of it answers for: leaders of a session that nobody lists."""

    def found() -> dict[int, str]:
        with contextlib.suppress(SdkError), BlockingClient(world.runtime, SETTLE) as client:
            owned = {row["pid"] for row in client.plugins()} | {client.status()["pid"]}
            return {pid: command for pid, command in world.processes().items() if not owned & {pid, _session(pid)}}
        return {}

    return {} if until(lambda: not found(), SETTLE) else found()


def _session(pid: int) -> int:
    """Leader of the session; children of a plugin are its own business."""
    with contextlib.suppress(OSError, IndexError):
        return int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[3])
    return pid


def sound(document: Mapping[str, Any]) -> bool:
    """Whether everything was survived, with nobody's help, and nothing was lost, wrong, done twice or left behind."""
    bad = ("wrong", "failed", "lost", "twice", "orphans", "resets")
    return (
        document["survived"] == document["faults"]
        and document["stopped"] == 0
        and not any(document[key] for key in bad)
    )


def describe(document: Mapping[str, Any]) -> str:
    """The report as text."""
    milli = ("p50", "p99", "max")
    rows = [
        row | {key: None if row[key] is None else f"{1e3 * row[key]:.0f} ms" for key in milli}
        for row in document["kinds"]
    ]
    moments = ", ".join(f"{number} {name}" for name, number in sorted(document["moments"].items()))
    lines = [
        table(rows, ("fault", "injected", "survived", *milli)),
        f"faults   {document['faults']} in {document['seconds']} s, {document['survived']} survived, {document['busy']} with jobs under way",
        f"moments  {moments}",
        f"daemon   {document['boots']} lives; exit status at the end {document['stopped']}",
        f"jobs     {document['jobs']}: {document['right']} right, {len(document['wrong'])} wrong, {len(document['failed'])} failed, {len(document['lost'])} lost, {len(document['twice'])} twice",
        f"orphans  {len(document['orphans'])}",
    ]  # fmt: skip
    if document["resets"]:
        lines.append(f"resets   {document['resets']}: a plugin had failed and was told to try again")
    for what in ("wrong", "failed", "lost"):
        lines += [
            f"{what}: {key}: {', '.join(why) if isinstance(why, list) else why}" for key, why in document[what].items()
        ]
    lines += [*(f"twice: {text}" for text in document["twice"]), *(f"orphan: {text}" for text in document["orphans"])]
    lines += [f"not survived: {text}" for text in document["troubles"]]
    return "\n".join([*lines, "", "nothing lost, nothing wrong" if sound(document) else "NOT SOUND"])


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog="tools/chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("--jobs", type=int, default=40, help="how many jobs (default %(default)s)")
    words.add_argument("--kills", type=int, default=200, help="SIGKILLs (default %(default)s)")
    words.add_argument("--freezes", type=int, default=50, help="SIGSTOPs (default %(default)s)")
    words.add_argument("--adapters", choices=("both", *ADAPTERS), default="both")
    words.add_argument("--targets", choices=("all", "plugins", DAEMON), default="all", help="who is hit")
    words.add_argument(
        "--seed", type=int, default=2026, help="jobs, victims and moments are drawn from it (default %(default)s)"
    )
    words.add_argument(
        "--patience",
        type=float,
        default=30.0,
        help="seconds for a recovery, ten times that for a job (default %(default)s)",
    )
    words.add_argument("--keep-log", type=Path, metavar="FILE", help="keep what the daemon has printed")
    words.add_argument("--quiet", action="store_true", help="no line for each fault")
    words.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    return words


def main() -> int:
    arguments = parser().parse_args()
    document = campaign(arguments)
    print(json.dumps(document, indent=2) if arguments.json else describe(document))
    return 0 if sound(document) else 1


if __name__ == "__main__":
    sys.exit(main())
