# SPDX-License-Identifier: Apache-2.0
"""The progress bar: what it says, and that only a terminal ever sees it."""

from __future__ import annotations

import io

from qcosd.ctl.progress import Progress, line_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_tells_state_bar_and_batches() -> None:
    line = line_of({"state": "running", "batches": {"done": 1, "total": 4}, "fraction": 0.5, "stage": "track.run"}, 200)
    assert line.startswith("running  [#########...............]  38% batch 1/4")
    assert line.endswith("track.run")


def test_a_job_in_its_boot_phase_has_no_bar_yet() -> None:
    assert line_of({"state": "booting", "batches": {"done": 0, "total": 0}, "stage": "compile.compile"}, 200) == (
        "booting  compile.compile"
    )


def test_the_cause_of_a_held_job_goes_before_its_stage() -> None:
    assert line_of({"state": "held", "cause": "no provider\nof optimise", "stage": "x"}, 200) == (
        "held     no provider of optimise"
    )


def test_a_line_never_wraps() -> None:
    job = {"state": "running", "batches": {"done": 5, "total": 4}, "fraction": 7.0, "stage": "x" * 100}
    assert len(line_of(job, 30)) == 30
    assert line_of(job, 0) == ""
    assert "100%" in line_of(job, 200)


def test_nothing_is_written_unless_a_person_looks() -> None:
    for stream, quiet in ((io.StringIO(), False), (Terminal(), True)):
        with Progress("7", stream, quiet=quiet) as progress:
            progress.show({"job": "7", "state": "running"})
        assert stream.getvalue() == ""


def test_a_held_job_says_why_where_no_bar_is_drawn() -> None:
    stream = io.StringIO()
    with Progress("7", stream) as progress:
        for job, state, cause in (("7", "held", "a"), ("7", "held", "a"), ("70", "held", "x"), ("7", "held", "b")):
            progress.show({"job": job, "state": state, "cause": cause})
    assert stream.getvalue() == "qcosctl: job 7 is held: a\nqcosctl: job 7 is held: b\n"


def test_the_line_is_redrawn_in_place_and_erased() -> None:
    stream = Terminal()
    with Progress("7", stream) as progress:
        progress.show({"job": "7", "state": "queued"})
        progress.show({"job": "7", "state": "queued"})
        progress.show({"job": "70", "state": "failed"})
        progress.show({"job": "7", "state": "running"})
    assert stream.getvalue() == "\r\x1b[Kqueued  \r\x1b[Krunning \r\x1b[K"
