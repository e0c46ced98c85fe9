# SPDX-License-Identifier: Apache-2.0
"""Written records: what outsiders make of them with stim, pymatching and numpy alone."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import stim
from loopback import Run, prepared, run
from written import write

from qcosd.ctl.recording_readme import script_in
from qcosd.qec.calibration import Calibration

EXAMPLES = Path(__file__).resolve().parents[2] / "etc" / "examples"
SHOTS = 512


def program(name: str) -> str:
    return (EXAMPLES / f"{name}.qasm").read_text()


def share(directory: Path) -> tuple[float, int]:
    """What the script in the README prints: the share of shots decoded alike, and of how many."""
    script = script_in((directory / "README.txt").read_text())
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    value, _, count, _ = done.stdout.split()
    return float(value), int(count)


def written(directory: Path, name: str, p: float, batches: int = 2, decoder: str = "pymatching-tempered", **machine: float) -> list[Run]:  # fmt: skip
    fragments = prepared(program(name))
    rates = Calibration.uniform(p)
    prior = rates.floored()
    runs = [
        run(fragments, rates, prior, SHOTS, seed, records=True, decoder=decoder, machine=dict(machine))
        for seed in range(batches)
    ]
    write(directory, fragments, runs, prior, decoder=decoder)
    return runs


def test_the_script_is_short_and_needs_nothing_of_ours(tmp_path: Path) -> None:
    written(tmp_path / "r", "ghz", 0.0, 1)
    text = (tmp_path / "r" / "README.txt").read_text()
    script = script_in(text)
    assert len(script.splitlines()) <= 12
    found = {alias.name for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Import) for alias in node.names}
    assert found <= {"pathlib", "numpy", "pymatching", "stim"}
    assert "from " not in script


@pytest.mark.parametrize("name", ["ghz", "teleport", "branch"])
def test_without_noise_every_shot_is_decoded_alike(name: str, tmp_path: Path) -> None:
    runs = written(tmp_path / "r", name, 0.0, 1)
    assert len(runs[0].outcomes.counts) > 1, "there are random bits in it"
    assert share(tmp_path / "r") == (1.0, SHOTS)


@pytest.mark.parametrize(
    ("name", "decoder"),
    [
        ("ghz", "pymatching-tempered"),
        ("teleport", "pymatching-tempered"),
        ("branch", "pymatching-tempered"),
        ("teleport", "pymatching"),
    ],
)
def test_with_noise_outsiders_find_the_same_outcomes(name: str, decoder: str, tmp_path: Path) -> None:
    runs = written(tmp_path / "r", name, 1e-3, 4, decoder)
    assert any(run.outcomes.counts != run.outcomes.counts_undecoded for run in runs)
    alike, count = share(tmp_path / "r")
    assert count == 4 * SHOTS
    assert alike >= 0.995


def test_random_bits_agree_because_the_model_does_what_the_windows_have_settled(tmp_path: Path) -> None:
    """With the effects of stim's own model, decoding the whole path comes to another gauge of newly born patches."""
    written(tmp_path / "r", "ghz", 3e-3, 1)
    agreed, _ = share(tmp_path / "r")
    path = tmp_path / "r" / "paths" / "all"
    own = stim.Circuit.from_file(path / "circuit.stim").detector_error_model(decompose_errors=True)
    own.to_file(path / "model.dem")
    assert share(tmp_path / "r")[0] < agreed - 0.02


def test_a_frame_left_out_is_noticed(tmp_path: Path) -> None:
    written(tmp_path / "r", "teleport", 0.0, 1)
    frames = tmp_path / "r" / "paths" / "all" / "frames.b8"
    assert any(frames.read_bytes())
    frames.write_bytes(bytes(len(frames.read_bytes())))
    assert share(tmp_path / "r")[0] < 0.9


def test_missing_records_and_discards(tmp_path: Path) -> None:
    runs = written(tmp_path / "r", "ghz", 1e-3, 2, erasure=0.002, discard=0.001)
    path = tmp_path / "r" / "paths" / "all"
    about = json.loads((path / "shots.json").read_text())
    width = (about["measurements"] + 7) // 8
    kept = 0
    for run_, row in zip(runs, about["batches"], strict=True):
        outcomes = run_.outcomes
        assert row["discarded"] == np.flatnonzero(outcomes.discarded).tolist()
        assert sorted(row["shots"] + row["discarded"]) == list(range(SHOTS))
        kept += len(row["shots"])
    assert kept < 2 * SHOTS
    read = {name: np.fromfile(path / f"{name}.b8", np.uint8).reshape(kept, width) for name in ("records", "missing")}
    assert read["missing"].any()
    assert not (read["records"] & read["missing"]).any(), "a missing record is written as 0"
    whole = ~read["missing"].any(axis=1)
    alike, count = share(tmp_path / "r")
    assert count == whole.sum() < kept
    assert alike >= 0.99


def test_missing_records_that_come_late_are_written_from_the_first_shot_on(tmp_path: Path) -> None:
    fragments = prepared(program("ghz"))
    rates = Calibration.uniform(1e-3)
    runs = [
        run(fragments, rates, rates, 64, seed, records=True, machine={"erasure": erasure})
        for seed, erasure in enumerate((0.0, 0.02, 0.0))
    ]
    write(tmp_path / "r", fragments, runs, rates)
    path = tmp_path / "r" / "paths" / "all"
    width = (json.loads((path / "shots.json").read_text())["measurements"] + 7) // 8
    shots = [int((~run.outcomes.discarded).sum()) for run in runs]
    missing = np.fromfile(path / "missing.b8", np.uint8).reshape(sum(shots), width)
    assert not missing[: shots[0]].any()
    assert missing[shots[0] : -shots[2]].any()
    assert not missing[-shots[2] :].any()


def test_every_path_has_a_directory_of_its_own(tmp_path: Path) -> None:
    runs = written(tmp_path / "r", "branch", 1e-3, 1)
    found = {path.name: json.loads((path / "shots.json").read_text()) for path in (tmp_path / "r" / "paths").iterdir()}
    assert len(found) == len(runs[0].outcomes.paths) > 1
    for name, about in found.items():
        assert "".join(map(str, about["decisions"])) == name
    assert sum(len(row["shots"]) for about in found.values() for row in about["batches"]) == SHOTS
