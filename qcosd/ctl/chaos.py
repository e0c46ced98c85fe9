# SPDX-License-Identifier: Apache-2.0
"""`qcosctl chaos`: do faults to the running daemon and its plugins, and see whether it survives them."""

from __future__ import annotations

import math
import secrets
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from qcosd.ctl import failure, output
from qcosd.ctl.connection import chosen_runtime_dir, daemon_options, translated
from qcosd.ctl.failure import Failure, bad_usage

if TYPE_CHECKING:
    from qcosd.ctl.injection import Injector, Struck
    from qcosd.sdk.client import BlockingClient

F = TypeVar("F", bound=Callable[..., Any])

FAULTS = 10  # where neither --for nor --faults says how many
LISTED = 10_000  # jobs that are looked at
RETRY = 0.1  # seconds after which another victim is looked for, where the chosen one was not there to be hit
UNEVENNESS = 0.5  # of the time between two faults, as a share of it, to either side
ENDED = frozenset({"done", "failed", "cancelled"})
COLUMNS = ("fault", "injected", "survived", "p50", "p99", "max")


@click.group()
def chaos() -> None:
    """Inject faults into the running system."""


def _share(flag: str, text: str) -> Callable[[F], F]:
    """An option that is a share of the faults, and 1 where no number follows."""
    kind = click.FloatRange(min=0)
    return click.option(flag, type=kind, is_flag=False, flag_value=1.0, default=0.0, metavar="[SHARE]", help=text)


@chaos.command()
@_share("--kill", "Kill (SIGKILL). SHARE: how many of the faults, beside the other kinds; 1 if left out.")
@_share("--freeze", "Freeze (SIGSTOP).")
@_share("--slow", "Slow a plugin down for a while.")
@click.option(
    "--targets", default="all", show_default=True, metavar="NAME,..", help="Plugins, `daemon`, or `all` plugins."
)
@click.option(
    "--every",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two faults.",
)
@click.option("--for", "duration", type=click.FloatRange(min=0), metavar="SECONDS", help="How long.")
@click.option("--faults", type=click.IntRange(min=1), metavar="N", help=f"How many. [default: {FAULTS} without --for]")
@click.option("--seed", type=click.IntRange(min=0), help="Same seed, same faults. [default: drawn; reported]")
@click.option(
    "--patience",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Then a fault counts as not survived.",
)
@click.option(
    "--restart-daemon",
    metavar="COMMAND",
    help="Starts the daemon again after its death, where no service manager does (`true`: something else does).",
)
@daemon_options
def run(
    kill: float, freeze: float, slow: float, targets: str, every: float, duration: float | None, faults: int | None, seed: int | None,
    patience: float, restart_daemon: str | None, as_json: bool, runtime_dir: str | None,
) -> int:  # fmt: skip
    """Kill, freeze and slow down plugins and the daemon, one after the other, and wait each time until all is well again.

    `--kill --freeze` are equally many of each, `--kill=3 --freeze` three kills for each freeze; without any of the three every
    fault kills. The exit code is 1 if the system did not recover from a fault by itself, lost a job, or left a process that nobody
    owns. A plugin that had failed is reset, and counts as not survived. The daemon can only be hit by its own user or root.
    """
    from qcosd.ctl.injection import FREEZE, KILL, SLOW, Injector, Plan

    weights = {KILL: kill, FREEZE: freeze, SLOW: slow}
    plan = Plan(secrets.randbits(32) if seed is None else seed, weights if any(weights.values()) else {KILL: 1.0})
    command = _command(restart_daemon)
    with translated():
        injector = Injector(chosen_runtime_dir(runtime_dir), patience=patience, revive=command)
        try:
            victims = _victims(injector, targets, command is not None)
            document = campaign(
                injector, plan, victims, every, duration, FAULTS if faults is None and duration is None else faults
            )
        finally:
            injector.close()
    if as_json:
        output.write_json(document)
    else:
        output.write(describe(document))
    return failure.DONE if sound(document) else failure.FAILED


def _command(words: str | None) -> Callable[[], None] | None:
    """What starts the daemon again. Raises `Failure` (exit 2) for what no shell would read either."""
    if words is None:
        return None
    try:
        argv = shlex.split(words)
    except ValueError as error:
        raise bad_usage(f"--restart-daemon {words!r}: {error}") from None
    if not argv:
        raise bad_usage("--restart-daemon: names no command")

    def start() -> None:
        # The daemon outlives this command: Ctrl-C here is not meant for it, and it must not keep a pipe of ours open.
        nothing = subprocess.DEVNULL
        subprocess.Popen(argv, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)

    return start


def _victims(injector: Injector, targets: str, revived: bool) -> list[str]:
    """Who is hit. Raises `Failure` where a name is unknown or the daemon must not or cannot be hit."""
    from qcosd.ctl.injection import DAEMON, may_signal, restarts_by_itself

    known = injector.plugins()
    names: list[str] = []
    for word in filter(None, (word.strip() for word in targets.split(","))):
        if word != "all" and word != DAEMON and word not in known:
            there = ", ".join([*known, DAEMON, "all"])
            raise bad_usage(f"--targets: no plugin has the name {word!r}; there are {there}", name="no_such_plugin")
        names += known if word == "all" else [word]
    if not names:
        raise bad_usage("--targets: names nobody")
    if DAEMON in names:
        pid = injector.client.status()["pid"]
        if not may_signal(pid):
            raise Failure(
                failure.FAILED,
                f"this user may not kill the daemon (pid {pid})",
                name="not_allowed",
                hint="run this as the daemon's user or as root, or leave `daemon` out of --targets",
            )
        if not revived and not restarts_by_itself(pid):
            raise Failure(
                failure.FAILED,
                f"nobody would start the daemon (pid {pid}) again: it is no unit of systemd",
                name="not_allowed",
                hint='give --restart-daemon "COMMAND", or leave `daemon` out of --targets',
            )
    return list(dict.fromkeys(names))


