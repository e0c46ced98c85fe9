# SPDX-License-Identifier: Apache-2.0
"""A machine that cannot pause and a tracker that stops reading: the batch is aborted and run again, with the same bits."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from loopback import prepared
from qcos_plugins.grid_mapper import main as mapper
from qcos_plugins.matching_tracker import main as tracker
from qcos_plugins.stim_adapter import main as machine

from qcosd.qec import device, hardware
from qcosd.sdk import Plugin
from qcosd.sdk.testing import Bench

# More blocks than the machine keeps.
LONG = prepared(
    'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; ' + "id q[0];" * 70 + "measure q[0] -> c[0];"
)
SHOTS = 50


def manifest(module: ModuleType) -> Path:
    return Path(str(module.__file__)).with_name("plugin.toml")


def run(stops_reading: int, can_pause: bool = False) -> dict[str, Any]:
    """A job of one batch, with a tracker that stops reading for good in its first attempts."""
    left = stops_reading
    lazy = Plugin()
    lazy.operations = dict(tracker.plugin.operations)
    del lazy.operations["track.run"]

    @lazy.operation("track", "run")
    def follow(lease: Any) -> Any:
        nonlocal left
        if not left:
            return tracker.run(lease)
        left -= 1
        lease.stream.recv()
        while True:
            lease.stream.recv()  # without an acknowledgement no more than the credit comes

    plugins = ((machine.plugin, manifest(machine)), (mapper.plugin, manifest(mapper)), (lazy, manifest(tracker)))
    with Bench(*plugins) as bench:
        settings = {"credit": 1, "can_pause": "true" if can_pause else "false"}
        options = {"device": "slow", "target": "counts", "shots": SHOTS, "seed": 3, "noise": 2e-3, "set": settings}
        return bench.run({"fragments": LONG.to_bytes()}, **options).document


def test_an_aborted_batch_is_run_again_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "ABORT_NOTICE", 0.01)
    monkeypatch.setattr(device, "DIRECTORIES", (tmp_path,))
    (tmp_path / "slow.toml").write_text("[timing]\nround_ns = 1_000_000\n")  # a tracker that reads keeps up with it
    undisturbed = run(0, can_pause=True)
    disturbed = run(2)
    assert undisturbed["state"] == disturbed["state"] == "done", disturbed["error"]
    assert undisturbed["shots_restarted"] == 0
    assert disturbed["shots_restarted"] >= 2 * SHOTS  # more where the test itself gets no processor
    first, second = (document["summary"]["sum"] for document in (undisturbed, disturbed))
    assert first["counts"] == second["counts"]
    assert first["detection_events"] == second["detection_events"] > 0
    assert second["shots_accepted"] == SHOTS
