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
    try:
        program = FragmentProgram.from_bytes(lease.input("fragments"))
        device = Device.from_bytes(lease.input("device"))
        placement, facts = placed(program, device)
    except DoesNotFit as error:
        raise Interrupt("does_not_fit", str(error), error.details) from error
    except CannotMove as error:
        raise Refused("unsupported", str(error)) from error
    except (OverlapError, NotCoupled, ValueError) as error:
        raise Refused("wrong_output", str(error)) from error
    return lease.result(outputs={"placement": placement.to_bytes()}, facts={**facts, "versions": versions("networkx")})


if __name__ == "__main__":
    plugin.main()
