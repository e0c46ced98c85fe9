# SPDX-License-Identifier: Apache-2.0
"""What pyzx makes of a run of Clifford and T gates: one way of writing it for each of its strategies."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
import pyzx
from pyzx.circuit import Circuit

from qcosd.qec.rewriting.folding import Gate, folded
from qcosd.qec.rewriting.rotations import merged

_OF_KIND: Final = {"h": "HAD", "x": "NOT", "z": "Z", "cx": "CNOT"}
_EIGHTHS: Final = {"s": 2, "sdg": -2, "t": 1, "tdg": -1}
# Z^k of T^k is left to the Paulis, which cost nothing.
_TURNS: Final = ((), ("t",), ("s",), ("tdg", "z"), ("z",), ("t", "z"), ("sdg",), ("tdg",))
_MOST_OF_TODD: Final = 20
"""Qubits.  The time it takes grows with the third power of T gates and qubits."""


def _teleported(circuit: Circuit) -> Circuit:
    return Circuit.from_graph(pyzx.teleport_reduce(circuit.to_graph()))


def _basic(circuit: Circuit) -> Circuit:
    # No swaps: a patch keeps its qubit.
    return pyzx.basic_optimization(circuit.to_basic_gates(), do_swaps=False)


def _extracted(circuit: Circuit) -> Circuit:
    graph = circuit.to_graph()
    pyzx.full_reduce(graph)
    return _basic(pyzx.extract_circuit(graph, up_to_perm=False))


def _todd(circuit: Circuit) -> Circuit:
    # It draws from both of these; the same program must give the same result.
    random.seed(0)
    np.random.seed(0)
    return pyzx.phase_block_optimize(_teleported(circuit).to_basic_gates(), pre_optimize=True, quiet=True)


PASSES: Final[tuple[tuple[str, Callable[[Circuit], Circuit], int, int], ...]] = (
    ("basic_optimization", _basic, 1_000, 1_000),
    ("teleport_reduce", _teleported, 1_000, 100),
    ("teleport_reduce, basic_optimization", lambda circuit: _basic(_teleported(circuit)), 1_000, 100),
    ("full_reduce, extract_circuit", _extracted, 1_000, 60),
    ("phase_block_optimize", _todd, 300, _MOST_OF_TODD),
)
"""Name, strategy, and the most gates and qubits that it is tried on.  Cheap ones first, so that a short budget gets the most."""


def candidates(gates: Sequence[Gate], qubits: int) -> Iterator[tuple[str, list[Gate]]]:
    """Other ways of writing gates on qubits 0..qubits-1, each with the name of what found it.

    Nothing is promised of them: the caller checks that they do the same.
    """
    own = folded(gates)
    if own is not None:
        yield "folding", own
    together = folded(merged(gates, qubits))
    if together is not None:
        yield "merging", together
    for name, apply, most_gates, most_qubits in PASSES:
        if len(gates) > most_gates or qubits > most_qubits:
            continue
        written = gates_of(apply(circuit_of(gates, qubits)))
        if written is not None:
            yield name, written


def circuit_of(gates: Sequence[Gate], qubits: int) -> Circuit:
    """The gates as pyzx has them."""
    circuit = Circuit(qubits)
    for kind, targets in gates:
        if kind in _EIGHTHS:
            circuit.add_gate("ZPhase", *targets, phase=Fraction(_EIGHTHS[kind], 4))
        elif kind == "y":
            circuit.add_gate("Z", *targets)
            circuit.add_gate("NOT", *targets)
        else:
            circuit.add_gate(_OF_KIND[kind], *targets)
    return circuit


def gates_of(circuit: Circuit) -> list[Gate] | None:
    """The gates of a circuit, T gates taken together; None if it holds something that is not known here."""
    out: list[Gate] = []
    for gate in circuit.to_basic_gates().gates:
        steps = _steps(gate)
        if steps is None:
            return None
        out += steps
    return folded(merged(out, circuit.qubits))


def _steps(gate: Any) -> list[Gate] | None:
    if gate.name == "HAD":
        return [("h", (gate.target,))]
    if gate.name in ("CNOT", "CZ"):
        turn: list[Gate] = [("h", (gate.target,))] if gate.name == "CZ" else []
        return [*turn, ("cx", (gate.control, gate.target)), *turn]
    if gate.name == "SWAP":
        pair = (gate.control, gate.target)
        return [("cx", pair), ("cx", pair[::-1]), ("cx", pair)]
    if gate.name in ("NOT", "Z", "S", "T", "ZPhase", "XPhase"):
        eighths = gate.phase * 4
        if eighths != int(eighths):
            return None
        turns: list[Gate] = [(kind, (gate.target,)) for kind in _TURNS[int(eighths) % 8]]
        about_x = gate.name in ("NOT", "XPhase")
        return [("h", (gate.target,)), *turns, ("h", (gate.target,))] if about_x else turns
    return None
