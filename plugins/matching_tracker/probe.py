# SPDX-License-Identifier: Apache-2.0
"""What a decoder must do before it is used: `python -m qcos_plugins.matching_tracker.probe MODULE NAME`.

``MODULE`` has ``offers()``; one line of JSON is the answer.  A decoder may crash or hang in here; the parent copes.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from typing import TypedDict

import numpy as np
import stim
from qcos_plugins.matching_tracker.decoders import Compiled, Offer, offer
from qcos_plugins.matching_tracker.model import Company, Errors, declared, join, written
from qcos_plugins.matching_tracker.packed import Bits

OBSERVABLES = 246  # of a window of three patches at distance 9
SPEED_SHOTS = 64
ENOUGH = 0.05  # seconds of decoding, of which the fastest go counts: the machine has other things to do
MAX_REPEATS = 20
RATE = 2e-3
MISTAKEN = 0.05
"""Largest share of single faults that may be mistaken at distance 3."""


class Verdict(TypedDict):
    """``reason``: why it is refused, "" if it is admitted.  ``note``: what it does less than well.  ``us_per_shot``: time for a window of distance 5, and ``ratio``: the same relative
    to plain matching in the same run; both 0 if it is refused."""

    reason: str
    note: str
    us_per_shot: float
    ratio: float


class Unfit(Exception):
    """What a decoder did wrong."""


def probe(tried: Offer) -> Verdict:
    """Tries a decoder in this process."""
    try:
        _identity(tried)
        note = _single_faults(tried)
        seconds = _repeatable(tried)
        plain = _repeatable(offer("pymatching"))
    except Unfit as unfit:
        return Verdict(reason=str(unfit), note="", us_per_shot=0.0, ratio=0.0)
    except Exception as error:  # noqa: BLE001 - whatever it raises, it is not admitted
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Verdict(reason=reason[:300], note="", us_per_shot=0.0, ratio=0.0)
    return Verdict(reason="", note=note, us_per_shot=round(seconds * 1e6, 2), ratio=round(seconds / plain, 2))


def _identity(tried: Offer) -> None:
    """As many observables as a real window has, each of which is one detector, whatever errors explain a syndrome."""
    n = OBSERVABLES
    lines = [f"error({RATE}) D{i} L{i}" for i in range(n)]
    lines += [f"error({RATE}) D{i} D{i + 1} L{i} L{i + 1}" for i in range(n - 1)]
    decoder = tried.make(declared(lines, n, n))
    generator = np.random.default_rng(1)
    syndromes = (generator.random((32, n)) < np.linspace(0, 0.2, 32)[:, None]).astype(np.uint8)
    syndromes = np.packbits(np.concatenate((syndromes, np.eye(n, dtype=np.uint8))), axis=1, bitorder="little")
    wrong = (_decoded(decoder, syndromes, n) != syndromes).any(axis=1).sum()
    if wrong:
        raise Unfit(f"{wrong} of {len(syndromes)} syndromes come out wrong in a model of {n} observables")


def _single_faults(tried: Offer) -> str:
    """Matching in two passes mistakes a few, at this distance; more than a few is no decoding."""
    model = _memory(tried, 3, 3)
    errors = [error for error in model.flattened() if error.type == "error"]
    detectors = np.zeros((len(errors), model.num_detectors), np.uint8)
    observables = np.zeros((len(errors), model.num_observables), np.uint8)
    for i, error in enumerate(errors):
        for target in error.targets_copy():
            if target.is_relative_detector_id():
                detectors[i, target.val] ^= 1
            elif target.is_logical_observable_id():
                observables[i, target.val] ^= 1
    found = _decoded(tried.make(model), np.packbits(detectors, axis=1, bitorder="little"), model.num_observables)
    wrong = (found != np.packbits(observables, axis=1, bitorder="little")).any(axis=1).sum()
    if not wrong:
        return ""
    note = f"{wrong} of {len(errors)} single faults of a memory of distance 3 are mistaken"
    if wrong > MISTAKEN * len(errors):
        raise Unfit(note)
    return note


def _repeatable(tried: Offer) -> float:
    """Seconds a shot."""
    model = _memory(tried, 5, 10)
    syndromes, _, _ = model.compile_sampler(seed=5).sample(SPEED_SHOTS, bit_packed=True)
    decoder = tried.make(model)
    first = _decoded(decoder, syndromes, model.num_observables)
    seconds, spent = float("inf"), 0.0
    while spent < ENOUGH:
        start = time.perf_counter()
        second = _decoded(decoder, syndromes, model.num_observables)
        elapsed = time.perf_counter() - start
        seconds, spent = min(seconds, elapsed), spent + max(elapsed, ENOUGH / MAX_REPEATS)
    if (first != second).any() or (_decoded(tried.make(model), syndromes, model.num_observables) != first).any():
        raise Unfit("the same syndromes decoded again come out differently")
    return seconds / SPEED_SHOTS


def _memory(tried: Offer, distance: int, rounds: int) -> stim.DetectorErrorModel:
    """A memory experiment, written as windows are for this decoder."""
    circuit = stim.Circuit.generated(
        "surface_code:rotated_memory_z",
        distance=distance,
        rounds=rounds,
        after_clifford_depolarization=RATE,
        before_round_data_depolarization=RATE,
        before_measure_flip_probability=RATE,
        after_reset_flip_probability=RATE,
    )
    model = circuit.detector_error_model(decompose_errors=True)
    found = Errors(model.flattened())
    number: dict[str, int] = {}
    errors, p = [], []
    for probability, components in join(found) if tried.given.joined else found:
        if components:
            errors.append([number.setdefault(c.text, len(number)) for c in components])
            p.append(float(probability))
    lines = written(Company.of(errors, len(number)), list(number), np.array(p), tried.given)
    return declared(lines, model.num_detectors, model.num_observables)


def _decoded(decoder: Compiled, syndromes: Bits, observables: int) -> Bits:
    found = decoder.decode_shots_bit_packed(bit_packed_detection_event_data=syndromes)
    shape = (len(syndromes), (observables + 7) // 8)
    if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.shape != shape:
        what = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        raise Unfit(f"it answers with {what} where uint8 {shape} is due")
    return found


def main() -> None:
    """Prints the verdict; what the decoder prints goes to stderr."""
    module, name = sys.argv[1:]
    answer, sys.stdout = sys.stdout, sys.stderr
    verdict = probe(import_module(module).offers()[name])
    answer.write(json.dumps(verdict) + "\n")


if __name__ == "__main__":
    main()
