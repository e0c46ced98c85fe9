# SPDX-License-Identifier: Apache-2.0
"""Published experiments as jobs: files in, counts of logical errors out, through kernel, player and tracker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pymatching
import pytest
import stim
from qcos_plugins.matching_tracker import main as tracker
from qcos_plugins.recorded_adapter import main as player

from qcosd.qec.experiment import Experiment, ExperimentShots, Parity, Slot
from qcosd.sdk import Refused
from qcosd.sdk.testing import Bench, make_lease

PLUGINS = [(module.plugin, Path(module.__file__).with_name("plugin.toml")) for module in (player, tracker)]
SHOTS = 250


def experiment_files(**more: bytes) -> tuple[bytes, np.ndarray]:
    """`experiment_files` of a memory, and the shots in which decoding everything at once leaves an error."""
    circuit = stim.Circuit.generated(
        "surface_code:rotated_memory_x",
        distance=3,
        rounds=12,
        after_clifford_depolarization=5e-3,
        before_measure_flip_probability=5e-3,
    )
    records = circuit.compile_sampler(seed=11).sample(SHOTS)
    events, flips = circuit.compile_m2d_converter().convert(measurements=records, separate_observables=True)
    matching = pymatching.Matching.from_detector_error_model(circuit.detector_error_model(decompose_errors=True))
    left = flips[:, 0] ^ matching.decode_batch(events)[:, 0].astype(bool)
    files = {
        "circuit.stim": str(circuit).encode(),
        "measurements.b8": np.packbits(records, axis=1, bitorder="little").tobytes(),
        **more,
    }
    return msgpack.packb(files), left


def test_a_directory_of_files_becomes_counts() -> None:
    files, left = experiment_files()
    with Bench(*PLUGINS) as bench:
        opened = bench.run({"experiment_files": files}, target="experiment", source_name="mine")
        facts = opened.document["facts"]["hardware.open"]
        assert (facts["shots"], facts["slots"], facts["window"], facts["experiment"]) == (SHOTS, 13, 3, "mine")
        made = {kind: opened.outputs[kind] for kind in ("experiment", "experiment_shots")}
        done = bench.run(made, target="counts", shots=facts["shots"], batch=64, decoder="pymatching")
        total = done.document["summary"]["sum"]
        assert total["shots_accepted"] == SHOTS
        # 4 batches, each of its own shots of the recording.
        assert abs(total["counts"].get("1", 0) - left.sum()) <= 0.01 * SHOTS
        assert total["logical_errors"] == total["counts"].get("1", 0)
        assert total["counts_undecoded"]["1"] > 3 * total["logical_errors"]
        assert done.document["summary"]["same"]["decoder"] == "pymatching"
        # The files themselves will do, if it is known how many shots there are.
        again = bench.run({"experiment_files": files}, target="counts", shots=SHOTS, batch=64, decoder="pymatching")
        assert again.document["summary"]["sum"]["counts"] == total["counts"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shots": SHOTS + 1}, "shots 192 to 250 are wanted, the recording has 250"),
        ({"set": {"window": "-1"}}, "window '-1': a number of slots"),
    ],
    ids=str,
)
def test_what_cannot_be_is_bad_input(options: dict[str, Any], said: str) -> None:
    files, _ = experiment_files()
    with Bench(*PLUGINS) as bench:
        asked = {"shots": SHOTS, "batch": 64, "decoder": "pymatching", **options}
        done = bench.run({"experiment_files": files}, target="counts", **asked)
        assert done.document["state"] == "failed"
        assert done.document["error"]["name"] == "bad_input"
        assert said in done.document["error"]["message"]


def test_files_that_do_not_fit_are_bad_input() -> None:
    for data, said in (
        (experiment_files(**{"measurements.b8": b"\x01\x02"})[0], "measurements.b8 has 2 bytes"),
        (b"\xc1", "no map of files"),
        (msgpack.packb({"circuit.stim": "text"}), "no map of file names to bytes"),
    ):
        with pytest.raises(Refused) as refused:
            player.open_files(make_lease("hardware.open", {"experiment_files": data}))
        assert refused.value.code == "bad_input"
        assert said in str(refused.value)


GOOD = Experiment("x", "error(0.1) D0 L0", 0, (Slot(1, (Parity(0, 0, (0,)),)), Slot(1, ())), (Parity(0, 0, (1,)),))


def test_artifacts_are_what_they_were() -> None:
    assert Experiment.from_bytes(GOOD.to_bytes()) == GOOD
    held = ExperimentShots(3, 9, bytes(6))
    assert ExperimentShots.from_bytes(held.to_bytes()) == held


@pytest.mark.parametrize(
    "change",
    [
        {"slots": (Slot(1, (Parity(0, 0, (1,)),)), Slot(1, ()))},
        {"slots": (Slot(2, (Parity(1, 0, (0,)),)),)},
        {"observables": (Parity(0, 0, (2,)),)},
        {"observables": (Parity(1, 0, (1,)),)},
        {"observables": (Parity(0, 2, (1,)),)},
        {"window": -1},
        {"model": b"x"},
    ],
    ids=str,
)
def test_experiments_that_contradict_themselves_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="experiment"):
        Experiment.from_bytes(Experiment(**{**GOOD.__dict__, **change}).to_bytes())


def test_a_model_of_other_detectors_is_the_fault_of_its_maker() -> None:
    other = Experiment(**{**GOOD.__dict__, "model": "error(0.1) D0 D1 L0"})
    lease = make_lease(
        "track.decode", {"experiment": other.to_bytes(), "decoder": msgpack.packb({"name": "pymatching"})}, batch=0
    )
    with pytest.raises(Refused, match="its error model has 2 detectors") as refused:
        tracker.decode(lease)
    assert (refused.value.code, refused.value.details) == ("wrong_input", {"kind": "experiment"})
