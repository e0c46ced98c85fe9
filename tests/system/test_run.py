# SPDX-License-Identifier: Apache-2.0
"""`qcosctl run` with a private daemon: it says so, it works, and it leaves nothing, however it ends."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest
from system_world import GREET, LENGTHY, PATIENCE, DaemonWorld, World, await_job, await_private_job, finish, read_until

UNDER_WAY = ("booting", "running")


def test_a_private_daemon_runs_the_job_and_vanishes(world: World, greeting: Path) -> None:
    done = world.ctl("run", greeting, *GREET, "--json")
    assert done.code == 0, done.err
    assert done.document["state"] == "done"
    assert len(done.document["artifacts"]["greeted"]) == 64
    assert done.err == "qcosctl: no daemon is running; starting a private one for this job\n"
    world.assert_empty()


def test_a_running_daemon_is_used(daemon: DaemonWorld, greeting: Path) -> None:
    done = daemon.ctl("run", greeting, *GREET, "--json")
    assert done.code == 0, done.err
    assert done.err == ""
    assert [row["job"] for row in daemon.ctl("job", "list", "--json").document] == [done.document["job"]]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_cancels_and_leaves_nothing(world: World, signum: signal.Signals, code: int) -> None:
    process = world.popen("run", *LENGTHY)
    await_private_job(world, *UNDER_WAY)
    process.send_signal(signum)
    done = finish(process)
    assert done.code == code
    assert done.out == ""
    assert "cancelling job" in done.err
    assert "Traceback" not in done.err
    world.assert_empty()


def test_ctrl_c_under_json_prints_the_cancelled_job(world: World) -> None:
    process = world.popen("run", *LENGTHY, "--json")
    await_private_job(world, *UNDER_WAY)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert (done.code, done.document["state"], done.document["job"]) == (130, "cancelled", "1")
    assert done.document["error"]["name"] == "cancelled"


def test_ctrl_c_while_the_private_daemon_starts(world: World) -> None:
    process = world.popen("run", *LENGTHY, "--json")
    read_until(process, lambda line: "starting a private one" in line, stream="stderr")
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.code == 130
    assert done.document == {"error": {"name": "interrupted", "message": "interrupted", "exit": 130}}
    assert "Traceback" not in done.err
    world.assert_empty()


def test_ctrl_c_twice_leaves_at_once_even_from_a_frozen_daemon(world: World) -> None:
    process = world.popen("run", *LENGTHY)
    frozen = await_private_job(world, *UNDER_WAY)
    everyone = world.processes()
    os.kill(frozen, signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    read_until(process, lambda line: "cancelling job" in line, stream="stderr")
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 130
    world.await_death(everyone)
    world.assert_empty()


def test_ctrl_c_on_a_shared_daemon_cancels_only_this_job(daemon: DaemonWorld, greeting: Path) -> None:
    assert daemon.ctl("plugin", "stop", "hello").code == 0
    other = daemon.ctl("job", "submit", greeting, *GREET, "--json").document["job"]
    process = daemon.popen("run", greeting, *GREET)
    await_job(daemon.runtime, lambda job: job["state"] == "held" and job["job"] != other)
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 130
    after = {row["job"]: row["state"] for row in daemon.ctl("job", "list", "--json").document}
    assert after.pop(other) == "held"
    assert list(after.values()) == ["cancelled"]


def test_a_killed_command_takes_its_daemon_along(world: World) -> None:
    process = world.popen("run", *LENGTHY)
    await_private_job(world, *UNDER_WAY)
    everyone = world.processes()
    process.kill()
    finish(process)
    world.await_death(everyone)
    world.assert_empty()


def test_a_killed_private_daemon_ends_the_command(world: World) -> None:
    process = world.popen("run", *LENGTHY, "--json")
    pid = await_private_job(world, *UNDER_WAY)
    everyone = world.processes()
    os.kill(pid, signal.SIGKILL)
    done = finish(process)
    assert done.code == 3
    assert "SIGKILL" in done.document["error"]["message"]
    world.await_death({pid: command for pid, command in everyone.items() if pid != process.pid})
    world.assert_empty()


def test_a_deadline_is_exit_4(world: World) -> None:
    done = world.ctl("run", *LENGTHY, "--deadline", 0.2, "--json")
    assert done.code == 4, done
    assert done.document["state"] == "failed"
    assert done.document["error"]["name"] == "deadline"


def test_a_silent_daemon_is_never_replaced(daemon: DaemonWorld, greeting: Path) -> None:
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        for words in (("status",), ("run", greeting, *GREET)):
            done = daemon.ctl(*words)
            assert done.code == 3
            assert f"pid {daemon.pid}, stopped" in done.err
            assert f"kill -CONT {daemon.pid}" in done.err
            assert "private" not in done.err
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    assert daemon.ctl("run", greeting, *GREET).code == 0


def test_a_person_sees_progress_and_a_pipe_does_not(world: World) -> None:
    ours, theirs = pty.openpty()
    process = world.popen("run", *LENGTHY, stderr=theirs, stdout=subprocess.PIPE)
    os.close(theirs)
    seen = b""
    while b"booting" not in seen:
        seen += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    process.wait(PATIENCE)
    assert process.stdout is not None
    assert process.stdout.read() == ""
    process.stdout.close()
    os.close(ours)
    assert b"\r\x1b[K" in seen
