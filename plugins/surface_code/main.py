# SPDX-License-Identifier: Apache-2.0
"""Bus glue of the surface code."""

from __future__ import annotations

from typing import Any

import msgpack
from qcos_plugins.surface_code.prepare import MAX_BRANCHES, facts, prepare
from qcos_plugins.surface_code.schedule import Unsupported

from qcosd.qec.program import LogicalProgram
from qcosd.sdk import Plugin, Refused

DEFAULT_DISTANCE = 3
MAX_DISTANCE = 101
"""Beyond it preparing a program alone takes minutes."""

FEEDBACK = ("constant", "insert")
"""How a T gate that went the wrong way is corrected: by what is handed over in rounds that all shots make, or by a branch."""
MAX_LEAD = 100_000
"""Rounds."""

plugin = Plugin()


@plugin.operation("qecc", "prepare")
def prepare_(lease: Any) -> Any:
    """A logical program (`optimised`) and what a `device` can do, to `fragments` on canonical coordinates."""
    distance = lease.options.get("distance", DEFAULT_DISTANCE)
    if type(distance) is not int or not 3 <= distance <= MAX_DISTANCE or distance % 2 == 0:
        raise Refused("bad_input", f"distance {distance!r}: an odd number from 3 to {MAX_DISTANCE} expected")
    branches = _branches(lease.options)
    program = lease.read("optimised", LogicalProgram.from_bytes)
    try:
        device = msgpack.unpackb(lease.input("device"))
        movement = bool(device["movement"])
        lead = -(-int(device.get("decision_lead_ns", 0)) // max(1, int(device.get("round_ns", 1))))
    except (KeyError, TypeError, ValueError, msgpack.UnpackException) as error:
        text = f"the device does not say whether it moves qubits: {error!r}"
        raise Refused("wrong_input", text, {"kind": "device"}) from error
    try:
        fragments = prepare(program, distance, movement, _lead(lease.options, lead), _insert(lease.options))
    except Unsupported as error:
        raise Refused(
            "unsupported", f"{lease.options.get('source_name') or 'program'}:{error.line}: {error}"
        ) from error
    return lease.result(outputs={"fragments": fragments.to_bytes()}, facts=facts(fragments, branches))


def _insert(options: Any) -> bool:
    asked = (options.get("set") or {}).get("feedback", FEEDBACK[0])
    if asked not in FEEDBACK:
        raise Refused("bad_input", f"feedback {asked!r}: {' or '.join(FEEDBACK)} expected")
    return bool(asked == FEEDBACK[1])


def _lead(options: Any, least: int) -> int:
    """Rounds that a decision gets: as many as the machine needs, or more if asked."""
    asked = (options.get("set") or {}).get("decision_lead", 0)
    rounds = int(asked) if isinstance(asked, str) and asked.isascii() and asked.isdigit() and len(asked) <= 6 else asked
    if type(rounds) is not int or not 0 <= rounds <= MAX_LEAD:
        raise Refused("bad_input", f"decision_lead {asked!r}: a whole number of rounds up to {MAX_LEAD} expected")
    return max(rounds, least)


def _branches(options: Any) -> int:
    asked = most = (options.get("set") or {}).get("max_branches", MAX_BRANCHES)
    if isinstance(asked, str) and asked.isascii() and asked.isdigit() and len(asked) <= 9:
        most = int(asked)
    if type(most) is not int or most < 1:
        raise Refused("bad_input", f"max_branches {asked!r}: a whole number of at least 1 expected")
    return most


if __name__ == "__main__":
    plugin.main()
