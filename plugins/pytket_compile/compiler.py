# SPDX-License-Identifier: Apache-2.0
"""OpenQASM 2.0 to a logical program."""

from __future__ import annotations

from collections import Counter
from typing import Any

from qcos_plugins.pytket_compile.failure import SourceError
from qcos_plugins.pytket_compile.grammar import statements_of
from qcos_plugins.pytket_compile.lowering import Lowering
from qcos_plugins.pytket_compile.tokens import decoded

from qcosd.qec.program import LogicalProgram


def compile_source(data: bytes) -> tuple[LogicalProgram, dict[str, Any]]:
    """Compiles the bytes of a source file.

    Returns the program and facts: qubits, bits, gates ({kind: number}) and assumptions (a list of sentences).
    Raises SourceError for whatever is wrong with the file; any other exception is a bug.
    """
    text = decoded(data)
    lowering = Lowering()
    for statement in statements_of(text):
        lowering.add(statement)
    program = lowering.program(text.count("\n") + 1)
    facts = {
        "qubits": program.qubits,
        "bits": program.bits,
        "gates": dict(sorted(Counter(op.kind for op in program.ops).items())),
        "assumptions": lowering.assumptions(),
    }
    return program, facts


__all__ = ["SourceError", "compile_source"]
