# SPDX-License-Identifier: Apache-2.0
"""What a window's local circuit consists of: detectors, observables, records, and noise by classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from qcosd.qec.calibration import Where
from qcosd.qec.geometry import Coord

REFERENCE_RATE = 1e-3  # of every class of noise, in a tagged circuit

Name = tuple[int, int, int, int]  # slot in the window, x, y, k


class Column(NamedTuple):
    """What an observable of a local circuit stands for: the sign ("X" or "Z") of patch ``index`` (in the order of
    `RegionWindow.lives`) at the end of the commit, or the "parity" that event ``index`` of slot ``layer`` (-1: the slot
    before) measures."""

    kind: str
    layer: int
    index: int


class LocalDetector(NamedTuple):
    """Slot in the window (-1: the slot before), kind, and place relative to the region's origin."""

    slot: int
    kind: int
    x: int
    y: int


class NoiseClass(NamedTuple):
    """Errors that share a rate: of a ``kind``, and ``where`` (see `NoiseLine`), relative to the region's origin."""

    kind: str
    where: Where


class Flip(NamedTuple):
    """What it does to a local circuit when one record is flipped: detectors and observables, by number, sorted."""

    detectors: tuple[int, ...]
    observables: tuple[int, ...]


@dataclass(frozen=True)
class LocalCircuit:
    """``text``: stim; detector ``i`` is ``detectors[i]``, those of the slot before come first; observable ``i`` is
    ``columns[i]``.

    ``classes``: noise with tag ``i`` is of class ``classes[i]``; empty if the circuit has no tags.  ``records``: what each
    record stands in; its name is relative to the region's origin, slots count from the start of the window.  ``gauges``:
    sets of observables that may flip together and mean nothing: a newly born or split patch is in no eigenstate of what they
    observe, or nothing reads them any more.
    """

    text: str
    detectors: tuple[LocalDetector, ...]
    columns: tuple[Column, ...]
    classes: tuple[NoiseClass, ...]
    records: dict[Name, Flip]
    gauges: tuple[tuple[int, ...], ...]


def shifted(where: Where, by: Coord) -> Where:
    """The place ``by`` further."""
    if where is None:
        return None
    if isinstance(where[0], tuple):
        (x, y), (z, w) = where
        return (x + by[0], y + by[1]), (z + by[0], w + by[1])
    return where[0] + by[0], where[1] + by[1]
