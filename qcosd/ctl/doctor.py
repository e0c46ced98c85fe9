# SPDX-License-Identifier: Apache-2.0
"""`qcosctl doctor`: what is wrong with the daemon, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from qcosd.ctl import failure, output
from qcosd.ctl.connection import chosen_runtime_dir, daemon, daemon_options
from qcosd.ctl.failure import Failure

LOW_SPACE = 1 << 29
"""Bytes free in the state directory, below which that is a finding."""

JOBS_READ = 2000
NAMED = 5
"""Jobs that a finding names; it counts the others."""

Finding = dict[str, str]


@click.command()
@click.option("--accept", is_flag=True, help="Accept that the journal has lost records, and let the daemon go on.")
@daemon_options
def doctor(accept: bool, as_json: bool, runtime_dir: str | None) -> int:
    """Say what is wrong, why, and what to do about it.

    Exit 0: nothing is wrong. 1: something is. 3: there is no daemon, or it does not answer.
    """
    try:
        with daemon(runtime_dir) as client:
            if accept:
                client.request("ACCEPT_LOSS")
            status, plugins = client.status(), client.plugins()
            held = [row for row in client.jobs(JOBS_READ) if row["state"] == "held"] if status["jobs"]["held"] else []
    except Failure as error:
        if error.code != failure.NO_DAEMON:
            raise
        place = str(chosen_runtime_dir(runtime_dir))
        finding = _finding(error.name, f"the daemon of {place}", error.message, error.hint)
        raise Failure(
            error.code, error.message, name=error.name, hint=error.hint, document={"findings": [finding]}
        ) from None
    found = findings(status, plugins, held)
    if as_json:
        output.write_json({"state": status["state"], "boot": status["boot"], "findings": found})
    elif not found:
        output.write(f"qcosd is {status['state']}: nothing is wrong")
    else:
        for row in found:
            output.write(f"{row['subject']}: {row['cause']}\n  -> {row['remedy']}")
    return failure.FAILED if found else failure.DONE


def findings(
    status: Mapping[str, Any], plugins: Sequence[Mapping[str, Any]], held: Sequence[Mapping[str, Any]]
) -> list[Finding]:
    """Rows {name, subject, cause, remedy}, the worst first. ``held``: rows of jobs that are held, as far as they were read."""
    return [*_of_storage(status), *_of_plugins(status, plugins), *_of_jobs(held)]


def _of_storage(status: Mapping[str, Any]) -> Iterable[Finding]:
    journal, space = status.get("journal") or {}, status.get("space") or {}
    if journal.get("rolled_back"):
        remedy = "stop the daemon and put the newer state directory back; `qcosctl doctor --accept` takes the loss instead: jobs that are missing are gone"
        yield _finding("rolled_back", "the journal", journal["rolled_back"], remedy)
    if journal.get("fault"):
        remedy = "free space, make the state directory writable: the daemon tries again every second. What was accepted is kept, new jobs are refused until then"
        yield _finding("journal", "the journal", journal["fault"], remedy)
    if space and space["free"] < LOW_SPACE:
        cause = f"{space['free'] >> 20} of {space['total'] >> 20} MiB are free"
        remedy = "free space there; `limits.jobs_kept` and `limits.artifact_grace` in qcosd.toml say how much is kept"
        yield _finding("space", "the state directory", cause, remedy)
    if status["state"] == "draining":
        remedy = "whoever asked for that has to take it back (DRAIN); a restart of the daemon does too"
        yield _finding("draining", "the daemon", "it takes no new jobs", remedy)


def _of_plugins(status: Mapping[str, Any], plugins: Sequence[Mapping[str, Any]]) -> Iterable[Finding]:
    rows = {row["name"]: row for row in plugins}
    failed = {name.partition(":")[0]: row for name, row in rows.items() if row["state"] == "failed"}
    for name, state in status["plugins"].items():
        cause = rows.get(name, {}).get("cause") or f"it is {state}"
        if name in failed:
            remedy = f"`qcosctl plugin logs {name}` shows why; then `qcosctl plugin reset {name}`"
            yield _finding("plugin_failed", name, failed[name].get("cause") or cause, remedy)
        elif state == "down" and not (status.get("journal") or {}).get("rolled_back"):
            yield _finding("plugin_down", name, "somebody has stopped it", f"`qcosctl plugin start {name}`")
        elif state in ("backoff", "waiting"):
            remedy = f"it starts by itself; if this stays, `qcosctl plugin logs {name}`"
            yield _finding("plugin_restarting", name, cause, remedy)


def _of_jobs(held: Sequence[Mapping[str, Any]]) -> Iterable[Finding]:
    by_cause: dict[str, list[str]] = {}
    for row in held:
        by_cause.setdefault(str(row["cause"]), []).append(str(row["job"]))
    for cause, names in by_cause.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        name = names[0] if len(names) == 1 else "ID"
        remedy = f"goes on by itself once the cause is gone; `qcosctl job cancel {name}` gives it up"
        yield _finding("job_held", f"job {', '.join(names[:NAMED])}{more} (held)", cause, remedy)


def _finding(name: str, subject: str, cause: str, remedy: str) -> Finding:
    return {"name": name, "subject": subject, "cause": cause, "remedy": remedy}
