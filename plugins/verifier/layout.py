# SPDX-License-Identifier: Apache-2.0
"""The outer form of fragments: what can be seen without running them."""

from __future__ import annotations

from collections import Counter

from qcos_plugins.verifier.equivalence import check_registers
from qcos_plugins.verifier.finding import Wrong

from qcosd.qec.fragment import HANDOVERS, ROUND, Choose, Fragment, FragmentProgram, Handover, Merge, Slot
from qcosd.qec.geometry import Coord
from qcosd.qec.program import LogicalProgram


def check_layout(program: LogicalProgram, fragments: FragmentProgram, distance: int | None) -> None:
    """Registers, distance, decisions, and in each slot: operations apart, every plaquette of every region measured.

    ``distance``: that was asked for.  Raises Wrong.
    """
    check_registers(program.classical_registers, fragments.registers, "classical")
    if fragments.qubits != program.qubits:
        raise Wrong(f"{fragments.qubits} qubits, {program.qubits} expected")
    if distance is not None and fragments.distance != distance:
        raise Wrong(f"distance {fragments.distance}, {distance} was asked for")
    for number, fragment in enumerate(fragments.fragments):
        _check_ends(fragment, number, len(fragments.fragments), fragments.bits + fragments.scratch)
        _check_scratch(fragment, fragments.bits, fragments.scratch)
        for i, slot in enumerate(fragment.slots):
            _check_slot(slot, f"fragment {number}, slot {i}")


def _check_ends(fragment: Fragment, number: int, fragments: int, bits: int) -> None:
    if fragment.index != number:
        raise Wrong(f"fragment {number} says that it is number {fragment.index}")
    if any(not 0 <= i < len(fragment.slots) or repeats < 1 for i, repeats in fragment.timeline):
        raise Wrong(f"fragment {number}: its timeline names a slot that is not there")
    decision = fragment.decision
    if decision is None:
        return
    # Forward only: every path ends.
    if any(not number < target < fragments for target in (decision.otherwise, decision.then)):
        raise Wrong(f"decision {decision.k} leads to a fragment that is not behind it")
    if any(not 0 <= bit < bits for bit in decision.condition.bits):
        raise Wrong(f"decision {decision.k} reads a bit that is not there")


def _check_scratch(fragment: Fragment, bits: int, scratch: int) -> None:
    """What decisions of T gates are made of and written into is nobody's result; and each says which one it is."""
    for event in (event for slot in fragment.slots for event in slot.events):
        written = event.bit if isinstance(event, Merge | Choose) else -1
        if written >= 0 and not bits <= written < bits + scratch:
            raise Wrong(f"fragment {fragment.index}: a T gate writes bit {written}, which is no scratch bit")
        if isinstance(event, Handover) and (event.state == "YX") != (event.choice >= 0):
            raise Wrong(f"fragment {fragment.index}: state {event.state} is handed over by decision {event.choice}")
    for slot in fragment.slots:
        told = {e.patch: (e.state, e.choice) for e in slot.events if isinstance(e, Handover)}
        for part in slot.parts:
            for name in (i.name for i in part.instructions if i.name in HANDOVERS):
                if told.get(part.patches[0]) != (HANDOVERS[name], part.choice):
                    raise Wrong(f"fragment {fragment.index}: {name} is told as {told.get(part.patches[0])}")


def _check_slot(slot: Slot, where: str) -> None:
    # On one region operations follow one another by rank; those of one rank happen side by side.
    used: dict[tuple[int, Coord], int] = {}
    measured: Counter[Coord] = Counter()
    for number, part in enumerate(slot.parts):
        for name, targets in part.instructions:
            for site in targets:
                if used.setdefault((part.rank, site), number) != number:
                    raise Wrong(f"{where}: two operations that happen side by side share site {list(site)}")
            if part.rank == ROUND and name in ("M", "MX"):
                measured.update(targets)
    owner: dict[Coord, int] = {}
    for number, region in enumerate(slot.regions):
        plaquettes = [plaquette.centre for plaquette in region.rect.plaquettes()]
        for site in (*region.rect.data(), *plaquettes):
            if owner.setdefault(site, number) != number:
                raise Wrong(f"{where}: two regions share site {list(site)}")
        missing = [centre for centre in plaquettes if measured[centre] != 1]
        if missing:
            raise Wrong(f"{where}: plaquette {list(missing[0])} is measured {measured[missing[0]]} times in its round")
    for event in slot.events:
        if isinstance(event, Merge) and not any(
            region.patches == (event.first, event.second) and region.basis == event.basis for region in slot.regions
        ):
            raise Wrong(
                f"{where}: patches {event.first} and {event.second} are merged, and no region measures {event.basis * 2}"
            )
    patches = Counter(patch for region in slot.regions for patch in region.patches)
    if twice := [patch for patch, times in patches.items() if times > 1]:
        raise Wrong(f"{where}: patch {twice[0]} lives in two regions")
