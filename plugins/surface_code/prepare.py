# SPDX-License-Identifier: Apache-2.0
"""A logical program becomes fragments of lattice surgery: one for its beginning, and two behind each decision.

Behind decision k, fragment 2k + 1 holds what follows on the body, up to the next decision, and fragment 2k + 2 the body
up to the next decision, which may be one within it or behind it.  All fragments that end in a decision end with the same
patches alive and idle, so any of them may come before its two.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from qcos_plugins.surface_code.builder import Builder
from qcos_plugins.surface_code.floor import data_cell
from qcos_plugins.surface_code.flow import Flow
from qcos_plugins.surface_code.inserted import inserted
from qcos_plugins.surface_code.schedule import Schedule, Unborn

from qcosd.qec.fragment import Decision, Fragment, FragmentProgram
from qcosd.qec.program import LogicalProgram

HANDED_OVER = (
    "encoded {} are idealised: they arrive with known syndrome and with the error rate noise.handover "
    "of the device on each data qubit; their distillation is not simulated"
)
MAX_BRANCHES = 64
"""Paths that a batch may be split into."""
MANY = 2**53
"""Where the counting of paths ends: numbers up to here are exact in every reader of JSON."""
MOVED = "H is transversal, followed by a quarter turn of the patch that moves its qubits in no time"
ASSUMPTIONS = {
    "HANDOVER_Y": HANDED_OVER.format("|Y> states for S gates"),
    "HANDOVER_T": HANDED_OVER.format("|T> and |Y> states for T gates"),
    "PERM": MOVED,
}
"""Instruction -> what a reader of the result must know where a program has it."""


def prepare(
    program: LogicalProgram, distance: int, movement: bool = True, lead: int = 0, insert: bool = False
) -> FragmentProgram:
    """``movement``: whether the device can move qubits, which an H between other gates needs.  ``lead``: rounds that the
    decision of a T gate gets, at least, from where it can be made to where it is needed.

    ``insert``: a T gate that went the wrong way is corrected by an S in a branch of its own, and takes d rounds less where it did
    not; without, all shots make the same rounds, and there are no branches.

    Raises schedule.Unsupported for an H that the device cannot do, ValueError for a distance that is not odd and >= 3.
    """
    flow = Flow.of(inserted(program.ops, program.bits) if insert else program.ops)
    lead = -(-lead // distance) * distance
    tags, choices = count(), count(len(flow.forks))
    unborn: dict[int, dict[int, Unborn]] = {-1: {}}  # at each decision, -1 the beginning
    fragments: list[Fragment] = []
    builders: list[Builder] = []
    for behind in range(-1, len(flow.forks)):
        entry = flow.alive(behind) if behind >= 0 else frozenset()
        fork = flow.forks[behind] if behind >= 0 else None
        # The fragment that does not do the body comes first.
        for place in (0,) if fork is None else (fork.behind, fork.place + 1):
            steps, k = flow.run(place)
            schedule = Schedule(
                distance,
                program.qubits,
                movement,
                flow.last_use,
                tags,
                choices,
                program.bits,
                lead,
                entry,
                unborn[behind],
            )
            schedule.run(place, steps)
            builder = Builder(distance, {qubit: data_cell(qubit) for qubit in sorted(entry)}, tags)
            decision = None
            length = -1
            if k is not None:
                condition = flow.forks[k].condition
                decision = Decision(k, condition, 2 * k + 1, 2 * k + 2)
                length = schedule.finish(flow.alive(k), condition)
                # A qubit that a body touches is alive before it: what is unborn is the same on all paths.
                assert unborn.setdefault(k, schedule.unborn) == schedule.unborn
            for slot, _, act in sorted(schedule.actions, key=lambda action: action[:2]):
                builder.until(slot)
                act(builder)
            if decision is not None:
                builder.until(length)
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
        assumptions=tuple(text for name, text in ASSUMPTIONS.items() if name in kinds),
        scratch=3 * program.qubits if "HANDOVER_T" in kinds else 0,
    )


def facts(program: FragmentProgram, max_branches: int = MAX_BRANCHES) -> dict[str, Any]:
    """For the job's document: ``patches`` alive at once at most, ``rounds`` of the longest path, ``paths`` that decisions
    may take (MANY stands for MANY or more), ``assumptions``.

    ``batch_limit``, where there are more paths than ``max_branches``: a batch of so many shots meets no more paths.
    """
    longest: dict[int, int] = {}
    paths: dict[int, int] = {}
    # A fragment stands before those that follow it.  Paths are counted and not walked: there may be 2**decisions.
    for fragment in reversed(program.fragments):
        behind = fragment.decision
        tail = max(longest[behind.otherwise], longest[behind.then]) if behind else 0
        longest[fragment.index] = fragment.rounds + tail
        paths[fragment.index] = min(MANY, paths[behind.otherwise] + paths[behind.then]) if behind else 1
    regions = (slot.regions for fragment in program.fragments for slot in fragment.slots)
    return {
        "distance": program.distance,
        "patches": max(sum(len(region.patches) for region in slot) for slot in regions),
        "fragments": len(program.fragments),
        "rounds": longest[0],
        "decisions": len(program.fragments) // 2,
        "paths": paths[0],
        "assumptions": list(program.assumptions),
        **({"batch_limit": max_branches} if paths[0] > max_branches else {}),
    }
