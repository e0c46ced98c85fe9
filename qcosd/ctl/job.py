# SPDX-License-Identifier: Apache-2.0
"""`qcosctl job`: jobs of the running daemon."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from qcosd.ctl import failure, output
from qcosd.ctl.connection import HINTS, daemon, daemon_options
from qcosd.ctl.failure import Failure
from qcosd.ctl.options import is_name
from qcosd.ctl.plugin import plugin_log
from qcosd.ctl.run import report
from qcosd.ctl.submission import Submission, submission_options

if TYPE_CHECKING:
    from qcosd.sdk.client import BlockingClient

ENDED = frozenset({"done", "failed", "cancelled"})
COLUMNS = ("job", "state", "submitted", "cause")
UNSAVED = "the journal cannot be written: what is said here is not all on disk, and may be forgotten (`qcosctl doctor`)"


def _check_id(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    if not is_name(value):
        raise Failure(failure.FAILED, f"no job has the name {value!r}", name="no_such_job")
    return value


_id_argument = click.argument("job_id", metavar="ID", callback=_check_id)


def _mention_unsaved(documents: Iterable[Mapping[str, Any]]) -> None:
    """Say it where the daemon knows more than its journal."""
    if any(document.get("unsaved") for document in documents):
        output.note(UNSAVED)


def _unsaved(document: Mapping[str, Any]) -> dict[str, Any]:
    return {"unsaved": True} if document.get("unsaved") else {}


def _document(client: BlockingClient, job_id: str) -> dict[str, Any]:
    """The job as the daemon knows it."""
    document = client.job(job_id)
    _mention_unsaved([document])
    return document


@click.group()
def job() -> None:
    """Submit jobs and look after them."""


@job.command()
@submission_options
@daemon_options
def submit(file: str, kind: str, key: str | None, as_json: bool, runtime_dir: str | None, **words: Any) -> None:
    """Submit the OpenQASM program FILE and print the job's id at once."""
    submission = Submission.of(file, kind, key, words)
    with daemon(runtime_dir) as client:
        job_id = submission.send(client)
    if as_json:
        output.write_json({"job": job_id})
    else:
        output.write(job_id)


@job.command("list")
@daemon_options
def list_(as_json: bool, runtime_dir: str | None) -> None:
    """List the jobs, newest first."""
    with daemon(runtime_dir) as client:
        found = client.jobs()
    _mention_unsaved(found)
    shown = (*COLUMNS, "unsaved") if any(row.get("unsaved") for row in found) else COLUMNS
    rows = [{column: row.get(column) for column in shown} for row in found]
    if as_json:
        output.write_json(rows)
    else:
        output.write(output.table([row | {"submitted": output.clock(row["submitted"])} for row in rows], COLUMNS))


@job.command()
@_id_argument
@daemon_options
def show(job_id: str, as_json: bool, runtime_dir: str | None) -> None:
    """Show a job as it stands, whatever its state."""
    from qcosd.ctl import progress, result

    with daemon(runtime_dir) as client:
        document = _document(client, job_id)
    public = result.public_document(document)
    if as_json:
        output.write_json(public | _unsaved(document))
        return
    output.write(result.describe(public))
    if public["state"] not in ENDED:
        output.write(progress.line_of(document, 120))


@job.command()
@_id_argument
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Then exit with code 4.")
@daemon_options
def wait(job_id: str, timeout: float | None, as_json: bool, runtime_dir: str | None) -> int:
    """Wait until a job has ended, then print its result. Ctrl-C stops the waiting, not the job."""
    from qcosd.ctl.progress import Progress

    try:
        with daemon(runtime_dir) as client, Progress(job_id) as progress:
            document = client.wait(job_id, timeout=timeout, on_change=progress.show)
    except KeyboardInterrupt:
        raise Failure(
            failure.INTERRUPTED,
            f"interrupted; job {job_id} was left as it is: `qcosctl job wait {job_id}` waits for it again",
            name="interrupted",
        ) from None
    return report(document, as_json)


@job.command()
@_id_argument
@click.option("--artifact", metavar="KIND", help="Write this artifact of the job to stdout instead, as it is.")
@daemon_options
def result(job_id: str, artifact: str | None, as_json: bool, runtime_dir: str | None) -> int:
    """Print the result of a job that has ended."""
    with daemon(runtime_dir) as client:
        document = _document(client, job_id)
        if artifact is not None:
            digest = document["artifacts"].get(artifact)
            if digest is None:
                known = ", ".join(document["artifacts"]) or "none"
                raise Failure(failure.FAILED, f"job {job_id} has no artifact {artifact!r} (it has: {known})")
            sys.stdout.buffer.write(client.get(digest))
            return failure.DONE
    if document["state"] not in ENDED:
        raise Failure(failure.FAILED, f"job {job_id} is {document['state']}: no result yet", name="not_finished")
    if document.get("unsaved"):
        text = f"the result of job {job_id} is not on disk yet: the journal cannot be written"
        raise Failure(failure.FAILED, text, name="no_space", hint=HINTS["no_space"])
    return report(document, as_json)


