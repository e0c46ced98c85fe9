# SPDX-License-Identifier: Apache-2.0
"""`qcosctl replay` of a published experiment, from its files to a logical error rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pymatching
import pytest
import stim
from system_world import World

SHOTS = 3000


@pytest.mark.slow
def test_a_published_experiment_gets_its_logical_error_rate(world: World, tmp_path: Path) -> None:
    circuit = stim.Circuit.generated(
        "surface_code:rotated_memory_z", distance=3, rounds=15, before_round_data_depolarization=0.02
    )
    records = circuit.compile_sampler(seed=2).sample(SHOTS)
    events, flips = circuit.compile_m2d_converter().convert(measurements=records, separate_observables=True)
    directory = tmp_path / "published"
    directory.mkdir()
    (directory / "circuit_noisy.stim").write_text(str(circuit))
    (directory / "detection_events.b8").write_bytes(np.packbits(events, axis=1, bitorder="little").tobytes())
    (directory / "obs_flips_actual.01").write_text("".join(f"{int(flip)}\n" for flip in flips[:, 0]))
    matching = pymatching.Matching.from_detector_error_model(circuit.detector_error_model(decompose_errors=True))
    left = int((flips[:, 0] ^ matching.decode_batch(events)[:, 0].astype(bool)).sum())

    done = world.ctl("replay", directory, "--decoder", "pymatching", "--json")
    assert done.code == 0, done.err
    assert done.document["shots_accepted"] == SHOTS
    assert abs(done.document["logical_errors"] - left) <= 0.004 * SHOTS
    assert done.document["logical_error_rate"] == done.document["logical_errors"] / SHOTS
    assert done.document["counts_undecoded"] == {"0": int((~flips).sum()), "1": int(flips.sum())}

    whole = world.ctl("replay", directory, "--decoder", "pymatching", "--set", "window=0", "--json")
    assert whole.code == 0, whole.err
    assert whole.document["logical_errors"] == left
    assert whole.document["counts_undecoded"] == done.document["counts_undecoded"]

    (directory / "detection_events.b8").write_bytes(b"\x00" * 100)
    refused = world.ctl("replay", directory)
    assert refused.code == 2
    assert "detection_events.b8 has 100 bytes; shots of 120 detectors are 15 bytes each" in refused.err
    world.assert_empty()