def campaign(injector: Injector, plan: Any, victims: Sequence[str], every: float, duration: float | None, faults: int | None) -> dict[str, Any]:  # fmt: skip
    """Fault after fault; the report. ``duration`` in seconds or ``faults``, whichever is over first, ends it."""
    jobs = Witness(injector.client)
    struck: list[Struck] = []
    skipped = 0
    start = at = time.monotonic()
    until = math.inf if duration is None else start + duration
    while (faults is None or len(struck) < faults) and at < until:
        time.sleep(max(0.0, at - time.monotonic()))
        fault = plan.next(victims)
        hit = injector.strike(fault)
        if hit is None:
            skipped += 1
            # That must not take for ever, and need not take a whole interval.
            at = time.monotonic() + RETRY
            if skipped > 100 + 10 * len(struck):
                break
            continue
        injector.await_recovery(hit)
        struck.append(hit)
        output.note(_line(len(struck), hit))
        jobs.look()
        at = max(time.monotonic(), at + every * plan.generator.uniform(1 - UNEVENNESS, 1 + UNEVENNESS))
    return {"seed": plan.seed, "seconds": round(time.monotonic() - start, 1), **report(struck), "resets": injector.resets,
            "skipped": skipped, "jobs": jobs.verdict(), "orphans": injector.orphans()}  # fmt: skip


def _line(number: int, struck: Struck) -> str:
    end = f"recovered in {struck.seconds:.3f} s" if struck.seconds is not None else f"NOT recovered: {struck.trouble}"
    return f"fault {number}: {struck.fault.kind} {struck.fault.target} (pid {struck.pid}): {end}"


class Witness:
    """Remembers the jobs that have been seen before their end: each must be there to the end."""

    def __init__(self, client: BlockingClient) -> None:
        self._client = client
        self._open: set[str] = set()
        self.look()

    def look(self) -> None:
        """Take note of the jobs that there are."""
        self._open |= {row["job"] for row in self._client.jobs(LISTED) if row["state"] not in ENDED}

    def verdict(self) -> dict[str, Any]:
        """What has become of them: {seen, done, failed, cancelled, open, lost}; of `failed` and `lost` the ids."""
        from qcosd.sdk.errors import RequestFailed

        found: dict[str, list[str]] = {"done": [], "failed": [], "cancelled": [], "open": [], "lost": []}
        for job in sorted(self._open):
            try:
                state = self._client.job(job)["state"]
            except RequestFailed as error:
                if error.name != "no_such_job":
                    raise
                state = "lost"
            found[state if state in found else "open"].append(job)
        counted = {state: len(found[state]) for state in ("done", "cancelled", "open")}
        return {"seen": len(self._open), **counted, "failed": found["failed"], "lost": found["lost"]}


def report(struck: Iterable[Struck]) -> dict[str, Any]:
    """{faults, survived, kinds: [{fault, injected, survived, p50, p99, max}], troubles}; times in seconds."""
    struck = list(struck)
    rows = []
    for label in sorted({hit.fault.label for hit in struck}):
        hits = [hit for hit in struck if hit.fault.label == label]
        times = sorted(hit.seconds for hit in hits if hit.seconds is not None)
        rows.append({"fault": label, "injected": len(hits), "survived": len(times), "p50": quantile(times, 0.5), "p99": quantile(times, 0.99), "max": quantile(times, 1.0)})  # fmt: skip
    return {
        "faults": len(struck),
        "survived": sum(hit.survived for hit in struck),
        "kinds": rows,
        "troubles": [f"{hit.fault.kind} {hit.fault.target}: {hit.trouble}" for hit in struck if not hit.survived],
    }


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest of these that is not below the ``share`` of them; None of none."""
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 4) if ordered else None


def sound(document: Mapping[str, Any]) -> bool:
    """Whether the system has survived everything by itself and lost nothing."""
    whole = document["survived"] == document["faults"] > 0 and not document["resets"]
    return whole and not document["jobs"]["lost"] and not document["orphans"]


def describe(document: Mapping[str, Any]) -> str:
    """The report as text."""
    milli = ("p50", "p99", "max")
    rows = [
        row | {key: None if row[key] is None else f"{1e3 * row[key]:.0f} ms" for key in milli}
        for row in document["kinds"]
    ]
    jobs, orphans = document["jobs"], document["orphans"]
    named = {state: f" ({', '.join(jobs[state])})" if jobs[state] else "" for state in ("lost", "failed")}
    return "\n".join([
        output.table(rows, COLUMNS),
        f"faults   {document['faults']} in {document['seconds']} s, {document['survived']} survived; seed {document['seed']}",
        f"jobs     {jobs['seen']} seen: {jobs['done']} done, {len(jobs['lost'])} lost{named['lost']}, "
        f"{len(jobs['failed'])} failed{named['failed']}, {jobs['cancelled']} cancelled, {jobs['open']} open",
        f"orphans  {len(orphans)}" + (f": pid {', '.join(map(str, orphans))}" if orphans else ""),
        *([f"resets   {document['resets']}: a plugin had failed and was told to try again"] if document["resets"] else []),
        *document["troubles"],
    ])  # fmt: skip
