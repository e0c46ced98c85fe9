# SPDX-License-Identifier: Apache-2.0
"""SIGKILL to whichever plugin prepares a job, with the work in its hand: the result is that of an undisturbed run.

The plugins that carry out and decode the rounds are killed in test_programs.
"""

from __future__ import annotations

import os
import signal

from system_world import EXAMPLES, PATIENCE, DaemonWorld, await_job, finish

from qcosd.sdk.client import BlockingClient

VICTIMS = {
    "pytket_compile": "compile.compile",
    "pytket_optimise": "optimise.optimise",
    "surface_code": "qecc.prepare",
    "grid_mapper": "map.place",
}
OPTIONS = ("--shots", 300, "--noise", 0.003, "--seed", 3, "--json")


def test_a_plugin_killed_with_work_in_hand_changes_nothing(daemon: DaemonWorld) -> None:
    undisturbed = daemon.ctl("run", EXAMPLES / "teleport.qasm", *OPTIONS)
    assert undisturbed.code == 0, undisturbed.err
    for victim, stage in VICTIMS.items():
        with BlockingClient(daemon.runtime) as client:
            client.fault(victim, "slow", 2 * PATIENCE)  # it keeps the work until it is killed
        process = daemon.popen("run", EXAMPLES / "teleport.qasm", *OPTIONS)
        await_job(daemon.runtime, lambda job, stage=stage: job["stage"] == stage and job["state"] == "booting")
        (pid,) = [row["pid"] for row in daemon.ctl("plugin", "list", "--json").document if row["name"] == victim]
        os.kill(pid, signal.SIGKILL)
        done = finish(process)
        assert done.code == 0, (victim, done.err)
        assert done.document["restarts"] == 1, victim
        for key in ("counts", "counts_undecoded", "detection_events"):
            assert done.document[key] == undisturbed.document[key], (victim, key)
