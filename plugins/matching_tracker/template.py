# SPDX-License-Identifier: Apache-2.0
"""A window template: a structure at given error rates, and a decoder made for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from qcos_plugins.matching_tracker.decoders import Compiled, offer
from qcos_plugins.matching_tracker.elements import Column, LocalDetector, Name
from qcos_plugins.matching_tracker.erasures import Erasures, Lost
from qcos_plugins.matching_tracker.model import declared, edge_probabilities, written
from qcos_plugins.matching_tracker.packed import Bits, transpose
from qcos_plugins.matching_tracker.structure import Structure

TRIED = 4  # syndromes that a new decoder is tried with


class Template:
    """Immutable, shared by every window with the same content and the same rates.

    ``rates``: of each of the structure's classes.  ``detectors``: what it matches, in order; ``artifacts``: detectors that it
    may flip; ``columns``: its observables.  ``probabilities``: float64 (errors,), of each of the structure's errors.  ``size``: edges of its graph.
    """

    def __init__(self, structure: Structure, rates: Sequence[float], *, decoder: str) -> None:
        self.structure = structure
        self.columns: tuple[Column, ...] = structure.columns
        self.detectors: tuple[LocalDetector, ...] = structure.detectors
        self.artifacts: tuple[LocalDetector, ...] = structure.artifacts
        self.size = len(structure.edges)
        self.predictions = structure.predictions
        self.probabilities = structure.flips.probabilities(rates)
        self._rates = rates
        self._compiled: Compiled | None = None
        self._erasures: Erasures | None = None  # made when a record is missing for the first time
        if self.detectors and self.predictions:
            made = offer(decoder)
            texts = [edge.text for edge in structure.edges]
            lines = written(structure.company, texts, self.probabilities, made.given)
            self._compiled = made.make(declared(lines, len(self.detectors), self.predictions))
            self._try()

    def _try(self) -> None:
        """Where a decoder tells its edges, they must explain the syndrome.

        What they do to observables need not be what it predicts: other edges may weigh as little.
        """
        explain = getattr(self._compiled, "explain", None)
        if explain is None:
            return
        chosen = np.random.default_rng(0).integers(0, self.size, (TRIED, self.size // 50 + 1))
        for edges in chosen:
            syndrome = np.zeros(len(self.detectors), np.uint8)
            for edge in edges:
                for detector in self.structure.edges[edge].detectors:
                    syndrome[detector] ^= 1
            if not np.array_equal(explain(syndrome), syndrome):
                raise RuntimeError("the edges that a decoder gives for a syndrome do not explain it")

    def with_decoder(self, decoder: str) -> Template:
        """The same window at the same rates, for another decoder."""
        return Template(self.structure, self._rates, decoder=decoder)

    def decode(self, syndrome: Bits, shots: int) -> Bits:
        """uint8 (detectors, bytes) packed along the shots -> uint8 (predictions, bytes), padding zero.

        Predictions: a row for each column, then for each artifact.
        """
        if self._compiled is None:
            return np.zeros((self.predictions, syndrome.shape[1]), np.uint8)
        found = self._compiled.decode_shots_bit_packed(bit_packed_detection_event_data=transpose(syndrome, shots))
        return transpose(found, self.predictions)

    def lost(self, names: Sequence[Name]) -> Lost:
        """What it means that these records are missing; names relative to the region's origin."""
        return Lost.of(self.structure, names)

    def decode_lost(self, syndrome: Bits, losses: Sequence[Lost]) -> Bits:
        """As `decode`, for shots with missing records; ``losses``: of each shot."""
        if self._compiled is None:
            return np.zeros((self.predictions, syndrome.shape[1]), np.uint8)
        if self._erasures is None:
            edges = edge_probabilities(self.structure.company, self.probabilities)
            self._erasures = Erasures(self.structure, edges)
        return self._erasures.decode(syndrome, losses)
