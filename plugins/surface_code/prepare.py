# SPDX-License-Identifier: Apache-2.0
"""A logical program becomes fragments of lattice surgery: one for its beginning, and two behind each decision.

Behind decision k, fragment 2k + 1 holds what follows, up to the next decision, and fragment 2k + 2 the body and the
same again.  Both end with the same patches alive and idle, so either may come before the next two.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from qcos_plugins.surface_code.builder import Builder
from qcos_plugins.surface_code.floor import data_cell
from qcos_plugins.surface_code.flow import Flow
from qcos_plugins.surface_code.schedule import Schedule, Unborn

from qcosd.qec.fragment import Decision, Fragment, FragmentProgram
from qcosd.qec.program import LogicalProgram

HANDED_OVER = (
    "encoded |Y> states for S gates are idealised: they arrive with known syndrome and with the error rate noise.handover "
    "of the device on each data qubit; their distillation is not simulated"
)
MOVED = "H is transversal, followed by a quarter turn of the patch that moves its qubits in no time"


def prepare(program: LogicalProgram, distance: int, movement: bool = True) -> FragmentProgram:
    """``movement``: whether the device can move qubits, which an H between other gates needs.

    Raises schedule.Unsupported for an H that the device cannot do, ValueError for a distance that is not odd and >= 3.
    """
    flow = Flow.of(program)
    tags = count()
    unborn: dict[int, Unborn] = {}
    fragments: list[Fragment] = []
    builders: list[Builder] = []
    last = len(flow.decisions)
    for k in range(last + 1):
        # k counts the decisions behind us; the fragment that does not do the body comes first.
        starts = [(2 * k, (2 * k,))] if k == 0 else [(2 * k, (2 * k,)), (2 * k - 1, (2 * k - 1, 2 * k))]
        entry = flow.alive(k - 1) if k else frozenset()
        before = unborn
        for place, places in starts:
            schedule = Schedule(distance, program.qubits, movement, flow.last_use, tags, entry, before)
            schedule.run(place, flow.steps(*places))
            builder = Builder(distance, {qubit: data_cell(qubit) for qubit in sorted(entry)}, tags)
            decision = None
            length = -1
            if k < last:
                condition = flow.decisions[k].condition
                assert condition is not None
                decision = Decision(k, condition, 2 * k + 1, 2 * k + 2)
                length = schedule.finish(flow.alive(k), condition)
            for slot, _, act in sorted(schedule.actions, key=lambda action: action[:2]):
                builder.until(slot)
                act(builder)
            if decision is not None:
                builder.until(length)
            if place == 2 * k:
                unborn = schedule.unborn
            fragments.append(builder.fragment(len(fragments), decision))
            builders.append(builder)
    kinds = {
        instruction.name for f in fragments for s in f.slots for part in s.parts for instruction in part.instructions
    }
    return FragmentProgram(
        distance=distance,
        qubits=program.qubits,
        registers=program.classical_registers,
        fragments=tuple(fragments),
        cells=(max(b.extent[0] for b in builders), max(b.extent[1] for b in builders)),
        assumptions=tuple(text for name, text in (("HANDOVER_Y", HANDED_OVER), ("PERM", MOVED)) if name in kinds),
    )


def facts(program: FragmentProgram) -> dict[str, Any]:
    """For the job's document: ``patches`` alive at once at most, ``rounds`` of the longest path, ``assumptions``."""
    longest: dict[int, int] = {}
    for fragment in reversed(program.fragments):
        behind = fragment.decision
        tail = max(longest[behind.otherwise], longest[behind.then]) if behind else 0
        longest[fragment.index] = fragment.rounds + tail
    regions = (slot.regions for fragment in program.fragments for slot in fragment.slots)
    return {
        "distance": program.distance,
        "patches": max(sum(len(region.patches) for region in slot) for slot in regions),
        "fragments": len(program.fragments),
        "rounds": longest[0],
        "decisions": len(program.fragments) // 2,
        "assumptions": list(program.assumptions),
    }
