# SPDX-License-Identifier: Apache-2.0
"""The calibration artifact, and where noise strikes."""

from __future__ import annotations

import pytest

from qcosd.qec.calibration import PRIOR_FLOOR, Calibration, noise_after, noise_before
from qcosd.qec.fragment import Instruction

SITES = ((0, 0), (2, 0))


@pytest.mark.parametrize("rate", [-1e-9, 0.5, 1.0, float("nan")])
def test_a_rate_outside_the_half_open_interval_is_refused_by_name(rate: float) -> None:
    with pytest.raises(ValueError, match="measure"):
        Calibration(idle=0, cx=0, reset=0, measure=rate, hadamard=0, handover=0)


def test_round_trip_and_content_id() -> None:
    a, b = Calibration.uniform(1e-3), Calibration.uniform(2e-3)
    assert Calibration.from_bytes(a.to_bytes()) == a
    assert a.id == Calibration.uniform(1e-3).id != b.id


@pytest.mark.parametrize("data", [b"", b"\xff\xff", b"\x80", b"\x93\x01\x02\x03", b"\x81\xa7version\x63"])
def test_other_bytes_are_a_clear_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="calibration artifact"):
        Calibration.from_bytes(data)


def test_the_floor_lifts_only_what_is_below_it() -> None:
    lifted = Calibration(idle=0, cx=1e-2, reset=0, measure=0.1, hadamard=1e-5, handover=0).floored()
    assert (lifted.idle, lifted.cx, lifted.measure, lifted.hadamard) == (PRIOR_FLOOR, 1e-2, 0.1, PRIOR_FLOOR)


def test_a_perfect_device_has_no_noise() -> None:
    for name in ("R", "RX", "M", "MX", "CX", "H", "I", "HANDOVER_Y", "TICK", "PERM"):
        i = Instruction(name, () if name == "TICK" else SITES)
        assert noise_before(i, Calibration.uniform(0)) == noise_after(i, Calibration.uniform(0)) == []


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("R", None, "X_ERROR"),
        ("RX", None, "Z_ERROR"),
        ("M", "X_ERROR", None),
        ("MX", "Z_ERROR", None),
        ("CX", None, "DEPOLARIZE2"),
        ("H", None, "DEPOLARIZE1"),
        ("I", None, "DEPOLARIZE1"),
        ("TICK", None, None),
        ("PERM", None, None),
    ],
)
def test_where_noise_strikes(name: str, before: str | None, after: str | None) -> None:
    i = Instruction(name, () if name == "TICK" else SITES)
    rates = Calibration.uniform(0.01)
    assert [line[0] for line in noise_before(i, rates)] == ([before] if before else [])
    assert [line[0] for line in noise_after(i, rates)] == ([after] if after else [])


def test_a_handover_is_noisy_on_its_data_only() -> None:
    i = Instruction("HANDOVER_Y", ((0, 0), (2, 0), (1, 1)))
    assert noise_after(i, Calibration.uniform(0.01)) == [("DEPOLARIZE1", 0.01, ((0, 0), (2, 0)), "handover", None)]
