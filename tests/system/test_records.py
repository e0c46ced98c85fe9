# SPDX-License-Identifier: Apache-2.0
"""Written records through the real daemon: written once, decoded elsewhere, played again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from system_world import EXAMPLES, DaemonWorld, World

from qcosd.ctl.recording_readme import script_in

TROUBLE = ("--set", "erasure=0.002", "--set", "discard=0.001")


@pytest.fixture
def recorded(daemon: DaemonWorld) -> tuple[DaemonWorld, Path, dict]:
    """A daemon, the directory that a run has written there, and its result."""
    directory = daemon.home / "records"
    program = EXAMPLES / "branch.qasm"
    words = ("--shots", 500, "--batch", 128, "--seed", 3, "--noise", 0.003, *TROUBLE)
    done = daemon.ctl("run", program, *words, "--records", directory, "--json")
    assert done.code == 0, done.err
    return daemon, directory, done.document


def test_records_are_decoded_elsewhere_and_played_again(recorded: tuple[DaemonWorld, Path, dict]) -> None:
    daemon, directory, result = recorded
    assert result["shots_accepted"] == 500
    assert result["shots_discarded"] > 0
    assert result["records_missing"] > 0
    assert result["hardware"] == "stim_adapter"
    paths = [json.loads(path.read_text()) for path in directory.glob("paths/*/shots.json")]
    assert sum(len(row["shots"]) for path in paths for row in path["batches"]) == 500
    assert sum(len(row["discarded"]) for path in paths for row in path["batches"]) == result["shots_discarded"]
    assert [path.name for path in directory.parent.iterdir() if path.name.endswith(".part")] == []

    script = script_in((directory / "README.txt").read_text())
    done = subprocess.run([sys.executable, "-P", "-c", script], cwd=directory, capture_output=True, text=True, check=True)  # fmt: skip
    assert float(done.stdout.split()[0]) >= 0.97, done.stdout

    again = daemon.ctl("replay", directory, "--json")
    assert again.code == 0, again.err
    for key in ("counts", "counts_undecoded", "shots_accepted", "decoder", "calibration", "records_missing"):
        assert again.document[key] == result[key], key
    assert again.document["hardware"] == "recorded_adapter"
    assert again.document["shots_discarded"] == 0

    other = daemon.ctl("replay", directory, "--decoder", "pymatching", "--json")
    assert other.code == 0, other.err
    assert other.document["decoder"] == "pymatching"
    assert other.document["discards"].keys() <= {"other branch"}
    assert sum(other.document["counts"].values()) + other.document["shots_discarded"] == 500

    refused = daemon.ctl("run", EXAMPLES / "ghz.qasm", "--records", directory)
    assert (refused.code, "is not empty" in refused.err) == (2, True)
    unknown = daemon.ctl("replay", directory, "--decoder", "magic")
    assert (unknown.code, "magic" in unknown.err) == (2, True)

    name = next(iter(sorted(directory.glob("paths/*/records.b8"))))
    name.write_bytes(name.read_bytes()[:-1])
    cut = daemon.ctl("replay", directory)
    assert cut.code == 2
    assert str(name) in cut.err


def test_the_counts_are_those_of_a_run_without_records(daemon: DaemonWorld) -> None:
    words = (EXAMPLES / "teleport.qasm", "--shots", 200, "--seed", 9, "--noise", 0.002, "--json")
    plain = daemon.ctl("run", *words)
    written = daemon.ctl("run", *words, "--records", daemon.home / "records")
    assert (plain.code, written.code) == (0, 0), written.err
    assert plain.document["counts"] == written.document["counts"]


def test_a_job_that_fails_leaves_no_directory(world: World) -> None:
    bad = world.file("bad.qasm", "OPENQASM 2.0;\nqreg q[1];\nnonsense q[0];\n")
    done = world.ctl("run", bad, "--records", world.home / "records")
    assert done.code == 2, done.err
    assert not (world.home / "records").exists()
    assert not [path for path in world.home.iterdir() if path.name.endswith(".part")]
    world.assert_empty()


def test_a_wrong_provider_is_refused_with_those_that_exist(daemon: DaemonWorld) -> None:
    for use, known in (("hardware=nothing", "stim_adapter"), ("nothing=stim_adapter", "hardware")):
        done = daemon.ctl("run", EXAMPLES / "ghz.qasm", "--use", use)
        assert done.code == 2, done.err
        assert known in done.err


def test_the_chosen_machine_runs_it(daemon: DaemonWorld) -> None:
    words = ("--shots", 8, "--use", "hardware=tableau_adapter", "--no-verify", "--json")
    done = daemon.ctl("run", EXAMPLES / "bell.qasm", *words)
    assert done.code == 0, done.err
    assert done.document["hardware"] == "tableau_adapter"
    assert done.document["verified"] == []
