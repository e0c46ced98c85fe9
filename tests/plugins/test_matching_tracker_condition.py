# SPDX-License-Identifier: Apache-2.0
"""Conditions on many shots at once say what the condition of a program says of one."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from qcos_plugins.matching_tracker.condition import holds
from qcos_plugins.matching_tracker.packed import pack, unpack

from qcosd.qec.program import COMPARISONS, Condition


@pytest.mark.parametrize("comparison", COMPARISONS)
@pytest.mark.parametrize("bits", [(0,), (2, 0), (0, 1, 2), (3, 1, 0, 2)])
def test_every_value_of_every_register(comparison: str, bits: tuple[int, ...]) -> None:
    shots = list(product((0, 1), repeat=4))
    rows = pack(np.array(shots, np.uint8).T)
    for value in (*range(2 ** len(bits)), 2 ** len(bits), 2**70):
        condition = Condition(bits, comparison, value)
        found = unpack(holds(condition, rows), len(shots))
        assert found.tolist() == [condition.holds([shot[b] for b in bits]) for shot in shots], condition


def test_an_unknown_comparison_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown comparison"):
        holds(Condition((0,), "=<", 1), np.zeros((1, 1), np.uint8))
