# SPDX-License-Identifier: Apache-2.0
"""The errors of a circuit at any rates, from one analysis at reference rates.

stim keeps the tags of noise in its error model, and merges only errors with equal tags.  With a tag for each class of noise,
a line of the model stands for ``n`` independent flips, all with the one probability of its class, ``n`` an integer: at other
rates the probability is another, ``n`` is not.  Which errors there are, and how they fall into edges, does not depend on
rates, as long as none is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import stim
from qcos_plugins.matching_tracker.elements import REFERENCE_RATE, NoiseClass
from qcos_plugins.matching_tracker.model import Floats, Numbers


@dataclass(frozen=True)
class Flips:
    """The independent flips that errors are made of, ``errors`` how many.

    Entry ``i``: ``exponent[i]`` flips of class ``kind[i]`` are part of error ``error[i]``.  Kinds beyond those of ``classes``
    have the fixed probabilities ``fixed``.
    """

    classes: tuple[NoiseClass, ...]
    fixed: tuple[float, ...]
    error: Numbers
    kind: Numbers
    exponent: Numbers
    errors: int

    def probabilities(self, rates: Sequence[float]) -> Floats:
        """Of each error; ``rates``: of each class."""
        flips = [flip_probability(c.kind, rate) for c, rate in zip(self.classes, rates, strict=True)]
        logarithms = np.log1p(-2 * np.array([*flips, *self.fixed]))
        total = np.bincount(self.error, self.exponent * logarithms[self.kind], self.errors)
        return np.asarray(-np.expm1(total) / 2)

    def chosen(self, errors: npt.NDArray[np.bool_]) -> Flips:
        """Those of some of the errors, numbered anew."""
        own = errors[self.error]
        number = np.cumsum(errors) - 1
        error, kind, exponent = number[self.error[own]], self.kind[own], self.exponent[own]
        return Flips(self.classes, self.fixed, error, kind, exponent, int(errors.sum()))


class Analysis:
    """``targets``: what each error does, as stim writes it; errors that do the same are one, whatever their classes.

    ``flips``: what they are made of; ``classes``: those that the tags of the model are numbers of.  Errors without a tag keep
    the probability that they have.
    """

    def __init__(self, model: stim.DetectorErrorModel, classes: Sequence[NoiseClass]) -> None:
        self._fixed: list[float] = []
        reference = [np.log1p(-2 * flip_probability(c.kind, REFERENCE_RATE)) for c in classes]
        lines = [line.partition(") ") for line in str(model).split("\n") if line.startswith("error")]
        self.targets, error = numbered([targets for _, _, targets in lines])
        heads, head = numbered([head for head, _, _ in lines])
        kind, exponent = np.array([self._flips(text, reference) for text in heads], np.intp).reshape(-1, 2)[head].T
        self.flips = Flips(tuple(classes), tuple(self._fixed), error, kind, exponent, len(self.targets))

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


def numbered(texts: Sequence[str]) -> tuple[list[str], Numbers]:
    """The distinct ones in order of appearance, and the number of each."""
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    return list(number), np.fromiter(map(number.__getitem__, texts), np.intp, len(texts))


def flip_probability(kind: str, rate: float) -> float:
    """Of each of the independent Pauli errors that a channel of this kind and rate is equal to."""
    if kind == "cx":  # 15 Paulis of two qubits
        return float(-np.expm1(np.log1p(-16 * rate / 15) / 8) / 2)
    if kind in ("reset", "measure"):
        return rate
    return float(-np.expm1(np.log1p(-4 * rate / 3) / 2) / 2)
