# SPDX-License-Identifier: Apache-2.0
"""Decode workers beside a tracker, real processes: the counts are the same with any number of them, whatever becomes of them."""

from __future__ import annotations

import os
import signal

import pytest
from system_world import DaemonWorld, await_condition, await_job

ROUNDS = 1500  # of the distance each
PROGRAM = (
    'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; x q[0]; ' + "id q[0]; " * ROUNDS + "measure q -> c;"
)
OPTIONS = ("--shots", 512, "--batch", 256, "--seed", 5, "--noise", 0.004, "--no-verify", "--json")
SAME = ("counts", "counts_undecoded", "detection_events", "window", "shots_restarted")


def busy_workers(daemon: DaemonWorld) -> list[int]:
    """Processes of workers that decode for somebody."""
    shown = daemon.ctl("plugin", "show", "decode_worker", "--json").document
    return [row["pid"] for row in shown["instances"] if row["pid"] and row["leases"]]


@pytest.mark.long
def test_counts_do_not_depend_on_the_workers_nor_on_what_becomes_of_them(daemon: DaemonWorld) -> None:
    program = daemon.file("long.qasm", PROGRAM)
    alone = daemon.ctl("run", program, *OPTIONS, "--set", "windows=parallel").document
    assert alone["state"] == "done"
    assert alone["window"]["scheme"] == "parallel"
    assert len(alone["counts"]) == 2, "there is something to get wrong"
    for workers in (1, 3):
        helped = daemon.ctl("run", program, *OPTIONS, "--set", f"workers={workers}").document
        assert {key: helped[key] for key in SAME} == {key: alone[key] for key in SAME}
    job = daemon.ctl("job", "submit", program, *OPTIONS, "--set", "workers=2").document["job"]
    await_job(daemon.runtime, lambda state: state["job"] == job and state["state"] == "running")
    killed = 0
    for how in (signal.SIGKILL, signal.SIGSTOP, signal.SIGKILL):
        await_condition(lambda: busy_workers(daemon), "a worker with something to do")
        for pid in busy_workers(daemon):
            os.kill(pid, how)
            killed += 1
    done = daemon.ctl("job", "wait", job, "--json").document
    assert killed >= 3
    assert done["state"] == "done"
    assert {key: done[key] for key in SAME} == {key: alone[key] for key in SAME}
    assert done["restarts"] == 0 or done["shots_restarted"] == 0


def test_settings_that_make_no_sense_are_refused_before_anything_runs(daemon: DaemonWorld) -> None:
    program = daemon.file("short.qasm", 'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; measure q -> c;')
    for setting, said in (
        ("windows=both", "windows 'both': sliding or parallel"),
        ("workers=-1", "workers"),
        ("workers=many", "workers"),
    ):
        refused = daemon.ctl("run", program, "--set", setting)
        assert refused.code == 2, refused
        assert said in refused.err
