# SPDX-License-Identifier: Apache-2.0
"""Live decoding in windows against global decoding of the same records, shot by shot."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import sqrt

import numpy as np
import pytest
import sampled
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.window import PARALLEL

from qcosd.qec.fragment import FragmentProgram

TABLE_SHOTS = 20_000
TEMPLATES = TemplateCache()

PROGRAMS: dict[str, tuple[Callable[[], FragmentProgram], list[list[int]] | None, int]] = {
    # Shots: enough failures that the sampling error of a paired difference is well below 2 %.
    "memory": (lambda: sampled.memory(5, 50), None, 60_000),
    "cnot-zz": (lambda: sampled.cnot(5, "Z"), None, 40_000),
    "cnot-xx": (lambda: sampled.cnot(5, "X"), None, 40_000),
    "ghz3": (lambda: sampled.ghz(5, 3), [[0, 1], [0, 2]], 20_000),
}
LONGER = {"memory", "cnot-xx", "ghz3"}
PLAIN, CORRELATED, TEMPERED = "pymatching", "pymatching-correlated", "pymatching-tempered"
# Measured once with 20,000 shots, d = 5, p = 3e-3.
TABLE = {
    "memory": {PLAIN: 0.03435, CORRELATED: 0.01990},
    "cnot-zz": {PLAIN: 0.02640, CORRELATED: 0.01570},
    "cnot-xx": {PLAIN: 0.02270, CORRELATED: 0.01460},
    "ghz3": {PLAIN: 0.06810, CORRELATED: 0.04040},
}


@cache
def recorded(name: str) -> sampled.Recording:
    program, observables, shots = PROGRAMS[name]
    return sampled.record(program(), 3e-3, shots, observables, seed=20_251)


@cache
def decoded_globally(name: str, decoder: str) -> np.ndarray:
    return recorded(name).decoded_globally(decoder)


def assert_equals_global(name: str, decoder: str, shots: int | None = None, **options: object) -> None:
    """On stim's own samples of the whole circuit."""
    recording, globally = recorded(name), decoded_globally(name, decoder)
    if shots is not None:
        recording, globally = recording.chosen(np.arange(shots)), globally[:shots]
    assert_live_equals_global(recording, globally, decoder, TABLE[name].get(decoder), **options)


def assert_live_equals_global(
    recording: sampled.Recording, globally: np.ndarray, decoder: str, expected: float | None, **options: object
) -> None:
    """Live decoding of the same records fails as often as global decoding does, and in the same shots."""
    outcomes = sampled.track(recording, decoder=decoder, templates=TEMPLATES, **options)
    live = recording.parities(outcomes.bits)
    assert np.array_equal(recording.parities(outcomes.undecoded), recording.undecoded())
    differ = (live != globally).any(axis=1).mean()
    live_rate, global_rate = live.any(axis=1).mean(), globally.any(axis=1).mean()
    assert differ <= 0.002, f"{differ:.4f} of the shots differ"
    assert abs(live_rate - global_rate) <= 0.02 * global_rate, f"LER {live_rate:.5f}, global {global_rate:.5f}"
    if expected is None:
        return
    sigma = sqrt(expected * (1 - expected) * (1 / recording.shots + 1 / TABLE_SHOTS))
    assert abs(live_rate - expected) <= 3 * sigma, f"LER {live_rate:.5f}, table {expected:.5f} +- {sigma:.5f}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "decoder"),
    # What is left out here takes minutes; parallel windows below are compared with the same global decoding.
    [
        pytest.param(n, d, marks=[pytest.mark.long] * (n != "cnot-zz"))
        for n, d in [*((n, PLAIN) for n in PROGRAMS), ("ghz3", TEMPERED)]
    ],
)
def test_windows_equal_global_decoding(name: str, decoder: str) -> None:
    assert_equals_global(name, decoder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "decoder"),
    [("memory", PLAIN), ("ghz3", TEMPERED), pytest.param("memory", TEMPERED, marks=pytest.mark.long)],
)
def test_parallel_windows_equal_global_decoding(name: str, decoder: str) -> None:
    assert_equals_global(name, decoder, scheme=PARALLEL)


