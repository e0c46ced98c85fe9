# SPDX-License-Identifier: Apache-2.0
"""What the machine is: sites, couplers, timing and noise, read from a device file.

Sites stand on a grid in the doubled coordinates of `qcosd.qec.geometry`: (even, even) and (odd, odd) pairs are sites,
and a site is coupled to its four diagonal neighbours. A bounded grid holds 0 <= x < width and 0 <= y < height.

The `device` artifact holds what the planner of a program may know. The noise of the file does not stand in it:
hardware keeps it to itself and publishes a calibration.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, cast

import msgpack

from qcosd.qec.fragment import HANDOVERS
from qcosd.qec.geometry import Coord
from qcosd.qec.noise import NUMBERS, Noise, read_couplers, read_site, read_sites

KIND: Final = "grid"
DEFAULT_NAME: Final = "default"
MAX_SIDE: Final = 100_000
NATIVE: Final = ("R", "RX", "CX", "H", "M", "MX", "I", *HANDOVERS)
"""Instructions of a fragment that a machine of this kind carries out; PERM only where qubits can be moved."""

DIRECTORIES: Final = (
    Path("/etc/qcos/devices"),
    Path(__file__).parents[2] / "etc" / "devices",
    Path(sys.prefix) / "share" / "qcos" / "devices",
)
"""Where a device name is looked up: the site's own files, those of a checkout, those of an installation."""


class DeviceError(ValueError):
    """No such device, or its file or artifact is wrong. The message names the file and the key."""


