# SPDX-License-Identifier: Apache-2.0
"""What pytket makes of a run of Clifford and T gates: one way of writing it for each pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from pytket import passes
from pytket.circuit import Circuit, OpType

from qcosd.qec import clifford
from qcosd.qec.rewriting.folding import Gate, folded
from qcosd.qec.rewriting.rotations import merged

TYPES: Final = {
    "h": OpType.H,
    "s": OpType.S,
    "sdg": OpType.Sdg,
    "t": OpType.T,
    "tdg": OpType.Tdg,
    "x": OpType.X,
    "y": OpType.Y,
    "z": OpType.Z,
    "cx": OpType.CX,
}
_H, _S, _SDG = clifford.GATES["h"], clifford.GATES["s"], clifford.GATES["sdg"]

# Cheap ones first, so that a short budget gets the most. No pass may permute qubits: a patch keeps its qubit. The ways
# that work on the whole tableau leave a permutation behind, which is written out as swaps.
PASSES: Final[tuple[tuple[str, Callable[[Circuit], object], int], ...]] = (
    ("RemoveRedundancies", passes.RemoveRedundancies().apply, 1_000),
    ("CliffordSimp", passes.CliffordSimp(allow_swaps=False).apply, 1_000),
    ("GreedyPauliSimp", passes.GreedyPauliSimp().apply, 1_000),
    (
        "GreedyPauliSimp, CliffordSimp",
        lambda circuit: (
            passes.GreedyPauliSimp().apply(circuit),
            circuit.replace_implicit_wire_swaps(),
            passes.CliffordSimp(allow_swaps=False).apply(circuit),
        ),
        1_000,
    ),
    ("FullPeepholeOptimise", passes.FullPeepholeOptimise(allow_swaps=False).apply, 200),
)
"""Name, pass, and the most gates that it is tried on: the last one takes 3 ms a gate."""


def candidates(gates: Sequence[Gate], qubits: int) -> Iterator[tuple[str, list[Gate]]]:
    """Other ways of writing gates on qubits 0..qubits-1, each with the name of what found it.

    Nothing is promised of them: the caller checks that they do the same.
    """
    own = folded(gates)
    if own is not None:
        yield "folding", own
    if any(kind in ("t", "tdg") for kind, _ in gates):
        gates = merged(gates, qubits)
        together = folded(gates)
        if together is not None:
            yield "merging", together
    for name, apply, most in PASSES:
        if len(gates) > most:
            continue
        circuit = Circuit(qubits)
        for kind, targets in gates:
            circuit.add_gate(TYPES[kind], list(targets))
        apply(circuit)
        circuit.replace_implicit_wire_swaps()
        written = _gates_of(circuit)
        if written is not None:
            yield name, written


def _gates_of(circuit: Circuit) -> list[Gate] | None:
    """The gates of a circuit, None if it holds one that is not known here."""
    known = _rebased(circuit)
    return None if known is None else folded(known)


def _rebased(circuit: Circuit) -> list[tuple[str | clifford.Matrix, tuple[int, ...]]] | None:
    """CX and matrices on single qubits."""
    out: list[tuple[str | clifford.Matrix, tuple[int, ...]]] = []
    for command in circuit.get_commands():
        qubits = tuple(qubit.index[0] for qubit in command.qubits)
        kind = command.op.type
        if len(qubits) == 1:
            (a, b), (c, d) = command.op.get_unitary()
            out.append(((complex(a), complex(b), complex(c), complex(d)), qubits))
        elif kind == OpType.CX:
            out.append(("cx", qubits))
        elif kind == OpType.CZ:
            out += [(_H, qubits[1:]), ("cx", qubits), (_H, qubits[1:])]
        elif kind == OpType.CY:
            out += [(_SDG, qubits[1:]), ("cx", qubits), (_S, qubits[1:])]
        elif kind == OpType.SWAP:
            out += [("cx", qubits), ("cx", qubits[::-1]), ("cx", qubits)]
        else:
            return None
    return out
