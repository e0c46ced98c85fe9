# SPDX-License-Identifier: Apache-2.0
"""Published experiments: files in, the same logical errors as decoding everything at once."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pymatching
import pytest
import stim
from qcos_plugins.matching_tracker.experiment_tracker import ExperimentTracker
from qcos_plugins.matching_tracker.experiment_windows import ModelWindows
from qcos_plugins.matching_tracker.fault import StreamFault
from qcos_plugins.matching_tracker.model import matching_model
from qcos_plugins.recorded_adapter.experiment_files import Read, parities, read
from qcos_plugins.recorded_adapter.experiment_play import blocks
from qcos_plugins.recorded_adapter.shot_files import FileFault

from qcosd.qec.experiment import Experiment, ExperimentShots
from qcosd.qec.stream import Acknowledgement, Discard

Files = dict[str, bytes]
SHOTS = 20_000
SURFACE = ("surface_code:rotated_memory_x", 5, 25)


@cache
def generated(task: str, distance: int, rounds: int, p: float = 3e-3) -> stim.Circuit:
    return stim.Circuit.generated(
        task,
        distance=distance,
        rounds=rounds,
        after_clifford_depolarization=p,
        before_measure_flip_probability=p,
        after_reset_flip_probability=p,
        before_round_data_depolarization=p,
    )


def b8(values: np.ndarray) -> bytes:
    return np.packbits(values, axis=1, bitorder="little").tobytes()


def text(values: np.ndarray) -> bytes:
    return b"".join(bytes(row.astype(np.uint8) + ord("0")) + b"\n" for row in values)


def sampled(circuit: stim.Circuit, shots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measurements, detection events, flips of observables, bool (shots, ...): the same whenever they are asked for."""
    return _sampled(str(circuit), shots)