@pytest.mark.long
@pytest.mark.parametrize("fault", [{"buffer": 1}, {"drop_artifacts": True}], ids=str)
@pytest.mark.parametrize(("name", "decoder"), [("memory", CORRELATED), ("ghz3", TEMPERED)])
def test_what_parallel_windows_need_shows_in_that_assertion(name: str, decoder: str, fault: dict[str, object]) -> None:
    with pytest.raises(AssertionError, match=r"differ|LER"):
        assert_equals_global(name, decoder, shots=20_000, scheme=PARALLEL, **fault)


@pytest.mark.long
@pytest.mark.parametrize("decoder", [CORRELATED, TEMPERED])
@pytest.mark.parametrize("name", PROGRAMS)
def test_windows_equal_global_decoding_with_correlations(name: str, decoder: str) -> None:
    assert_equals_global(name, decoder)


@pytest.mark.slow
def test_tempered_correlations_make_fewer_errors() -> None:
    name = "cnot-xx"
    correlated, tempered = (decoded_globally(name, d).any(axis=1).mean() for d in (CORRELATED, TEMPERED))
    assert tempered < 0.97 * correlated


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "decoder", "fault"),
    [
        ("memory", CORRELATED, {"buffer": 2}),
        ("cnot-zz", CORRELATED, {"buffer": 0}),
        ("memory", CORRELATED, {"drop_artifacts": True}),
    ],
    ids=str,
)
def test_what_windows_need_shows_in_that_assertion(name: str, decoder: str, fault: dict[str, object]) -> None:
    """Negative controls: too little look-ahead, or corrections forgotten at the border."""
    with pytest.raises(AssertionError, match=r"differ|LER"):
        assert_equals_global(name, decoder, shots=20_000, **fault)


@pytest.mark.long
@pytest.mark.parametrize("fault", [{"buffer": 0}, {"buffer": 2}, {"drop_artifacts": True}], ids=str)
@pytest.mark.parametrize(("name", "decoder"), [("memory", CORRELATED), ("cnot-zz", CORRELATED), ("ghz3", TEMPERED)])
def test_all_that_windows_need_shows_in_that_assertion(name: str, decoder: str, fault: dict[str, object]) -> None:
    with pytest.raises(AssertionError, match=r"differ|LER"):
        assert_equals_global(name, decoder, shots=20_000, **fault)


def from_machine(name: str, **machine: object) -> sampled.Recording:
    program, observables, _ = PROGRAMS[name]
    made = program()
    return sampled.record_from_machine(
        made, 3e-3, TABLE_SHOTS, observables or [[b] for b in range(made.bits)], seed=77, **machine
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.long] * (n in LONGER)) for n in PROGRAMS])
def test_windows_equal_global_decoding_on_what_the_adapter_sends(name: str) -> None:
    recording = from_machine(name)
    assert_live_equals_global(recording, recording.decoded_globally(CORRELATED), CORRELATED, TABLE[name][CORRELATED])


@pytest.mark.slow
def test_an_adapter_without_steering_or_gauge_fix_fails_that_assertion() -> None:
    """Negative controls on S followed by its inverse. Detectors cannot find these: only the outcomes are wrong."""
    program = sampled.phases(5, dagger=True)
    honest = sampled.record(program, 3e-3, TABLE_SHOTS, seed=20_251)
    expected = float(honest.decoded_globally(CORRELATED).mean())

    def check(**machine: object) -> None:
        recording = sampled.record_from_machine(program, 3e-3, TABLE_SHOTS, [[0]], seed=77, **machine)
        assert_live_equals_global(recording, recording.decoded_globally(CORRELATED), CORRELATED, expected)

    check()
    for fault in ("steer", "gauge_fix"):
        with pytest.raises(AssertionError, match="LER"):
            check(**{fault: False})


