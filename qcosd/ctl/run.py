# SPDX-License-Identifier: Apache-2.0
"""`qcosctl run`: submit a program, show its progress, print its result."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from qcosd.ctl import failure, output
from qcosd.ctl.connection import chosen_runtime_dir, daemon_options, translated
from qcosd.ctl.failure import Failure
from qcosd.ctl.interrupt import Interrupted, Interrupts
from qcosd.ctl.progress import Progress
from qcosd.ctl.submission import Submission, submission_options

CANCEL_GRACE = 5.0
"""Seconds that a cancellation may take after Ctrl-C. A second Ctrl-C waits for nothing."""


@click.command()
@submission_options
@daemon_options
def run(file: str, kind: str, key: str | None, as_json: bool, runtime_dir: str | None, **words: Any) -> int:
    """Run the OpenQASM program FILE and print its result.

    Without a daemon, a private one is started for this job and removed afterwards. Ctrl-C cancels the job.
    """
    submission = Submission.of(file, kind, key, words)
    try:
        with translated(), Interrupts() as interrupts, _some_daemon(runtime_dir, interrupts) as place:
            document = _run_on(place, submission, interrupts)
    except Interrupted as interrupted:
        output.note("interrupted")
        return interrupted.exit_code
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
    return f"job {document['job']} {document['state']}" + (f": {story}" if story else "")


@contextmanager
def _some_daemon(runtime_dir: str | None, interrupts: Interrupts) -> Iterator[Path]:
    """The runtime directory of the daemon that is there, else of a private one. A silent daemon is not replaced."""
    from qcosd.sdk.runtime import probe

    place = chosen_runtime_dir(runtime_dir)
    if not probe(place).absent:
        yield place
        return
    from qcosd.ctl.embedded import PrivateDaemon

    output.note("no daemon is running; starting a private one for this job")
    daemon = PrivateDaemon()
    interrupts.last_resort = daemon.kill
    with daemon:
        yield daemon.runtime_dir


def _run_on(place: Path, submission: Submission, interrupts: Interrupts) -> dict[str, Any]:
    """Submit, wait, and return the kernel's job document. An interrupt cancels the job before it goes on."""
    from qcosd.sdk.client import BlockingClient

    job = None
    with BlockingClient(place) as client:
        try:
            with interrupts.deferred():  # either no job, or one whose id is known and can be cancelled
                job = submission.send(client)
            with Progress(job) as progress:
                return client.wait(job, on_change=progress.show)
        except Interrupted:
            if job is not None:
                _cancel(place, job)
            raise


def _cancel(place: Path, job: str) -> None:
    """Cancel over a connection of its own: the interrupted one may be in the middle of a reply."""
    from qcosd.sdk.client import BlockingClient
    from qcosd.sdk.errors import SdkError

    output.note(f"cancelling job {job}; Ctrl-C again leaves at once")
    with contextlib.suppress(SdkError), BlockingClient(place, connect_grace=CANCEL_GRACE) as client:
        client.cancel(job, timeout=CANCEL_GRACE)
