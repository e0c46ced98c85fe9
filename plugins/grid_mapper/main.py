# SPDX-License-Identifier: Apache-2.0
"""Bus glue of the mapper."""

from __future__ import annotations

from typing import Any

from qcos_plugins.grid_mapper.footprint import OverlapError
from qcos_plugins.grid_mapper.mapper import CannotMove, DoesNotFit, NotCoupled, placed

from qcosd.qec.device import Device
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.versions import versions
from qcosd.sdk import Interrupt, Plugin, Refused

plugin = Plugin()


@plugin.operation("map", "place")
def place(lease: Any) -> Any:
    """`fragments` on canonical coordinates and a `device` to a `placement`."""
    program = lease.read("fragments", FragmentProgram.from_bytes)
    device = lease.read("device", Device.from_bytes)
    try:
        placement, facts = placed(program, device)
    except DoesNotFit as error:
        raise Interrupt("does_not_fit", str(error), error.details) from error
    except (CannotMove, OverlapError, NotCoupled, ValueError) as error:
        # The device was described before the program was made for it.
        raise Refused("wrong_input", str(error), {"kind": "fragments"}) from error
    return lease.result(outputs={"placement": placement.to_bytes()}, facts={**facts, "versions": versions("networkx")})


if __name__ == "__main__":
    plugin.main()
