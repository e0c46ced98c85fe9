# SPDX-License-Identifier: Apache-2.0
"""Short ways to write logical programs, and random ones."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st

from qcosd.qec.program import Condition, LogicalProgram, Op, qubits_of


def program(qubits: int, bits: int, *ops: Op) -> LogicalProgram:
    return LogicalProgram((("q", qubits),), (("c", bits),) if bits else (), ops)


def op(kind: str, *qubits: int, **fields) -> Op:
    return Op(kind, qubits, 1, **fields)


def measure(qubit: int, bit: int) -> Op:
    return Op("measure", (qubit,), 1, bit=bit)


def idle(blocks: int, *qubits: int) -> Op:
    return Op("idle", qubits, 1, blocks=blocks)


def conditional(bits: tuple[int, ...], comparison: str, value: int, *body: Op) -> Op:
    return Op("if", qubits_of(body), 1, condition=Condition(bits, comparison, value), body=body)


def programs(
    qubits: int = 3, bits: int = 2, length: int = 8, hadamards: bool = True
) -> st.SearchStrategy[LogicalProgram]:
    """Random programs over all kinds of operations.  Drawn by seed: hypothesis alone prefers trivial ones."""
    return st.builds(
        lambda seed: random_program(Random(seed), qubits, bits, length, hadamards), st.integers(0, 2**32 - 1)
    )


def random_program(random: Random, qubits: int, bits: int, length: int, hadamards: bool = True) -> LogicalProgram:
    kinds = ["s", "s", "sdg", "x", "y", "z", "cx", "cx", "cx", "measure", "measure", "reset", "idle", "barrier"]
    kinds += ["h"] * 4 if hadamards else []

    def simple(allowed: list[str]) -> Op:
        kind = random.choice(allowed)
        order = random.sample(range(qubits), qubits)
        if kind == "cx":
            return op("cx", *order[:2])
        if kind == "measure":
            return measure(order[0], random.randrange(bits))
        if kind == "idle":
            return idle(random.randint(1, 2), order[0])
        if kind == "barrier":
            return op("barrier", *order[: random.randint(1, qubits)])
        return op(kind, order[0])

    ops = []
    for _ in range(length):
        if random.random() < 0.8:
            ops.append(simple(kinds))
        else:
            allowed = random.choice([kinds, ["x", "y", "z"]])
            body = [simple(allowed) for _ in range(random.randint(1, 2))]
            read = random.choice([(0,), tuple(range(bits))])
            ops.append(conditional(read, random.choice(["==", "!=", "<", ">="]), random.randint(0, 2), *body))
    ops += [measure(qubit, qubit % bits) for qubit in range(qubits) if random.random() < 0.7]
    return program(qubits, bits, *ops)
