# SPDX-License-Identifier: Apache-2.0
"""Bus glue of the optimiser."""

from __future__ import annotations

import math
import time
from typing import Any

from qcos_plugins.pytket_optimise.optimiser import optimised

from qcosd.qec.program import LogicalProgram, ProgramError
from qcosd.qec.versions import versions
from qcosd.sdk import Plugin, Refused

plugin = Plugin()

SHARE = 0.5
"""Of the lease's budget: the rest is for a pass that is under way when the time is up, and for the journey."""


@plugin.operation("optimise", "optimise")
def optimise(lease: Any) -> Any:
    """A logical program (`logical`) to one that costs less (`optimised`); `--set optimise=off` hands it through."""
    settings = lease.options.get("set") or {}
    wanted = settings.get("optimise", "on")
    if wanted not in ("on", "off"):
        raise Refused("bad_input", f"optimise is on or off, not {wanted!r}")
    budget = _budget(settings.get("optimise_budget"), SHARE * lease.budget)
    data = lease.input("logical")
    try:
        program = LogicalProgram.from_bytes(data)
    except ProgramError as error:
        raise Refused("wrong_input", f"logical: {error}", {"kind": "logical"}) from error
    if wanted == "off":
        return lease.result(outputs={"optimised": data}, facts={"optimise": "off"})
    end = time.monotonic() + budget
    result, facts = optimised(program, lambda: time.monotonic() >= end or lease.cancelled.is_set())
    return lease.result(
        outputs={"optimised": result.to_bytes()},
        facts={"optimise": "on", **facts, "versions": versions("pytket", "stim")},
    )


def _budget(text: Any, most: float) -> float:
    """Seconds: what the client asks for, within its share of the lease."""
    if text is None:
        return most
    try:
        seconds = float(text)
    except (TypeError, ValueError):
        seconds = math.nan
    if not seconds >= 0:
        raise Refused("bad_input", f"optimise_budget is a number of seconds, not {text!r}")
    return min(seconds, most)


if __name__ == "__main__":
    plugin.main()
