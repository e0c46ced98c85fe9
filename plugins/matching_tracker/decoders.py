# SPDX-License-Identifier: Apache-2.0
"""The decoders that the tracker offers, and where they come from.

A decoder is made for one error model and then decodes shots, by the two calls of the package sinter:
``compile_decoder_for_dem(dem=...)`` and ``decode_shots_bit_packed(bit_packed_detection_event_data=...)``.  Packages other
than pymatching need not be installed: they are imported when they are used, and not before `admission` has tried them.

An installed package may offer more, by an entry point of the group ``qcos.decoders``: a callable that returns an object with
``compile_decoder_for_dem``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from math import log
from typing import Any, Protocol

import numpy as np
import pymatching
import stim
from qcos_plugins.matching_tracker.model import DECODERS, Decoder
from qcos_plugins.matching_tracker.packed import Bits

GROUP = "qcos.decoders"
SCALE = 10_000  # of fusion-blossom's integer weights: the heaviest edge


class Compiled(Protocol):
    """A decoder that has been made for a model."""

    def decode_shots_bit_packed(self, *, bit_packed_detection_event_data: Bits) -> Bits:
        """uint8 (shots, ceil(detectors/8)) -> uint8 (shots, ceil(observables/8)), little-endian bits, padding zero."""
        ...


@dataclass(frozen=True)
class Offer:
    """``package``: what pip calls it, with what it needs besides.  ``make``: gives the decoder of a model.

    ``given``: how errors are written for it.  ``trusted``: the tracker lives by this package anyway, so that it need not be
    tried in a process of its own.  ``erasures``: shots with missing records can be decoded.  ``about``: one line for people.
    """

    package: str
    make: Callable[[stim.DetectorErrorModel], Compiled]
    about: str
    given: Decoder = DECODERS["pymatching-correlated"]
    trusted: bool = False
    erasures: bool = False

    @property
    def version(self) -> str | None:
        """Of the package; None if it is not installed."""
        try:
            return version(self.package.split()[0])
        except PackageNotFoundError:
            return None


class _Matched:
    def __init__(self, model: stim.DetectorErrorModel, correlated: bool) -> None:
        self._correlated = correlated
        self._matching = pymatching.Matching.from_detector_error_model(model, enable_correlations=correlated)

    def decode_shots_bit_packed(self, *, bit_packed_detection_event_data: Bits) -> Bits:
        return self._matching.decode_batch(
            bit_packed_detection_event_data,
            bit_packed_shots=True,
            bit_packed_predictions=True,
            enable_correlations=self._correlated,
        )

    def explain(self, syndrome: Bits) -> Bits:
        """The detectors, uint8 (detectors,), that the edges found for one syndrome flip."""
        detectors = np.zeros_like(syndrome)
        for ends in self._matching.decode_to_edges_array(syndrome, enable_correlations=self._correlated).tolist():
            detectors[[end for end in ends if end >= 0]] ^= 1
        return detectors


class _Fused:
    """fusion-blossom returns edges; what they do to observables is looked up here, so that any number of them works."""

    def __init__(self, model: stim.DetectorErrorModel) -> None:
        fusion_blossom = import_module("fusion_blossom")
        self._pattern = fusion_blossom.SyndromePattern
        self._detectors, self._observables = model.num_detectors, model.num_observables
        edges: dict[tuple[int, ...], tuple[float, list[int]]] = {}
        for error in model.flattened():
            if error.type == "error":
                detectors = tuple(sorted(t.val for t in error.targets_copy() if t.is_relative_detector_id()))
                effects = [t.val for t in error.targets_copy() if t.is_logical_observable_id()]
                if not 1 <= len(detectors) <= 2:
                    raise ValueError(f"{error}: matching takes errors of one or two detectors")
                p, known = edges.get(detectors, (0.0, effects))
                q = error.args_copy()[0]
                edges[detectors] = (p + q - 2 * p * q, known)
        border = self._detectors
        self._effects = [effects for _, effects in edges.values()]
        weights = [log((1 - p) / p) for p, _ in edges.values()]
        unit = max(weights, default=1.0) / SCALE
        ends = [(*detectors, border)[:2] for detectors in edges]
        # Weights have to be even.
        weighted = [(*pair, 2 * round(weight / unit / 2)) for pair, weight in zip(ends, weights, strict=True)]
        # A border of its own for each edge that ends there would cost nodes; one for all is the same graph.
        self._solver = fusion_blossom.SolverSerial(fusion_blossom.SolverInitializer(border + 1, weighted, [border]))

    def decode_shots_bit_packed(self, *, bit_packed_detection_event_data: Bits) -> Bits:
        shots = np.unpackbits(bit_packed_detection_event_data, axis=1, count=self._detectors, bitorder="little")
        found = np.zeros((len(shots), self._observables), np.uint8)
        for shot, events in zip(found, shots, strict=True):
            if events.any():
                self._solver.solve(self._pattern(np.flatnonzero(events).tolist()))
                for edge in self._solver.subgraph():
                    shot[self._effects[edge]] ^= 1
                self._solver.clear()
        return np.packbits(found, axis=1, bitorder="little")


class _Believed:
    def __init__(self, model: stim.DetectorErrorModel) -> None:
        self._decoder = import_module("beliefmatching").BeliefMatching(model)
        self._detectors = model.num_detectors

    def decode_shots_bit_packed(self, *, bit_packed_detection_event_data: Bits) -> Bits:
        shots = np.unpackbits(bit_packed_detection_event_data, axis=1, count=self._detectors, bitorder="little")
        return np.packbits(self._decoder.decode_batch(shots).astype(np.uint8), axis=1, bitorder="little")


def _plain(model: stim.DetectorErrorModel) -> Compiled:
    return _Matched(model, correlated=False)


def _correlated(model: stim.DetectorErrorModel) -> Compiled:
    return _Matched(model, correlated=True)


def _sinter(module: str, attribute: str, *arguments: Any) -> Callable[[stim.DetectorErrorModel], Compiled]:
    """A decoder that a package offers to sinter: ``attribute`` is a class, or with ``[name]`` gives a dictionary of them."""

    def make(model: stim.DetectorErrorModel) -> Compiled:
        name, _, key = attribute.rstrip("]").partition("[")
        decoder = getattr(import_module(module), name)(*arguments)
        compiled: Compiled = (decoder[key] if key else decoder).compile_decoder_for_dem(dem=model)
        return compiled

    return make


_EDGES = DECODERS["pymatching"]
_OFFERS = {
    "pymatching-tempered": Offer(
        "pymatching",
        _correlated,
        "matching in two passes that never mistakes a single fault",
        DECODERS["pymatching-tempered"],
        trusted=True,
        erasures=True,
    ),
    "pymatching-correlated": Offer("pymatching", _correlated, "matching in two passes", trusted=True, erasures=True),
    "pymatching": Offer("pymatching", _plain, "matching", _EDGES, trusted=True, erasures=True),
    "fusion-blossom": Offer("fusion-blossom", _Fused, "matching, another implementation", _EDGES),
    "tesseract": Offer(
        "tesseract-decoder",
        _sinter("tesseract_decoder", "make_tesseract_sinter_decoders_dict[tesseract-short-beam]"),
        "search for the most likely errors, with a beam",
    ),
    "beliefmatching": Offer("beliefmatching sinter", _Believed, "belief propagation, then matching"),
    "chromobius": Offer("chromobius", _sinter("chromobius", "sinter_decoders[chromobius]"), "colour codes"),
}


@cache
def offers() -> dict[str, Offer]:
    """By name: those known here, then those of entry points, which cannot take a name that is taken."""
    found = dict(_OFFERS)
    for point in entry_points(group=GROUP):
        package = point.dist.name if point.dist else point.module
        found.setdefault(point.name, Offer(package, _of_entry_point(point), f"offered by {package}"))
    return found


def _of_entry_point(point: EntryPoint) -> Callable[[stim.DetectorErrorModel], Compiled]:
    def make(model: stim.DetectorErrorModel) -> Compiled:
        compiled: Compiled = point.load()().compile_decoder_for_dem(dem=model)
        return compiled

    return make


def offer(decoder: str) -> Offer:
    """Raises ValueError for a name that is not offered."""
    found = offers().get(decoder)
    if found is None:
        raise ValueError(f"unknown decoder {decoder!r}; known: {', '.join(sorted(offers()))}")
    return found
