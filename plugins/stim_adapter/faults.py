# SPDX-License-Identifier: Apache-2.0
"""Single faults, to be injected on purpose: every Pauli that the noise model could produce, where it could strike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

from qcos_plugins.stim_adapter.steps import Place

from qcosd.qec.calibration import Calibration, noise_after, noise_before
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.geometry import Coord

_EVERYWHERE = Calibration.uniform(0.25)  # the rate does not matter: it must not be 0


class Fault(NamedTuple):
    """Paulis ("X", "Y", "Z") on sites, before or after an instruction.  ``slot``: absolute slot of the path."""

    slot: int
    part: int
    instruction: int
    after: bool
    paulis: tuple[tuple[Coord, str], ...]

    @property
    def place(self) -> Place:
        return (self.part, self.instruction, self.after)


def faults_of(program: FragmentProgram, decisions: Iterable[int] = ()) -> list[Fault]:
    """Every single fault of one path through a program: each Pauli of each noise channel, at its place."""
    found = []
    slots = (slot for fragment in program.path(decisions) for slot in fragment.sequence())
    for number, slot in enumerate(slots):
        for i, part in enumerate(slot.parts):
            for j, instruction in enumerate(part.instructions):
                for after, lines in ((False, noise_before), (True, noise_after)):
                    for channel, _, sites, *_ in lines(instruction, _EVERYWHERE):
                        found += [Fault(number, i, j, after, paulis) for paulis in _paulis(channel, sites)]
    return found


def _paulis(channel: str, sites: tuple[Coord, ...]) -> Iterator[tuple[tuple[Coord, str], ...]]:
    if channel == "DEPOLARIZE2":
        for pair in zip(sites[::2], sites[1::2], strict=True):
            for two in product("IXYZ", repeat=2):
                if two != ("I", "I"):
                    yield tuple((site, pauli) for site, pauli in zip(pair, two, strict=True) if pauli != "I")
        return
    for site in sites:
        for pauli in {"X_ERROR": "X", "Z_ERROR": "Z", "DEPOLARIZE1": "XYZ"}[channel]:
            yield ((site, pauli),)
