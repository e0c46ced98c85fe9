# SPDX-License-Identifier: Apache-2.0
"""The `calibration` artifact: error rates of a device, and where in a noiseless slot those errors strike.

Hardware publishes one; the tracker builds its weights from it.  The simulator's device has one of its own (its true
noise), which the tracker never sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgpack

from qcosd.qec.fragment import HANDOVERS, Instruction, open_artifact
from qcosd.qec.geometry import Coord

VERSION = 2

PRIOR_FLOOR = 1e-4  # below this a matching graph would have no edges worth the name

RATES: Final = ("idle", "cx", "reset", "measure", "hadamard", "handover")
"""Kinds of error."""

Coupler = tuple[Coord, Coord]
"""Two coupled sites, the smaller one first."""

Where = Coord | Coupler | None


class NoiseLine(NamedTuple):
    """One line of noise of a circuit.

    ``channel``: of stim.  ``sites``: of the program, in pairs for a two-qubit channel.  ``kind`` and ``where`` are its
    class: all lines of one class have the probability of that class.  ``kind``: one of `RATES`.  ``where``: None for the
    rate of the whole device, or the site or coupler of the *device* that has a rate of its own.
    """

    channel: str
    probability: float
    sites: tuple[Coord, ...]
    kind: str
    where: Where = None


def coupler(a: Coord, b: Coord) -> Coupler:
    """The name of the coupler between two sites."""
    return (a, b) if a <= b else (b, a)


@dataclass(frozen=True)
class Calibration:
    """Probabilities of circuit-level noise, each in [0, 0.5); ValueError names the one that is not.

    ``idle``: depolarising, each data qubit once a round.  ``cx``: two-qubit depolarising after each CX.  ``reset`` and
    ``measure``: a flip after preparing, before reading.  ``hadamard``: depolarising after each H.  ``handover``:
    depolarising on the data qubits of an encoded state that arrives.

    ``sites``: site of the device -> kind -> its own rate.  ``couplers``: coupler of the device -> its own rate of `cx`.
    A CX has the rate of its coupler; without one the larger of the rates that its two sites have; without any, ``cx``.
    ``valid_from``: the first batch that it holds for.
    """

    idle: float
    cx: float
    reset: float
    measure: float
    hadamard: float
    handover: float
    sites: Mapping[Coord, Mapping[str, float]] = field(default_factory=dict, hash=False)
    couplers: Mapping[Coupler, float] = field(default_factory=dict, hash=False)
    valid_from: int = 0

    def __post_init__(self) -> None:
        for kind in RATES:
            _check(kind, getattr(self, kind), "")
        for site, rates in self.sites.items():
            for kind, rate in rates.items():
                if kind not in RATES:
                    raise ValueError(f"calibration: site {list(site)} has no error of kind {kind!r}")
                _check(kind, rate, f"site {list(site)}: ")
        for pair, rate in self.couplers.items():
            if pair != coupler(*pair) or pair[0] == pair[1]:
                raise ValueError(f"calibration: coupler {pair} is no pair of sites in increasing order")
            _check("cx", rate, f"coupler {[list(site) for site in pair]}: ")
        if self.valid_from < 0:
            raise ValueError(f"calibration: valid_from = {self.valid_from} is no batch")

    @classmethod
    def uniform(cls, p: float) -> Calibration:
        """The same rate for all kinds everywhere."""
        return cls(p, p, p, p, p, p)

    @property
    def even(self) -> bool:
        """No site and no coupler has a rate of its own."""
        return not self.sites and not self.couplers

    def rate(self, kind: str, where: Where = None) -> float:
        """The rate of a class of lines (see `NoiseLine`)."""
        if where is None:
            return float(getattr(self, kind))
        if isinstance(where[0], tuple):
            return self.couplers[where]
        return self.sites[where][kind]

    def classes(self) -> Iterator[tuple[str, Where]]:
        """Every class of lines that has a rate."""
        yield from ((kind, None) for kind in RATES)
        yield from ((kind, site) for site, rates in sorted(self.sites.items()) for kind in RATES if kind in rates)
        yield from (("cx", pair) for pair in sorted(self.couplers))

    def scaled(self, factors: Mapping[str, float], valid_from: int = 0) -> Calibration:
        """The same with the rates of a kind multiplied by a factor (1 where none is given), everywhere."""
        by = {kind: factors.get(kind, 1.0) for kind in RATES}
        return Calibration(
            **{kind: getattr(self, kind) * by[kind] for kind in RATES},
            sites={site: {kind: rate * by[kind] for kind, rate in rates.items()} for site, rates in self.sites.items()},
            couplers={pair: rate * by["cx"] for pair, rate in self.couplers.items()},
            valid_from=valid_from,
        )

    def floored(self, floor: float = PRIOR_FLOOR) -> Calibration:
        """The same with every rate at least ``floor``, so that every edge of the graph exists."""
        return replace(
            self,
            **{kind: max(getattr(self, kind), floor) for kind in RATES},
            sites={
                site: {kind: max(rate, floor) for kind, rate in rates.items()} for site, rates in self.sites.items()
            },
            couplers={pair: max(rate, floor) for pair, rate in self.couplers.items()},
        )

    @cached_property
    def id(self) -> str:
        """Content id: 16 hexadecimal digits."""
        return sha256(self.to_bytes()).hexdigest()[:16]

    def to_bytes(self) -> bytes:
        """Equal calibrations give equal bytes."""
        document = {
            "version": VERSION,
            "rates": {kind: float(getattr(self, kind)) for kind in RATES},
            "sites": [
                [*site, {kind: float(rates[kind]) for kind in RATES if kind in rates}]
                for site, rates in sorted(self.sites.items())
            ],
            "couplers": [[*a, *b, float(rate)] for (a, b), rate in sorted(self.couplers.items())],
            "valid_from": self.valid_from,
        }
        return bytes(msgpack.packb(document))

    @classmethod
    def from_bytes(cls, data: bytes) -> Calibration:
        """Raises ValueError when the bytes are not a `calibration` artifact of this version."""
        doc = open_artifact("calibration", VERSION, data)
        try:
            rates = {kind: _float(doc["rates"][kind]) for kind in RATES}
            sites = {_site(x, y): {kind: _float(rate) for kind, rate in by.items()} for x, y, by in doc["sites"]}
            couplers = {(_site(x, y), _site(z, w)): _float(rate) for x, y, z, w, rate in doc["couplers"]}
            if type(valid_from := doc["valid_from"]) is not int:
                raise TypeError(f"valid_from is {valid_from!r}")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not a calibration artifact: {error!r}") from error
        return cls(**rates, sites=sites, couplers=couplers, valid_from=valid_from)


def noise_before(instruction: Instruction, rates: Calibration, offset: Coord = (0, 0)) -> list[NoiseLine]:
    """Noise that strikes before an instruction, a line for each class; those of rate 0 are left out.

    ``offset``: of the placement; a site of the program is (x + offset[0], y + offset[1]) on the device.
    """
    name, targets = instruction
    if name == "M":
        return _lines("X_ERROR", "measure", rates, targets, offset)
    if name == "MX":
        return _lines("Z_ERROR", "measure", rates, targets, offset)
    return []


def noise_after(instruction: Instruction, rates: Calibration, offset: Coord = (0, 0)) -> list[NoiseLine]:
    """Noise that strikes after an instruction, as `noise_before`."""
    name, targets = instruction
    if name == "R":
        return _lines("X_ERROR", "reset", rates, targets, offset)
    if name == "RX":
        return _lines("Z_ERROR", "reset", rates, targets, offset)
    if name == "CX":
        return _lines("DEPOLARIZE2", "cx", rates, targets, offset)
    if name == "H":
        return _lines("DEPOLARIZE1", "hadamard", rates, targets, offset)
    if name == "I":
        return _lines("DEPOLARIZE1", "idle", rates, targets, offset)
    if name in HANDOVERS:
        return _lines("DEPOLARIZE1", "handover", rates, [c for c in targets if c[0] % 2 == 0], offset)
    return []


def _lines(channel: str, kind: str, rates: Calibration, targets: Sequence[Coord], offset: Coord) -> list[NoiseLine]:
    sites: dict[Where, list[Coord]] = {None: []}
    if rates.even:
        sites[None] = list(targets)
    elif kind == "cx":
        for control, target in zip(targets[::2], targets[1::2], strict=True):
            a, b = _shifted(control, offset), _shifted(target, offset)
            sites.setdefault(_where_cx(rates, a, b), []).extend((control, target))
    else:
        for target in targets:
            site = _shifted(target, offset)
            sites.setdefault(site if kind in rates.sites.get(site, ()) else None, []).append(target)
    lines = ((where, rates.rate(kind, where), tuple(found)) for where, found in sites.items() if found)
    return [NoiseLine(channel, p, found, kind, where) for where, p, found in lines if p > 0]


def _where_cx(rates: Calibration, a: Coord, b: Coord) -> Where:
    if (pair := coupler(a, b)) in rates.couplers:
        return pair
    own: Iterable[Coord] = [site for site in pair if "cx" in rates.sites.get(site, ())]
    return max(own, key=lambda site: rates.sites[site]["cx"], default=None)


def _shifted(site: Coord, offset: Coord) -> Coord:
    return (site[0] + offset[0], site[1] + offset[1])


def _check(kind: str, rate: float, where: str) -> None:
    if not 0 <= rate < 0.5:
        raise ValueError(f"calibration: {where}{kind} = {rate} is outside [0, 0.5)")


def _site(x: Any, y: Any) -> Coord:
    if type(x) is not int or type(y) is not int:
        raise TypeError(f"{x!r}, {y!r} is no site")
    return (x, y)


def _float(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} is no number")
    return float(value)
