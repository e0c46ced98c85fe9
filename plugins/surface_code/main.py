# SPDX-License-Identifier: Apache-2.0
"""Service qecc: a logical program and a device become fragments of lattice surgery on rotated surface codes."""

from __future__ import annotations

import msgpack
from qcos_plugins.surface_code.prepare import facts, prepare
from qcos_plugins.surface_code.schedule import Unsupported

from qcosd.qec.program import LogicalProgram, ProgramError
from qcosd.sdk import Plugin, Refused

plugin = Plugin()


@plugin.operation("qecc", "prepare")
def prepare_program(lease):
    options = lease.options
    distance = options.get("distance", 3)
    if not isinstance(distance, int) or distance < 3 or distance % 2 == 0:
        raise Refused("bad_input", f"distance {distance}: an odd number of at least 3 expected")
    try:
        program = LogicalProgram.from_bytes(lease.input("optimised"))
    except ProgramError as error:
        raise Refused("bad_input", f"optimised program: {error}") from error
    device = msgpack.unpackb(lease.input("device"))
    try:
        fragments = prepare(program, distance, movement=bool(device["movement"]))
    except Unsupported as error:
        source = options.get("source_name", "program")
        raise Refused("unsupported", f"{source}:{error.line}: {error}") from error
    return lease.result(outputs={"fragments": fragments.to_bytes()}, facts=facts(fragments))


if __name__ == "__main__":
    plugin.main()
