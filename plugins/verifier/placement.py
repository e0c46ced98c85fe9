# SPDX-License-Identifier: Apache-2.0
"""Whether a placement puts a program on sites and couplers that are there, and whether a calibration speaks of such ones."""

from __future__ import annotations

from typing import Any

from qcos_plugins.verifier.finding import Wrong

from qcosd.qec.calibration import RATES, Calibration
from qcosd.qec.device import Device
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.geometry import Coord
from qcosd.qec.placement import Placement


def check_placement(fragments: FragmentProgram, device: Device, placement: Placement) -> dict[str, Any]:
    """Every site of the program on a site of its own that is there and alive, every CX on a coupler.  Returns facts.

    Raises Wrong.
    """
    if placement.device != device.name:
        raise Wrong(f"it is for device {placement.device!r}, not {device.name!r}")
    if placement.offset[0] % 2 or placement.offset[1] % 2:
        raise Wrong(f"offset {list(placement.offset)} puts data qubits on measure sites")
    used, pairs, moves = _used(fragments)
    if len(set(placement.coordinates)) != len(placement.coordinates):
        raise Wrong("two of its entries are the same coordinate")
    if missing := used - set(placement.coordinates):
        raise Wrong(f"coordinate {list(min(missing))} of the program has no site")
    for coordinate in placement.coordinates:
        site = placement.on_device(coordinate)
        if not device.has(site):
            raise Wrong(f"coordinate {list(coordinate)} is put on {list(site)}, where device {device.name} has no site")
    for one, two in pairs:
        if placement.on_device(two) not in set(device.couplers(placement.on_device(one))):
            raise Wrong(f"device {device.name} does not couple the sites of {list(one)} and {list(two)}")
    if moves and not device.movement:
        raise Wrong(f"the program moves qubits, device {device.name} cannot")
    return {"sites": len(used), "couplers": len(pairs)}


def check_calibration(device: Device, calibration: Calibration) -> dict[str, Any]:
    """Rates of sites and couplers that the device has, and not all of them zero.  Returns facts.  Raises Wrong."""
    for site in calibration.sites:
        if not device.has(site):
            raise Wrong(f"it has rates for {list(site)}, where device {device.name} has no living site")
    for one, two in calibration.couplers:
        if not device.has(one) or two not in set(device.couplers(one)):
            raise Wrong(f"it has a rate for {list(one)} and {list(two)}, which device {device.name} does not couple")
    rates = {kind: calibration.rate(kind) for kind in RATES}
    if not any(rates.values()):
        raise Wrong("all its rates are 0: nothing can be decoded with it")
    return {"calibration": calibration.id, "sites": len(calibration.sites), "couplers": len(calibration.couplers)}


def _used(fragments: FragmentProgram) -> tuple[set[Coord], list[tuple[Coord, Coord]], bool]:
    """Coordinates, pairs that a CX joins, and whether qubits are moved."""
    sites: set[Coord] = set()
    pairs: set[tuple[Coord, Coord]] = set()
    moves = False
    seen: set[int] = set()
    for fragment in fragments.fragments:
        for slot in fragment.slots:
            for part in slot.parts:
                for instruction in part.instructions:
                    if id(instruction) in seen:  # alive as long as the fragments are
                        continue
                    seen.add(id(instruction))
                    sites.update(instruction.targets)
                    moves = moves or instruction.name == "PERM"
                    if instruction.name == "CX":
                        pairs.update(zip(instruction.targets[::2], instruction.targets[1::2], strict=True))
    return sites, sorted(pairs), moves
