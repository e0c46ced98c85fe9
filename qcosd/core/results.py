# SPDX-License-Identifier: Apache-2.0
"""Merging the summaries of batches, without knowing what they mean.

A summary has up to four maps: `same` (equal in all batches), `sum` (nested maps of integers, added), `min` and `max`.
Merging is commutative and associative, so that the order in which batches end leaves no trace.
"""

from __future__ import annotations

import math
from typing import Any

from qcosd.schema import UINT_MAX

Summary = dict[str, Any]


class SummaryError(ValueError):
    """A summary cannot be merged; the plugin broke its contract."""


def merge(left: Summary | None, right: Summary) -> Summary:
    """The summary of both; `left` is None at the first batch."""
    for part in right:
        if part not in ("same", "sum", "min", "max"):
            raise SummaryError(f"summary part {part!r} is not same, sum, min or max")
    if left is None:
        left = {}
    merged = {
        "same": _same(left.get("same"), right.get("same", {})),
        "sum": _sum(left.get("sum", {}), right.get("sum", {}), "sum"),
        "min": _pick(min, left.get("min", {}), right.get("min", {}), "min"),
        "max": _pick(max, left.get("max", {}), right.get("max", {}), "max"),
    }
    return merged


def _same(left: Any, right: Any) -> dict[str, Any]:
    if not isinstance(right, dict):
        raise SummaryError("same is not a map")
    if left is not None and left != right:
        differing = sorted(str(key) for key in left.keys() | right.keys() if left.get(key) != right.get(key))
        raise SummaryError(f"batches differ in {', '.join(differing)}")
    return right


def _sum(left: Any, right: Any, path: str) -> dict[str, Any]:
    if not isinstance(left, dict) or not isinstance(right, dict):
        raise SummaryError(f"{path} is a map in one batch only")
    total = dict(left)
    for key, value in right.items():
        if isinstance(value, dict):
            total[key] = _sum(left.get(key, {}), value, f"{path}.{key}")
        elif type(value) is not int or type(left.get(key, 0)) is not int:
            raise SummaryError(f"{path}.{key} is not an integer")
        else:
            total[key] = left.get(key, 0) + value
            if not -UINT_MAX <= total[key] <= UINT_MAX:
                raise SummaryError(f"{path}.{key} does not fit into 64 bits")
    return total


def _pick(choose: Any, left: Any, right: Any, path: str) -> dict[str, Any]:
    if not isinstance(right, dict):
        raise SummaryError(f"{path} is not a map")
    picked = dict(left)
    for key, value in right.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise SummaryError(f"{path}.{key} is not a number")
        picked[key] = choose(left[key], value) if key in left else value
    return picked