NOISELESS = {
    "memory": (lambda: sampled.memory(3, 20), None, False),
    "cnot-zz": (lambda: sampled.cnot(3, "Z"), None, False),
    "cnot-xx": (lambda: sampled.cnot(3, "X"), None, False),
    "ghz3-z": (lambda: sampled.ghz(3, 3), [[0, 1], [0, 2]], False),
    "ghz4-x": (lambda: sampled.ghz(3, 4, "X"), [[0, 1, 2, 3]], False),
    "hhh-z": (lambda: sampled.hadamards(3, "Z"), None, False),
    "hhh-x": (lambda: sampled.hadamards(5, "X"), None, False),
    "s-s": (lambda: sampled.phases(3, dagger=False), None, True),
    "s-sdg": (lambda: sampled.phases(3, dagger=True), None, False),
}


@pytest.mark.parametrize("name", NOISELESS)
def test_without_noise_every_shot_is_right(name: str) -> None:
    program, observables, expected = NOISELESS[name]
    recording = sampled.record(program(), 0.0, 300, observables)
    outcomes = sampled.track(recording, templates=TEMPLATES)
    assert outcomes.detection_events == 0
    assert (recording.parities(outcomes.bits) == expected).all()
    assert np.array_equal(outcomes.bits, outcomes.undecoded)


@pytest.mark.parametrize("name", ["s-s", "hhh-x", "ghz4-x"])
def test_with_noise_decoding_helps(name: str) -> None:
    """Programs with hand-overs, turns and gauges, paired with global decoding on a few thousand shots."""
    program, observables, expected = NOISELESS[name]
    recording = sampled.record(program(), 1e-3, 4000, observables)
    outcomes = sampled.track(recording, templates=TEMPLATES)
    live = recording.parities(outcomes.bits)
    globally = recording.decoded_globally(TEMPERED)
    undecoded = recording.undecoded()
    assert np.array_equal(recording.parities(outcomes.undecoded), undecoded)
    assert (live != globally).any(axis=1).mean() <= 0.005
    assert (live != expected).any(axis=1).mean() < (undecoded != expected).any(axis=1).mean() / 4


def test_the_result_does_not_depend_on_the_size_of_blocks() -> None:
    recording = sampled.record(sampled.ghz(3, 3), 3e-3, 200, [[0, 1], [0, 2]])
    results = [sampled.track(recording, size=size, templates=TEMPLATES) for size in (1, 3, 7, 1000)]
    for other in results[1:]:
        assert np.array_equal(results[0].bits, other.bits)
        assert np.array_equal(results[0].undecoded, other.undecoded)
        assert results[0].detection_events == other.detection_events
        assert results[0].windows == other.windows


@pytest.mark.parametrize("batch", [1, 13, 64, 256])
def test_the_result_does_not_depend_on_the_batch(batch: int) -> None:
    recording = sampled.record(sampled.cnot(3, "X"), 5e-3, 256)
    whole = sampled.track(recording, templates=TEMPLATES)
    parts = [
        sampled.track(recording.chosen(shots), templates=TEMPLATES)
        for shots in np.split(np.arange(256), range(batch, min(256, 20 * batch), batch))
    ]
    assert np.array_equal(whole.bits, np.concatenate([part.bits for part in parts], axis=1))
    assert np.array_equal(whole.undecoded, np.concatenate([part.undecoded for part in parts], axis=1))
    assert whole.detection_events == sum(part.detection_events for part in parts)


def test_templates_are_shared_over_time_place_and_jobs() -> None:
    """Memory of any length needs three templates: begin, middle, end; and the same three on any cell."""
    templates = TemplateCache()
    recording = sampled.record(sampled.memory(3, 20), 1e-3, 8)
    sampled.track(recording, templates=templates)
    assert templates.misses == 3
    outcomes = sampled.track(sampled.record(sampled.memory(3, 41), 1e-3, 8), templates=templates)
    assert templates.misses == 3
    assert outcomes.templates_missed == 0
    assert outcomes.windows == 13
