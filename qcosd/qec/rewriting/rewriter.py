# SPDX-License-Identifier: Apache-2.0
"""Rewrites the gates of a logical program at less cost. Everything that is no gate stays what and where it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from qcosd.qec.program import GATES, LogicalProgram, Op
from qcosd.qec.rewriting.cost import Cost, cost_of
from qcosd.qec.rewriting.equivalence import equivalent
from qcosd.qec.rewriting.folding import Gate
from qcosd.qec.rewriting.segments import Segment, components_of, segments_of, with_replaced

Candidates = Callable[[tuple[Gate, ...], int], Iterable[tuple[str, list[Gate]]]]
"""Other ways of writing gates on qubits counted from 0, each with the name of what found it.  Nothing is promised of them."""


class Problem(NamedTuple):
    """A run on connected qubits, which are counted from 0; equal problems have equal solutions."""

    gates: tuple[Gate, ...]
    fresh: frozenset[int]
    read: frozenset[int]

    @staticmethod
    def ops(gates: Sequence[Gate]) -> list[Op]:
        return [Op(kind, targets, 0) for kind, targets in gates]


@dataclass
class Optimiser:
    """One run over a program. `expired()` says that the budget is spent; it is asked between candidates."""

    candidates: Candidates
    expired: Callable[[], bool] = lambda: False
    spent: bool = False
    """Whether the budget ended the run before everything was looked at."""
    replaced: Counter[str] = field(default_factory=Counter)
    """How often which way of writing was taken."""
    wrong: Counter[str] = field(default_factory=Counter)
    """How often a pass gave something else than it was given; such results are dropped."""
    _known: dict[Problem, tuple[Gate, ...] | None] = field(default_factory=dict)

    def program(self, program: LogicalProgram) -> LogicalProgram:
        """The optimised program, equivalent to the given one."""
        ops: list[Op] = []
        for segment in segments_of(program.ops):
            ops += self._segment(segment) if segment.unitary else segment.ops
        return LogicalProgram(program.quantum_registers, program.classical_registers, tuple(ops))

    def _segment(self, segment: Segment) -> tuple[Op, ...]:
        replaced = []
        for places in components_of(segment.ops):
            better = self._component([segment.ops[place] for place in places], segment)
            if better is not None:
                replaced.append((places, better))
        return with_replaced(segment.ops, replaced)

    def _component(self, gates: Sequence[Op], segment: Segment) -> tuple[Op, ...] | None:
        """Better gates for a run on connected qubits, or None. All of them get the line of the first one."""
        qubits = sorted({qubit for op in gates for qubit in op.qubits})
        places = {qubit: place for place, qubit in enumerate(qubits)}
        problem = Problem(
            tuple((op.kind, tuple(places[qubit] for qubit in op.qubits)) for op in gates),
            frozenset(places[qubit] for qubit in qubits if qubit in segment.fresh),
            frozenset(places[qubit] for qubit in qubits if qubit in segment.read),
        )
        if problem not in self._known:
            if self.spent or self.expired():
                self.spent = True
                return None
            self._known[problem] = self._best(problem, len(qubits))
        best = self._known[problem]
        if best is None:
            return None
        return tuple(Op(kind, tuple(qubits[place] for place in targets), gates[0].line) for kind, targets in best)

    def _best(self, problem: Problem, qubits: int) -> tuple[Gate, ...] | None:
        """The best equivalent candidate, or None if none is cheaper than the gates as they are."""
        gates = problem.ops(problem.gates)
        given = cost_of(gates, problem.fresh, problem.read)
        best: tuple[Gate, ...] | None = None
        least, chosen = given.rank(qubits), ""
        for name, written in self.candidates(problem.gates, qubits):
            ops = problem.ops(written)
            cost = cost_of(ops, problem.fresh, problem.read)
            if cost.beats(given) and cost.rank(qubits) < least:
                if equivalent(gates, ops):
                    best, least, chosen = tuple(written), cost.rank(qubits), name
                else:
                    self.wrong[name] += 1
            if self.expired():
                self.spent = True
                break
        if chosen:
            self.replaced[chosen] += 1
        return best


def rewritten(
    program: LogicalProgram, candidates: Candidates, expired: Callable[[], bool]
) -> tuple[LogicalProgram, dict[str, Any]]:
    """Optimises a program until `expired()`. Returns the program and facts:

    gates, T gates and cost before and after, which candidates were taken how often, and whether the budget was spent.
    """
    optimiser = Optimiser(candidates, expired)
    result = optimiser.program(program)
    facts = {
        "gates": {"before": _counts(program), "after": _counts(result)},
        "t_count": {"before": _t_gates(program), "after": _t_gates(result)},
        "cost": {"before": _cost(program), "after": _cost(result)},
        "passes": dict(sorted(optimiser.replaced.items())),
        "budget_spent": optimiser.spent,
    }
    if optimiser.wrong:
        facts["wrong_results"] = dict(sorted(optimiser.wrong.items()))
    return result, facts


def _counts(program: LogicalProgram) -> dict[str, int]:
    return dict(sorted(Counter(op.kind for op in program.ops if op.kind in GATES).items()))


def _t_gates(program: LogicalProgram) -> int:
    """Outside of ifs, whose bodies are left alone."""
    return sum(op.kind in ("t", "tdg") for op in program.ops)


def _cost(program: LogicalProgram) -> dict[str, int]:
    """Cost of all segments, one after the other."""
    costs = [cost_of(s.ops, s.fresh, s.read) for s in segments_of(program.ops) if s.unitary]
    return {key: sum(getattr(cost, key) for cost in costs) for key in Cost._fields}
