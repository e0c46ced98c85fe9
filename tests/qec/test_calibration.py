# SPDX-License-Identifier: Apache-2.0
"""The calibration artifact, and where noise strikes."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import pytest

from qcosd.qec.calibration import PRIOR_FLOOR, Calibration, NoiseLine, noise_after, noise_before
from qcosd.qec.fragment import Instruction

SITES = ((0, 0), (2, 0))
UNEVEN = replace(
    Calibration.uniform(0.01),
    sites={(4, 6): {"measure": 0.2, "cx": 0.03}, (5, 7): {"cx": 0.04}},
    couplers={((6, 6), (7, 7)): 0.05},
    valid_from=9,
)


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


# ---- sites and couplers with rates of their own


def test_uneven_rates_survive_the_journey_and_have_an_id_of_their_own() -> None:
    assert Calibration.from_bytes(UNEVEN.to_bytes()) == UNEVEN
    ids = {replace(UNEVEN, **change).id for change in ({}, {"sites": {}}, {"couplers": {}}, {"valid_from": 1})}
    assert len(ids) == 4
    turned = replace(UNEVEN, sites=dict(reversed(UNEVEN.sites.items())))
    assert turned.to_bytes() == UNEVEN.to_bytes()
    assert hash(turned) == hash(UNEVEN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sites": {(4, 6): {"idle": 0.5}}}, r"site \[4, 6\]: idle = 0.5"),
        ({"sites": {(4, 6): {"luck": 0.1}}}, r"site \[4, 6\] has no error of kind 'luck'"),
        ({"couplers": {((4, 6), (5, 7)): -0.1}}, r"coupler \[\[4, 6\], \[5, 7\]\]: cx = -0.1"),
        ({"couplers": {((5, 7), (4, 6)): 0.1}}, "increasing order"),
        ({"valid_from": -1}, "valid_from"),
    ],
)
def test_a_wrong_rate_of_a_place_is_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(UNEVEN, **change)


@pytest.mark.parametrize("key", ["rates", "sites", "couplers", "valid_from"])
@pytest.mark.parametrize("value", [None, 3.5, [1], [[1, 2, 3]], {"idle": "x"}])
def test_a_wrong_artifact_is_refused(key: str, value: object) -> None:
    document = msgpack.unpackb(UNEVEN.to_bytes()) | {key: value}
    with pytest.raises(ValueError, match="calibration"):
        Calibration.from_bytes(msgpack.packb(document))


def test_each_class_of_noise_has_a_line_of_its_own_at_its_place_on_the_device() -> None:
    offset = (4, 6)
    assert noise_before(Instruction("M", ((0, 0), (1, 1), (2, 2))), UNEVEN, offset) == [
        NoiseLine("X_ERROR", 0.01, ((1, 1), (2, 2)), "measure", None),
        NoiseLine("X_ERROR", 0.2, ((0, 0),), "measure", (4, 6)),
    ]
    assert noise_before(Instruction("M", ((0, 0),)), UNEVEN) == [NoiseLine("X_ERROR", 0.01, ((0, 0),), "measure")]


def test_a_cx_has_the_rate_of_its_coupler_or_of_the_worse_of_its_sites() -> None:
    pairs = ((4, 6), (5, 7), (3, 5), (4, 6), (7, 7), (6, 6), (9, 9), (8, 8))
    assert noise_after(Instruction("CX", pairs), UNEVEN) == [
        NoiseLine("DEPOLARIZE2", 0.01, ((9, 9), (8, 8)), "cx", None),
        NoiseLine("DEPOLARIZE2", 0.04, ((4, 6), (5, 7)), "cx", (5, 7)),
        NoiseLine("DEPOLARIZE2", 0.03, ((3, 5), (4, 6)), "cx", (4, 6)),
        NoiseLine("DEPOLARIZE2", 0.05, ((7, 7), (6, 6)), "cx", ((6, 6), (7, 7))),
    ]


def test_classes_and_their_rates() -> None:
    classes = list(UNEVEN.classes())
    assert len(classes) == 6 + 3 + 1
    assert UNEVEN.rate("cx", (5, 7)) == 0.04
    assert UNEVEN.rate("cx", ((6, 6), (7, 7))) == 0.05
    assert UNEVEN.rate("measure") == 0.01
    lifted = replace(UNEVEN.scaled({"cx": 0}), valid_from=9).floored()
    assert {kind: lifted.rate(kind, where) for kind, where in classes if kind == "cx"} == {"cx": PRIOR_FLOOR}
    assert lifted.rate("measure", (4, 6)) == 0.2
    assert lifted.valid_from == 9
