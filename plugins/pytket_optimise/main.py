# SPDX-License-Identifier: Apache-2.0
"""Bus glue of the optimiser."""

from __future__ import annotations

import time
from typing import Any

from qcos_plugins.pytket_optimise.optimiser import optimised

from qcosd.qec.program import LogicalProgram, ProgramError
from qcosd.qec.rewriting.request import Request
from qcosd.qec.versions import versions
from qcosd.sdk import Plugin, Refused

plugin = Plugin()


@plugin.operation("optimise", "optimise")
def optimise(lease: Any) -> Any:
    """A logical program (`logical`) to one that costs less (`optimised`); `--set optimise=off` hands it through."""
    try:
        request = Request.of(lease.options, lease.budget)
    except ValueError as error:
        raise Refused("bad_input", str(error)) from error
    data = lease.input("logical")
    try:
        program = LogicalProgram.from_bytes(data)
    except ProgramError as error:
        raise Refused("wrong_input", f"logical: {error}", {"kind": "logical"}) from error
    if not request.on:
        return lease.result(outputs={"optimised": data}, facts={"optimise": "off"})
    end = time.monotonic() + request.budget
    result, facts = optimised(program, lambda: time.monotonic() >= end or lease.cancelled.is_set())
    return lease.result(
        outputs={"optimised": result.to_bytes()},
        facts={"optimise": "on", **facts, "versions": versions("pytket", "stim")},
    )


if __name__ == "__main__":
    plugin.main()
