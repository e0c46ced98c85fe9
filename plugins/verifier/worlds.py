# SPDX-License-Identifier: Apache-2.0
"""Simulators of a program on every state at once: stabilisers for Clifford gates, amplitudes for few qubits with others.

Every qubit begins as one half of a pair, whose other half, its *reference*, is never touched: what the program does to any
state can be read from such a one.  A qubit that is reset leaves its old state behind, which nobody sees any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Protocol, Self

import numpy as np
import stim
from qcos_plugins.verifier.steps import Step

MOST_AMPLITUDES: Final = 14
"""Qubits of amplitudes: references and states left behind included."""
ROUNDING: Final = 1e-9


class World(Protocol):
    place: dict[int, int]
    """Of each qubit."""

    def __init__(self, qubits: Sequence[int], resets: int) -> None: ...

    def gate(self, step: Step) -> None: ...

    def reset(self, qubit: int) -> None: ...

    def odds(self, qubit: int) -> float:
        """Probability that a measurement gives 1."""

    def force(self, qubit: int, value: int) -> None:
        """A measurement gives a value that is possible."""

    def differs(self, other: Self, qubits: Iterable[int], tolerance: float) -> bool:
        """Whether some qubits and all references are in another state."""


class Stabilisers:
    """States left behind stand first, then references, then the qubits."""

    def __init__(self, qubits: Sequence[int], resets: int) -> None:
        self.simulator = stim.TableauSimulator(seed=0)
        self.place = {qubit: resets + len(qubits) + number for number, qubit in enumerate(qubits)}
        self.references = list(range(resets, resets + len(qubits)))
        self.size = resets + 2 * len(qubits)
        self._left = 0
        self.simulator.set_num_qubits(self.size)
        for reference, place in zip(self.references, self.place.values(), strict=True):
            self.simulator.h(reference)
            self.simulator.cx(reference, place)

    def gate(self, step: Step) -> None:
        self.simulator.do_tableau(step.tableau, [self.place[qubit] for qubit in step.qubits])

    def reset(self, qubit: int) -> None:
        self.simulator.swap(self._left, self.place[qubit])
        self._left += 1

    def odds(self, qubit: int) -> float:
        return (1 - self.simulator.peek_z(self.place[qubit])) / 2

    def force(self, qubit: int, value: int) -> None:
        self.simulator.postselect_z(self.place[qubit], desired_value=bool(value))

    def differs(self, other: Stabilisers, qubits: Iterable[int], tolerance: float) -> bool:
        chosen = list(qubits)
        return self.state(chosen) != other.state(chosen)

    def state(self, qubits: Iterable[int]) -> list[stim.PauliString]:
        """Of some qubits and all references, in a form that is the same for equal states."""
        kept = {*self.references, *(self.place[qubit] for qubit in qubits)}
        others = [place for place in range(self.size) if place not in kept]
        # What is left out goes first: the generators after its part in the canonical form are those of the rest.
        order = [*others, *sorted(kept)]
        stabilisers = stim.Tableau.from_stabilizers(
            [_permuted(string, order) for string in self.simulator.canonical_stabilizers()]
        ).to_stabilizers(canonicalize=True)
        return [s for s in stabilisers if not any(s[place] for place in range(len(others)))]


def _permuted(string: stim.PauliString, order: Sequence[int]) -> stim.PauliString:
    out = stim.PauliString([string[place] for place in order])
    return out * string.sign


class Amplitudes:
    """A state vector, one axis for each reference, qubit, and state left behind, in this order."""

    def __init__(self, qubits: Sequence[int], resets: int) -> None:
        count = len(qubits)
        self.place = {qubit: count + number for number, qubit in enumerate(qubits)}
        # Every reference equals its qubit.
        self._state = np.eye(2**count, dtype=complex).reshape((2,) * (2 * count)) / 2 ** (count / 2)

    def gate(self, step: Step) -> None:
        assert step.matrix is not None
        axes, count = [self.place[qubit] for qubit in step.qubits], len(step.qubits)
        tensor = step.matrix.reshape((2,) * (2 * count))
        moved = np.tensordot(tensor, self._state, axes=(range(count, 2 * count), axes))
        self._state = np.moveaxis(moved, range(count), axes)

    def reset(self, qubit: int) -> None:
        fresh = self._state[..., None] * np.array([1, 0])
        self._state = np.swapaxes(fresh, self.place[qubit], fresh.ndim - 1)

    def odds(self, qubit: int) -> float:
        one = float((abs(self._state.take(1, self.place[qubit])) ** 2).sum())
        return float(round(one)) if abs(one - round(one)) < ROUNDING else one

    def force(self, qubit: int, value: int) -> None:
        kept = np.zeros_like(self._state)
        where: list[slice | int] = [slice(None)] * self._state.ndim
        where[self.place[qubit]] = value
        kept[tuple(where)] = self._state[tuple(where)]
        self._state = kept / np.linalg.norm(kept)

    def differs(self, other: Amplitudes, qubits: Iterable[int], tolerance: float) -> bool:
        chosen = list(qubits)
        return bool(np.abs(self._density(chosen) - other._density(chosen)).max() > tolerance)

    def _density(self, qubits: Sequence[int]) -> np.ndarray:
        """Of some qubits and all references."""
        kept = [*range(len(self.place)), *sorted(self.place[qubit] for qubit in qubits)]
        whole = np.moveaxis(self._state, kept, range(len(kept))).reshape(2 ** len(kept), -1)
        return np.asarray(whole @ whole.conj().T)