@dataclass(frozen=True, slots=True)
class Device:
    """A grid of sites. Valid by construction: a wrong one raises DeviceError."""

    name: str = DEFAULT_NAME
    width: int | None = None
    """Doubled coordinates; None grows to fit the program."""
    height: int | None = None
    dead: frozenset[Coord] = frozenset()
    movement: bool = True
    """Whether qubits can be moved (PERM), which the transversal H needs."""
    round_ns: int = 1000
    """Length of a QEC round."""
    can_pause: bool = True
    """Whether the machine waits, when nobody takes its rounds, without doing more of them."""
    buffer_blocks: int = 64
    """How many blocks a machine that cannot pause keeps while nobody takes them."""
    noise: Noise = field(default=Noise(), compare=True)

    def __post_init__(self) -> None:
        for key, side in (("width", self.width), ("height", self.height)):
            if side is not None and not 1 <= side <= MAX_SIDE:
                raise DeviceError(f"grid.{key} is {side}, outside 1 to {MAX_SIDE}")
        for site in self.dead:
            if (site[0] + site[1]) % 2 or min(site) < 0:
                raise DeviceError(f"grid.dead: {list(site)} is no site: both coordinates are even, or both odd, from 0")
        for key, value in (("round_ns", self.round_ns), ("buffer_blocks", self.buffer_blocks)):
            if value < 1:
                raise DeviceError(f"timing.{key} is {value}, it must be positive")
        for site in (*self.noise.sites, *(site for pair in self.noise.couplers for site in pair)):
            if not self.has(site):
                raise DeviceError(f"site {list(site)} has error rates, and is dead or outside the grid")

    def has(self, site: Coord) -> bool:
        """Whether a site is there and alive."""
        x, y = site
        inside = (
            x >= 0 and y >= 0 and (self.width is None or x < self.width) and (self.height is None or y < self.height)
        )
        return inside and (x + y) % 2 == 0 and site not in self.dead

    def couplers(self, site: Coord) -> Iterator[Coord]:
        """The living sites that a living site is coupled to."""
        x, y = site
        for other in ((x - 1, y - 1), (x + 1, y - 1), (x - 1, y + 1), (x + 1, y + 1)):
            if self.has(other):
                yield other

    def describe(self) -> dict[str, Any]:
        """The `device` artifact as a map."""
        return {
            "name": self.name,
            "kind": KIND,
            "width": self.width,
            "height": self.height,
            "dead": sorted([x, y] for x, y in self.dead),
            "movement": self.movement,
            "native": [*NATIVE, *(["PERM"] if self.movement else [])],
            "round_ns": self.round_ns,
            "can_pause": self.can_pause,
            "buffer_blocks": self.buffer_blocks,
            # Of every simulated machine: the whole program is loaded before the start, a decision acts at once.
            "preload": True,
            "decision_lead_ns": 0,
        }

    def to_bytes(self) -> bytes:
        data: bytes = msgpack.packb(self.describe())
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Device:
        """Reads a `device` artifact. Keys that it does not know are left out: other hardware may say more."""
        try:
            document = msgpack.unpackb(data)
        except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
            raise DeviceError(f"not a device: {error or type(error).__name__}") from None
        if not isinstance(document, dict) or document.get("kind") != KIND:
            raise DeviceError(f"not a device of kind {KIND!r}")
        known = {key: document[key] for key in (*_TOP, *_GRID, *_TIMING) if key in document and key != "description"}
        return cls(**_checked(known, "device artifact", ""))

    @classmethod
    def load(cls, source: str | Path = DEFAULT_NAME) -> Device:
        """The device of a name, or of a file when `source` is a path (holds a slash or ends in .toml)."""
        if isinstance(source, Path) or "/" in source or source.endswith(".toml"):
            return cls.from_file(Path(source))
        return cls.named(source)

    @classmethod
    def named(cls, name: str) -> Device:
        """The device of a name, never a path. `default` is built in and may be replaced by a file."""
        if not name or not all(c.isalnum() or c in "-_" for c in name):
            raise DeviceError(f"{name!r} is no name of a device")
        for directory in DIRECTORIES:
            path = directory / f"{name}.toml"
            if path.is_file():
                return _read(path)
        if name == DEFAULT_NAME:
            return cls()
        raise DeviceError(f"unknown device {name!r}: no {name}.toml in {', '.join(map(str, DIRECTORIES))}")

    @classmethod
    def from_file(cls, path: Path) -> Device:
        """Reads a device file. Unknown keys are refused."""
        try:
            document = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise DeviceError(f"{path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DeviceError(f"{path}: {error}") from None
        values: dict[str, Any] = {"name": path.stem}
        for section, keys in (("", _TOP), ("grid", _GRID), ("timing", _TIMING)):
            table = document if section == "" else document.get(section, {})
            _refuse_unknown(table, {*keys, *(() if section else _SECTIONS)}, str(path), section)
            found = {key: table[key] for key in keys if key in table}
            values |= _checked(found, str(path), section)
        if values.pop("kind", KIND) != KIND:
            raise DeviceError(f"{path}: kind must be {KIND!r}")
        try:
            values["noise"] = _noise(document)
            return cls(**values)
        except ValueError as error:
            raise DeviceError(f"{path}: {error}") from None


def _read(path: Path) -> Device:
    try:
        seen = path.stat()
    except OSError:
        return Device.from_file(path)  # says what is wrong
    return _as_written(path, (seen.st_ino, seen.st_size, seen.st_mtime_ns))


@lru_cache(16)
def _as_written(path: Path, seen: tuple[int, int, int]) -> Device:
    """What a file says that looks like this from outside: machines ask for it before every batch."""
    return Device.from_file(path)


_TOP: Final = {"name": str, "description": str, "kind": str, "movement": bool}
_GRID: Final = {"width": int, "height": int, "dead": list}
_TIMING: Final = {"round_ns": int, "can_pause": bool, "buffer_blocks": int}
_SECTIONS: Final = ("grid", "timing", "noise", "site", "coupler")
_TYPES: Final[Mapping[str, type]] = _TOP | _GRID | _TIMING
_NULLABLE: Final = ("width", "height")


def _noise(document: Mapping[str, Any]) -> Noise:
    """The tables of a file that tell its noise.  Raises ValueError naming the key."""
    table = document.get("noise", {})
    if not isinstance(table, dict):
        raise ValueError("noise must be a table")
    for key, value in table.items():
        if key not in NUMBERS:
            raise ValueError(f"unknown key noise.{key}")
        if type(value) not in (int, float):
            raise ValueError(f"noise.{key} must be a number")
    sites, couplers = read_sites(document.get("site", [])), read_couplers(document.get("coupler", []))
    try:
        return Noise(**{key: float(value) for key, value in table.items()}, sites=sites, couplers=couplers)
    except ValueError as error:
        raise ValueError(f"noise: {error}") from None


def _refuse_unknown(table: Any, keys: set[str] | frozenset[str], where: str, section: str) -> None:
    if not isinstance(table, dict):
        raise DeviceError(f"{where}: {section} must be a table")
    for key in table:
        if key not in keys:
            raise DeviceError(f"{where}: unknown key {section + '.' if section else ''}{key}")


def _checked(values: Mapping[str, Any], where: str, section: str) -> dict[str, Any]:
    """The values with their types checked and `dead` as a set; what is only for people is left out."""
    prefix = f"{where}: {section + '.' if section else ''}"
    out: dict[str, Any] = {}
    for key, value in values.items():
        # type() and not isinstance: true is no width.
        if type(value) is not _TYPES[key] and not (value is None and key in _NULLABLE):
            raise DeviceError(f"{prefix}{key} must be of type {_TYPES[key].__name__}")
        if key == "dead":
            out[key] = frozenset(_dead(entry, f"{prefix}dead") for entry in cast("list[Any]", value))
        elif key not in ("description", "kind") or (key == "kind" and value != KIND):
            out[key] = value
    return out


def _dead(entry: Any, where: str) -> Coord:
    try:
        return read_site(entry, where)
    except ValueError as error:
        raise DeviceError(str(error)) from None
