# SPDX-License-Identifier: Apache-2.0
"""A batch that brings its own error rates: weighted by them, and never wrong because of them."""

from __future__ import annotations

import numpy as np
import pytest
import sampled
from damaged import TEMPLATES, losing, tracked, without
from qcos_plugins.matching_tracker.outcomes import Outcomes
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.tracker import Tracker

from qcosd.qec.calibration import Calibration
from qcosd.qec.stream import Calibrated

JOB = Calibration.uniform(1e-3)
BATCH = Calibration(idle=8e-3, cx=1e-3, reset=2e-3, measure=2e-2, hadamard=1e-3, handover=5e-3)


def recalibrated(recording: sampled.Recording, rates: Calibration, plans: Plans) -> Outcomes:
    tracker = Tracker(recording.program, JOB, recording.shots, plans=plans)
    tracker.calibrate(Calibrated(0, rates.id), rates.to_bytes())
    for block, frames in losing(recording, ()):
        tracker.receive(block, *frames)
    return tracker.outcomes()


def plans_of(recording: sampled.Recording, decoder: str = "pymatching-tempered") -> Plans:
    return Plans(recording.program, JOB, templates=TEMPLATES, decoder=decoder)


@pytest.mark.parametrize("decoder", ["pymatching", "pymatching-correlated", "pymatching-tempered"])
def test_decoded_as_if_the_job_had_been_given_these_rates(decoder: str) -> None:
    recording = sampled.record(sampled.ghz(3, 3), 8e-3, 600, [[0, 1], [0, 2]], seed=8)
    plans = plans_of(recording, decoder)
    there = recalibrated(recording, BATCH, plans)
    directly = tracked(recording, losing(recording, ()), prior=BATCH, decoder=decoder)
    assert np.array_equal(there.bits, directly.bits)
    before = recalibrated(recording, JOB, plans)
    assert not np.array_equal(there.bits, before.bits), "rates that differ so much decide differently somewhere"
    assert np.array_equal(before.bits, tracked(recording, losing(recording, ()), decoder=decoder).bits)


def test_batches_of_one_job_may_differ() -> None:
    recording = sampled.record(sampled.ghz(3, 3), 5e-3, 100, [[0, 1], [0, 2]])
    plans = plans_of(recording)
    found = [recalibrated(recording, rates, plans).summary() for rates in (BATCH, JOB, BATCH)]
    assert [summary["sum"]["calibrations"] for summary in found] == [{BATCH.id: 100}, {JOB.id: 100}, {BATCH.id: 100}]
    assert found[0]["same"] == found[1]["same"]
    assert found[0]["same"]["calibration"] == JOB.id
    assert found[0]["sum"]["counts"] == found[2]["sum"]["counts"]
    assert plans.calibration == JOB


def test_without_one_the_rates_of_the_job_count() -> None:
    recording = sampled.record(sampled.memory(3, 6), 5e-3, 30)
    assert tracked(recording, losing(recording, ()), prior=JOB).summary()["sum"]["calibrations"] == {JOB.id: 30}


@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.2, 0.49])
def test_wrong_rates_never_make_a_wrong_outcome_without_noise(rate: float) -> None:
    recording = sampled.record(sampled.ghz(3, 3), 0.0, 60, [[0, 1], [0, 2]])
    missing = np.random.default_rng(3).random(recording.records.shape) < 0.03
    for absent in (np.zeros_like(missing), missing):
        tracker = Tracker(recording.program, JOB, recording.shots, plans=plans_of(recording))
        rates = Calibration(rate, 1e-3, rate, 1e-3, 1e-3, rate)
        tracker.calibrate(Calibrated(0, rates.id), rates.to_bytes())
        for block, frames in without(recording, absent):
            tracker.receive(block, *frames)
        assert set(tracker.outcomes().counts) == {"000", "111"}
        assert sum(tracker.outcomes().counts.values()) >= 50


def test_the_right_rates_are_better_than_wrong_ones() -> None:
    """Noise almost all of which is in the read-out, and rates that say the opposite."""
    program = sampled.memory(3, 12)
    truth = Calibration(1e-4, 1e-4, 1e-4, 6e-2, 1e-4, 1e-4)
    wrong = Calibration(6e-2, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4)
    circuit = sampled.stim.Circuit(sampled.whole_circuit(program, truth, [[0]]).text)
    records = circuit.compile_sampler(seed=4).sample(3000)
    recording = sampled.Recording(program, truth, ((0,),), (), records)
    plans = plans_of(recording)
    right, other = (int(recalibrated(recording, rates, plans).bits.sum()) for rates in (truth, wrong))
    assert right < other / 1.5
