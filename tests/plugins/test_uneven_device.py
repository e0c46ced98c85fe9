# SPDX-License-Identifier: Apache-2.0
"""A device with bad qubits: the calibration finds them on the device, wherever the program stands, and it pays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from loopback import OFFSET, TEMPLATES, prepared, run
from qcos_plugins.grid_mapper import main as mapper
from qcos_plugins.matching_tracker import main as tracker
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.stim_adapter import main as machine

from qcosd.qec import device
from qcosd.qec.calibration import Calibration
from qcosd.qec.placement import Placement
from qcosd.sdk.testing import Bench

MEMORY = prepared(
    'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; ' + "id q[0];" * 6 + "measure q[0] -> c[0];"
)
EVEN = Calibration.uniform(2e-3)
BAD = ((3, 1), (1, 3))  # measure qubits of the program, of either basis
SHOTS = 1024


TRUTH = replace(EVEN, sites={(x + OFFSET[0], y + OFFSET[1]): {"measure": 0.3} for x, y in BAD})


def errors(prior: Calibration) -> int:
    """Logical errors in 4096 shots on a machine with two bad measure qubits, with what the tracker believes."""
    plans = Plans(MEMORY, prior, templates=TEMPLATES, offset=OFFSET)
    return sum(run(MEMORY, TRUTH, prior, SHOTS, seed, plans=plans).counts.get("1", 0) for seed in range(4))


def test_a_tracker_that_knows_the_bad_qubits_makes_fewer_errors() -> None:
    known = errors(TRUTH)
    unknown = errors(EVEN)
    assert known < 600  # 8.6 %
    assert unknown > 2 * known  # and 34 %: worse, and still an answer


def manifest(module: ModuleType) -> Path:
    return Path(str(module.__file__)).with_name("plugin.toml")


def test_the_places_are_those_of_the_device_all_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "DIRECTORIES", (tmp_path,))
    dead = [[x, y] for x in range(5) for y in range(20) if (x + y) % 2 == 0]  # no room on the left
    text = f"[grid]\nwidth = 40\nheight = 20\ndead = {dead}\n[noise]\np = 0.002\n"
    fragments = MEMORY.to_bytes()
    with Bench(*((module.plugin, manifest(module)) for module in (machine, mapper, tracker))) as bench:
        (tmp_path / "bad.toml").write_text(text)
        options = {"device": "bad", "shots": 2 * SHOTS, "batch": SHOTS, "seed": 1}
        placed = bench.run({"fragments": fragments}, target="placement", **options).outputs["placement"]
        offset = Placement.from_bytes(placed).offset
        assert offset[0] >= 4
        sites = "".join(f"[[site]]\nat = [{x + offset[0]}, {y + offset[1]}]\nmeasure = 150.0\n" for x, y in BAD)
        (tmp_path / "bad.toml").write_text(text + sites)
        total = bench.run({"fragments": fragments}, target="counts", **options).document["summary"]["sum"]
    assert total["shots_accepted"] == 2 * SHOTS
    assert 100 < total["counts"]["1"] < 300
