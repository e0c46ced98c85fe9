# SPDX-License-Identifier: Apache-2.0
"""Gates of qelib1.inc by their textbook matrices, the first qubit most significant. Shares nothing with the compiler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np

Matrix = np.ndarray[Any, Any]

I2 = np.eye(2)
X = np.array([[0, 1], [1, 0]])
Y = np.array([[0, -1j], [1j, 0]])
Z = np.diag([1, -1])
H = (X + Z) / np.sqrt(2)
S = np.diag([1, 1j])
T = np.diag([1, np.exp(0.25j * np.pi)])
SX = np.array([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]) / 2
SWAP = np.eye(4)[[0, 2, 1, 3]]


def exponential(theta: float, generator: Matrix) -> Matrix:
    """exp(-i theta/2 generator) of a generator that squares to one."""
    return np.cos(theta / 2) * np.eye(len(generator)) - 1j * np.sin(theta / 2) * generator


def u3(theta: float, phi: float, lam: float) -> Matrix:
    c, s = np.cos(theta / 2), np.sin(theta / 2)
    return np.array([[c, -np.exp(1j * lam) * s], [np.exp(1j * phi) * s, np.exp(1j * (phi + lam)) * c]])


def phase(lam: float) -> Matrix:
    return np.diag([1, np.exp(1j * lam)])


def controlled(matrix: Matrix, controls: int = 1) -> Matrix:
    """The matrix where all controls, which come first, are 1."""
    size = len(matrix) << controls
    out = np.eye(size, dtype=complex)
    out[size - len(matrix) :, size - len(matrix) :] = matrix
    return out


def relative_phase(matrix: Matrix, entries: dict[int, complex]) -> Matrix:
    """A permutation-like matrix times phases on some inputs."""
    out = matrix.astype(complex)
    for column, factor in entries.items():
        out[:, column] = out[:, column] * factor
    return out


# rccx and rc3x are Toffoli gates up to signs and factors of i (Maslov, arXiv:1508.03273): exactly these.
RCCX = relative_phase(controlled(X, 2), {5: -1, 6: -1j, 7: 1j})
RCCX[:, [6, 7]] = np.zeros((8, 2))
RCCX[7, 6], RCCX[6, 7] = 1j, -1j
RC3X = np.eye(16, dtype=complex)
RC3X[12, 12], RC3X[13, 13] = 1j, -1j
RC3X[[14, 15], [14, 15]] = 0
RC3X[14, 15], RC3X[15, 14] = 1, -1

# Name: qubits, parameters, matrix. cu1, cu3 and cu follow the convention of a controlled U; that of the paper for cu3
# is the same one (the control gets the phase of (phi + lambda) / 2).
GATES: dict[str, tuple[int, int, Callable[..., Matrix]]] = {
    "U": (1, 3, u3),
    "CX": (2, 0, lambda: controlled(X)),
    "u3": (1, 3, u3),
    "u2": (1, 2, lambda phi, lam: u3(np.pi / 2, phi, lam)),
    "u1": (1, 1, phase),
    "cx": (2, 0, lambda: controlled(X)),
    "id": (1, 0, lambda: I2),
    "u0": (1, 1, lambda gamma: I2),
    "u": (1, 3, u3),
    "p": (1, 1, phase),
    "x": (1, 0, lambda: X),
    "y": (1, 0, lambda: Y),
    "z": (1, 0, lambda: Z),
    "h": (1, 0, lambda: H),
    "s": (1, 0, lambda: S),
    "sdg": (1, 0, lambda: S.conj()),
    "t": (1, 0, lambda: T),
    "tdg": (1, 0, lambda: T.conj()),
    "rx": (1, 1, lambda theta: exponential(theta, X)),
    "ry": (1, 1, lambda theta: exponential(theta, Y)),
    "rz": (1, 1, lambda theta: exponential(theta, Z)),
    "sx": (1, 0, lambda: SX),
    "sxdg": (1, 0, lambda: SX.conj().T),
    "cz": (2, 0, lambda: controlled(Z)),
    "cy": (2, 0, lambda: controlled(Y)),
    "swap": (2, 0, lambda: SWAP),
    "ch": (2, 0, lambda: controlled(H)),
    "ccx": (3, 0, lambda: controlled(X, 2)),
    "cswap": (3, 0, lambda: controlled(SWAP)),
    "crx": (2, 1, lambda theta: controlled(exponential(theta, X))),
    "cry": (2, 1, lambda theta: controlled(exponential(theta, Y))),
    "crz": (2, 1, lambda theta: controlled(exponential(theta, Z))),
    "cu1": (2, 1, lambda lam: controlled(phase(lam))),
    "cp": (2, 1, lambda lam: controlled(phase(lam))),
    "cu3": (2, 3, lambda *angles: controlled(u3(*angles))),
    "csx": (2, 0, lambda: controlled(SX)),
    "cu": (2, 4, lambda theta, phi, lam, gamma: controlled(np.exp(1j * gamma) * u3(theta, phi, lam))),
    "rxx": (2, 1, lambda theta: exponential(theta, np.kron(X, X))),
    "rzz": (2, 1, lambda theta: exponential(theta, np.kron(Z, Z))),
    "rccx": (3, 0, lambda: RCCX),
    "rc3x": (4, 0, lambda: RC3X),
    "c3x": (4, 0, lambda: controlled(X, 3)),
    "c3sqrtx": (4, 0, lambda: controlled(SX, 3)),
    "c4x": (5, 0, lambda: controlled(X, 4)),
}


def on(matrix: Matrix, qubits: Sequence[int], total: int) -> Matrix:
    """A gate on some of the qubits of a register."""
    state = np.eye(1 << total, dtype=complex).reshape([2] * total + [1 << total])
    width = len(qubits)
    tensor = matrix.reshape([2] * (2 * width))
    moved = np.tensordot(tensor, state, axes=(list(range(width, 2 * width)), list(qubits)))
    return np.moveaxis(moved, range(width), qubits).reshape(1 << total, 1 << total)


def same_up_to_phase(first: Matrix, second: Matrix) -> bool:
    return bool(np.isclose(abs(np.vdot(first, second)), len(first), atol=1e-7))


def is_clifford(matrix: Matrix) -> bool:
    """Whether every Pauli on one qubit is sent to a Pauli, tried against all of them."""
    qubits = len(matrix).bit_length() - 1
    paulis = [X, Z]
    for qubit, pauli in product(range(qubits), paulis):
        image = matrix @ on(pauli, [qubit], qubits) @ matrix.conj().T
        # A Pauli has one entry of size 1 in each row, all in the places of one XOR mask, with signs that multiply.
        mask = int(np.argmax(abs(image[0])))
        entries = np.array([image[row, row ^ mask] for row in range(len(image))])
        if not np.allclose(abs(entries), 1, atol=1e-7):
            return False
        ratios = entries / entries[0]
        for place in range(qubits):
            if not np.isclose(abs(ratios[1 << place].real), 1, atol=1e-7):
                return False
        for row in range(len(image)):
            signs = [ratios[1 << place].real for place in range(qubits) if row >> place & 1]
            if not np.isclose(ratios[row], np.prod(signs), atol=1e-7):
                return False
    return True
