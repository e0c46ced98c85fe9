# SPDX-License-Identifier: Apache-2.0
"""What the options of a job ask of a simulated machine: which device, how noisy, what it loses, what it says of itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from qcosd.qec.calibration import Calibration
from qcosd.qec.device import DEFAULT_NAME, Device
from qcosd.qec.noise import LOSSES

SETTINGS: Final = (*LOSSES, "can_pause", "round_time")
"""Keys of the option `set` that change the device; a plugin that reads them lists them in its manifest."""


@dataclass(frozen=True)
class Terms:
    """``device``: that of the option `device`, with what `set` changes.  ``noise``, ``prior``: strengths; None: the file's.
    ``on_clock``: rounds take the time that they take; else time is virtual, unless the device cannot pause."""

    device: Device
    noise: float | None = None
    prior: float | None = None
    on_clock: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Terms:
        """Raises ValueError naming the option that is wrong."""
        name = options.get("device") or DEFAULT_NAME
        if not isinstance(name, str):
            raise ValueError(f"device {name!r}: a name expected")
        device = Device.named(name)
        settings = options.get("set") or {}
        losses: dict[str, Any] = {key: _probability(key, settings[key]) for key in LOSSES if key in settings}
        if losses:
            device = replace(device, noise=replace(device.noise, **losses))
        if "can_pause" in settings:
            device = replace(device, can_pause=_flag("can_pause", settings["can_pause"]))
        round_ns = _nanoseconds("round_time", settings.get("round_time", 0))
        if round_ns:
            device = replace(device, round_ns=round_ns)
        terms = cls(device, _strength(options, "noise"), _strength(options, "prior"), round_ns > 0)
        for option, p in (("noise", terms.noise), ("prior", terms.prior)):
            try:
                device.noise.rates(p)
            except ValueError as error:
                raise ValueError(f"{option} {p}: {error}") from None
        return terms

    def calibration(self) -> Calibration:
        """What the machine says of its rates before it runs: the truth, or what `prior` makes of it."""
        return self.device.noise.rates(self._told).floored()

    def truth(self, seed: int, batch: int) -> Calibration:
        """The rates that strike in a batch."""
        return self.device.noise.drifted(seed, batch, self.noise)

    def calibrated(self, seed: int, batch: int) -> Calibration | None:
        """What the machine says of its rates at the beginning of a batch: nothing, unless they drift."""
        strength = self.device.noise.p if self.noise is None else self.noise
        if not self.device.noise.drift or not strength:
            return None
        return self.device.noise.drifted(seed, batch, self._told).floored()

    @property
    def round_ns(self) -> int:
        """Length of a round on the clock, 0 if there is none."""
        return self.device.round_ns if self.on_clock or not self.device.can_pause else 0

    @property
    def _told(self) -> float | None:
        return self.noise if self.prior is None else self.prior


def _strength(options: Mapping[str, Any], option: str) -> float | None:
    p = options.get(option)
    if p is not None and (type(p) not in (int, float) or not 0 <= p < 0.5):
        raise ValueError(f"{option} {p!r}: a number in [0, 0.5) expected")
    return p


def _probability(key: str, text: Any) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise ValueError(f"{key} {text!r}: a probability, 0 to 1, expected")
    return value


def _nanoseconds(key: str, text: Any) -> int:
    """Seconds as whole nanoseconds, at least one unless it is 0."""
    value = _number(text)
    if not (value == 0 or 1e-9 <= value <= 1):
        raise ValueError(f"{key} {text!r}: seconds a round, 1e-9 to 1, or 0 for virtual time, expected")
    return round(value * 1e9)


def _number(text: Any) -> float:
    """NaN for what is none."""
    try:
        return float(text) if type(text) is not bool else math.nan
    except (TypeError, ValueError):
        return math.nan


def _flag(key: str, text: Any) -> bool:
    values = {"true": True, "on": True, "false": False, "off": False}
    if str(text).lower() not in values:
        raise ValueError(f"{key} {text!r}: true or false expected")
    return values[str(text).lower()]
