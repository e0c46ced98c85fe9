# SPDX-License-Identifier: Apache-2.0
"""What the options of a job ask of a simulated machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qcosd.qec import device as device_module
from qcosd.qec.calibration import PRIOR_FLOOR, Calibration
from qcosd.qec.device import Device
from qcosd.qec.terms import Terms


def test_settings_replace_what_the_device_file_says() -> None:
    terms = Terms.of({"set": {"erasure": "0.01", "lost": 0, "discard": "1e-3", "can_pause": "false", "buffer": "9"}})
    noise = terms.device.noise
    assert (noise.erasure, noise.lost, noise.discard) == (0.01, 0.0, 1e-3)
    assert not terms.device.can_pause
    assert terms.device.describe()["can_pause"] is False
    assert Terms.of({"device": "static", "set": {"can_pause": "on"}}).device.can_pause
    assert Terms.of({}).device == Terms.of({"set": None, "device": None}).device == Device.named("default")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"set": {"erasure": "much"}}, "erasure 'much': a probability"),
        ({"set": {"erasure": 1.1}}, "erasure 1.1"),
        ({"set": {"lost": "nan"}}, "lost 'nan'"),
        ({"set": {"discard": True}}, "discard True"),
        ({"set": {"discard": None}}, "discard None"),
        ({"set": {"can_pause": "maybe"}}, "can_pause 'maybe': true or false"),
        ({"set": {"can_pause": 1}}, "can_pause 1"),
        ({"set": {"round_time": "fast"}}, "round_time 'fast': seconds a round"),
        ({"set": {"round_time": -1e-6}}, "round_time -1e-06"),
        ({"set": {"round_time": 1e-10}}, "round_time 1e-10"),
        ({"set": {"round_time": "inf"}}, "round_time 'inf'"),
        ({"noise": 0.6}, "noise 0.6"),
        ({"device": "uneven", "noise": 0.2}, r"noise 0.2: .*site \[2, 2\]: idle = 1.6"),
        ({"device": "uneven", "prior": 0.2}, r"prior 0.2: .*site \[2, 2\]"),
        ({"device": "uneven", "noise": 0.049}, "noise 0.049: drift = 0.3 takes it too far"),
        ({"device": 3}, "device 3: a name"),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Terms.of(options)


def test_a_round_takes_the_time_that_is_asked_for() -> None:
    assert Terms.of({"set": {"round_time": "0"}}) == Terms.of({})
    assert Terms.of({}).round_ns == 0
    timed = Terms.of({"set": {"round_time": "2.5e-6"}})
    assert (timed.round_ns, timed.device.round_ns, timed.device.describe()["round_ns"]) == (2500, 2500, 2500)
    cannot_pause = Terms.of({"device": "static"})
    assert cannot_pause.round_ns == cannot_pause.device.round_ns


def test_the_prior_replaces_the_strength_and_keeps_the_factors() -> None:
    truth = Terms.of({"device": "uneven", "noise": 2e-3})
    wrong = Terms.of({"device": "uneven", "noise": 2e-3, "prior": 1e-2})
    assert truth.calibration().sites[2, 2]["idle"] == pytest.approx(16e-3)
    assert wrong.calibration().sites[2, 2]["idle"] == pytest.approx(80e-3)
    assert wrong.calibration().couplers[(1, 1), (2, 2)] == pytest.approx(0.1)
    assert wrong.truth(5, 1) == truth.truth(5, 1)


def test_a_device_that_drifts_says_so_for_each_batch() -> None:
    terms = Terms.of({"device": "uneven"})
    told = terms.calibrated(5, 3)
    assert told == terms.truth(5, 3).floored()
    assert told is not None
    assert told.valid_from == 3
    assert told != terms.calibrated(5, 4) != terms.calibration()
    wrong = Terms.of({"device": "uneven", "prior": 1e-2}).calibrated(5, 3)
    assert wrong is not None
    assert wrong.measure == pytest.approx(10 * terms.truth(5, 3).measure)


def test_one_that_does_not_drift_says_it_once() -> None:
    assert Terms.of({}).calibrated(5, 3) is None
    assert Terms.of({"device": "uneven", "noise": 0}).calibrated(5, 3) is None
    assert Terms.of({"noise": 0}).calibration() == Calibration.uniform(PRIOR_FLOOR)


def test_a_file_of_no_strength_is_a_perfect_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "perfect.toml").write_text("[noise]\np = 0.0\ndrift = 0.5\n[[site]]\nat = [2, 2]\nidle = 9.0\n")
    monkeypatch.setattr(device_module, "DIRECTORIES", (tmp_path,))
    terms = Terms.of({"device": "perfect"})
    assert terms.calibrated(5, 3) is None
    assert not any(terms.truth(5, 3).rate(*one) for one in terms.truth(5, 3).classes())
