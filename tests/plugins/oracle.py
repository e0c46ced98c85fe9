# SPDX-License-Identifier: Apache-2.0
"""What a program should give: an independent, exact simulation of small circuits, and random circuits to try.

It shares no code with the product: gates are textbook matrices on density matrices, one for each value of the classical
bits, so every branch of every measurement is there with its exact probability.  A circuit prints itself as OpenQASM 2.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chi2

COMPARISONS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_R = 2**-0.5
ONE = {
    "h": np.array([[_R, _R], [_R, -_R]]),
    "s": np.diag([1, 1j]),
    "sdg": np.diag([1, -1j]),
    "t": np.diag([1, _R + 1j * _R]),
    "tdg": np.diag([1, _R - 1j * _R]),
    "x": np.array([[0, 1], [1, 0]]),
    "y": np.array([[0, -1j], [1j, 0]]),
    "z": np.diag([1, -1]),
    "sx": np.array([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]) / 2,
    "id": np.eye(2),
}
# On (first, second), the first qubit being the more significant one.
TWO = {
    "cx": np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]),
    "cz": np.diag([1, 1, 1, -1]),
    "cy": np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, -1j], [0, 0, 1j, 0]]),
    "swap": np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]),
}
INVERSE = {"s": "sdg", "sdg": "s", "t": "tdg", "tdg": "t"}  # of those used in `mirrored`; the others are their own


@dataclass(frozen=True)
class Condition:
    """The number of some bits, least significant first, compared with a constant."""

    bits: tuple[int, ...]
    comparison: str
    value: int

    def holds(self, bits: Sequence[int]) -> bool:
        number = sum(bits[b] << place for place, b in enumerate(self.bits))
        return COMPARISONS[self.comparison](number, self.value)


@dataclass(frozen=True)
class Gate:
    """A gate of `ONE` or `TWO`, "measure" (into ``bit``), "reset", "barrier", or "if" with a condition and a body.

    The condition is read once, before the body; a body may hold further "if".
    """

    name: str
    qubits: tuple[int, ...] = ()
    bit: int = -1
    condition: Condition | None = None
    body: tuple[Gate, ...] = ()


@dataclass(frozen=True)
class Circuit:
    """Classical bits are numbered through the registers in their order."""

    qubits: int
    registers: tuple[tuple[str, int], ...]
    gates: tuple[Gate, ...]

    @property
    def bits(self) -> int:
        return sum(size for _, size in self.registers)

    def qasm(self) -> str:
        head = ["OPENQASM 2.0;", 'include "qelib1.inc";', f"qreg q[{self.qubits}];"]
        head += [f"creg {name}[{size}];" for name, size in self.registers]
        return "\n".join([*head, *(line for gate in self.gates for line in self._lines(gate))]) + "\n"

    def _lines(self, gate: Gate) -> list[str]:
        qubits = ",".join(f"q[{q}]" for q in gate.qubits)
        if gate.name == "measure":
            return [f"measure {qubits} -> {self._bit_name(gate.bit)};"]
        if gate.condition is not None:
            condition = gate.condition
            subject = self._register_name(condition.bits)
            lines = [line for inner in gate.body for line in self._lines(inner)]
            once = len(lines) == 1 or not _written(gate.body) & set(condition.bits)
            assert once, "OpenQASM reads the condition once a line"
            return [f"if({subject}{condition.comparison}{condition.value}) {line}" for line in lines]
        return [f"{gate.name} {qubits};"]

    def _bit_name(self, bit: int) -> str:
        for name, size in self.registers:
            if bit < size:
                return f"{name}[{bit}]"
            bit -= size
        raise ValueError("no such bit")

    def _register_name(self, bits: tuple[int, ...]) -> str:
        start = 0
        for name, size in self.registers:
            if bits == tuple(range(start, start + size)):
                return name
            start += size
        (bit,) = bits
        return self._bit_name(bit)

    def key(self, bits: Sequence[int]) -> str:
        """The key of a result: registers in order of declaration, bit 0 first, separated by a space."""
        words, start = [], 0
        for _, size in self.registers:
            words.append("".join(str(b) for b in bits[start : start + size]))
            start += size
        return " ".join(words)


def _written(gates: Sequence[Gate]) -> set[int]:
    return {bit for gate in gates for bit in ({gate.bit} - {-1} | _written(gate.body))}


def from_logical(program: Any) -> Circuit:
    """The circuit of a `qcosd.qec.program.LogicalProgram`."""

    def gate(op: Any) -> Gate:
        if op.kind == "if":
            c = op.condition
            condition = Condition(tuple(c.bits), c.comparison, c.value)
            return Gate("if", tuple(op.qubits), condition=condition, body=tuple(gate(inner) for inner in op.body))
        return Gate("barrier" if op.kind == "idle" else op.kind, tuple(op.qubits), op.bit)

    return Circuit(program.qubits, tuple(program.classical_registers), tuple(gate(op) for op in program.ops))


# ---- simulation

World = dict[tuple[int, ...], np.ndarray]  # classical bits -> unnormalised density matrix, qubit 0 most significant


def distribution(circuit: Circuit) -> dict[str, float]:
    """Probability of each result, keyed as `Circuit.key`; impossible ones are left out."""
    n = circuit.qubits
    state = np.zeros((2**n, 2**n), complex)
    state[0, 0] = 1
    world: World = {(0,) * circuit.bits: state}
    for gate in circuit.gates:
        world = _apply(world, gate, n)
    found = {circuit.key(bits): float(np.trace(state).real) for bits, state in world.items()}
    assert abs(sum(found.values()) - 1) < 1e-9
    return {key: p for key, p in found.items() if p > 1e-9}


def _apply(world: World, gate: Gate, n: int) -> World:
    if gate.name == "barrier":
        return world
    if gate.condition is not None:
        held = {bits: state for bits, state in world.items() if gate.condition.holds(bits)}
        rest = {bits: state for bits, state in world.items() if bits not in held}
        for inner in gate.body:
            held = _apply(held, inner, n)
        for bits, state in held.items():
            rest[bits] = rest[bits] + state if bits in rest else state
        return rest
    if gate.name not in ("measure", "reset"):
        unitary = _embed(ONE.get(gate.name, TWO.get(gate.name)), gate.qubits, n)
        return {bits: unitary @ state @ unitary.conj().T for bits, state in world.items()}
    out: World = {}
    for bits, state in world.items():
        for value in (0, 1):
            kraus = np.zeros((2, 2))
            kraus[value if gate.name == "measure" else 0, value] = 1
            operator_ = _embed(kraus, gate.qubits, n)
            new = bits if gate.name == "reset" else (*bits[: gate.bit], value, *bits[gate.bit + 1 :])
            after = operator_ @ state @ operator_.conj().T
            if np.trace(after).real > 1e-12:
                out[new] = out[new] + after if new in out else after
    return out


def _embed(matrix: np.ndarray, qubits: Sequence[int], n: int) -> np.ndarray:
    """A matrix on some qubits as one on all of them."""
    k = len(qubits)
    rest = [q for q in range(n) if q not in qubits]
    whole = np.kron(matrix, np.eye(2 ** (n - k))).reshape((2,) * (2 * n))
    order = np.argsort([*qubits, *rest])
    return whole.transpose([*order, *(order + n)]).reshape(2**n, 2**n)


# ---- random circuits

PAULIS = ("x", "y", "z")
CLIFFORDS = ("h", "s", "sdg", "sx", "x", "y", "z")


def random_circuit(seed: int, qubits: int | None = None, length: int | None = None, ifs: str = "both") -> Circuit:
    """A circuit with registers c (2 bits, read by conditions) and m (the final read-out of every qubit).

    ``ifs``: "none", "pauli", "both" (conditional Cliffords and resets as well, at most two), or "nested" (conditional
    measurements as well, and up to three conditions inside one another).
    """
    rng = random.Random(f"oracle/{seed}")
    n = qubits or rng.randint(1, 4)
    gates: list[Gate] = [Gate("h", (q,)) for q in range(n) if rng.random() < 0.7]
    branches = 0
    for _ in range(length or rng.randint(5, 14)):
        draw = rng.random()
        pair = tuple(rng.sample(range(n), 2)) if n > 1 else None
        one = (rng.randrange(n),)
        if draw < 0.26 and pair:
            gates.append(Gate(rng.choice(sorted(TWO)), pair))
        elif draw < 0.5:
            gates.append(Gate(rng.choice(CLIFFORDS), one))
        elif draw < 0.68:
            gates.append(Gate("measure", one, bit=rng.randrange(2)))
        elif draw < 0.73:
            gates.append(Gate("reset", one))
        elif draw < 0.76:
            gates.append(Gate("barrier", tuple(range(n))))
        elif ifs != "none":
            if not any(gate.name == "measure" for gate in gates):
                gates.append(Gate("measure", (rng.randrange(n),), bit=rng.randrange(2)))
            body = Gate(rng.choice(PAULIS), one)
            if ifs == "nested" and branches < 3:
                branches += 1
                gates.append(_nested(rng, n))
                continue
            if ifs == "both" and branches < 2 and rng.random() < 0.7:
                branches += 1
                other = Gate(rng.choice(("cx", "cz")), pair) if pair else Gate("reset", one)
                body = rng.choice((Gate("h", one), Gate("s", one), Gate("reset", one), other))
            gates.append(Gate("if", body.qubits, condition=_random_condition(rng), body=(body,)))
    gates += [Gate("measure", (q,), bit=2 + q) for q in range(n)]
    return Circuit(n, (("c", 2), ("m", n)), tuple(gates))


def _nested(rng: random.Random, n: int, depth: int = 1) -> Gate:
    one = (rng.randrange(n),)
    if depth < 3 and rng.random() < 0.5:
        body = [_nested(rng, n, depth + 1)]
    elif rng.random() < 0.4:
        body = [rng.choice((Gate("measure", one, bit=rng.randrange(2)), Gate("reset", one)))]
    else:
        body = [Gate(rng.choice(CLIFFORDS), one)]
        if n > 1 and rng.random() < 0.5:
            body.append(Gate(rng.choice(("cx", "cz", "cy")), tuple(rng.sample(range(n), 2))))
    return Gate("if", condition=_random_condition(rng), body=tuple(body))


def _random_condition(rng: random.Random) -> Condition:
    bits = rng.choice(((0, 1), (0, 1), (0,), (1,)))
    return Condition(bits, rng.choice(sorted(COMPARISONS)), rng.randrange(2 ** len(bits)))


def mirrored(seed: int, qubits: int, length: int, gates: Sequence[str] = ("h", "s", "sdg", "s", "h")) -> Circuit:
    """A random circuit of CX and ``gates``, then its inverse, then a read-out of every qubit: always 0."""
    rng = random.Random(f"oracle/mirror/{seed}")
    half: list[Gate] = []
    for _ in range(length):
        if qubits > 1 and rng.random() < 0.4:
            half.append(Gate("cx", tuple(rng.sample(range(qubits), 2))))
        else:
            half.append(Gate(rng.choice(gates), (rng.randrange(qubits),)))
    back = [Gate(INVERSE.get(gate.name, gate.name), gate.qubits) for gate in reversed(half)]
    read = [Gate("measure", (q,), bit=q) for q in range(qubits)]
    return Circuit(qubits, (("m", qubits),), (*half, *back, *read))


# ---- statistics


def check_counts(counts: Mapping[str, int], exact: Mapping[str, float], alpha: float = 1e-4) -> None:
    """Asserts that counts fit a distribution: nothing that it forbids, then a chi-square test at level ``alpha``."""
    forbidden = {key: n for key, n in counts.items() if n and key not in exact}
    assert not forbidden, f"forbidden outcomes {forbidden}; possible are {dict(exact)}"
    total = sum(counts.values())
    # Bins that expect fewer than five are taken together.
    bins = [(counts.get(key, 0), p * total) for key, p in exact.items()]
    large = [b for b in bins if b[1] >= 5]
    small = [b for b in bins if b[1] < 5]
    if small:
        large.append((sum(n for n, _ in small), sum(e for _, e in small)))
    if len(large) < 2:
        return
    statistic = sum((n - e) ** 2 / e for n, e in large)
    p = float(chi2.sf(statistic, len(large) - 1))
    assert p > alpha, (
        f"chi-square {statistic:.1f} with {len(large) - 1} degrees of freedom, p = {p:.2g}: {counts} for {exact}"
    )
