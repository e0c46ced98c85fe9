# SPDX-License-Identifier: Apache-2.0
"""Whether a logical program is what its source says, and an optimised one what the logical one says."""

from __future__ import annotations

from typing import Any, Final

from qcos_plugins.verifier.equivalence import check_registers, equivalent
from qcos_plugins.verifier.finding import TooLarge, Wrong
from qcos_plugins.verifier.source import Unreadable, is_edition_3, loosened, merged, registers_of, steps_of_source
from qcos_plugins.verifier.steps import Step, steps_of, walk

from qcosd.qec.program import LogicalProgram

ROTATIONS: Final = 3
"""Of a gate, at most, of those that pytket takes as one, on a single qubit."""


def check_logical(source: bytes, program: LogicalProgram, seed: int = 0, epsilon: float = 0.0) -> dict[str, Any]:
    """Compares with what pytket's parser makes of the source.  Returns facts.  Raises Wrong.

    ``epsilon``: error of a rotation that the compiler may have approximated.  Where programs are not exactly the same, they
    must be the same within the errors of all gates of the source that are no Clifford gates; ``within`` says how many these come to.

    Where pytket cannot read it, registers and lines are checked alone, and ``skipped`` says why.
    """
    try:
        text = source.decode("utf-8")
    except UnicodeDecodeError:
        return {"skipped": ["the source is no UTF-8 text"]}
    third = is_edition_3(text)
    if not third:
        quantum, classical = registers_of(text)
        check_registers(quantum, program.quantum_registers, "quantum")
        check_registers(classical, program.classical_registers, "classical")
    lines = text.count("\n") + 1
    steps = steps_of(program.ops)
    for step in walk(steps):
        if step.line > lines:
            raise Wrong(f"the {step.text()}: the source has {lines} lines")
    if third:
        return {"lines": lines, "skipped": ["meaning: OpenQASM 3, which pytket does not read"]}
    facts: dict[str, Any] = {"registers": "same", "lines": lines}
    try:
        theirs, bits = steps_of_source(text)
        if any(_rewrites(step) for step in steps):
            raise Unreadable(
                "an if measures a whole register into the one that it reads: pytket reads it again each time"
            )
        try:
            found = equivalent(theirs, loosened(steps), bits, seed, merged)
        except Wrong:
            others = sum(3 ** len(s.qubits) for s in walk(theirs) if s.kind == "gate" and s.tableau is None)
            within = ROTATIONS * others * epsilon
            if within <= 0:
                raise
            if within >= 1:
                # Anything would be the same then: neither passed nor refused.
                raise Unreadable(f"its approximations may come to {within:.2g}, too much to compare") from None
            found = {**equivalent(theirs, loosened(steps), bits, seed, merged, within), "within": within}
    except (Unreadable, TooLarge) as error:
        return {**facts, "skipped": [f"meaning: {error}"]}
    except Wrong as wrong:
        raise Wrong(f"the program does not do what its source says: {wrong}") from None
    return {**facts, **found}


def check_optimised(logical: LogicalProgram, optimised: LogicalProgram, seed: int = 0) -> dict[str, Any]:
    """Whether both mean the same, see `equivalence.equivalent`.  Returns facts.  Raises Wrong."""
    check_registers(logical.quantum_registers, optimised.quantum_registers, "quantum")
    check_registers(logical.classical_registers, optimised.classical_registers, "classical")
    try:
        return equivalent(steps_of(logical.ops), steps_of(optimised.ops), logical.bits, seed)
    except TooLarge as error:
        return {"skipped": [f"meaning: {error}"]}


def _rewrites(step: Step) -> bool:
    """Whether the condition of an `if` would be another one after the first of the steps that it guards."""
    if step.kind != "if":
        return False
    assert step.guard is not None
    inner = list(walk(step.body))
    return any(_rewrites(each) for each in step.body) or (
        len(inner) > 1 and any(each.bit in step.guard.bits for each in inner if each.kind == "measure")
    )
