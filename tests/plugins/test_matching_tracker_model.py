# SPDX-License-Identifier: Apache-2.0
"""Error models as matching is given them, and what that does to single faults."""

from __future__ import annotations

import numpy as np
import pymatching
import pytest
import sampled
import stim
from loopback import run
from qcos_plugins.matching_tracker.model import DECODERS, Company, Decoder, Errors, join, matching_model, written
from qcos_plugins.stim_adapter.faults import faults_of

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram

PER_BATCH = 1024


def model_of(program: FragmentProgram) -> stim.DetectorErrorModel:
    text = sampled.whole_circuit(program, Calibration.uniform(1e-3)).text
    return stim.Circuit(text).detector_error_model(decompose_errors=True)


def test_pieces_of_one_sector_are_joined_where_they_make_an_edge() -> None:
    model = stim.DetectorErrorModel(
        """
        error(0.1) D0 D1
        error(0.1) D2 D3
        error(0.1) D3 D4 L0
        error(0.1) D0 ^ D1 L1 ^ D2 D3
        error(0.1) D2 ^ D3 D4 L0 ^ D1
        """
    )
    joined = [components for _, components in join(Errors(model))]
    assert joined[:3] == [[((0, 1), ())], [((2, 3), ())], [((3, 4), (0,))]]
    assert joined[3] == [((0, 1), (1,)), ((2, 3), ())]
    # Three detectors of one sector are no edge: they stay as they came.
    assert joined[4] == [((2,), ()), ((3, 4), (0,)), ((1,), ())]


def tempered(errors: list[tuple[float, str]], share: float) -> list[tuple[float, set[str]]]:
    """What `written` makes of errors, whose edges are letters."""
    edges = sorted({edge for _, word in errors for edge in word})
    numbers = [[edges.index(edge) for edge in word] for _, word in errors]
    p = np.array([p for p, _ in errors])
    lines = written(Company.of(numbers, len(edges)), edges, p, Decoder(correlated=True, share=share))
    return [(float(line[6:].split(") ")[0]), set(line.split(") ")[1].split(" ^ "))) for line in lines]


def test_tempering_keeps_the_probability_of_every_edge() -> None:
    errors = [(1e-4, "ab"), (3e-4, "a"), (2e-4, "bc"), (1e-5, "def")]

    def of(found: list[tuple[float, set[str]]], edges: str) -> float:
        return sum(p for p, some in found if set(edges) <= some)

    before, after = [(p, set(word)) for p, word in errors], tempered(errors, 0.2)
    for edge in "abcdef":
        assert of(after, edge) == pytest.approx(of(before, edge), rel=1e-3)
        for other in set("abcdef") - {edge}:
            assert of(after, edge + other) <= 0.2 * of(before, edge) * (1 + 1e-9)
    assert (1e-4, {"a", "b"}) in tempered([(1e-4, "ab"), (4e-4, "a"), (4e-4, "b")], 0.2)
    assert (1e-4, {"a", "b"}) not in after


@pytest.mark.parametrize("decoder", ["pymatching", "pymatching-correlated"])
def test_plain_decoders_see_the_model_of_stim(decoder: str) -> None:
    model = model_of(sampled.cnot(3, "X"))
    ours = matching_model(model, decoder)
    correlated = DECODERS[decoder].correlated
    shots, _, _ = model.compile_sampler(seed=3).sample(2000)
    expected, found = (
        pymatching.Matching.from_detector_error_model(m, enable_correlations=correlated).decode_batch(
            shots, enable_correlations=correlated
        )
        for m in (model, ours)
    )
    assert np.array_equal(expected, found)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["pymatching", "pymatching-tempered"])
@pytest.mark.parametrize(
    ("program", "answer"),
    [
        (sampled.memory(3, 7), 0),
        (sampled.cnot(3, "Z"), 0),
        (sampled.cnot(3, "X"), 0),
        (sampled.phases(3, dagger=False), 1),
        (sampled.hadamards(3, "Z"), 0),
        (sampled.hadamards(3, "X"), 0),
    ],
    ids=["memory", "cnot-zz", "cnot-xx", "s-s", "hhh-z", "hhh-x"],
)
def test_no_single_fault_is_mistaken(program: FragmentProgram, answer: int, decoder: str) -> None:
    faults = faults_of(program)
    wrong = []
    for start in range(0, len(faults), PER_BATCH):
        some = faults[start : start + PER_BATCH]
        bits = run(program, shots=len(some), seed=start, faults=some, decoder=decoder).outcomes.bits
        wrong += [some[i] for i in np.flatnonzero((bits != answer).any(axis=0))]
    assert wrong == []
    assert len(faults) > 2000
