# SPDX-License-Identifier: Apache-2.0
"""Sliding windows cut from a published error model, by the rules of `structure`: commit, buffer, artifacts.

The model is all that is known: its observables are followed through the windows, and nothing has to be re-initialised,
since no frame is needed before the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import stim
from qcos_plugins.matching_tracker.decoders import Compiled, offer
from qcos_plugins.matching_tracker.model import Company, Component, Errors, declared, joined, sectors, written
from qcos_plugins.matching_tracker.packed import Bits, transpose
from qcos_plugins.matching_tracker.structure import Sorter
from qcos_plugins.matching_tracker.window import Window, next_window

from qcosd.qec.experiment import Experiment

HALF = 0.5 - 1e-9
"""Stands for an error that is as likely as not: weights are made of probabilities below 1/2."""


@dataclass(frozen=True)
class ModelWindow:
    """``window``: its slots.  ``first``, ``last``: the detectors of these slots, in order of time.

    ``artifacts``: detectors, counted likewise from the beginning, that its commit may flip.
    """

    window: Window
    first: int
    last: int
    observables: int
    artifacts: npt.NDArray[np.intp]
    decoder: Compiled | None

    def decode(self, syndrome: Bits, shots: int) -> Bits:
        """uint8 (last - first, bytes) packed along the shots -> uint8 (observables + artifacts, bytes), padding zero."""
        rows = self.observables + len(self.artifacts)
        if self.decoder is None:
            return np.zeros((rows, syndrome.shape[1]), np.uint8)
        found = self.decoder.decode_shots_bit_packed(bit_packed_detection_event_data=transpose(syndrome, shots))
        return transpose(found, rows)


class ModelWindows:
    """All windows of an experiment, each built when it is first asked for, and equal ones once.

    ``commit``, ``buffer``: slots.  ``starts``: where each slot's detectors begin, in order of time, and where the last
    ones end.  ``decoder``: the name of one that was admitted.  Raises ValueError for an error model that does not fit the
    experiment, or is not made of edges.
    """

    def __init__(self, experiment: Experiment, *, decoder: str) -> None:
        self.decoder = decoder
        self._offer = offer(decoder)
        total = len(experiment.slots)
        self.commit = self.buffer = experiment.window or total
        self.total = total
        sizes = [len(slot.detectors) for slot in experiment.slots]
        self.starts = np.concatenate(([0], np.cumsum(sizes, dtype=np.intp)))
        self._observables = len(experiment.observables)
        self._slot = np.repeat(np.arange(total), sizes).tolist()
        self._read(experiment)
        self._windows: dict[Window, ModelWindow] = {}
        self._decoders: dict[bytes, Compiled] = {}

    @property
    def built(self) -> int:
        """Distinct decoders that were made so far."""
        return len(self._decoders)

    def window(self, start: int) -> ModelWindow | None:
        """The window that begins at a slot; None at the end."""
        window = next_window(start, self.commit, self.buffer, self.total)
        if window is None:
            return None
        if window not in self._windows:
            self._windows[window] = self._build(window)
        return self._windows[window]

    def _read(self, experiment: Experiment) -> None:
        model = stim.DetectorErrorModel(experiment.model)
        if (model.num_detectors, model.num_observables) != (experiment.detectors, self._observables):
            raise ValueError(
                f"experiment: its error model has {model.num_detectors} detectors and {model.num_observables} "
                f"observables, its slots have {experiment.detectors} and {self._observables}"
            )
        numbers = (detector.number for slot in experiment.slots for detector in slot.detectors)
        place = {number: place for place, number in enumerate(numbers)}
        found = Errors(model.flattened())
        errors, probabilities = [], []
        for p, components in found:
            errors.append(components)
            probabilities.append(float(p))
        known: dict[Component, Component] = {}
        for piece in found.components():
            if len(piece.detectors) > 2:
                raise ValueError(f"experiment: its error model has an error of more than two detectors: {piece.text}")
            known[piece] = Component(tuple(sorted(place[d] for d in piece.detectors)), piece.observables)
        self._probabilities = np.minimum(np.array(probabilities), HALF)
        if (np.array(probabilities) > 0.5).any():
            raise ValueError("experiment: its error model has an error that is likelier than not")
        sector = {}
        if self._offer.given.joined:
            sector = sectors(piece.detectors for piece in known.values() if piece.detectors)
        self._errors: list[list[Component]] = []
        for components in errors:
            pieces = [known[piece] for piece in components]
            self._errors.append(joined(pieces, sector) if sector and len(pieces) > 1 else pieces)
        none = len(place)
        self._low = np.array([min((c.detectors[0] for c in e), default=none) for e in self._errors], np.intp)
        self._high = np.array([max((c.detectors[0] for c in e), default=-1) for e in self._errors], np.intp)

    def _build(self, window: Window) -> ModelWindow:
        first, last = int(self.starts[window.start]), int(self.starts[window.end])
        sorter = Sorter(self._slot, window.commit, first, last, self._observables)
        errors: list[tuple[int, ...]] = []
        kept: list[int] = []
        for i in np.flatnonzero((self._high >= first) & (self._low < last)).tolist():
            edges = tuple(edge for piece in self._errors[i] if (edge := sorter.edge(piece)) is not None)
            if edges:
                errors.append(edges)
                kept.append(i)
        artifacts = np.fromiter(sorter.artifacts, np.intp)
        predictions = self._observables + len(artifacts)
        decoder = None
        if last > first and predictions:
            texts = [edge.text for edge in sorter.edges]
            company = Company.of(errors, len(texts))
            lines = written(company, texts, self._probabilities[kept], self._offer.given)
            decoder = self._made(lines, last - first, predictions)
        return ModelWindow(window, first, last, self._observables, artifacts, decoder)

    def _made(self, lines: Sequence[str], detectors: int, predictions: int) -> Compiled:
        key = sha256("\n".join([f"{detectors} {predictions}", *lines]).encode()).digest()
        if key not in self._decoders:
            self._decoders[key] = self._offer.make(declared(list(lines), detectors, predictions))
        return self._decoders[key]
