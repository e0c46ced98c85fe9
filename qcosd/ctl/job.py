# SPDX-License-Identifier: Apache-2.0
"""`qcosctl job`: jobs of the running daemon."""

from __future__ import annotations

import sys
from typing import Any

import click

from qcosd.ctl import failure, output
from qcosd.ctl.connection import daemon, daemon_options
from qcosd.ctl.failure import Failure
from qcosd.ctl.options import is_name
from qcosd.ctl.run import report
from qcosd.ctl.submission import Submission, submission_options

ENDED = frozenset({"done", "failed", "cancelled"})
COLUMNS = ("job", "state", "submitted", "cause")


def _check_id(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    if not is_name(value):
        raise Failure(failure.FAILED, f"no job has the name {value!r}", name="no_such_job")
    return value


_id_argument = click.argument("job_id", metavar="ID", callback=_check_id)


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
        rows = [{column: row.get(column) for column in COLUMNS} for row in client.jobs()]
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
        document = client.job(job_id)
    public = result.public_document(document)
    if as_json:
        output.write_json(public)
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

    with daemon(runtime_dir) as client, Progress(job_id) as progress:
        document = client.wait(job_id, timeout=timeout, on_change=progress.show)
    return report(document, as_json)


@job.command()
@_id_argument
@click.option("--artifact", metavar="KIND", help="Write this artifact of the job to stdout instead, as it is.")
@daemon_options
def result(job_id: str, artifact: str | None, as_json: bool, runtime_dir: str | None) -> int:
    """Print the result of a job that has ended."""
    with daemon(runtime_dir) as client:
        document = client.job(job_id)
        if artifact is not None:
            digest = document["artifacts"].get(artifact)
            if digest is None:
                known = ", ".join(document["artifacts"]) or "none"
                raise Failure(failure.FAILED, f"job {job_id} has no artifact {artifact!r} (it has: {known})")
            sys.stdout.buffer.write(client.get(digest))
            return failure.DONE
    if document["state"] not in ENDED:
        raise Failure(failure.FAILED, f"job {job_id} is {document['state']}: no result yet", name="not_finished")
    return report(document, as_json)


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