@job.command()
@_id_argument
@daemon_options
def explain(job_id: str, as_json: bool, runtime_dir: str | None) -> None:
    """Tell the story of a job, from its acceptance on: who had what of it in hand, what went wrong, how it went on.

    NAME/N is process number N of the plugin NAME (its incarnation). It is told also long after the job has ended.
    """
    from qcosd.ctl import story

    with daemon(runtime_dir) as client:
        document = _document(client, job_id)
    if as_json:
        kept = (
            "job",
            "state",
            "cause",
            "submitted",
            "seconds",
            "restarts",
            "shots_restarted",
            "plan",
            "error",
            "story",
        )
        output.write_json({key: document.get(key) for key in kept} | _unsaved(document))
        return
    output.write(f"job {job_id}: {document['state']}, submitted {output.clock(document['submitted'])}")
    for line in story.told(document):
        output.write(line)


@job.command()
@_id_argument
@click.option("-n", "--lines", type=click.IntRange(0, 1000), default=20, show_default=True, help="Of each log.")
@daemon_options
def logs(job_id: str, lines: int, as_json: bool, runtime_dir: str | None) -> None:
    """Show what plugins printed: those that died with work of the job, just before; and the end of the log of each that took part."""
    from qcosd.ctl import story

    with daemon(runtime_dir) as client:
        document = _document(client, job_id)
        here = {row["name"].partition(":")[0] for row in client.plugins()}
        tails = {name: plugin_log(client, name, lines) for name in story.people(document) if name in here}
    deaths = [row for row in document.get("story") or [] if row.get("log")]
    if as_json:
        output.write_json({"job": job_id, "deaths": deaths, "logs": tails})
        return
    for row in deaths:
        output.write(f"== {output.clock(row['at'])} {story.sentence(row)}")
        output.write("\n".join(row["log"]))
    for name, tail in tails.items():
        output.write(f"== the log of {name} now")
        output.write("\n".join(tail) or "(empty)")


@job.command()
@_id_argument
@click.option("--plan", is_flag=True, help="Follow the plan of that run: the same choices, hence the same bits.")
@daemon_options
def rerun(job_id: str, plan: bool, as_json: bool, runtime_dir: str | None) -> None:
    """Submit a job again, with the same inputs and options, and print the id of the new one.

    The options hold the seed. What depends on time, such as how far the optimiser came within its budget, may be
    different; with --plan it is taken from the earlier run, whose artifacts must still be there.
    """
    with daemon(runtime_dir) as client:
        document = _document(client, job_id)
        options = dict(document["options"])
        if plan:
            options["plan"] = _plan_of(document)
        new = client.submit(options, document["inputs"])
    if as_json:
        output.write_json({"job": new, "rerun_of": job_id, "plan": plan})
    else:
        output.write(new)


def _plan_of(document: dict[str, Any]) -> dict[str, Any]:
    """The plan of a job, for another one to follow. Raises `Failure` where it cannot be followed exactly."""
    job_id, found = document["job"], document["plan"]
    if document["state"] != "done":
        raise Failure(
            failure.FAILED, f"job {job_id} ({document['state']}) has no plan: only a job that is done has a whole plan"
        )
    services: dict[str, set[str]] = {}
    for name, component in found["providers"].items():
        services.setdefault(name.partition(".")[0], set()).add(component)
    for service, components in services.items():
        if len(components) > 1:
            several = " and ".join(sorted(components))
            output.note(
                f"job {job_id}: {service} was done by {several}; if one of them is not there another may do its part"
            )
    return {**found, "facts": {name: facts for name, facts in document["facts"].items() if name in found["providers"]}}


@job.command()
@_id_argument
@daemon_options
def cancel(job_id: str, as_json: bool, runtime_dir: str | None) -> None:
    """Cancel a job. One that has ended stays as it is."""
    from qcosd.ctl import result

    with daemon(runtime_dir) as client:
        client.cancel(job_id)
        document = result.public_document(client.job(job_id))
    if as_json:
        output.write_json(document)
    else:
        output.write(f"job {job_id}: {document['state']}")
