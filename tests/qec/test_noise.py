# SPDX-License-Identifier: Apache-2.0
"""The noise of a device file: factors of places, drift, and errors that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcosd.qec.calibration import RATES, Calibration
from qcosd.qec.device import Device, DeviceError
from qcosd.qec.noise import Noise

UNEVEN = """
[grid]
width = 20
height = 20
dead = [[8, 8]]

[noise]
p = 0.01
cx = 2.0

[[site]]
at = [2, 2]
idle = 8.0
cx = 3.0

[[site]]
at = [3, 3]
measure = 0.0

[[coupler]]
between = [[3, 3], [2, 2]]
cx = 4.0
"""


def load(path: Path, text: str) -> Device:
    path = path / "some.toml"
    path.write_text(text)
    return Device.load(path)


def test_places_multiply_the_factor_of_the_device(tmp_path: Path) -> None:
    noise = load(tmp_path, UNEVEN).noise
    rates = noise.rates()
    assert (rates.idle, rates.cx) == (0.01, 0.02)
    assert rates.sites == {(2, 2): {"idle": 0.08, "cx": pytest.approx(0.06)}, (3, 3): {"measure": 0.0}}
    assert rates.couplers == {((2, 2), (3, 3)): 0.08}
    assert noise.rates(0.001).sites[2, 2]["idle"] == pytest.approx(0.008)
    assert all(rate == 0 for by in noise.rates(0).sites.values() for rate in by.values())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[site]]\nidle = 2.0", "site\\[0\\].at: None is not"),
        ("[[site]]\nat = [1, 2]\nidle = 2.0", "site\\[0\\].at: \\[1, 2\\] is no site"),
        ("[[site]]\nat = [1, true]\nidle = 2.0", "site\\[0\\].at"),
        ("[[site]]\nat = [2, 2]", "site\\[0\\] has no factor"),
        ("[[site]]\nat = [2, 2]\nidle = -1.0", "site\\[0\\].idle must be a factor"),
        ("[[site]]\nat = [2, 2]\nidle = nan", "site\\[0\\].idle must be a factor"),
        ("[[site]]\nat = [2, 2]\nidle = true", "site\\[0\\].idle must be a factor"),
        ("[[site]]\nat = [2, 2]\nidel = 2.0", "unknown key site\\[0\\].idel"),
        (
            "[[site]]\nat = [2, 2]\nidle = 2.0\n[[site]]\nat = [2, 2]\ncx = 2.0",
            "site\\[1\\].at: \\[2, 2\\] stands twice",
        ),
        ("[[site]]\nat = [2, 2]\nidle = 600.0", "noise: calibration: site \\[2, 2\\]: idle = 0.6"),
        ("site = 3", "site must be tables"),
        ("[site]\nat = [2, 2]", "site must be tables"),
        ("[[site]]\nat = [8, 8]\nidle = 2.0\n[grid]\ndead = [[8, 8]]", "site \\[8, 8\\] has error rates, and is dead"),
        (
            "[[site]]\nat = [40, 2]\nidle = 2.0\n[grid]\nwidth = 9",
            "site \\[40, 2\\] has error rates, and is dead or out",
        ),
        ("[[coupler]]\ncx = 2.0", "coupler\\[0\\].between: None"),
        ("[[coupler]]\nbetween = [[1, 1]]\ncx = 2.0", "coupler\\[0\\].between"),
        ("[[coupler]]\nbetween = [[1, 1], [3, 3]]\ncx = 2.0", "no diagonal neighbours"),
        ("[[coupler]]\nbetween = [[1, 1], [2, 2]]", "coupler\\[0\\] has no factor"),
        ("[[coupler]]\nbetween = [[1, 1], [2, 2]]\nidle = 2.0", "unknown key coupler\\[0\\].idle"),
        ("[[coupler]]\nbetween = [[1, 1], [2, 2]]\ncx = 500", "coupler \\[\\[1, 1\\], \\[2, 2\\]\\]: cx = 0.5"),
        ("[[coupler]]\nbetween = [[1,1],[2,2]]\ncx = 2\n[[coupler]]\nbetween = [[2,2],[1,1]]\ncx = 2", "stands twice"),
        ("[noise]\ndrift = -0.1", "noise: drift = -0.1"),
        ("[noise]\ndrift = inf", "noise: drift"),
        ("[noise]\np = 0.3\ndrift = 1.0", "drift = 1.0 takes it too far: .*idle = 0.6"),
        ("[noise]\nerasure = 1.5", "noise: erasure = 1.5 is outside"),
        ("[noise]\nlost = nan", "noise: lost"),
        ("[noise]\ndiscard = true", "noise.discard must be a number"),
        ("[timing]\nbuffer_blocks = 0", "timing.buffer_blocks is 0"),
    ],
)
def test_a_wrong_place_is_refused_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message) as caught:
        load(tmp_path, text)
    assert "some.toml" in str(caught.value)


def test_drift_depends_on_seed_and_batch_alone() -> None:
    noise = Noise(p=0.01, drift=0.5, sites={(2, 2): {"idle": 2.0}})
    rates = noise.drifted(7, 3)
    assert rates == noise.drifted(7, 3)
    assert rates.valid_from == 3
    assert len({noise.drifted(7, batch).id for batch in range(20)} | {noise.drifted(8, 3).id}) == 21
    assert rates.sites[2, 2]["idle"] == pytest.approx(2 * rates.idle)  # a place drifts with its kind
    assert len({getattr(rates, kind) for kind in RATES}) == len(RATES)


def test_drift_stays_within_its_amplitude_and_uses_it() -> None:
    noise = Noise(p=0.01, drift=0.5)
    factors = [getattr(noise.drifted(1, batch), kind) / 0.01 for batch in range(300) for kind in RATES]
    assert 1 / 1.5 <= min(factors) < 0.68
    assert 1.48 < max(factors) <= 1.5


def test_without_drift_or_without_noise_nothing_drifts() -> None:
    assert Noise(p=0.01).drifted(1, 5) == Calibration.uniform(0.01)
    still = Noise(p=0.01, drift=0.5).drifted(1, 5, 0.0)
    assert all(getattr(still, kind) == 0 for kind in RATES)
