# SPDX-License-Identifier: Apache-2.0
"""Whether fragments are the logical program, at the distance that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from qcos_plugins.verifier.finding import TooLarge, Wrong
from qcos_plugins.verifier.lattice import Lattice, lattice
from qcos_plugins.verifier.layout import check_layout
from qcos_plugins.verifier.meaning import check_idles, check_meaning

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.program import LogicalProgram

MOST_DETECTORS: Final = 12_000
"""Of a path whose distance is searched for: about a second."""
DISTANCES: Final = 2
"""Paths whose distance is searched for."""
STAND_INS: Final = (0b1111, 0b0000, 0b0101, 0b1010)
"""For which of four states, and the next four, a |Y> stands; it is tried until an outcome is certain."""


def check_fragments(
    program: LogicalProgram, fragments: FragmentProgram, distance: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Form, meaning, idles and distance.  Returns facts; ``skipped`` says what was left out for its size.  Raises Wrong."""
    check_layout(program, fragments, distance)
    try:
        found = check_meaning(program, fragments, seed)
    except TooLarge as error:
        return {"skipped": [f"meaning and distance: {error}"]}
    facts: dict[str, Any] = {"paths": found.paths, "shots": found.shots}
    for decisions in found.decisions[:DISTANCES]:
        path = _noisy(fragments, decisions)
        check_idles(program, fragments.distance, path)
        certain = path.certain()
        if not certain:
            continue
        if path.detectors > MOST_DETECTORS:
            found.skipped.append(f"the distance of a path with {path.detectors} detectors")
            continue
        circuit = path.circuit(map(path.records_of, certain))
        try:
            least = len(circuit.shortest_graphlike_error())
        except ValueError as error:
            raise Wrong(f"the circuit has no distance: {str(error).splitlines()[0]}") from None
        if least < fragments.distance:
            raise Wrong(f"{least} errors change an outcome and no detector, at distance {fragments.distance}")
        facts["distance"] = least
    if found.skipped:
        facts["skipped"] = found.skipped
    return facts


def _noisy(fragments: FragmentProgram, decisions: Sequence[int]) -> Lattice:
    """A path with noise; where it has T gates, with stand-ins that make some outcome certain, if there are any."""
    for pattern in STAND_INS:
        path = lattice(
            fragments,
            decisions,
            Calibration.uniform(1e-3),
            stands=lambda state, pattern=pattern: bool(pattern >> (state - 1) % 4 & 1),
        )
        if path.certain() or not path.gadgets:
            break
    return path
