# SPDX-License-Identifier: Apache-2.0
"""`qcosctl run`: submit a program, show its progress, print its result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click

from qcosd.ctl import failure, output
from qcosd.ctl.connection import RESTART_GRACE, chosen_runtime_dir, daemon_options, translated
from qcosd.ctl.failure import Failure, bad_usage
from qcosd.ctl.interrupt import Interrupted, Interrupts
from qcosd.ctl.progress import Progress
from qcosd.ctl.records import RecordsDirectory, write
from qcosd.ctl.submission import Sendable, Staged, Submission, submission_options

CANCEL_GRACE = 5.0
"""Seconds that a cancellation may take after Ctrl-C. A second Ctrl-C waits for nothing."""


@click.command()
@submission_options
@click.option(
    "--records", metavar="DIR", help="Write records, circuits and outcomes of all shots into a new directory."
)
@daemon_options
def run(
    file: str,
    kind: str,
    key: str | None,
    records: str | None,
    as_json: bool,
    runtime_dir: str | None,
    **words: Any,
) -> int:
    """Run the OpenQASM program FILE and print its result.

    Without a daemon, a private one is started for this job and removed afterwards. Ctrl-C cancels the job.
    """
    if records is not None:
        if words["target"] != "counts":
            raise bad_usage(f"--target {words['target']}: --records goes with counts")
        words["target"] = "records"
    submission = Submission.of(file, kind, key, words)
    with nullcontext() if records is None else RecordsDirectory(records) as directory:
        return run_submission(submission, runtime_dir, as_json, directory)


def run_submission(
    submission: Sendable, runtime_dir: str | None, as_json: bool, directory: RecordsDirectory | None = None
) -> int:
    """Run a job on the daemon that is there, or on a private one, and print its result."""
    try:
        with translated(), Interrupts() as interrupts, some_daemon(runtime_dir, interrupts) as place:
            document = _run_on(place, submission, interrupts, directory)
    except Interrupted as interrupted:
        raise interrupted.failure from None
    return report(document, as_json)


def report(job: dict[str, Any], as_json: bool) -> int:
    """Print the result of a job that has ended; raises `Failure` for one that did not succeed."""
    from qcosd.ctl import result

    document = result.public_document(job)
    error = document["error"]
    code = failure.exit_code_of(document["state"], error)
    if code != failure.DONE:
        raise Failure(code, _reason(document, code), name=(error or {}).get("name", "failed"), document=document)
    if as_json:
        output.write_json(document)
    else:
        output.write(result.describe(document))
    return failure.DONE


def _reason(document: dict[str, Any], code: int) -> str:
    from qcosd.ctl import result

    error = document["error"]
    if code == failure.USAGE:
        return str(error["message"])  # FILE:LINE: what is wrong there
    story = result.describe_error(error) if error else document.get("cause") or ""
    story = story.removeprefix(f"{document['state']}: ")  # "cancelled: cancelled on request"
    return f"job {document['job']} {document['state']}" + (f": {story}" if story else "")


@contextmanager
def some_daemon(runtime_dir: str | None, interrupts: Interrupts) -> Iterator[Path]:
    """The runtime directory of the daemon that is there, else of a private one. A silent daemon is not replaced."""
    from qcosd.sdk.runtime import probe

    place = chosen_runtime_dir(runtime_dir)
    if not probe(place).absent:
        yield place
        return
    from qcosd.ctl.embedded import PrivateDaemon

    output.note("no daemon is running; starting a private one for this job")
    daemon = PrivateDaemon(interrupts)
    interrupts.last_resort = daemon.kill
    with daemon:
        yield daemon.runtime_dir


def _run_on(
    place: Path, submission: Sendable, interrupts: Interrupts, directory: RecordsDirectory | None
) -> dict[str, Any]:
    """Submit, wait, and return the kernel's job document. An interrupt cancels the job before it goes on."""
    from qcosd.sdk.client import BlockingClient

    job = None

    def done(submit: Callable[[], str]) -> dict[str, Any]:
        nonlocal job
        with interrupts.deferred():  # either no job, or one whose id is known and can be cancelled
            job = submit()
        with Progress(job) as progress:
            return client.wait(job, on_change=progress.show)

    with BlockingClient(place, restart_grace=RESTART_GRACE) as client:
        try:
            document = done(lambda: submission.send(client))
            if isinstance(submission, Staged) and document["state"] == "done":
                following = submission.after(document)
                document = done(lambda: following.send(client))
            if directory is not None and document["state"] == "done":
                write(directory, client, document, done)
            return document
        except Interrupted as interrupted:
            if job is not None:
                interrupted.document = _cancel(place, job)
            raise


def _cancel(place: Path, job: str) -> dict[str, Any] | None:
    """Cancel over a connection of its own: the interrupted one may be in the middle of a reply. The job's public document."""
    from qcosd.ctl import result
    from qcosd.sdk.client import BlockingClient
    from qcosd.sdk.errors import SdkError

    output.note(f"cancelling job {job}; Ctrl-C again leaves at once")
    try:
        with BlockingClient(place, connect_grace=CANCEL_GRACE) as client:
            return result.public_document(client.cancel(job, timeout=CANCEL_GRACE))
    except SdkError as error:
        output.note(f"job {job} was not cancelled: {error}")
        return None
