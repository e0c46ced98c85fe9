# SPDX-License-Identifier: Apache-2.0
"""The plans that a lease asks for, made once for all that need them in this process."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.disk import Disk, default_directory
from qcos_plugins.matching_tracker.model import DEFAULT_DECODER
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.window import PARALLEL, SCHEMES, SLIDING

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.geometry import Coord
from qcosd.qec.placement import Placement
from qcosd.sdk import Refused

KEPT_PROGRAMS = 2

templates = TemplateCache(disk=Disk(default_directory()))  # outlives jobs: most programs are made of the same windows
kept: OrderedDict[tuple[object, ...], Plans] = OrderedDict()


def plans_of(lease: Any, decoder: str | None = None) -> Plans:
    """Those of an earlier batch of the same work, where there is one.  ``decoder``: in place of the job's.  Raises Refused."""
    decoder = decoder or lease.options.get("decoder") or DEFAULT_DECODER
    if not isinstance(decoder, str):
        raise Refused("bad_input", f"decoder {decoder!r}: a name expected")
    buffer, scheme = _number(lease, "buffer", "rounds"), scheme_of(lease)
    inputs = (lease.inputs[kind] for kind in ("fragments", "calibration", "placement"))
    key = (*inputs, decoder, buffer, scheme)
    if key not in kept:
        program = lease.read("fragments", FragmentProgram.from_bytes)
        rates = lease.read("calibration", Calibration.from_bytes)
        offset = offset_of(lease)
        try:
            kept[key] = Plans(
                program,
                rates,
                decoder=decoder,
                buffer=buffer,
                scheme=scheme,
                templates=templates,
                offset=offset,
                sha=lease.inputs["fragments"],
            )
        except ValueError as error:
            raise Refused("bad_input", str(error)) from error
        if len(kept) > KEPT_PROGRAMS:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]


def scheme_of(lease: Any) -> str:
    """How the windows of a job are cut: as it asks for, or so that its workers have something to do."""
    asked = _setting(lease, "windows")
    if asked is None:
        return PARALLEL if _number(lease, "workers", "processes") else SLIDING
    if asked not in SCHEMES:
        raise Refused("bad_input", f"windows {asked!r}: {' or '.join(SCHEMES)} expected")
    return str(asked)


def shadow_of(lease: Any) -> str | None:
    """The decoder of the job's shadow, None where it has none."""
    asked = _setting(lease, "shadow")
    if asked is not None and not (isinstance(asked, str) and asked):
        raise Refused("bad_input", f"shadow {asked!r}: the name of a decoder expected")
    return asked or None


def offset_of(lease: Any) -> Coord:
    """Where on the device the program lies."""
    return lease.read("placement", Placement.from_bytes).offset


def _setting(lease: Any, name: str) -> Any:
    return (lease.options.get("set") or {}).get(name)


def _number(lease: Any, name: str, unit: str) -> int | None:
    value = _setting(lease, name)
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError) as error:
        raise Refused("bad_input", f"{name} {value!r}: a whole number of {unit} expected") from error
