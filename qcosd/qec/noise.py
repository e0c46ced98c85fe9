# SPDX-License-Identifier: Apache-2.0
"""The true noise of a simulated device, as its file gives it: strength, factors, places that differ, drift, losses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import Any, Final

from qcosd.qec.calibration import RATES, Calibration, Coupler, coupler
from qcosd.qec.geometry import Coord

LOSSES: Final = ("erasure", "lost", "discard")
"""Probabilities of what hardware notices by itself."""

Place = Coord | Coupler


@dataclass(frozen=True, slots=True)
class Noise:
    """Strength `p` and how much of it each kind of error gets: the rate of a kind is p times its factor.

    A site or coupler with factors of its own multiplies the device's: the rate of `cx` of a coupler is p times `cx`
    times the factor of the coupler.  Valid by construction: ValueError names the key, and the site where there is one.
    """

    p: float = 0.001
    idle: float = 1.0
    cx: float = 1.0
    reset: float = 1.0
    measure: float = 1.0
    hadamard: float = 1.0
    handover: float = 1.0
    drift: float = 0.0
    """Relative amplitude: in each batch each kind's rates are multiplied by a factor from 1 / (1 + drift) to 1 + drift."""
    erasure: float = 0.0
    """Probability that a measured qubit is known to have been maximally mixed when it was read."""
    lost: float = 0.0
    """Probability per round that none of its records arrives, in any shot."""
    discard: float = 0.0
    """Probability per shot and block of rounds that hardware calls the shot worthless."""
    sites: Mapping[Coord, Mapping[str, float]] = field(default_factory=dict, hash=False)
    couplers: Mapping[Coupler, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for key in LOSSES:
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"{key} = {getattr(self, key)} is outside [0, 1]")
        if not 0 <= self.drift < math.inf:
            raise ValueError(f"drift = {self.drift} is negative or no number")
        self.rates()

    def rates(self, p: float | None = None) -> Calibration:
        """Rates at strength p, that of the file if None, without drift.

        Raises ValueError when one is outside [0, 0.5), or could drift out of it.
        """
        strength = self.p if p is None else p
        own = {kind: strength * getattr(self, kind) for kind in RATES}
        rates = Calibration(
            **own,
            sites={site: {kind: own[kind] * f for kind, f in by.items()} for site, by in self.sites.items()},
            couplers={pair: own["cx"] * f for pair, f in self.couplers.items()},
        )
        if self.drift and strength:
            try:
                rates.scaled(dict.fromkeys(RATES, 1 + self.drift))
            except ValueError as error:
                raise ValueError(f"drift = {self.drift} takes it too far: {error}") from None
        return rates

    def drifted(self, seed: int, batch: int, p: float | None = None) -> Calibration:
        """The rates of a batch.  They depend on (seed, batch) and on nothing that was run."""
        rates = self.rates(p)
        if not self.drift:
            return rates
        factors = {kind: (1 + self.drift) ** _wave(f"{seed}/{batch}/{kind}") for kind in RATES}
        return rates.scaled(factors, valid_from=batch)


def _wave(name: str) -> float:
    """A number in [-1, 1), evenly distributed, the same for the same name."""
    return int.from_bytes(sha256(f"drift/{name}".encode()).digest()[:8], "big") / 2**63 - 1


# ---- device files

NUMBERS: Final = frozenset(f.name for f in fields(Noise)) - {"sites", "couplers"}
"""Keys of the table [noise]."""


def read_sites(tables: Any) -> dict[Coord, dict[str, float]]:
    """Tables [[site]]: `at`, and factors by kind.  Raises ValueError naming the key."""
    found: dict[Coord, dict[str, float]] = {}
    for number, table in _tables(tables, "site"):
        where = f"site[{number}]"
        site = read_site(table.get("at"), f"{where}.at")
        if site in found:
            raise ValueError(f"{where}.at: {list(site)} stands twice")
        found[site] = _factors(table, "at", RATES, where)
    return found


def read_couplers(tables: Any) -> dict[Coupler, float]:
    """Tables [[coupler]]: `between`, and the factor of `cx`.  Raises ValueError naming the key."""
    found: dict[Coupler, float] = {}
    for number, table in _tables(tables, "coupler"):
        where = f"coupler[{number}]"
        between = table.get("between")
        if not isinstance(between, list) or len(between) != 2:
            raise ValueError(f"{where}.between: {between!r} is not [[x, y], [x, y]]")
        a, b = (read_site(entry, f"{where}.between") for entry in between)
        if abs(a[0] - b[0]) != 1 or abs(a[1] - b[1]) != 1:
            raise ValueError(f"{where}.between: {list(a)} and {list(b)} are no diagonal neighbours")
        if (pair := coupler(a, b)) in found:
            raise ValueError(f"{where}.between: {[list(a), list(b)]} stands twice")
        found[pair] = _factors(table, "between", ("cx",), where)["cx"]
    return found


def read_site(entry: Any, where: str) -> Coord:
    """[x, y] of a file; raises ValueError unless it is a place of the grid."""
    if not isinstance(entry, list) or len(entry) != 2 or any(type(value) is not int for value in entry):
        raise ValueError(f"{where}: {entry!r} is not [x, y]")
    x, y = entry
    if (x + y) % 2 or min(x, y) < 0:
        raise ValueError(f"{where}: {entry} is no site: both coordinates are even, or both odd, from 0")
    return (x, y)


def _tables(tables: Any, name: str) -> list[tuple[int, dict[str, Any]]]:
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{name} must be tables [[{name}]]")
    return list(enumerate(tables))


def _factors(table: Mapping[str, Any], place: str, kinds: tuple[str, ...], where: str) -> dict[str, float]:
    factors = {}
    for key, value in table.items():
        if key == place:
            continue
        if key not in kinds:
            raise ValueError(f"unknown key {where}.{key} (known: {place}, {', '.join(kinds)})")
        if type(value) not in (int, float) or not 0 <= value < math.inf:
            raise ValueError(f"{where}.{key} must be a factor, a number of 0 or more")
        factors[key] = float(value)
    if not factors:
        raise ValueError(f"{where} has no factor (known: {', '.join(kinds)})")
    return factors
