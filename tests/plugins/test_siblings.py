# SPDX-License-Identifier: Apache-2.0
"""The branches of a batch are different shots: what is random in one says nothing about another.

The qubit that is read at the end is prepared within the branch, so that its randomness is the branch's own.  stim draws
for 256 shots at a time: with no more than that on either side, equal seeds would show as equal bits.
"""

from __future__ import annotations

import numpy as np
import pytest
from loopback import prepared, run

QASM = """OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg a[1]; creg b[1];
h q[0]; measure q[0] -> a[0];
if(a==1) reset q[1];
if(a==1) h q[1];
if(a==0) reset q[1];
if(a==0) h q[1];
measure q[1] -> b[0];
"""


@pytest.mark.parametrize("hardware", ["stim_adapter", "tableau_adapter"])
def test_branches_share_no_randomness(hardware: str) -> None:
    bits = run(prepared(QASM), shots=400, seed=3, hardware=hardware).outcomes.bits
    first, second = (bits[1, bits[0] == value] for value in (0, 1))
    common = min(len(first), len(second))
    assert common > 150
    agreeing = np.mean(first[:common] == second[:common])
    assert 0.36 < agreeing < 0.64


def test_a_branch_does_not_repeat_what_was_before_it() -> None:
    bits = run(prepared(QASM), shots=250, seed=3).outcomes.bits
    for value in (0, 1):
        later = bits[1, bits[0] == value]
        assert 0.32 < np.mean(later == bits[0, : len(later)]) < 0.68
