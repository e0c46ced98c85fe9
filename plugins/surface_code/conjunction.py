# SPDX-License-Identifier: Apache-2.0
"""Two conditions as one, where one can say what both say."""

from __future__ import annotations

from qcosd.qec.program import MAX_VALUE_BYTES, Condition


def conjunction(first: Condition, second: Condition) -> Condition | None:
    """The condition that holds where both hold; None where no single comparison with a constant says it.

    It exists where one of them is always or never true, and where each is true for one value of its bits only.
    """
    if _always(first):
        return second
    if _always(second):
        return first
    one, two = _only(first), _only(second)
    if one == {} or two == {}:
        return _never(first)
    if one is None or two is None:
        return None
    if any(two.get(bit, value) != value for bit, value in one.items()):
        return _never(first)
    both = one | two
    if len(both) > 8 * MAX_VALUE_BYTES:
        return None
    return Condition(tuple(both), "==", sum(value << place for place, value in enumerate(both.values())))


def _interval(condition: Condition) -> tuple[int, int] | None:
    """The first and the last value for which it holds, all between them included; last < first if there is none.

    None for a `!=` that leaves out a value in the middle.
    """
    value, top = condition.value, (1 << len(condition.bits)) - 1
    match condition.comparison:
        case "==":
            return (value, value) if value <= top else (1, 0)
        case "<":
            return (0, min(value - 1, top))
        case "<=":
            return (0, min(value, top))
        case ">":
            return (value + 1, top)
        case ">=":
            return (value, top)
    if value > top:
        return (0, top)
    if value == 0:
        return (1, top)
    return (0, top - 1) if value == top else None


def _always(condition: Condition) -> bool:
    return _interval(condition) == (0, (1 << len(condition.bits)) - 1)


def _only(condition: Condition) -> dict[int, int] | None:
    """The value that each bit must have; {} if the condition never holds, None if more than one value will do."""
    interval = _interval(condition)
    if interval is None or interval[0] < interval[1]:
        return None
    if interval[0] > interval[1]:
        return {}
    return {bit: interval[0] >> place & 1 for place, bit in enumerate(condition.bits)}


def _never(condition: Condition) -> Condition:
    return Condition(condition.bits, "<", 0)
