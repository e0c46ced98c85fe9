# SPDX-License-Identifier: Apache-2.0
"""The stream between machine and tracker does not pass through the daemon, and does not need it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from system_world import DaemonWorld, await_condition, await_job

from qcosd.sdk.client import BlockingClient

ROUNDS = 2000  # of the distance each: a second of work, well below the ten for which a plugin does without the daemon
PROGRAM = (
    'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; x q[0]; ' + "id q[0]; " * ROUNDS + "measure q -> c;"
)
TICK = os.sysconf("SC_CLK_TCK")


def cpu(pid: int) -> int:
    """Clock ticks that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_batch_is_decoded_to_its_end_while_there_is_no_daemon(daemon: DaemonWorld) -> None:
    world = daemon
    program = world.file("long.qasm", PROGRAM)
    world.ctl(
        "run", program, "--shots", 1, "--seed", 1, "--noise", 0
    )  # windows are built, so that the next job is one long stream
    job = world.ctl(
        "job", "submit", program, "--shots", 1024, "--batch", 1024, "--seed", 5, "--noise", 0, "--no-verify", "--json"
    ).document["job"]
    await_job(
        world.runtime, lambda state: state["job"] == job and state["state"] == "running" and state["fraction"] > 0.1
    )
    with BlockingClient(world.runtime) as client:
        pids = {
            row["name"]: row["pid"] for row in client.plugins() if row["name"] in ("stim_adapter", "matching_tracker")
        }
    os.kill(world.pid, signal.SIGKILL)
    assert world.process is not None and world.process.wait() == -signal.SIGKILL
    before = {name: cpu(pid) for name, pid in pids.items()}

    # Both work on, until there is nothing left to do for them.
    last = dict(before)

    def at_rest() -> bool:
        nonlocal last
        now = {name: cpu(pid) for name, pid in pids.items()}
        rested, last = now == last, now
        return rested and all(now[name] > before[name] for name in now)

    await_condition(lambda: at_rest(), "the end of the stream", every=0.5)
    assert last["matching_tracker"] - before["matching_tracker"] > 0.1 * TICK, "next to nothing was left to decode"

    world.start()
    done = world.ctl("job", "wait", job, "--json").document
    assert (done["state"], done["counts"], done["restarts"], done["shots_restarted"]) == ("done", {"1": 1024}, 0, 0)
    with BlockingClient(world.runtime) as client:
        assert pids == {row["name"]: row["pid"] for row in client.plugins() if row["name"] in pids}
