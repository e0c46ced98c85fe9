# SPDX-License-Identifier: Apache-2.0
"""A new version of the tracker takes over in the middle of a batch: the operator restarts it, and no round is lost."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import qcos_plugins.matching_tracker.main
from system_world import DaemonWorld, World, await_condition, await_job

from qcosd.sdk.client import BlockingClient

ROUNDS = 3000  # of the distance each: some seconds of work in one batch
PROGRAM = (
    'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; x q[0]; ' + "id q[0]; " * ROUNDS + "measure q -> c;"
)
OPTIONS = ("--shots", 256, "--batch", 256, "--seed", 5, "--noise", 0.004, "--no-verify", "--json")
VERSION = """
import runpy
print("this is version {number}", flush=True)
runpy.run_module("qcos_plugins.matching_tracker.main", run_name="__main__")
"""


@pytest.fixture
def site(world: World) -> Iterator[DaemonWorld]:
    """A daemon with a tracker that is installed in a folder of the site's own."""
    folder = world.home / "plugins" / "matching_tracker"
    folder.mkdir(parents=True)
    shipped = Path(qcos_plugins.matching_tracker.main.__file__).parent / "plugin.toml"
    text = shipped.read_text().replace(
        'argv = ["{python}", "-m", "qcos_plugins.matching_tracker.main"]', 'argv = ["{python}", "{folder}/main.py"]'
    )
    assert "{folder}" in text
    (folder / "plugin.toml").write_text(text)
    (folder / "main.py").write_text(VERSION.format(number=1))
    daemon = DaemonWorld(world.home, world.mark)
    daemon.start("--plugin-dir", world.home / "plugins")
    yield daemon
    assert daemon.stop() == 0, daemon.log()
    shutil.rmtree(folder)


def incarnation(daemon: DaemonWorld) -> int | None:
    """Of the tracker, when it is ready."""
    with BlockingClient(daemon.runtime) as client:
        (row,) = [row for row in client.plugins() if row["name"] == "matching_tracker"]
    return int(row["incarnation"]) if row["state"] == "ready" else None


@pytest.mark.long
def test_a_new_version_of_the_tracker_takes_over_in_the_middle_of_a_batch(site: DaemonWorld) -> None:
    program = site.file("long.qasm", PROGRAM)
    undisturbed = site.ctl("run", program, *OPTIONS).document
    first = incarnation(site)
    job = site.ctl("job", "submit", program, *OPTIONS).document["job"]
    await_job(
        site.runtime, lambda state: state["job"] == job and state["state"] == "running" and state["fraction"] > 0.3
    )
    (site.home / "plugins" / "matching_tracker" / "main.py").write_text(VERSION.format(number=2))
    assert site.ctl("plugin", "restart", "matching_tracker").code == 0
    await_condition(lambda: incarnation(site) not in (None, first), "the second version")
    done = site.ctl("job", "wait", job, "--json").document
    assert (done["state"], done["shots_restarted"]) == ("done", 0)
    for key in ("counts", "counts_undecoded", "detection_events"):
        assert done[key] == undisturbed[key], key
    assert len(undisturbed["counts"]) == 2, "there is something to get wrong"
    told = site.ctl("job", "explain", job).out
    assert f"track.run of batch 0 lost by matching_tracker/{first}: matching_tracker: stopped" in told
    assert re.search(r"track.run of batch 0 given to matching_tracker/\d+ again", told), told
    assert "this is version 2" in site.ctl("plugin", "logs", "matching_tracker").out
