# SPDX-License-Identifier: Apache-2.0
"""Templates that were built, found again by content, whatever job they were built for."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from threading import Lock

from qcos_plugins.matching_tracker.local import local_circuit
from qcos_plugins.matching_tracker.template import Template
from qcos_plugins.matching_tracker.window import RegionWindow

from qcosd.qec.calibration import Calibration

MAX_EDGES = 300_000


class TemplateCache:
    """Least recently used templates, bounded by the edges of their graphs (1.7 kB each as measured).

    Two levels of keys: the digests of a region window's parts, which cost microseconds; and, when those are new, the text of
    its local circuit, because windows that differ only in their past have the same one.
    """

    def __init__(self, max_edges: int = MAX_EDGES) -> None:
        self.misses = 0  # templates built
        self._max_edges = max_edges
        self._edges = 0
        self._by_text: OrderedDict[bytes, Template] = OrderedDict()
        self._text_of: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._lock = Lock()  # leases may run in several threads

    def __len__(self) -> int:
        return len(self._by_text)

    def template(
        self, window: RegionWindow, commit: int, end: int, distance: int, rates: Calibration, *, decoder: str
    ) -> Template:
        with self._lock:
            geometry = (commit, end, decoder, distance)
            key = (geometry, rates.id, window.key)
            text_key = self._text_of.get(key)
            if text_key is None:
                local = local_circuit(window, commit, end, distance, rates)
                text_key = sha256(repr((geometry, local)).encode()).digest()
                self._text_of[key] = text_key
            elif text_key in self._by_text:
                self._by_text.move_to_end(text_key)
                return self._by_text[text_key]
            else:
                local = local_circuit(window, commit, end, distance, rates)
            if text_key not in self._by_text:
                self._add(text_key, Template(local, commit, end, decoder=decoder))
            return self._by_text[text_key]

    def _add(self, key: bytes, template: Template) -> None:
        self.misses += 1
        self._by_text[key] = template
        self._edges += template.edges
        while self._edges > self._max_edges and len(self._by_text) > 1:
            _, dropped = self._by_text.popitem(last=False)
            self._edges -= dropped.edges
        while len(self._text_of) > 64 * 1024:
            self._text_of.popitem(last=False)
