# SPDX-License-Identifier: Apache-2.0
"""A register compared with a constant, for many shots at once."""

from __future__ import annotations

import numpy as np
from qcos_plugins.matching_tracker.packed import Bits

from qcosd.qec.program import Condition


def holds(condition: Condition, bits: Bits) -> Bits:
    """Where the condition is true.

    ``bits``: uint8 (classical bits, ..., bytes), packed along the shots.  Returns uint8 (..., bytes); its padding bits are
    undefined.
    """
    size = len(condition.bits)
    below = np.zeros(bits.shape[1:], np.uint8)  # the register is smaller than the constant
    equal = np.full(bits.shape[1:], 255, np.uint8)
    if condition.value >> size:  # no value of the register reaches the constant
        below, equal = equal, below
    else:
        for place in reversed(range(size)):
            row = bits[condition.bits[place]]
            if condition.value >> place & 1:
                below |= equal & ~row
                equal &= row
            else:
                equal &= ~row
    match condition.comparison:
        case "==":
            return equal
        case "!=":
            return ~equal
        case "<":
            return below
        case "<=":
            return below | equal
        case ">":
            return ~(below | equal)
        case ">=":
            return ~below
    raise ValueError(f"unknown comparison {condition.comparison!r}")
