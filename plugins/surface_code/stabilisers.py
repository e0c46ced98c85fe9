# SPDX-License-Identifier: Apache-2.0
"""What is known of each stabiliser while a program is written down, and the detectors that follow from it.

A plaquette is *known* when earlier records fix its value: its detector in a round is then those records and the new
one.  A site is *fresh* between its preparation and the next round: a plaquette whose unknown sites are all fresh in its
own basis is known there too.  Records are named relative to the open slot; each round leaves only records of that
round behind, so ``dt`` is 0 or -1.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from qcosd.qec.fragment import Detector, RecordName
from qcosd.qec.geometry import Coord, Plaquette, Rect, other, rotate

BY_ROUND, BY_READING = 0, 1  # kinds of detectors


@lru_cache(maxsize=4096)
def plaquettes_of(rect: Rect) -> tuple[Plaquette, ...]:
    """`Rect.plaquettes`, remembered: a corridor is asked for at each of its operations."""
    return tuple(rect.plaquettes())


class Known(NamedTuple):
    """A stabiliser of ``basis`` on ``support`` has the value parity(``records``)."""

    basis: str
    support: frozenset[Coord]
    records: frozenset[RecordName]


@lru_cache(maxsize=4096)
def _measured(rect: Rect) -> tuple[tuple[Coord, Known], ...]:
    """What is known of each plaquette after a round."""
    return tuple((p.centre, Known(p.basis, p.support(), frozenset([(-1, *p.centre, 0)]))) for p in plaquettes_of(rect))


class Stabilisers:
    """The stabilisers of all live patches, by the centre of their plaquette."""

    def __init__(self) -> None:
        self._known: dict[Coord, Known] = {}
        self._fresh: dict[Coord, str] = {}

    def prepare(self, sites: Iterable[Coord], basis: str) -> None:
        """Data qubits are reset into |0> (basis "Z") or |+> (basis "X")."""
        for site in sites:
            self._fresh[site] = basis

    def arrive(self, patch: Rect) -> None:
        """An encoded state arrives with a hand-over record for each plaquette."""
        for p in plaquettes_of(patch):
            self._known[p.centre] = Known(p.basis, p.support(), frozenset([(0, *p.centre, 1)]))

    def settle(self, patch: Rect) -> None:
        """Every plaquette was measured in the slot before, as at the beginning of a fragment."""
        self._known.update(_measured(patch))

    def read(self, sites: Iterable[Coord], basis: str, region: Iterable[Plaquette]) -> tuple[Detector, ...]:
        """Data qubits of a region are measured in this slot.  Returns the detectors of plaquettes read as a whole."""
        reading = frozenset(sites)
        detectors = []
        for plaquette in region:
            known = self._known.get(plaquette.centre)
            if known is None or known.support.isdisjoint(reading):
                continue
            if known.basis != basis:
                del self._known[plaquette.centre]
                continue
            records = known.records ^ {(0, *site, 0) for site in known.support & reading}
            rest = known.support - reading
            if rest:
                self._known[plaquette.centre] = Known(basis, rest, records)
            else:
                detectors.append(_detector(plaquette.centre, BY_READING, records))
                del self._known[plaquette.centre]
        for site in reading:
            self._fresh.pop(site, None)
        return tuple(detectors)

    def turn(self, patch: Rect) -> None:
        """A transversal H and the quarter turn of a lone patch."""
        turned = {}
        for plaquette in plaquettes_of(patch):
            known = self._known.pop(plaquette.centre, None)
            if known is not None:
                support = frozenset(rotate(site, patch) for site in known.support)
                turned[rotate(plaquette.centre, patch)] = Known(other(known.basis), support, known.records)
        self._known.update(turned)
        fresh = {rotate(site, patch): other(self._fresh.pop(site)) for site in patch.data() if site in self._fresh}
        self._fresh.update(fresh)

    def measure(self, region: Rect) -> tuple[Detector, ...]:
        """A round of one region.  Returns its detectors; the records of this round are then those of the slot before."""
        detectors = []
        for centre, measured in _measured(region):
            known = self._known.get(centre)
            basis, support, _ = measured
            missing: frozenset[Coord] | None = None
            records: frozenset[RecordName] = frozenset()
            if known is None:
                missing = support
            elif known.basis == basis and known.support <= support:
                missing, records = support - known.support, known.records
            if missing is not None and all(self._fresh.get(site) == basis for site in missing):
                detectors.append(_detector(centre, BY_ROUND, records ^ {(0, *centre, 0)}))
            self._known[centre] = measured
        for site in region.data():
            self._fresh.pop(site, None)
        return tuple(detectors)


def _detector(centre: Coord, kind: int, records: Iterable[RecordName]) -> Detector:
    return Detector(*centre, kind, tuple(sorted(records)))
