# SPDX-License-Identifier: Apache-2.0
"""Some shots of a batch, decoded once more: all rounds at once, by another circuit and another graph.

Two decoders that are both right differ now and then, the more the noisier it is.  How often is found by decoding samples
of the same circuit with the same graph.  Only parities of bits are compared that no coin flip decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, sqrt
from typing import Any, Final

import numpy as np
import pymatching
import stim
from qcos_plugins.verifier.counts import check_contained
from qcos_plugins.verifier.finding import TooLarge, Wrong
from qcos_plugins.verifier.lattice import Lattice, lattice
from qcos_plugins.verifier.meaning import evaluate
from qcos_plugins.verifier.parity import Tested, Written

from qcosd.qec.calibration import RATES, Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.geometry import Coord

MOST_DETECTORS: Final = 8_000
"""Of a path that is decoded: the graph of more takes seconds."""
TRIALS: Final = 256
SAMPLES: Final = 2048
"""By which a detection rate is predicted."""
NOISY: Final = 0.15
"""Logical error rate from which on decoders are not compared."""
TOLERATED: Final = 0.1
DIFFERING: Final = 0.7
SURE: Final = 1e-7
"""Probability below which a difference is no accident."""

Bits = np.ndarray


class WrongStream(Exception):
    """The records are not those of a machine with these error rates.  The message says why."""


@dataclass(frozen=True)
class Shots:
    """Audited shots of one path.  Arrays are bool: ``records`` (shots, records), the others (shots, classical bits)."""

    decisions: tuple[int, ...]
    records: Bits
    outcomes: Bits
    undecoded: Bits
    applied: Bits

    @classmethod
    def of(cls, row: Any, bits: int) -> Shots:
        """Raises Wrong."""
        try:
            count, size = int(row["shots"]), int(row["measurements"])
            parts = {
                name: _unpacked(row[name], count, width)
                for name, width in (("records", size), ("outcomes", bits), ("undecoded", bits), ("frames", bits))
            }
            decisions = tuple(int(value) for value in row["decisions"])
        except (KeyError, TypeError, ValueError) as error:
            raise Wrong(f"its audit cannot be read: {error!r}") from None
        return cls(decisions, parts["records"], parts["outcomes"], parts["undecoded"], parts["frames"])


def _unpacked(data: bytes, shots: int, width: int) -> Bits:
    rows = np.frombuffer(data, np.uint8).reshape(shots, -(-width // 8))
    return np.unpackbits(rows, axis=1, count=width, bitorder="little").astype(bool)


class Decoding:
    """One path, ready to decode."""

    def __init__(self, program: FragmentProgram, decisions: Sequence[int], rates: Calibration, offset: Coord) -> None:
        self._arguments = (program, tuple(decisions))
        self._offset = offset
        self._rates = rates.floored()
        self.path = lattice(program, decisions, self._rates, offset=offset, shorten=False)
        if self.path.detectors > MOST_DETECTORS:
            raise TooLarge(f"a path of {self.path.detectors} detectors")
        last = {entry.bit: number for number, entry in enumerate(self.path.written) if entry.qubit >= 0}
        self.final = last
        self.parities = self.path.certain(sorted(last.values()))
        records = [entry.parity.records for entry in self.path.written]
        self._converter = self.path.circuit(records).compile_m2d_converter(skip_reference_sample=True)
        self._circuit = self.path.circuit(map(self.path.records_of, self.parities))
        self._matching = pymatching.Matching.from_detector_error_model(_model(self._circuit))
        self.rate = _detection_rate(self._circuit)
        self._error_rate: float | None = None

    def values(self, records: Bits) -> tuple[Bits, Bits]:
        """Detections (shots, detectors) and the raw parity of each writing (shots, writings), of records without hidden ones."""
        whole = np.zeros((len(records), self.path.records), bool)
        shown = np.ones(self.path.records, bool)
        shown[list(self.path.hidden)] = False
        if records.shape[1] != shown.sum():
            raise Wrong(f"an audited shot has {records.shape[1]} records, its path has {shown.sum()}")
        whole[:, shown] = records
        detections, raw = self._converter.convert(measurements=whole, separate_observables=True)
        return detections, raw

    def flips(self, detections: Bits) -> Bits:
        """bool (shots, parities)."""
        return np.asarray(self._matching.decode_batch(detections), bool)

    def parities_of(self, writings: Bits) -> Bits:
        """bool (shots, parities), of values (shots, writings)."""
        columns = [np.logical_xor.reduce(writings[:, list(members)], axis=1) for members in self.parities]
        return np.array(columns, bool).reshape(len(columns), len(writings)).T

    def error_rate(self, ratio: float, seed: int) -> float:
        """How often decoding is wrong when errors are ``ratio`` times as frequent as the calibration says."""
        if ratio <= 1.2:
            self._error_rate = self._trial(self._circuit, seed) if self._error_rate is None else self._error_rate
            return self._error_rate
        worst = max(self._rates.rate(*where) for where in self._rates.classes())
        rates = self._rates.scaled(dict.fromkeys(RATES, min(ratio, 0.4 / worst)))
        path = lattice(*self._arguments, rates, offset=self._offset, shorten=False)
        return self._trial(path.circuit(map(path.records_of, self.parities)), seed)

    def _trial(self, circuit: stim.Circuit, seed: int) -> float:
        detections, truth = circuit.compile_detector_sampler(seed=seed).sample(TRIALS, separate_observables=True)
        return float((self.flips(detections) != truth).any(axis=1).mean())


def _model(circuit: stim.Circuit) -> stim.DetectorErrorModel:
    return circuit.detector_error_model(decompose_errors=True, ignore_decomposition_failures=True)


def _detection_rate(circuit: stim.Circuit) -> float:
    """Detection events per detector that a circuit gives."""
    found = circuit.compile_detector_sampler(seed=1).sample(SAMPLES)
    return float(found.mean()) if found.size else 0.0


def check_rate(document: Mapping[str, Any], predicted: float, prior: bool) -> float:
    """How many times as many detection events there are as predicted.  Raises WrongStream when there are far too many.

    ``prior``: the calibration is what the client wants it to be, and may be wrong: then only records that are close to
    random are refused.  Machines with missing records are not judged.
    """
    events, detectors = document["detection_events"], document["detectors_total"]
    expected = predicted * detectors
    if not detectors or not expected:
        return 1.0
    found = events / detectors
    if not document.get("records_missing"):
        random = found > 0.4 and predicted < 0.25 and detectors >= 500
        # Events come in bursts: an error makes two, and a shot has many errors or none.
        if random or (not prior and events > 3 * expected + 40 + 10 * sqrt(expected)):
            raise WrongStream(f"{found:.1%} of its detectors fire, the calibration predicts {predicted:.1%}")
    return max(1.0, found / predicted)


def check_audit(
    shots: Sequence[Shots],
    decodings: Mapping[tuple[int, ...], Decoding],
    document: Mapping[str, Any],
    registers: Sequence[tuple[str, int]],
    ratio: float,
    *,
    compare: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """Compares what the tracker made of some shots.  Returns facts.  Raises Wrong.

    ``decodings``: of the paths that are not too large.  ``compare``: whether the decoder is expected to be a good one.
    """
    seen: Counter[str] = Counter()
    total = different = 0
    worst = 0.0
    for some in shots:
        seen.update(_keys(some.outcomes, registers))
        decoding = decodings.get(some.decisions)
        if decoding is None:
            continue
        detections, raw = decoding.values(some.records)
        _check_frames(decoding.path, some, raw)
        linear = np.zeros(raw.shape, bool)
        for bit, number in decoding.final.items():
            linear[:, number] = some.outcomes[:, bit] ^ some.applied[:, bit]
        mine = decoding.parities_of(raw) ^ decoding.flips(detections)
        differs = (mine != decoding.parities_of(linear)).any(axis=1)
        total += len(differs)
        different += int(differs.sum())
        if compare and decoding.parities:
            worst = max(worst, decoding.error_rate(ratio, seed))
    check_contained(seen, document["counts"], "outcome")
    facts: dict[str, Any] = {"audited": total, "different": different}
    if not compare or worst > NOISY:
        return {**facts, "skipped": ["whether shots are decoded well" + (": too noisy" if compare else "")]}
    # Two good decoders differ in about half as many shots as one of them is wrong in (measured: .3 to .7).
    expected = DIFFERING * worst * total
    if different > max(2, TOLERATED * total, expected + 6 * sqrt(expected) + 1):
        raise Wrong(f"{different} of {total} audited shots come out otherwise when they are decoded again")
    return facts


def check_improved(
    some: Shots, decoding: Decoding, document: Mapping[str, Any], registers: Sequence[tuple[str, int]]
) -> None:
    """Whether the counts as a whole are as good as the audited shots.  For a path without tests.  Raises Wrong."""
    if any(isinstance(entry, Tested) for entry in decoding.path.history) or not decoding.parities:
        return
    truth = _truth(decoding)

    def bad(outcomes: Bits) -> Bits:
        writings = np.zeros((len(outcomes), len(decoding.path.written)), bool)
        for bit, number in decoding.final.items():
            writings[:, number] = outcomes[:, bit]
        return np.asarray((decoding.parities_of(writings) != truth).any(axis=1))

    def rate_of(table: Mapping[str, int]) -> float:
        outcomes = np.array([[char == "1" for char in key.replace(" ", "")] for key in table], bool)
        times = np.array(list(table.values()))
        return float(times[bad(outcomes)].sum() / times.sum()) if len(times) else 0.0

    audited, raw = int(bad(some.outcomes).sum()), int(bad(some.undecoded).sum())
    rate, size = rate_of(document["counts"]), len(some.outcomes)
    if rate == rate_of(document["counts_undecoded"]) and raw - audited > 3:
        raise Wrong(
            f"its counts are as bad as undecoded, and of {size} audited shots decoding has mended {raw - audited}"
        )
    chance = sum(comb(size, k) * rate**k * (1 - rate) ** (size - k) for k in range(audited + 1))
    if chance < SURE:
        raise Wrong(
            f"{rate:.0%} of its counts are impossible without errors, and {audited} of {size} audited shots are"
        )


def _truth(decoding: Decoding) -> Bits:
    """The parities without noise, bool (parities,)."""
    path = decoding.path
    quiet = path.circuit(entry.parity.records for entry in path.written).without_noise()
    records = quiet.compile_sampler(seed=0).sample(1)
    _, raw = quiet.compile_m2d_converter(skip_reference_sample=True).convert(
        measurements=records, separate_observables=True
    )
    constants = np.array([bool(entry.parity.constant) for entry in path.written])
    return np.asarray(decoding.parities_of(raw ^ constants)[0])


def _check_frames(path: Lattice, some: Shots, raw: Bits) -> None:
    """Whether bits, and what Paulis added to them, belong together.  Raises Wrong."""
    if path.gadgets:
        return  # what was decided in them is not shown
    number = {}
    for place, entry in enumerate(path.written):
        if entry.bit in number:
            return  # what a bit was before is not known
        number[entry.bit] = place
    tested = any(isinstance(entry, Tested) for entry in path.history)
    linear = np.zeros(raw.shape, bool)
    for bit, place in number.items():
        linear[:, place] = some.outcomes[:, bit] ^ some.applied[:, bit]
    _, bits, decided = evaluate(path, linear.T, some.outcomes.shape[1])
    if (some.outcomes != bits.T).any():
        raise Wrong("in audited shots the Pauli frame does not fit the outcomes")
    if (np.array(some.decisions, bool) != decided.T).any():
        raise Wrong("audited shots have outcomes that decide for another path than theirs")
    if not tested:
        for entry, place in ((e, number[e.bit]) for e in path.history if isinstance(e, Written)):
            if (some.undecoded[:, entry.bit] != raw[:, place] ^ bool(entry.parity.constant)).any():
                raise Wrong("undecoded outcomes of audited shots do not follow from their records")


def _keys(outcomes: Bits, registers: Sequence[tuple[str, int]]) -> list[str]:
    keys = []
    for row in outcomes:
        text, words, begin = "".join("01"[int(bit)] for bit in row), [], 0
        for _, size in registers:
            words.append(text[begin : begin + size])
            begin += size
        keys.append(" ".join(words))
    return keys
