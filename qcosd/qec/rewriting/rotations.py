# SPDX-License-Identifier: Apache-2.0
"""A run of gates as rotations by pi/4 about Pauli products, and Clifford gates behind all of them.

A T gate behind Clifford gates C is C and before it exp(-i pi/8 P), with P = C^-1 Z C.  Two rotations about the same product
with nothing but commuting ones between them are one Clifford gate.  So this both finds T gates that cancel, however far apart
they are, and tells that two runs are the same, on any number of qubits and without rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import stim

from qcosd.qec.rewriting.folding import Gate

NAMES: Final = {"h": "H", "s": "S", "sdg": "S_DAG", "x": "X", "y": "Y", "z": "Z", "cx": "CX"}
"""Clifford gates of a logical program as stim calls them."""
_INVERSE: Final = {kind: stim.Tableau.from_named_gate(name).inverse(unsigned=False) for kind, name in NAMES.items()}


class Rotations:
    """Takes gates one by one, first one first.  `qubits`: how many there are, counted from 0."""

    def __init__(self, qubits: int) -> None:
        self._inverse = stim.Tableau(qubits)  # of the Clifford gates that stand behind all rotations
        self._turns: list[
            tuple[stim.PauliString, int, int]
        ] = []  # product, eighths of a turn (1 or -1), place in the run
        self._place = 0
        self.merged: dict[int, str] = {}
        """Places of T gates that are not needed, with what to do instead: "s", "sdg", or "" for nothing."""

    def add(self, kind: str, qubits: Sequence[int]) -> None:
        """Takes a gate."""
        if kind in ("t", "tdg"):
            self._turn(qubits[0], 1 if kind == "t" else -1)
        else:
            self._inverse.prepend(_INVERSE[kind], qubits)
        self._place += 1

    def same_as(self, other: Rotations) -> bool:
        """Whether both are the same up to the order of rotations that commute.  False says nothing: T gates may cancel otherwise."""
        if len(self._turns) != len(other._turns) or self._inverse != other._inverse:
            return False
        rest = [product for product, _, _ in other._turns]
        for product, _, _ in self._turns:
            for place, candidate in enumerate(rest):
                if candidate == product:
                    del rest[place]
                    break
                if not candidate.commutes(product):
                    return False
            else:
                return False
        return True

    def _turn(self, qubit: int, eighths: int) -> None:
        product = self._inverse.z_output(qubit)
        sign = int(product.sign.real)
        product *= sign
        eighths *= sign
        if eighths < 0:
            self._behind(product, "SPP")  # T^-1 is T, and S^-1 behind it
        for index in range(len(self._turns) - 1, -1, -1):
            known, before, place = self._turns[index]
            if known == product:
                del self._turns[index]
                self._behind(product, "SPP_DAG")
                self.merged[place] = ""
                self.merged[self._place] = {2: "s", 0: "", -2: "sdg"}[sign * (before + eighths)]
                return
            if not known.commutes(product):
                break
        self._turns.append((product, eighths, self._place))

    def _behind(self, product: stim.PauliString, inverse: str) -> None:
        """Puts the gate with this inverse about a product between the rotations and the Clifford gates."""
        text = "*".join(f"{'_XYZ'[product[qubit]]}{qubit}" for qubit in product.pauli_indices())
        circuit = stim.Circuit(f"I {len(product) - 1}\n{inverse} {text}")
        self._inverse = self._inverse.then(circuit.to_tableau())


def rotations_of(gates: Iterable[Gate], places: Mapping[int, int]) -> Rotations:
    """The rotations of gates on qubits counted by `places`."""
    rotations = Rotations(max(1, len(places)))
    for kind, qubits in gates:
        rotations.add(kind, [places[qubit] for qubit in qubits])
    return rotations


def merged(gates: Sequence[Gate], qubits: int) -> list[Gate]:
    """The same gates with T gates that are rotations about the same product taken together, at the place of the last one."""
    found = rotations_of(gates, {qubit: qubit for qubit in range(qubits)}).merged
    out: list[Gate] = []
    for place, (kind, targets) in enumerate(gates):
        instead = found.get(place, kind)
        if instead:
            out.append((instead, targets))
    return out
