# SPDX-License-Identifier: Apache-2.0
"""A T gate is corrected by what is handed over, or by a branch: programs mean the same either way."""

from __future__ import annotations

import oracle
import pytest
from loopback import run
from qcos_plugins.surface_code.prepare import facts, prepare
from qcos_plugins.verifier.finding import Wrong
from qcos_plugins.verifier.fragments import check_fragments
from test_universal import logical

from qcosd.qec.calibration import Calibration

PROGRAMS = [
    ("h t h m", 1),
    ("h tdg h m", 1),
    ("h t h tdg h m", 1),
    ("h:0 t:0 cx:01 tdg:1 h:1 s:1 h:0 m:0 m:1", 2),
]


@pytest.mark.parametrize(("text", "qubits"), PROGRAMS)
def test_both_agree_in_distribution_and_pass_every_check(text: str, qubits: int) -> None:
    program = logical(text, qubits)
    exact = oracle.distribution(oracle.from_logical(program))
    for insert in (False, True):
        made = prepare(program, 3, insert=insert)
        assert check_fragments(program, made, 3)["distance"] == 3
        done = run(made, shots=1024, seed=4)
        oracle.check_counts(done.counts, exact)
        assert done.outcomes.detection_events == 0


def test_one_makes_branches_and_the_other_has_none() -> None:
    program = logical("h t h t h m")
    constant, branching = (prepare(program, 3, insert=insert) for insert in (False, True))
    assert (facts(constant)["paths"], facts(branching)["paths"]) == (1, 4)
    done = run(branching, shots=256, seed=1)
    assert set(done.outcomes.paths) == {"k0=0/k1=0", "k0=0/k1=1", "k0=1/k1=0", "k0=1/k1=1"}
    rounds = set(done.outcomes.rounds.tolist())
    assert len(rounds) == 3, "each S that is needed costs d rounds"
    assert min(rounds) < run(constant, shots=1).outcomes.rounds[0]


def test_a_branch_that_corrects_what_was_right_is_refused() -> None:
    right = logical("h t h m")
    for wrong in ("h tdg h m", "h m"):
        with pytest.raises(Wrong):
            check_fragments(right, prepare(logical(wrong), 3, insert=True), 3)


def test_errors_are_about_as_frequent() -> None:
    program, rates = logical("h tdg t h m"), Calibration.uniform(2e-3)
    wrong = [
        sum(run(prepare(program, 3, insert=insert), rates, rates, 1024, seed).counts.get("1", 0) for seed in range(4))
        for insert in (False, True)
    ]
    assert 0 < wrong[1] < 1.5 * wrong[0]
