# SPDX-License-Identifier: Apache-2.0
"""What a job asks of an optimiser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

SHARE: Final = 0.5
"""Of a lease's budget: the rest is for a pass that is under way when the time is up, and for the journey."""


class Request(NamedTuple):
    """``on``: whether to optimise at all.  ``budget``: seconds to take."""

    on: bool
    budget: float

    @classmethod
    def of(cls, options: Mapping[str, Any], lease_budget: float) -> Request:
        """From the options of a job.  Raises ValueError with a text for people."""
        settings = options.get("set") or {}
        wanted = settings.get("optimise", "on")
        if wanted not in ("on", "off"):
            raise ValueError(f"optimise is on or off, not {wanted!r}")
        return cls(wanted == "on", _budget(settings.get("optimise_budget"), SHARE * lease_budget))


def _budget(text: Any, most: float) -> float:
    """Seconds: what the client asks for, within its share of the lease."""
    if text is None:
        return most
    try:
        seconds = float(text)
    except (TypeError, ValueError):
        seconds = math.nan
    if not seconds >= 0:
        raise ValueError(f"optimise_budget is a number of seconds, not {text!r}")
    return min(seconds, most)
