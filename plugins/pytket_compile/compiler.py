# SPDX-License-Identifier: Apache-2.0
"""OpenQASM to a logical program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from qcos_plugins.pytket_compile import qasm3
from qcos_plugins.pytket_compile.failure import SourceError
from qcos_plugins.pytket_compile.grammar import statements_of
from qcos_plugins.pytket_compile.gridsynth import Gridsynth
from qcos_plugins.pytket_compile.lowering import Lowering
from qcos_plugins.pytket_compile.tokens import decoded

from qcosd.qec.program import LogicalProgram, Op


def compile_source(data: bytes, epsilon: float | None = None) -> tuple[LogicalProgram, dict[str, Any]]:
    """Compiles the bytes of a source file.  `epsilon`: error of a rotation that is approximated; None: none is.

    Returns the program and facts: qubits, bits, gates ({kind: number}), t_count and assumptions (a list of sentences); and
    where there are any, how many rotations were approximated, to which epsilon, and the sum of these.
    Raises SourceError for whatever is wrong with the file; any other exception is a bug.
    """
    text = decoded(data)
    synthesis = None if epsilon is None else Gridsynth(epsilon)
    edition = 3 if qasm3.is_edition_3(text) else 2
    lowering = Lowering(synthesis.turn if synthesis else None, edition)
    try:
        for statement in qasm3.statements_of(text) if edition == 3 else statements_of(text):
            lowering.add(statement)
    finally:
        if synthesis:
            synthesis.close()
    program = lowering.program(text.count("\n") + 1)
    facts: dict[str, Any] = {
        "qubits": program.qubits,
        "bits": program.bits,
        "gates": dict(sorted(Counter(op.kind for op in program.ops).items())),
        "t_count": _t_gates(program.ops),
        "assumptions": lowering.assumptions(),
    }
    if edition == 3:
        facts["assumptions"].append("OpenQASM 3: no second parser compares the program with its source")
    if lowering.approximated and epsilon is not None:
        total = lowering.approximated * epsilon
        facts |= {"approximated": lowering.approximated, "epsilon": epsilon, "epsilon_total": total}
        facts["assumptions"].append(
            f"{lowering.approximated} rotations are approximated by Clifford and T gates to {epsilon:g} each: --set epsilon="
        )
    return program, facts


def _t_gates(ops: Iterable[Op]) -> int:
    return sum(op.kind in ("t", "tdg") or _t_gates(op.body) for op in ops)


__all__ = ["SourceError", "compile_source"]