@cache
def _sampled(written: str, shots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    circuit = stim.Circuit(written)
    records = circuit.compile_sampler(seed=7).sample(shots)
    events, flips = circuit.compile_m2d_converter().convert(measurements=records, separate_observables=True)
    return records, events, flips


def measured(circuit: stim.Circuit, shots: int) -> Files:
    return {"circuit.stim": str(circuit).encode(), "measurements.b8": b8(sampled(circuit, shots)[0])}


def published(circuit: stim.Circuit, shots: int) -> Files:
    """Named as in data sets of surface codes."""
    _, events, flips = sampled(circuit, shots)
    return {
        "circuit_noisy.stim": str(circuit).encode(),
        "circuit_ideal.stim": str(circuit.without_noise()).encode(),
        "detection_events.b8": b8(events),
        "obs_flips_actual.01": text(flips),
        "properties.yml": b"basis: X",
    }


def decoded(
    found: Read, decoder: str = "pymatching", batch: int = 4096, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Through artifacts and blocks, as on the machine: flips left and flips before, bool (shots, observables)."""
    experiment = Experiment.from_bytes(found.experiment.to_bytes())
    held = ExperimentShots.from_bytes(found.shots.to_bytes())
    assert (experiment, held) == found[:2]
    windows = ModelWindows(experiment, decoder=decoder)
    left, before = [], []
    for number, first in enumerate(range(0, held.shots, batch)):
        shots = min(batch, held.shots - first)
        tracker = ExperimentTracker(experiment, windows, shots, **options)
        for block, bits in blocks(experiment, held, number, first, shots):
            assert not tracker.finished
            assert tracker.receive(block, bits)[0].received == block.slot + len(block.m)
        assert tracker.finished
        for out, values in zip((left, before), tracker.flips(), strict=True):
            out.append(values.T)
        assert tracker.summary()["sum"]["logical_errors"] == left[-1].any(axis=1).sum()
    return np.vstack(left).astype(bool), np.vstack(before).astype(bool)


def global_errors(circuit: stim.Circuit, shots: int, decoder: str = "pymatching") -> np.ndarray:
    """Where decoding all rounds at once leaves a logical error, bool (shots, observables)."""
    _, events, flips = sampled(circuit, shots)
    model = circuit.detector_error_model(decompose_errors=True)
    correlated = decoder != "pymatching"
    matching = pymatching.Matching.from_detector_error_model(
        matching_model(model, decoder) if decoder == "pymatching-tempered" else model, enable_correlations=correlated
    )
    return flips ^ matching.decode_batch(events, enable_correlations=correlated).astype(bool)


@pytest.mark.long
@pytest.mark.parametrize("decoder", ["pymatching", "pymatching-correlated", "pymatching-tempered"])
@pytest.mark.parametrize("task", [SURFACE, ("surface_code:rotated_memory_z", 5, 25), ("repetition_code:memory", 5, 25)])
def test_windows_equal_global_decoding(task: tuple[str, int, int], decoder: str) -> None:
    circuit = generated(*task, p=3e-3 if "surface" in task[0] else 1e-2)
    found = read(measured(circuit, SHOTS), "x")
    assert found.facts["window"] == 5 and found.facts["slots"] == 26
    left, before = decoded(found, decoder)
    wanted = global_errors(circuit, SHOTS, decoder)
    assert (before == sampled(circuit, SHOTS)[2]).all()
    assert (left != wanted).any(axis=1).mean() <= 0.002
    assert abs(left.mean() - wanted.mean()) <= 0.02 * wanted.mean() + 5 / SHOTS
    assert wanted.mean() < 0.25 * before.mean()


@pytest.mark.long
def test_without_what_windows_need_that_comparison_fails() -> None:
    """Negative controls: artifacts forgotten, and a look-ahead of one round."""
    circuit = generated(*SURFACE)
    wanted = global_errors(circuit, SHOTS)
    for left, _ in (
        decoded(read(measured(circuit, SHOTS), "x"), drop_artifacts=True),
        decoded(read(measured(circuit, SHOTS), "x", window=1)),
    ):
        assert (left != wanted).any(axis=1).mean() > 0.004


@pytest.mark.parametrize("made", [measured, published])
def test_measurements_and_detection_events_are_decoded_alike(made: Any) -> None:
    circuit = generated("surface_code:rotated_memory_x", 3, 9)
    found = read(made(circuit, 2000), "x")
    assert found.facts["played"] == ("measurements" if made is measured else "detection events")
    assert (found.facts["shots"], found.facts["detectors"], found.facts["observables"]) == (
        2000,
        circuit.num_detectors,
        1,
    )
    left, before = decoded(found, batch=999)
    assert (before == sampled(circuit, 2000)[2]).all()
    assert (left != global_errors(circuit, 2000)).mean() <= 0.005


def test_all_files_together_are_checked_against_each_other() -> None:
    circuit = generated("surface_code:rotated_memory_x", 3, 3)
    files = measured(circuit, 50) | published(circuit, 50)
    assert read(files, "x").facts["played"] == "measurements"
    events = bytearray(files["detection_events.b8"])
    events[7] ^= 1
    with pytest.raises(FileFault, match=r"detection_events.b8: shot \d+ is not what circuit_noisy.stim makes of"):
        read(files | {"detection_events.b8": bytes(events)}, "x")


def test_an_error_model_alone_will_do_and_tags_do_no_harm() -> None:
    circuit = generated("surface_code:rotated_memory_z", 3, 6)
    model = circuit.detector_error_model(decompose_errors=True)
    tagged = str(model.flattened()).replace("error(", "error[a tag](")
    files = {k: v for k, v in published(circuit, 500).items() if k.startswith(("det", "obs"))}
    left, _ = decoded(read(files | {"model.dem": tagged.encode()}, "x"))
    assert (left != global_errors(circuit, 500)).mean() <= 0.005


def test_slots_follow_the_last_coordinate_and_shifts() -> None:
    circuit = generated("surface_code:rotated_memory_x", 3, 5)
    experiment = read(measured(circuit, 1), "x").experiment
    assert [len(slot.detectors) for slot in experiment.slots] == [4, 8, 8, 8, 8, 4]
    # Each round reads its 8 measure qubits; the last slot reads the data qubits.
    assert [slot.records for slot in experiment.slots] == [8, 8, 8, 8, 8, 9]


def test_without_coordinates_everything_is_one_window() -> None:
    circuit = bare(generated("repetition_code:memory", 3, 4))
    found = read(measured(circuit, 300), "x")
    assert found.facts["slots"] == 1
    assert "no time coordinate" in found.facts["assumptions"][0]
    assert (decoded(found)[0] == global_errors(circuit, 300)).all()


def test_a_window_shorter_than_an_edge_is_refused() -> None:
    """Here the detectors of one round stand in two slots, so that edges reach from one slot to the next but two."""
    circuit = stim.Circuit()
    for instruction in generated("repetition_code:memory", 3, 6).flattened():
        if instruction.name == "DETECTOR":
            x, t = instruction.gate_args_copy()
            circuit.append("DETECTOR", instruction.targets_copy(), [2 * t + (x > 2)])
        else:
            circuit.append(instruction)
    for window in (1, 2):
        with pytest.raises(FileFault, match=f"window {window}: circuit.stim has edges that reach 3 slots"):
            read(measured(circuit, 300), "x", window)
    for window in (0, 3, None):
        found, before = decoded(read(measured(circuit, 300), "x", window))
        assert found.sum() < before.sum()


def bare(circuit: stim.Circuit) -> stim.Circuit:
    """Without coordinates."""
    out = stim.Circuit()
    for instruction in circuit.flattened():
        if instruction.name == "DETECTOR":
            out.append("DETECTOR", instruction.targets_copy())
        elif instruction.name != "SHIFT_COORDS":
            out.append(instruction)
    return out


def test_outcomes_that_are_1_without_noise_are_no_events() -> None:
    circuit = stim.Circuit("""
        X 0
        REPEAT 3 {
            X_ERROR(0.1) 0 1
            MR !1
            M 0
            DETECTOR(0, 0) rec[-1]
            DETECTOR(1, 0) rec[-2]
            SHIFT_COORDS(0, 1)
        }
        M 0
        OBSERVABLE_INCLUDE(0) rec[-1]
    """)
    detectors, observables = parities(circuit)
    assert [d.constant for d in detectors] == [1, 1] * 3
    assert observables[0].constant == 1
    files = measured(circuit, 400)
    assert (decoded(read(files, "x"))[1] == sampled(circuit, 400)[2]).all()


def test_sweep_bits_turn_measurements_into_detection_events() -> None:
    base = generated("repetition_code:memory", 3, 4)
    lines = str(base).split("\n")
    lines.insert(lines.index("TICK"), "CX sweep[0] 1 sweep[1] 3")  # behind the preparation
    circuit = stim.Circuit("\n".join(lines))
    swept = np.random.default_rng(3).integers(0, 2, (200, 2)).astype(bool)
    plain, events, _ = sampled(base, 200)
    converter = circuit.compile_m2d_converter()
    files = {"circuit.stim": str(circuit).encode(), "measurements.b8": b8(plain), "sweep.b8": b8(swept)}
    wanted_events, wanted_flips = converter.convert(measurements=plain, sweep_bits=swept, separate_observables=True)
    assert (wanted_events != events).any()
    found = read(files, "x")
    assert found.facts["played"] == "detection events"
    assert (decoded(found)[1] == wanted_flips).all()
    with pytest.raises(FileFault, match=r"circuit.stim reads 2 sweep bits: sweep.b8 is expected"):
        read({k: v for k, v in files.items() if k != "sweep.b8"}, "x")


# ---- what is refused


def small() -> stim.Circuit:
    return generated("surface_code:rotated_memory_x", 3, 3)


def wrong(change: Any, made: Any = measured) -> str:
    files = made(small(), 20)
    change(files)
    with pytest.raises(FileFault) as fault:
        read(files, "x")
    return str(fault.value)


def test_files_of_another_size_are_refused_by_name_and_size() -> None:
    size = len(measured(small(), 20)["measurements.b8"])
    row = size // 20
    bits = small().num_measurements
    said = wrong(lambda f: f.update({"measurements.b8": f["measurements.b8"][:-1]}))
    assert f"measurements.b8 has {size - 1} bytes; shots of {bits} measurements are {row} bytes" in said
    assert f"so {size} or another multiple" in said
    assert "has 0 bytes" in wrong(lambda f: f.update({"measurements.b8": b""}))
    said = wrong(lambda f: f.update({"obs_flips_actual.01": f["obs_flips_actual.01"][:-2]}), published)
    assert said == "obs_flips_actual.01 has 38 bytes (19 shots); 20 shots of 1 observables are 40 bytes"
    said = wrong(lambda f: f.update({"obs_flips_actual.01": b"0\n1\n00\n"}), published)
    assert said == "obs_flips_actual.01:3: 2 characters; 1 observables are expected in each line"
    assert "obs_flips_actual.01:2: only 0 and 1" in wrong(
        lambda f: f.update({"obs_flips_actual.01": b"0\nx\n" + b"0\n" * 18}), published
    )


def test_shots_of_another_circuit_show_in_their_padding() -> None:
    said = wrong(lambda f: f.update({"measurements.b8": b"\xff" * len(f["measurements.b8"])}))
    assert "measurements.b8: shot 0 has bits set beyond its 33 measurements" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.pop("circuit.stim"), "no circuit and no error model"),
        (lambda f: f.pop("measurements.b8"), "no shots: measurements.b8, or detection_events.b8 with"),
        (lambda f: f.update({"circuit.stim": b"FOO 1"}), "circuit.stim is no stim circuit"),
        (lambda f: f.update({"circuit.stim": b"\xff"}), "circuit.stim is no stim circuit"),
        (lambda f: f.update({"model.dem": b"error(2) D0"}), "model.dem is no stim error model"),
        (
            lambda f: f.update({"model.dem": b"error(0.1) D0 L0"}),
            "model.dem has 1 detectors and 1 observables, circuit.stim",
        ),
        (lambda f: f.update({"circuit.stim": str(small().without_noise()).encode()}), "circuit.stim knows no errors"),
        (lambda f: f.update({"model.dem": b"error(0.1) D0 D1 D2 L0\ndetector D23"}), "does not decompose into edges"),
        (lambda f: f.update({"model.dem": b"error(0.9) D0 L0\ndetector D23"}), "an error is likelier than not"),
    ],
)
def test_files_that_do_not_fit_are_refused_by_name(change: Any, said: str) -> None:
    assert said in wrong(change)


def test_a_code_that_matching_cannot_decode_is_refused() -> None:
    circuit = generated("color_code:memory_xyz", 5, 3)
    with pytest.raises(FileFault, match=r"circuit.stim: its errors do not decompose into edges .* matching needs"):
        read(measured(circuit, 5), "x")


# ---- the stream


def player(shots: int = 9) -> tuple[ExperimentTracker, list[Any], Experiment]:
    found = read(measured(small(), 20), "x", window=2)
    experiment = found.experiment
    tracker = ExperimentTracker(experiment, ModelWindows(experiment, decoder="pymatching"), shots)
    return tracker, list(blocks(experiment, found.shots, 3, 5, shots)), experiment


@pytest.mark.parametrize(
    "spoil",
    [
        lambda items: items.pop(0),
        lambda items: items.insert(1, items[0]),
        lambda items: items.reverse(),
        lambda items: items.__setitem__(1, (items[1][0], items[1][1][:-1])),
    ],
    ids=["gap", "repeat", "order", "size"],
)
def test_gaps_repeats_and_other_sizes_are_faults(spoil: Any) -> None:
    tracker, items, _ = player()
    spoil(items)
    with pytest.raises(StreamFault):
        for block, bits in items:
            tracker.receive(block, bits)
        tracker.flips()


def test_an_end_too_early_is_a_fault() -> None:
    tracker, items, _ = player()
    for block, bits in items[:-1]:
        assert isinstance(tracker.receive(block, bits)[0], Acknowledgement)
    with pytest.raises(StreamFault, match="ended after 2 of 4 slots"):
        tracker.summary()


def test_discarded_shots_do_not_count() -> None:
    tracker, items, _ = player()
    tracker.discard(Discard("", 9, 0, "cosmic ray"), np.array([0b101, 1], np.uint8))
    for block, bits in items:
        tracker.receive(block, bits)
    total = tracker.summary()["sum"]
    assert (total["shots_accepted"], total["shots_discarded"], total["discards"]) == (6, 3, {"cosmic ray": 3})
    assert sum(total["counts"].values()) == sum(total["counts_undecoded"].values()) == 6


def test_a_recording_has_no_more_shots_than_it_has() -> None:
    found = read(measured(small(), 20), "x")
    with pytest.raises(ValueError, match="shots 15 to 24 are wanted, the recording has 20"):
        list(blocks(found.experiment, found.shots, 1, 15, 10))
