# SPDX-License-Identifier: Apache-2.0
"""Where this machine errs, from the true rates of its device.

Written from the meaning of the rates and of the instructions alone, and not with the functions that the tracker and the
other machine share: were errors misplaced there, the two machines would disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from qcosd.qec.calibration import Calibration
from qcosd.qec.geometry import Coord

DEPOLARISING, BIT_FLIP, PHASE_FLIP, HERALDED = "DEPOLARIZE1", "X_ERROR", "Z_ERROR", "HERALDED_ERASE"


class Channel(NamedTuple):
    """An error channel of stim on some sites of the program, in pairs for DEPOLARIZE2."""

    name: str
    probability: float
    sites: tuple[Coord, ...]


class Noise:
    """``rates``: the truth.  ``erasure``: how often a qubit is found, and known, to be mixed when it is read.
    ``offset``: where on the device the program's coordinate (0, 0) is."""

    def __init__(self, rates: Calibration, erasure: float = 0.0, offset: Coord = (0, 0)) -> None:
        self.rates = rates
        self.erasure = erasure
        self.offset = offset

    def before(self, name: str, targets: tuple[Coord, ...]) -> Iterator[Channel]:
        """Errors that an instruction meets: a qubit may be lost, or turned over, just before it is read."""
        if name not in ("M", "MX"):
            return
        if self.erasure > 0 and targets:
            yield Channel(HERALDED, self.erasure, targets)
        yield from self._singles(BIT_FLIP if name == "M" else PHASE_FLIP, "measure", targets)

    def after(self, name: str, targets: tuple[Coord, ...]) -> Iterator[Channel]:
        """Errors that an instruction leaves behind."""
        match name:
            case "R":
                yield from self._singles(BIT_FLIP, "reset", targets)
            case "RX":
                yield from self._singles(PHASE_FLIP, "reset", targets)
            case "H":
                yield from self._singles(DEPOLARISING, "hadamard", targets)
            case "I":
                yield from self._singles(DEPOLARISING, "idle", targets)
            case "HANDOVER_Y":
                yield from self._singles(DEPOLARISING, "handover", (site for site in targets if not site[0] & 1))
            case "CX":
                pairs = zip(targets[0::2], targets[1::2], strict=True)
                for rate, group in groupby(pairs, lambda pair: self._coupler(*pair)):
                    if rate > 0:
                        yield Channel("DEPOLARIZE2", rate, tuple(site for pair in group for site in pair))

    def _singles(self, channel: str, kind: str, sites: Iterable[Coord]) -> Iterator[Channel]:
        for rate, group in groupby(sites, lambda site: self._site(kind, site)):
            if rate > 0:
                yield Channel(channel, rate, tuple(group))

    def _site(self, kind: str, site: Coord) -> float:
        own = self.rates.sites.get(self._on_device(site), {})
        return float(own[kind] if kind in own else getattr(self.rates, kind))

    def _coupler(self, control: Coord, target: Coord) -> float:
        """A rate of the coupler's own goes before those of its sites, of which the worse one counts."""
        ends = sorted((self._on_device(control), self._on_device(target)))
        if (known := self.rates.couplers.get((ends[0], ends[1]))) is not None:
            return float(known)
        return float(
            max(
                (self.rates.sites[end]["cx"] for end in ends if "cx" in self.rates.sites.get(end, ())),
                default=self.rates.cx,
            )
        )

    def _on_device(self, site: Coord) -> Coord:
        return site[0] + self.offset[0], site[1] + self.offset[1]
