# SPDX-License-Identifier: Apache-2.0
"""Puts a program on a device."""

from __future__ import annotations

from typing import Any

import networkx
from qcos_plugins.grid_mapper.footprint import Footprint, footprint_of
from qcos_plugins.grid_mapper.search import largest_distance, offset_for

from qcosd.qec.device import Device
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.placement import Placement


class DoesNotFit(Exception):
    """There is no room. `details` is the counter-offer:

    needed_sites; needed [width, height] and available [width, height] in doubled coordinates, None where there is no
    limit; dead: number of dead sites; largest_distance: the largest one that fits, or None.
    """

    def __init__(self, text: str, details: dict[str, Any]) -> None:
        super().__init__(text)
        self.details = details


class CannotMove(Exception):
    """The program moves qubits and the device cannot."""


class NotCoupled(Exception):
    """A CX joins sites that the device does not couple: the program was made for another kind of device."""


def placed(program: FragmentProgram, device: Device) -> tuple[Placement, dict[str, Any]]:
    """Places a program and checks the placement. Returns it and facts: sites, extent, offset, device.

    Raises DoesNotFit, CannotMove, NotCoupled and footprint.OverlapError.
    """
    footprint = footprint_of(program)
    if footprint.moves and not device.movement:
        raise CannotMove(f"the program moves qubits, as a transversal H does, and device {device.name} cannot")
    offset = offset_for(footprint.sites, device) if footprint.sites else (0, 0)
    if offset is None:
        raise does_not_fit(program, footprint, device)
    placement = Placement.of(device.name, offset, footprint.sites)
    check_coupled(placement, footprint, device)
    width, height = footprint.extent if footprint.sites else (0, 0)
    facts = {"device": device.name, "sites": len(footprint.sites), "extent": [width, height], "offset": list(offset)}
    return placement, facts


def check_coupled(placement: Placement, footprint: Footprint, device: Device) -> None:
    """Raises NotCoupled unless each CX of the program is a coupler between living sites of the device."""
    sites = {placement.on_device(site) for site in footprint.sites}
    graph: networkx.Graph[Any] = networkx.Graph()
    graph.add_nodes_from(site for site in sites if device.has(site))
    graph.add_edges_from((site, other) for site in list(graph) for other in device.couplers(site) if other in sites)
    for control, target in sorted(footprint.couplers):
        if not graph.has_edge(placement.on_device(control), placement.on_device(target)):
            raise NotCoupled(f"device {device.name} does not couple {list(control)} and {list(target)}")


def does_not_fit(program: FragmentProgram, footprint: Footprint, device: Device) -> DoesNotFit:
    """The error for a program that has no room, with what would have."""
    width, height = footprint.extent
    distance = largest_distance(program, device)
    room = " x ".join("any" if side is None else str(side) for side in (device.width, device.height))
    dead = f" with {len(device.dead)} dead sites" if device.dead else ""
    offer = f"distance {distance} fits" if distance else "no smaller distance fits"
    return DoesNotFit(
        f"distance {program.distance} needs {len(footprint.sites)} sites on {width} x {height}, "
        f"device {device.name} has {room}{dead}; {offer}",
        {
            "needed_sites": len(footprint.sites),
            "needed": [width, height],
            "available": [device.width, device.height],
            "dead": len(device.dead),
            "largest_distance": distance,
        },
    )
