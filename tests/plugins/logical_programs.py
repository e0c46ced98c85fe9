# SPDX-License-Identifier: Apache-2.0
"""Short ways to write logical programs, and random ones, with `if`s inside `if`s."""

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

    def branch(paulis: bool, depth: int = 0) -> Op:
        # Paulis under several conditions are no decision as long as all of them are equalities: see lattice_machine.
        body = [simple(["x", "y", "z"] if paulis else kinds) for _ in range(random.randint(1, 2))]
        if not paulis:
            body[0] = simple([kind for kind in kinds if kind not in ("x", "y", "z", "barrier")])
        if depth < 2 and random.random() < 0.3:
            body.insert(random.randint(0, len(body)), branch(paulis or random.random() < 0.3, depth + 1))
        read = random.choice([(0,), tuple(range(bits))])
        return conditional(
            read, "==" if paulis else random.choice(["==", "!=", "<", ">="]), random.randint(0, 2), *body
        )

    ops = []
    for _ in range(length):
        ops.append(simple(kinds) if random.random() < 0.8 else branch(random.random() < 0.5))
    ops += [measure(qubit, qubit % bits) for qubit in range(qubits) if random.random() < 0.7]
    return program(qubits, bits, *ops)
