# SPDX-License-Identifier: Apache-2.0
"""T gates whose correction is put into the program: a branch with an S in it behind each."""

from __future__ import annotations

from collections.abc import Sequence

from qcosd.qec.program import Condition, Op

EIGHTH = "eighth"
"""Half of a T gate: a |T> is merged with the qubit, and the parity, which says whether it was T or its inverse, is kept in ``bit``."""


def inserted(ops: Sequence[Op], scratch: int) -> tuple[Op, ...]:
    """The operations with each T replaced by its half, and an S, or its inverse, where that was the wrong one.

    ``scratch``: the first scratch bit; a qubit's parity goes where the gadget of constant footprint has it.
    """
    out: list[Op] = []
    for op in ops:
        if op.kind == "if":
            body = inserted(op.body, scratch)
            out.append(Op("if", op.qubits, op.line, condition=op.condition, body=body))
        elif op.kind in ("t", "tdg"):
            bit = scratch + 3 * op.qubits[0]
            correction = Op("s" if op.kind == "t" else "sdg", op.qubits, op.line)
            wrong = Condition((bit,), "==", int(op.kind == "t"))
            out.append(Op(EIGHTH, op.qubits, op.line, bit=bit))
            out.append(Op("if", op.qubits, op.line, condition=wrong, body=(correction,)))
        else:
            out.append(op)
    return tuple(out)
