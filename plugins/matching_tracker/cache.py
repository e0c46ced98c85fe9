# SPDX-License-Identifier: Apache-2.0
"""Templates that were built, found again by content, whatever job and whichever process they were built for."""

from __future__ import annotations

import inspect
import sys
from collections import OrderedDict
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from threading import Lock
from typing import Generic, Protocol, TypeVar

import numpy as np
from qcos_plugins.matching_tracker.analysis import Flips
from qcos_plugins.matching_tracker.decoders import offer
from qcos_plugins.matching_tracker.disk import Disk
from qcos_plugins.matching_tracker.elements import LocalCircuit, NoiseClass, shifted
from qcos_plugins.matching_tracker.local import local_circuit
from qcos_plugins.matching_tracker.model import Company
from qcos_plugins.matching_tracker.soundness import check
from qcos_plugins.matching_tracker.structure import Structure
from qcos_plugins.matching_tracker.template import Template
from qcos_plugins.matching_tracker.window import RegionWindow

from qcosd.qec.calibration import RATES, Calibration
from qcosd.qec.geometry import Coord

MAX_EDGES = 200_000  # of all structures, 1.4 kB each as measured
TEMPLATES = 2 / 3  # the share of it that templates may have, 1.9 kB each


class _Sized(Protocol):
    @property
    def size(self) -> int: ...


Kept = TypeVar("Kept", bound=_Sized)


class _Shelf(Generic[Kept]):
    """The least recently used go when the sizes of all exceed a bound; the last one stays."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._total = 0
        self._items: OrderedDict[bytes, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: bytes) -> Kept | None:
        if key in self._items:
            self._items.move_to_end(key)
        return self._items.get(key)

    def add(self, key: bytes, item: Kept) -> Kept:
        self._items[key] = item
        self._total += item.size
        while self._total > self._bound and len(self._items) > 1:
            _, dropped = self._items.popitem(last=False)
            self._total -= dropped.size
        return item


class TemplateCache:
    """Least recently used structures and templates, bounded by the edges of their graphs.

    Structures have two levels of keys: the digests of a region window's parts, which cost microseconds; and, when those are
    new, the text of its local circuit, because windows that differ only in their past have the same one.  Error rates are no
    part of either: they make a template of a structure.  Where sites have rates of their own, which ones is part of both.

    ``disk``: where structures are kept beyond the process, with all that was checked when they were built.
    ``misses``: structures built.  ``loaded``: structures that came from disk.  ``reweighted``: templates made of a structure
    that was there.
    """

    def __init__(self, max_edges: int = MAX_EDGES, disk: Disk | None = None) -> None:
        self.misses = 0
        self.loaded = 0
        self.reweighted = 0
        self._disk = disk
        self._structures: _Shelf[Structure] = _Shelf(max_edges)
        self._templates: _Shelf[Template] = _Shelf(int(max_edges * TEMPLATES))
        self._text_of: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._lock = Lock()  # leases may run in several threads

    def __len__(self) -> int:
        return len(self._templates)

    def template(
        self,
        window: RegionWindow,
        commit: int,
        end: int,
        distance: int,
        rates: Calibration,
        *,
        decoder: str,
        offset: Coord = (0, 0),
        lead: int = 0,
        closed: bool = False,
    ) -> Template:
        """``rates``: none of them 0.  ``offset``: from coordinates of the program to those of the device.  ``commit``, ``end``:
        slots from the start of the window.  ``lead``, ``closed``: as in `Window`."""
        with self._lock:
            join = offer(decoder).given.joined
            place = (window.origin[0] + offset[0], window.origin[1] + offset[1])
            geometry = (lead, commit, end, closed, distance, join)
            key = (geometry, None if rates.even else (place, _unevenness(rates)), window.key)
            text_key = self._text_of.get(key)
            structure = None if text_key is None else self._structures.get(text_key)
            known = True
            if structure is None:
                local = local_circuit(window, commit, end, distance, rates, lead=lead, offset=offset, tagged=True)
                text_key = sha256(repr((geometry, local, _software())).encode()).digest()
                self._text_of[key] = text_key
                while len(self._text_of) > 64 * 1024:
                    self._text_of.popitem(last=False)
                structure = self._structures.get(text_key)
                if structure is None:
                    known = False
                    seen_to_the_end = end == commit and (closed or len(window.layers) == end)
                    ahead = end - commit >= distance or seen_to_the_end
                    protected = distance if ahead and (lead == 0 or lead >= distance) else None
                    structure = self._structures.add(text_key, self._kept(text_key, local, geometry, protected))
            assert text_key is not None
            values = [rates.rate(c.kind, shifted(c.where, place)) for c in structure.classes]
            weights = sha256(text_key + decoder.encode() + np.array(values).tobytes()).digest()
            template = self._templates.get(weights)
            if template is None:
                template = self._templates.add(weights, Template(structure, values, decoder=decoder))
                self.reweighted += known
            return template

    def _kept(
        self,
        key: bytes,
        local: LocalCircuit,
        geometry: tuple[int, int, int, bool, int, bool],
        protected: int | None,
    ) -> Structure:
        """A structure from disk, or built, checked and kept there."""
        data = self._disk.get(key) if self._disk else None
        if data is not None:
            self.loaded += 1
            return Structure.from_bytes(data)
        lead, commit, end, closed, _, join = geometry
        structure = Structure.of(local, commit, end, join=join, lead=lead, closed=closed)
        check(structure, protected)
        self.misses += 1
        if self._disk:
            self._disk.put(key, structure.to_bytes())
        return structure


@cache
def _software() -> tuple[str, ...]:
    """What a structure depends on besides its circuit: with another version of any of it, it may be another one."""
    modules = [sys.modules[part.__module__] for part in (Structure, Company, Flips, NoiseClass, check)]
    return version("stim"), *(sha256(inspect.getsource(module).encode()).hexdigest() for module in modules)


def _unevenness(rates: Calibration) -> tuple[object, ...]:
    """What decides which classes of noise a circuit has.

    A CX has the rate of the worse of two sites: their order counts, and not the rates.
    """
    ranks = {rate: i for i, rate in enumerate(sorted({own["cx"] for own in rates.sites.values() if "cx" in own}))}
    sites = tuple(
        (site, *(kind for kind in RATES if kind in own), ranks.get(own.get("cx")))
        for site, own in sorted(rates.sites.items())
    )
    return sites, tuple(sorted(rates.couplers))
