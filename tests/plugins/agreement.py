# SPDX-License-Identifier: Apache-2.0
"""Whether two samples come from one distribution: counts of outcomes, rates of detectors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import stim
from loopback import said
from scipy.stats import chi2_contingency

from qcosd.qec.calibration import Calibration
from qcosd.qec.circuit import whole_circuit
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.hardware import Awaits
from qcosd.qec.stream import Block

ALPHA = 1e-4


def disagreement(one: Mapping[str, int], two: Mapping[str, int]) -> float:
    """p-value of a two-sample chi-square test.  Outcomes of which fewer than ten came in all are taken together."""
    keys = sorted(set(one) | set(two))
    columns = [(one.get(key, 0), two.get(key, 0)) for key in keys]
    large = [column for column in columns if sum(column) >= 10]
    rest = [column for column in columns if sum(column) < 10]
    small = (sum(a for a, _ in rest), sum(b for _, b in rest))
    if sum(small):
        large.append(small)
    if len(large) < 2:
        return 1.0
    return float(chi2_contingency(np.array(large).T, correction=False).pvalue)


def records(
    hardware: str,
    program: FragmentProgram,
    noise: Calibration,
    shots: int,
    seed: int,
    decisions: Mapping[int, int] | None = None,
    **machine: object,
) -> np.ndarray:
    """Raw records, bool (shots, records), when all shots decide as given (default: a program without decisions)."""
    rows: list[np.ndarray] = []
    stream = said(hardware, program, noise, shots, seed, **machine)
    item = next(stream, None)
    while item is not None:
        answer = None
        if isinstance(item, Awaits):
            value = (decisions or {})[item.k]
            answer = np.packbits(np.full(shots, value, np.uint8), bitorder="little").tobytes()
        else:
            assert isinstance(item.header, Block)
            packed = np.frombuffer(item.frames[0], np.uint8).reshape(sum(item.header.m), -1)
            rows.append(np.unpackbits(packed, axis=1, count=shots, bitorder="little"))
        try:
            item = stream.send(answer)
        except StopIteration:
            break
    return np.vstack(rows).T.astype(bool)


def events(program: FragmentProgram, bits: np.ndarray, observables: list[list[int]] | None = None) -> np.ndarray:
    """Detectors, and then observables if any, bool (shots, detectors + observables), of records (shots, records)."""
    circuit = stim.Circuit(whole_circuit(program, None, observables or []).text)
    return circuit.compile_m2d_converter(skip_reference_sample=True).convert(
        measurements=bits, append_observables=bool(observables)
    )


def deviations(one: np.ndarray, two: np.ndarray, least: int = 20) -> np.ndarray:
    """Standard scores of the differences of column means of bool (shots, columns); columns with few ones are left out."""
    p = (one.sum(0) + two.sum(0)) / (len(one) + len(two))
    busy = p * min(len(one), len(two)) > least
    scale = np.sqrt(p * (1 - p) * (1 / len(one) + 1 / len(two)))[busy]
    z: np.ndarray = (one.mean(0) - two.mean(0))[busy] / scale
    return z
