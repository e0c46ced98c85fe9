# SPDX-License-Identifier: Apache-2.0
"""Faults injected into a real daemon: what recovers is seen to, what does not is said, and a campaign compares results."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos_world import World as KeptWorld
from chaos_world import only, until
from system_world import GREET, PATIENCE, DaemonWorld, World

from qcosd.sdk.client import BlockingClient

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def daemon(world: World) -> Iterator[DaemonWorld]:
    """A daemon with two plugins: what it does when they die does not depend on how many there are."""
    daemon = DaemonWorld(world.home, world.mark)
    daemon.start("--config", world.file("qcosd.toml", only("hello", "grid_mapper")))
    try:
        yield daemon
        assert daemon.process is not None
        if daemon.process.poll() is None:
            assert daemon.stop() == 0, daemon.log()
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


def test_killed_plugins_recover_and_are_counted(daemon: DaemonWorld) -> None:
    words = (
        "chaos",
        "run",
        "--kill",
        3,
        "--slow",
        1,
        "--targets",
        "hello,grid_mapper",
        "--every",
        0,
        "--faults",
        4,
        "--seed",
        5,
    )
    done = daemon.ctl(*words, "--json")
    assert done.code == 0, done.err
    report = done.document
    assert (report["seed"], report["faults"], report["survived"], report["orphans"]) == (5, 4, 4, [])
    assert sum(row["injected"] for row in report["kinds"]) == 4
    (kills,) = [row for row in report["kinds"] if row["fault"] == "kill plugin"]
    assert 0 < kills["p50"] <= kills["p99"] <= kills["max"]
    restarts = [row["restarts"] for row in daemon.ctl("plugin", "list", "--json").document]
    assert sum(restarts) >= kills["injected"]
    assert done.err.count("recovered in") == 4


def test_a_kind_of_fault_needs_no_number(daemon: DaemonWorld) -> None:
    words = ("--kill", "--freeze", "--slow", "--targets", "hello", "--every", 0, "--faults", 6, "--seed", 1)
    done = daemon.ctl("chaos", "run", *words, "--json")
    assert done.code == 0, done.err
    assert {row["fault"] for row in done.document["kinds"]} == {"kill plugin", "freeze plugin", "slow plugin"}
    words = ("--slow=2", "--targets", "hello", "--every", 0, "--faults", 2, "--kill=0")
    slowed = daemon.ctl("chaos", "run", *words, "--json")
    assert {row["fault"] for row in slowed.document["kinds"]} == {"slow plugin"}, slowed.err


def test_a_plugin_that_is_given_up_has_not_survived(daemon: DaemonWorld) -> None:
    folder = daemon.home / "plugins" / "frail"
    folder.mkdir(parents=True)
    manifest = (ROOT / "plugins" / "hello" / "plugin.toml").read_text()
    (folder / "plugin.toml").write_text(manifest.replace('"hello"\nversion', '"frail"\nversion').replace('"always"', '"never"'))  # fmt: skip
    assert daemon.stop() == 0
    daemon.start("--config", daemon.home / "qcosd.toml", "--plugin-dir", folder.parent)
    done = daemon.ctl("chaos", "run", "--freeze", "--targets", "frail", "--every", 0, "--faults", 2, "--json")
    assert (done.code, done.document["survived"]) == (1, 0), done.err
    assert done.document["resets"] == 2
    assert done.document["troubles"][0].startswith("freeze frail: given up: frozen")


def test_a_daemon_that_nobody_would_start_again_is_spared(daemon: DaemonWorld) -> None:
    refused = daemon.ctl("chaos", "run", "--targets", "all,daemon", "--json")
    assert refused.code == 1
    assert refused.document["error"]["name"] == "not_allowed"
    assert "--restart-daemon" in refused.err
    assert daemon.ctl("status", "--json").document["pid"] == daemon.pid
    for words, name in (
        (("--targets", "nobody"), "no_such_plugin"),
        (("--targets", ","), "bad_input"),
        (("--restart-daemon", "'"), "bad_input"),
        (("--kill", -1), "usage"),
    ):
        done = daemon.ctl("chaos", "run", *words, "--json")
        assert (done.code, done.document["error"]["name"]) == (2, name), words
    assert "there are grid_mapper, hello, daemon" in daemon.ctl("chaos", "run", "--targets", "nobody").err


def test_no_daemon_to_hurt(world: World) -> None:
    assert world.ctl("chaos", "run").code == 3


def test_a_killed_daemon_comes_back_with_its_jobs(daemon: DaemonWorld, greeting: Path) -> None:
    assert daemon.ctl("plugin", "stop", "hello").code == 0
    job = daemon.ctl("job", "submit", greeting, *GREET, "--json").document["job"]
    again = [
        sys.executable,
        "-P",
        "-m",
        "qcosd.shell.main",
        "--state-dir",
        str(daemon.home / "state"),
        "--config",
        str(daemon.home / "qcosd.toml"),
    ]
    try:
        done = daemon.ctl(
            "chaos", "run", "--targets", "daemon", "--faults", 1, "--restart-daemon", shlex.join(again), "--json"
        )
        assert done.code == 0, done.err
        assert done.document["jobs"] == {"seen": 1, "done": 0, "failed": [], "cancelled": 0, "open": 1, "lost": []}
        assert done.document["kinds"][0]["fault"] == "kill daemon"
        assert daemon.ctl("job", "show", job, "--json").document["state"] == "held"
    finally:
        pid = daemon.ctl("status", "--json").document["pid"]
        os.kill(pid, signal.SIGTERM)
        daemon.await_death(daemon.processes())


def test_the_keeper_starts_the_daemon_again_at_once() -> None:
    with KeptWorld(config=only("hello")) as world:
        (first,) = world.keeper.lives
        os.kill(first.pid, signal.SIGKILL)
        second = world.keeper.await_life(2, PATIENCE)
        assert second.boot > first.boot
        with BlockingClient(world.runtime, connect_grace=PATIENCE) as client:
            assert client.status()["pid"] == second.pid
        assert second.pid in world.processes()
        assert world.keeper.stop() == 0
        assert until(lambda: world.processes() == {}, PATIENCE)
    assert not world.home.exists()


def campaign(*words: object) -> tuple[int, dict[str, object], str]:
    command = [sys.executable, str(ROOT / "tools" / "chaos.py"), "--json", "--quiet", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.mark.long
def test_plugins_are_killed_while_jobs_run() -> None:
    code, report, said = campaign("--jobs", 6, "--kills", 10, "--freezes", 0, "--targets", "plugins", "--seed", 3)
    assert code == 0, (report, said)
    assert (report["jobs"], report["right"], report["survived"]) == (6, 6, 10)
    assert report["busy"], "no fault struck while a job was under way"


@pytest.mark.long
def test_anybody_is_killed_and_frozen_while_jobs_run() -> None:
    code, report, said = campaign("--jobs", 8, "--kills", 12, "--freezes", 4, "--seed", 4)
    assert code == 0, (report, said)
    assert (report["jobs"], report["right"], report["survived"]) == (8, 8, 16)
    assert report["boots"] > 1, "the daemon was never killed"
