# SPDX-License-Identifier: Apache-2.0
"""Two programs run side by side on stabiliser simulators, with the same outcomes forced on both.

Every qubit begins as one half of a pair, whose other half, its *reference*, is never touched: what the program does to
any state can be read from such a one.  A qubit that is reset leaves its old state behind, which nobody sees any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final

import stim
from qcos_plugins.verifier.alignment import aligned
from qcos_plugins.verifier.finding import TooLarge, Wrong
from qcos_plugins.verifier.steps import Step, unrolled, walk

PATHS: Final = 16
"""Runs with random outcomes; to these come two for each condition, in which it holds and does not."""
MOST_CONDITIONS: Final = 32
MOST_QUBITS: Final = 400
"""Of one simulator: references and states left behind included."""
MOST_STEPS: Final = 200_000
"""Over all runs."""

Outcomes = dict[tuple[int, int], int]
"""(bit, n) -> what the n-th measurement into the bit gave."""


def run_side_by_side(
    first: Sequence[Step],
    second: Sequence[Step],
    bits: int,
    seed: int = 0,
    normal: Callable[[Iterable[Step]], list[Step]] = list,
) -> int:
    """Whether two programs do the same on a number of paths, which is returned.

    On each path: the same measurements, each certain in both or random in both, the same idles and barriers on qubits in the
    same state, and the same state at the end.  Raises Wrong where they differ, TooLarge.
    """
    everything = (*first, *second)
    if any(step.kind == "gate" and step.tableau is None for step in walk(everything)):
        raise TooLarge("T gates, which stabilisers say nothing of")
    resets = max(sum(step.kind == "reset" for step in walk(steps)) for steps in (first, second))
    qubits = sorted({qubit for step in everything for qubit in step.qubits})
    size = 2 * len(qubits) + resets
    if size > MOST_QUBITS:
        raise TooLarge(f"{size} qubits to be simulated, more than {MOST_QUBITS}")
    wishes = _wishes(everything)
    if (PATHS + len(wishes)) * len(everything) > MOST_STEPS:
        raise TooLarge(f"{len(everything)} operations on {PATHS + len(wishes)} paths")
    seen = set()
    for number, wish in enumerate([*wishes, *({} for _ in range(PATHS))]):
        outcomes, mine = _scout(first, bits, qubits, resets, wish, Random(f"{seed}/{number}"))
        if frozenset(outcomes.items()) in seen:
            continue
        seen.add(frozenset(outcomes.items()))
        other = normal(unrolled(second, bits, lambda bit, n, step, known=outcomes: _known(known, bit, n, step)))
        mine = normal(mine)
        _together(mine, aligned(mine, other), outcomes, _World(qubits, resets), _World(qubits, resets))
    return len(seen)


def _wishes(steps: Iterable[Step]) -> list[dict[int, int]]:
    """For each condition values of bits with which it holds, and with which it does not."""
    guards = dict.fromkeys(step.guard for step in walk(steps) if step.guard is not None)
    found = [guard.wish(holds) for guard in list(guards)[:MOST_CONDITIONS] for holds in (True, False)]
    return [wish for wish in found if wish is not None]


def _known(outcomes: Outcomes, bit: int, n: int, step: Step) -> int:
    if (bit, n) not in outcomes:
        raise Wrong(f"there is one {step.text()} too many")
    return outcomes[bit, n]


class _World:
    """One simulator: states left behind first, then references, then the qubits."""

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

    def certain(self, qubit: int) -> int | None:
        """What a measurement must give; None where it is a coin flip."""
        expected = self.simulator.peek_z(self.place[qubit])
        return None if expected == 0 else int(expected < 0)

    def force(self, qubit: int, value: int) -> None:
        self.simulator.postselect_z(self.place[qubit], desired_value=bool(value))

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


def _scout(
    steps: Sequence[Step],
    bits: int,
    qubits: Sequence[int],
    resets: int,
    wish: dict[int, int],
    random: Random,
) -> tuple[Outcomes, list[Step]]:
    """A path that a program can take, and what it does on it.  ``wish``: what its random outcomes give where they can."""
    world = _World(qubits, resets)
    outcomes: Outcomes = {}
    pending: list[Step] = []

    def follow(some: Iterable[Step], values: list[int], written: list[int]) -> None:
        for step in some:
            if step.kind in ("if", "let"):
                assert step.guard is not None
                holds = step.guard.holds(values)
                if step.kind == "let":
                    values[step.bit] = int(holds)
                elif holds:
                    follow(step.body, values, written)
                continue
            pending.append(step)
            if step.kind == "gate":
                world.gate(step)
            elif step.kind == "reset":
                world.reset(step.qubits[0])
            elif step.kind == "measure":
                certain = world.certain(step.qubits[0])
                value = wish.get(step.bit, random.randrange(2)) if certain is None else certain
                world.force(step.qubits[0], value)
                outcomes[step.bit, written[step.bit]] = values[step.bit] = value
                written[step.bit] += 1

    follow(steps, [0] * bits, [0] * bits)
    return outcomes, pending


def _together(first: Sequence[Step], second: Sequence[Step], outcomes: Outcomes, mine: _World, other: _World) -> None:
    """``second``: aligned to the first."""
    theirs = iter(second)
    written: dict[int, int] = {}
    for step in first:
        if not step.fence:
            mine.gate(step)
            continue
        for follower in theirs:
            if follower.fence:
                break
            other.gate(follower)
        if step.kind == "reset":
            mine.reset(step.qubits[0])
            other.reset(step.qubits[0])
        elif step.kind == "measure":
            (qubit,) = step.qubits
            certain = mine.certain(qubit)
            if certain != other.certain(qubit):
                said = [
                    "a coin flip" if value is None else f"always {value}" for value in (certain, other.certain(qubit))
                ]
                raise Wrong(f"the {step.text()} was {said[0]} and became {said[1]}, after {_text(outcomes, written)}")
            number = written.get(step.bit, 0)
            written[step.bit] = number + 1
            mine.force(qubit, outcomes[step.bit, number])
            other.force(qubit, outcomes[step.bit, number])
        elif mine.state(step.qubits) != other.state(step.qubits):
            raise Wrong(f"the {step.text()} meets another state, after {_text(outcomes, written)}")
    for follower in theirs:
        other.gate(follower)
    if mine.state(mine.place) != other.state(other.place):
        raise Wrong(f"it ends in another state, after {_text(outcomes, written)}")


def _text(outcomes: Outcomes, written: dict[int, int]) -> str:
    """The outcomes so far, for people."""
    said = [f"bit {bit} = {outcomes[bit, n - 1]}" for bit, n in sorted(written.items())]
    return ", ".join(said[:12]) + (", ..." if len(said) > 12 else "") if said else "no outcome"
