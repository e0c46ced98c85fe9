# SPDX-License-Identifier: Apache-2.0
"""Rewrites the gates of a logical program at less cost. Everything that is no gate stays what and where it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from qcos_plugins.pytket_optimise.cost import Cost, cost_of
from qcos_plugins.pytket_optimise.equivalence import equivalent
from qcos_plugins.pytket_optimise.passes import candidates
from qcos_plugins.pytket_optimise.segments import components_of, segments_of, with_replaced

from qcosd.qec.program import GATES, LogicalProgram, Op


@dataclass
class Optimiser:
    """One run over a program. `expired()` says that the budget is spent; it is asked between passes."""

    expired: Callable[[], bool] = lambda: False
    spent: bool = False
    """Whether the budget ended the run before everything was looked at."""
    replaced: Counter[str] = field(default_factory=Counter)
    """How often which way of writing was taken."""
    wrong: Counter[str] = field(default_factory=Counter)
    """How often a pass gave something else than it was given; such results are dropped."""
    _known: dict[tuple[Any, ...], tuple[tuple[str, tuple[int, ...]], ...] | None] = field(default_factory=dict)

    def program(self, program: LogicalProgram) -> LogicalProgram:
        """The optimised program, equivalent to the given one."""
        ops: list[Op] = []
        for unitary, run in segments_of(program.ops):
            ops += self._segment(run) if unitary else run
        return LogicalProgram(program.quantum_registers, program.classical_registers, tuple(ops))

    def _segment(self, gates: tuple[Op, ...]) -> tuple[Op, ...]:
        replaced = []
        for places in components_of(gates):
            better = self._component([gates[place] for place in places])
            if better is not None:
                replaced.append((places, better))
        return with_replaced(gates, replaced)

    def _component(self, gates: Sequence[Op]) -> tuple[Op, ...] | None:
        """Better gates for a run on connected qubits, or None."""
        qubits = sorted({qubit for op in gates for qubit in op.qubits})
        places = {qubit: place for place, qubit in enumerate(qubits)}
        local = tuple((op.kind, tuple(places[qubit] for qubit in op.qubits)) for op in gates)
        line = gates[0].line
        if local not in self._known:
            if self.spent or self.expired():
                self.spent = True
                return None
            self._known[local] = self._best([Op(kind, targets, line) for kind, targets in local], len(qubits))
        best = self._known[local]
        if best is None:
            return None
        return tuple(Op(kind, tuple(qubits[place] for place in targets), line) for kind, targets in best)

    def _best(self, gates: Sequence[Op], qubits: int) -> tuple[tuple[str, tuple[int, ...]], ...] | None:
        """The best equivalent candidate, or None if none is cheaper than the gates as they are."""
        best: tuple[tuple[str, tuple[int, ...]], ...] | None = None
        given = cost_of(gates)
        least, chosen = given.rank(qubits), ""
        for name, written in candidates([(op.kind, op.qubits) for op in gates], qubits):
            ops = [Op(kind, targets, gates[0].line) for kind, targets in written]
            cost = cost_of(ops)
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


def optimised(program: LogicalProgram, expired: Callable[[], bool]) -> tuple[LogicalProgram, dict[str, Any]]:
    """Optimises a program until `expired()`. Returns the program and facts:

    gates and cost before and after, which passes were taken how often, and whether the budget was spent.
    """
    optimiser = Optimiser(expired)
    result = optimiser.program(program)
    facts = {
        "gates": {"before": _counts(program), "after": _counts(result)},
        "cost": {"before": _cost(program)._asdict(), "after": _cost(result)._asdict()},
        "passes": dict(sorted(optimiser.replaced.items())),
        "budget_spent": optimiser.spent,
    }
    if optimiser.wrong:
        facts["wrong_results"] = dict(sorted(optimiser.wrong.items()))
    return result, facts


def _counts(program: LogicalProgram) -> dict[str, int]:
    return dict(sorted(Counter(op.kind for op in program.ops if op.kind in GATES).items()))


def _cost(program: LogicalProgram) -> Cost:
    return cost_of(op for op in program.ops if op.kind in GATES)
