# SPDX-License-Identifier: Apache-2.0
"""A shadow beside a tracker, real processes: it agrees where it must, and whatever becomes of it the counts are the same."""

from __future__ import annotations

import os
import signal

import pytest
from system_world import DaemonWorld, await_condition, await_job

PROGRAM = """OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2];
h q[0]; t q[0]; h q[0]; cx q[0],q[1]; measure q -> c;
"""
OPTIONS = ("--shots", 600, "--batch", 100, "--seed", 5, "--noise", 0.003, "--no-verify", "--json")
SAME = ("counts", "counts_undecoded", "detection_events", "shots_restarted", "degraded")
LONG = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; x q[0]; ' + "id q[0]; " * 1500 + "measure q -> c;"


def test_a_shadow_is_compared_and_changes_nothing(daemon: DaemonWorld) -> None:
    program = daemon.file("t.qasm", PROGRAM)
    alone = daemon.ctl("run", program, *OPTIONS).document
    assert alone["shadow"] is None
    same = daemon.ctl("run", program, *OPTIONS, "--set", "shadow=pymatching-tempered").document
    assert {key: same[key] for key in SAME} == {key: alone[key] for key in SAME}
    shadow = same["shadow"]
    assert shadow["decoder"] == "pymatching-tempered"
    assert shadow["agreed"] + shadow["lost"] == 6
    assert shadow["agreed"] >= 1
    other = daemon.ctl("run", program, *OPTIONS, "--set", "shadow=pymatching")
    assert {key: other.document[key] for key in SAME} == {key: alone[key] for key in SAME}
    assert other.document["shadow"]["differed"] >= 1
    assert other.document["shadow"]["shots"] >= 1
    story = daemon.ctl("job", "explain", other.document["job"])
    assert "a shadow looks on in" in story.out


def test_a_shadow_that_nobody_has_is_refused_before_anything_runs(daemon: DaemonWorld) -> None:
    refused = daemon.ctl("run", daemon.file("t.qasm", PROGRAM), "--set", "shadow=guessing")
    assert refused.code == 2
    assert "unknown shadow 'guessing'; admitted: " in refused.err
    assert "pymatching-tempered" in refused.err


@pytest.mark.long
def test_whatever_becomes_of_a_shadow_the_counts_are_the_same(daemon: DaemonWorld) -> None:
    program = daemon.file("long.qasm", LONG)
    options = ("--shots", 512, "--batch", 256, "--seed", 5, "--noise", 0.004, "--no-verify", "--json")
    alone = daemon.ctl("run", program, *options).document
    assert len(alone["counts"]) == 2, "there is something to get wrong"

    def busy() -> list[int]:
        shown = daemon.ctl("plugin", "show", "decode_worker", "--json").document
        return [row["pid"] for row in shown["instances"] if row["pid"] and row["leases"]]

    for how in (signal.SIGKILL, signal.SIGSTOP):
        job = daemon.ctl("job", "submit", program, *options, "--set", "shadow=pymatching-tempered").document["job"]
        await_job(daemon.runtime, lambda state, job=job: state["job"] == job and state["state"] == "running")
        await_condition(lambda: busy(), "a shadow that looks on")
        for pid in busy():
            os.kill(pid, how)
        done = daemon.ctl("job", "wait", job, "--json").document
        assert done["state"] == "done"
        assert {key: done[key] for key in SAME} == {key: alone[key] for key in SAME}
        assert done["shadow"]["lost"] >= 1
