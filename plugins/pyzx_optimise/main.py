# SPDX-License-Identifier: Apache-2.0
"""Bus glue of the optimiser by the ZX calculus."""

from __future__ import annotations

import importlib.util
import time
from typing import Any, Final

from qcosd.qec.program import LogicalProgram, ProgramError
from qcosd.qec.rewriting.request import Request
from qcosd.qec.versions import versions
from qcosd.sdk import Plugin, Refused

plugin = Plugin()

PACKAGE: Final = "pyzx"


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
    if importlib.util.find_spec(PACKAGE) is None:
        text = f"pyzx_optimise takes {PACKAGE}, which is not installed: pip install 'qcosd[zx]', or leave --use out"
        raise Refused("unsupported", text)
    # Only here: most jobs are optimised by somebody else, and until then this process stays small.
    from qcos_plugins.pyzx_optimise.optimiser import optimised

    end = time.monotonic() + request.budget
    result, facts = optimised(program, lambda: time.monotonic() >= end or lease.cancelled.is_set())
    return lease.result(
        outputs={"optimised": result.to_bytes()},
        facts={"optimise": "on", **facts, "versions": versions("pyzx", "stim")},
    )


if __name__ == "__main__":
    plugin.main()
