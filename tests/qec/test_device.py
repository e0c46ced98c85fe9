# SPDX-License-Identifier: Apache-2.0
"""Device files and the `device` artifact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcosd.qec import device as device_module
from qcosd.qec.calibration import Calibration
from qcosd.qec.device import Device, DeviceError
from qcosd.qec.noise import Noise

SHIPPED = sorted((Path(__file__).parents[2] / "etc" / "devices").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_devices_load_by_name_and_by_path(path: Path) -> None:
    device = Device.load(path.stem)
    assert device == Device.load(str(path)) == Device.load(path)
    assert device.name == path.stem
    assert Device.from_bytes(device.to_bytes()) == replace(device, noise=Noise())


def test_the_default_is_built_in_and_equals_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from_file = Device.load()
    monkeypatch.setattr(device_module, "DIRECTORIES", ())
    assert Device.load() == from_file == Device()
    with pytest.raises(DeviceError, match="unknown device 'small-grid'"):
        Device.load("small-grid")


def test_the_first_directory_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "default.toml").write_text("[grid]\nwidth = 9\n")
    monkeypatch.setattr(device_module, "DIRECTORIES", (tmp_path, *device_module.DIRECTORIES))
    assert Device.load().width == 9


def test_a_file_that_changes_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "DIRECTORIES", (tmp_path,))
    path = tmp_path / "lab.toml"
    for width in (9, 11, 1001):
        path.with_suffix(".new").write_text(f"[grid]\nwidth = {width}\n")
        path.with_suffix(".new").replace(path)
        assert Device.named("lab").width == width
        assert Device.named("lab") is Device.named("lab")
    path.unlink()
    with pytest.raises(DeviceError, match="unknown device 'lab'"):
        Device.named("lab")


@pytest.mark.parametrize("name", ["../default", "", "a b", "x.toml", "/etc/passwd"])
def test_a_name_is_never_a_path(name: str) -> None:
    with pytest.raises(DeviceError, match="no name of a device"):
        Device.named(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1", "unknown key colour"),
        ("[grid]\nwidht = 1", "unknown key grid.widht"),
        ("[timing]\nround = 1", "unknown key timing.round"),
        ("[noise]\nq = 1", "unknown key noise.q"),
        ("grid = 3", "grid must be a table"),
        ("noise = 3", "noise must be a table"),
        ("kind = 'ring'", "kind must be 'grid'"),
        ("movement = 1", "movement must be of type bool"),
        ("[grid]\nwidth = true", "grid.width must be of type int"),
        ("[grid]\nwidth = 0", "grid.width is 0"),
        ("[grid]\nheight = 1000000", "grid.height is 1000000"),
        ("[grid]\ndead = [[1, 2]]", "is no site"),
        ("[grid]\ndead = [[-1, 1]]", "is no site"),
        ("[grid]\ndead = [[1]]", "is not \\[x, y\\]"),
        ("[timing]\nround_ns = 0", "must be positive"),
        ("[noise]\np = 0.6", "outside"),
        ("[noise]\np = 0.1\ncx = 5.0", "cx = 0.5 is outside"),
        ("[noise]\np = 'a'", "noise.p must be a number"),
        ("[noise\n", "line 1"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(DeviceError, match=message) as caught:
        Device.load(path)
    assert str(path) in str(caught.value)


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="No such file"):
        Device.load(tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\x00")
    with pytest.raises(DeviceError, match=r"binary\.toml"):
        Device.load(tmp_path / "binary.toml")


def test_noise_scales_each_kind() -> None:
    noise = Noise(p=0.01, idle=0.5, cx=2.0)
    assert noise.rates() == Calibration(0.005, 0.02, 0.01, 0.01, 0.01, 0.01)
    assert noise.rates(0.0) == Calibration.uniform(0.0)


def test_couplers_leave_out_edges_of_the_grid_and_dead_sites() -> None:
    device = Device(width=3, height=3, dead=frozenset({(2, 2)}))
    assert set(device.couplers((1, 1))) == {(0, 0), (2, 0), (0, 2)}
    assert set(device.couplers((0, 0))) == {(1, 1)}
    assert not device.has((0, 1))
    assert Device().has((10**6, 10**6))


def test_the_artifact_says_nothing_of_noise_and_may_say_more() -> None:
    document = msgpack.unpackb(Device(noise=Noise(p=0.2)).to_bytes())
    assert "noise" not in document
    assert Device.from_bytes(msgpack.packb(document | {"native": ["CX"]})) == Device()


@given(st.binary(max_size=40))
def test_any_bytes_raise_only_device_error(data: bytes) -> None:
    with pytest.raises(DeviceError):
        Device.from_bytes(data)


@pytest.mark.parametrize("key", ["width", "dead", "movement", "name"])
@pytest.mark.parametrize("value", [1.5, {}, b"x", [1], -1])
def test_a_wrong_artifact_is_refused(key: str, value: object) -> None:
    with pytest.raises(DeviceError):
        Device.from_bytes(msgpack.packb(Device().describe() | {key: value}))
