# SPDX-License-Identifier: Apache-2.0
"""Decoders that must not be admitted, each for a reason of its own, and one that must."""

from __future__ import annotations

import os
import signal
import sys
from threading import Event

import numpy as np
import stim
from qcos_plugins.matching_tracker.decoders import Compiled, Offer, offer


class Spoiled:
    """Plain matching, and what is done to its answer."""

    def __init__(self, model: stim.DetectorErrorModel, spoil: object) -> None:
        self._honest = offer("pymatching").make(model)
        self._model = model
        self._spoil = spoil

    def decode_shots_bit_packed(self, *, bit_packed_detection_event_data: np.ndarray) -> np.ndarray:
        found = self._honest.decode_shots_bit_packed(bit_packed_detection_event_data=bit_packed_detection_event_data)
        return self._spoil(found, self._model)


def _narrow(found: np.ndarray, model: stim.DetectorErrorModel) -> np.ndarray:
    found = found.copy()
    found[:, 8:] = 0  # observables beyond 64
    return found


def _blind(found: np.ndarray, model: stim.DetectorErrorModel) -> np.ndarray:
    return found if model.num_observables > 1 else np.zeros_like(found)


def _moody(found: np.ndarray, model: stim.DetectorErrorModel) -> np.ndarray:
    if model.num_detectors < 100 or model.num_observables > 1:
        return found
    return found ^ np.frombuffer(os.urandom(found.size), np.uint8).reshape(found.shape) & 1


def _crash(found: np.ndarray, model: stim.DetectorErrorModel) -> np.ndarray:
    os.kill(os.getpid(), signal.SIGSEGV)
    return found


def _raise(found: np.ndarray, model: stim.DetectorErrorModel) -> np.ndarray:
    raise OverflowError("too many observables")


def _hang(found: np.ndarray, model: stim.DetectorErrorModel) -> np.ndarray:
    Event().wait()
    return found


def _exit(found: np.ndarray, model: stim.DetectorErrorModel) -> np.ndarray:
    print("giving up")
    sys.exit(3)


def _chatter(found: np.ndarray, model: stim.DetectorErrorModel) -> np.ndarray:
    print("decoding", found.shape)
    return found


SPOILS = {
    "narrow": _narrow,
    "blind": _blind,
    "moody": _moody,
    "short": lambda found, _: found[:, :-1],
    "wide": lambda found, _: found.astype(bool),
    "crash": _crash,
    "raise": _raise,
    "hang": _hang,
    "exit": _exit,
    "chatter": _chatter,
}


def offers() -> dict[str, Offer]:
    """As `decoders.offers`."""

    def make(name: str) -> Offer:
        def compiled(model: stim.DetectorErrorModel) -> Compiled:
            return Spoiled(model, SPOILS[name])

        return Offer("pymatching", compiled, name, offer("pymatching").given)

    return {name: make(name) for name in SPOILS} | {"absent": Offer("no-such-package", make("chatter").make, "")}
