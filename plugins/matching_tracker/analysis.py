# SPDX-License-Identifier: Apache-2.0
"""The errors of a circuit at any rates, from one analysis at reference rates.

stim keeps the tags of noise in its error model, and merges only errors with equal tags.  With a tag for each class of noise,
a line of the model stands for ``n`` independent flips, all with the one probability of its class, ``n`` an integer: at other
rates the probability is another, ``n`` is not.  Which errors there are, and how they fall into edges, does not depend on
rates, as long as none is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import stim
from qcos_plugins.matching_tracker.elements import REFERENCE_RATE, NoiseClass
from qcos_plugins.matching_tracker.model import Floats


class Analysis:
    """``targets``: what each error does, as stim writes it; errors that do the same are one, whatever their classes.

    ``classes``: those that the tags of the model are numbers of.  Errors without a tag keep the probability that they have.
    """

    def __init__(self, model: stim.DetectorErrorModel, classes: Sequence[NoiseClass]) -> None:
        self.classes = tuple(classes)
        self._fixed: list[float] = []
        reference = [np.log1p(-2 * flip_probability(c.kind, REFERENCE_RATE)) for c in classes]
        heads: dict[str, tuple[int, int]] = {}
        number: dict[str, int] = {}
        entries: list[tuple[int, int, int]] = []
        for line in str(model).split("\n"):
            if not line.startswith("error"):
                continue
            head, _, targets = line.partition(") ")
            flips = heads.get(head)
            if flips is None:
                flips = heads[head] = self._flips(head, reference)
            entries.append((number.setdefault(targets, len(number)), *flips))
        self.targets = list(number)
        self._error, self._class, self._exponent = np.array(entries, np.intp).reshape(-1, 3).T

    def _flips(self, head: str, reference: Sequence[float]) -> tuple[int, int]:
        """The class of a line, and how many flips it stands for."""
        tag, _, probability = head.removeprefix("error").partition("(")
        if not tag:
            self._fixed.append(float(probability))
            return len(reference) + len(self._fixed) - 1, 1
        number = int(tag[1:-1])
        exponent = np.log1p(-2 * float(probability)) / reference[number]
        assert abs(exponent - round(exponent)) < 1e-6, f"{head}): not a whole number of flips of its class"
        return number, round(exponent)

    def probabilities(self, rates: Sequence[float]) -> Floats:
        """Of each error; ``rates``: of each class."""
        flips = [flip_probability(c.kind, rate) for c, rate in zip(self.classes, rates, strict=True)]
        logarithms = np.log1p(-2 * np.array(flips + self._fixed))
        total = np.bincount(self._error, self._exponent * logarithms[self._class], len(self.targets))
        return np.asarray(-np.expm1(total) / 2)


def flip_probability(kind: str, rate: float) -> float:
    """Of each of the independent Pauli errors that a channel of this kind and rate is equal to."""
    if kind == "cx":  # 15 Paulis of two qubits
        return float(-np.expm1(np.log1p(-16 * rate / 15) / 8) / 2)
    if kind in ("reset", "measure"):
        return rate
    return float(-np.expm1(np.log1p(-4 * rate / 3) / 2) / 2)
