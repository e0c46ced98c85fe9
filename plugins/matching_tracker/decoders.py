# SPDX-License-Identifier: Apache-2.0
"""The decoders that the tracker can use, and where they come from.

A decoder is made for one error model and then decodes shots, through the same two calls as those of the package sinter:
``compile_decoder_for_dem`` and ``decode_shots_bit_packed``.  Its package is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pymatching
import stim
from qcos_plugins.matching_tracker.packed import Bits


class Compiled(Protocol):
    """A decoder that has been made for a model."""

    def decode_shots_bit_packed(self, *, bit_packed_detection_event_data: Bits) -> Bits:
        """uint8 (shots, ceil(detectors/8)) -> uint8 (shots, ceil(observables/8)), little-endian bits."""
        ...


@dataclass(frozen=True)
class Offer:
    """``package``: its name for pip; ``module``: its name for Python.  ``make``: gives the decoder of a model.

    ``erasures``: it can take it that some records are missing.  ``about``: one line for people.
    """

    package: str
    module: str
    make: Callable[[stim.DetectorErrorModel], Compiled]
    erasures: bool
    about: str


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


def _plain(model: stim.DetectorErrorModel) -> Compiled:
    return _Matched(model, correlated=False)


def _correlated(model: stim.DetectorErrorModel) -> Compiled:
    return _Matched(model, correlated=True)


OFFERS = {
    "pymatching": Offer("pymatching", "pymatching", _plain, True, "matching"),
    "pymatching-correlated": Offer("pymatching", "pymatching", _correlated, True, "matching in two passes"),
    "pymatching-tempered": Offer(
        "pymatching", "pymatching", _correlated, True, "matching in two passes, single faults never mistaken"
    ),
}


def compiled(decoder: str, model: stim.DetectorErrorModel) -> Compiled:
    """The decoder of this name, made for a model."""
    return OFFERS[decoder].make(model)
