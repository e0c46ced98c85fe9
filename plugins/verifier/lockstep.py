# SPDX-License-Identifier: Apache-2.0
"""Two programs run side by side, with the same outcomes forced on both: from every state at once, see `worlds`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Final

from qcos_plugins.verifier.alignment import aligned
from qcos_plugins.verifier.finding import TooLarge, Wrong
from qcos_plugins.verifier.steps import Step, unrolled, walk
from qcos_plugins.verifier.worlds import MOST_AMPLITUDES, ROUNDING, Amplitudes, Stabilisers, World

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
    tolerance: float = ROUNDING,
) -> int:
    """Whether two programs do the same on a number of paths, which is returned.

    On each path: the same measurements, each certain in both or random in both, the same idles and barriers on qubits in the
    same state, and the same state at the end.  ``tolerance``: of probabilities and density matrices, for gates that are no Clifford gates.  Raises Wrong where they differ, TooLarge.
    """
    everything = (*first, *second)
    resets = max(sum(step.kind == "reset" for step in walk(steps)) for steps in (first, second))
    qubits = sorted({qubit for step in everything for qubit in step.qubits})
    size = 2 * len(qubits) + resets
    clifford = all(step.kind != "gate" or step.tableau is not None for step in walk(everything))
    most = MOST_QUBITS if clifford else MOST_AMPLITUDES
    if size > most:
        raise TooLarge(f"{size} qubits to be simulated, more than {most}")
    kind: type[World] = Stabilisers if clifford else Amplitudes
    wishes = _wishes(everything)
    if (PATHS + len(wishes)) * len(everything) > MOST_STEPS:
        raise TooLarge(f"{len(everything)} operations on {PATHS + len(wishes)} paths")
    seen = set()
    for number, wish in enumerate([*wishes, *({} for _ in range(PATHS))]):
        outcomes, mine = _scout(first, bits, kind(qubits, resets), wish, Random(f"{seed}/{number}"))
        if frozenset(outcomes.items()) in seen:
            continue
        seen.add(frozenset(outcomes.items()))
        other = normal(unrolled(second, bits, lambda bit, n, step, known=outcomes: _known(known, bit, n, step)))
        mine = normal(mine)
        worlds = kind(qubits, resets), kind(qubits, resets)
        _together(mine, aligned(mine, other), outcomes, *worlds, tolerance)
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


def _scout(
    steps: Sequence[Step],
    bits: int,
    world: World,
    wish: dict[int, int],
    random: Random,
) -> tuple[Outcomes, list[Step]]:
    """A path that a program can take, and what it does on it.  ``wish``: what its random outcomes give where they can."""
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
                odds = world.odds(step.qubits[0])
                value = int(odds) if odds in (0, 1) else wish.get(step.bit, random.randrange(2))
                world.force(step.qubits[0], value)
                outcomes[step.bit, written[step.bit]] = values[step.bit] = value
                written[step.bit] += 1

    follow(steps, [0] * bits, [0] * bits)
    return outcomes, pending


def _together(
    first: Sequence[Step], second: Sequence[Step], outcomes: Outcomes, mine: World, other: World, tolerance: float
) -> None:
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
            odds = mine.odds(qubit), other.odds(qubit)
            if abs(odds[0] - odds[1]) > tolerance:
                said = [_chance(value) for value in odds]
                raise Wrong(f"the {step.text()} was {said[0]} and became {said[1]}, after {_text(outcomes, written)}")
            number = written.get(step.bit, 0)
            written[step.bit] = number + 1
            mine.force(qubit, outcomes[step.bit, number])
            other.force(qubit, outcomes[step.bit, number])
        elif mine.differs(other, step.qubits, tolerance):
            raise Wrong(f"the {step.text()} meets another state, after {_text(outcomes, written)}")
    for follower in theirs:
        other.gate(follower)
    if mine.differs(other, mine.place, tolerance):
        raise Wrong(f"it ends in another state, after {_text(outcomes, written)}")


def _chance(odds: float) -> str:
    """The probability of 1, for people."""
    return "a coin flip" if odds == 0.5 else f"always {odds:.0f}" if odds in (0, 1) else f"1 in {odds:.1%} of the cases"


def _text(outcomes: Outcomes, written: dict[int, int]) -> str:
    """The outcomes so far, for people."""
    said = [f"bit {bit} = {outcomes[bit, n - 1]}" for bit, n in sorted(written.items())]
    return ", ".join(said[:12]) + (", ..." if len(said) > 12 else "") if said else "no outcome"
