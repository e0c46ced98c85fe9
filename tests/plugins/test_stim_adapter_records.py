# SPDX-License-Identifier: Apache-2.0
"""Raw records of the simulated machine against a physical simulation of the same rounds that knows no frames.

Without noise the records of a Clifford program are an affine space over GF(2), and all of its points are equally likely.
Two machines are the same machine if these spaces are equal, down to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import stim
from loopback import PERFECT, prepared, run
from qcos_plugins.stim_adapter.machine import Machine
from qcos_plugins.stim_adapter.steps import Compiler
from qcos_plugins.surface_code.builder import Builder

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.geometry import Coord, Rect, spanning_rect

SHOTS = 320


def bell() -> Builder:
    b = Builder(3)
    b.init(0, (0, 0), "X")
    b.init(1, (2, 1), "Z")
    b.idle(1)
    b.cnot(0, 1, ancilla=9)
    b.idle(1)
    b.measure(0, "Z", 0)
    b.measure(1, "Z", 1)
    return b


def ghz() -> Builder:
    b = Builder(3)
    for qubit, basis in enumerate("XZZ"):
        b.init(qubit, (2 * qubit, qubit), basis)
    b.idle(1)
    b.cnot(0, 1, ancilla=9)
    b.cnot(0, 2, ancilla=9)
    for qubit in range(3):
        b.measure(qubit, "Z", qubit)
    return b


def hadamards() -> Builder:
    b = Builder(3)
    b.init(0, (0, 0), "Z")
    for _ in range(3):
        b.idle(2)
        b.hadamard(0)
    b.idle(1)
    b.measure(0, "Z", 0)
    return b


def phases() -> Builder:
    """S S on |+>, read in X: always 1."""
    b = Builder(3)
    b.init(0, (0, 0), "X")
    b.idle(1)
    b.phase(0, ancilla=1)
    b.phase(0, ancilla=1)
    b.idle(1)
    b.measure(0, "X", 0)
    return b


def half_phase() -> Builder:
    """S, H, S and a read-out, after a patch was read and born again: no outcome is certain."""
    b = Builder(3)
    b.init(0, (0, 0), "X")
    b.idle(2)
    b.measure(0, "Z", 0)
    b.init(0, (0, 0), "X")
    b.idle(1)
    b.phase(0, ancilla=1)
    b.hadamard(0)
    b.idle(1)
    b.phase(0, ancilla=1, dagger=True)
    b.idle(1)
    b.measure(0, "X", 0)
    return b


PROGRAMS = [bell, ghz, hadamards, phases, half_phase]

# ZZ and XX of two qubits, then XZ and ZX: (XX)(ZZ) = -(XZ)(ZX), so the four outcomes add up to 1.  No all-zero record does.
SQUARE = """
OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; qreg a[1]; creg c[4];
gate zz p,q,a { cx p,a; cx q,a; }
gate xx p,q,a { h a; cx a,p; cx a,q; h a; }
h q[0];
zz q[0],q[1],a[0]; measure a[0] -> c[0]; reset a[0];
xx q[0],q[1],a[0]; measure a[0] -> c[1]; reset a[0];
h q[1];
zz q[0],q[1],a[0]; measure a[0] -> c[2]; reset a[0];
xx q[0],q[1],a[0]; measure a[0] -> c[3];
"""


def machine_records(program: FragmentProgram, shots: int, seed: int, **switches: object) -> np.ndarray:
    """uint8 (records, shots)."""
    blocks = [item[2] for item in Machine(program, PERFECT, shots, seed, **switches).run()]
    return np.unpackbits(np.vstack(blocks), axis=1, count=shots, bitorder="little")


def physical_records(program: FragmentProgram, shots: int, seed: int) -> np.ndarray:
    """The same of a tableau of all physical qubits, which gets a real |Y>: uint8 (records, shots)."""
    circuit, kept = physical_circuit(program)
    rows = []
    for shot in range(shots):
        simulator = stim.TableauSimulator(seed=seed * 1_000_003 + shot)
        simulator.do(circuit)
        rows.append(np.array(simulator.current_measurement_record(), np.uint8)[kept])
    return np.array(rows).T


def physical_circuit(program: FragmentProgram) -> tuple[stim.Circuit, list[int]]:
    """Instructions as they stand; qubits that move take their numbers along.  Also which records are the program's."""
    circuit = stim.Circuit()
    qubit: dict[Coord, int] = {}
    kept: list[int] = []

    def numbers(sites: Iterable[Coord]) -> list[int]:
        return [qubit.setdefault(site, len(qubit)) for site in sites]

    for fragment in program.path():
        for slot in fragment.sequence():
            for name, targets in (i for part in slot.parts for i in part.instructions):
                start = circuit.num_measurements
                if name == "PERM":
                    moved = dict(zip(targets[1::2], numbers(targets[::2]), strict=True))
                    qubit.update(moved)
                elif name == "HANDOVER_Y":
                    arrive(circuit, targets, numbers)
                    kept += range(start, circuit.num_measurements - 1)
                elif name != "I":
                    circuit.append(name, numbers(targets))
                    kept += range(start, circuit.num_measurements)
    return circuit, kept


def arrive(circuit: stim.Circuit, targets: tuple[Coord, ...], numbers: Callable[[Iterable[Coord]], list[int]]) -> None:
    """An encoded |Y>: stabilisers measured on |+++...>, then Y_L, whose sign is repaired by Z_L."""
    data = [site for site in targets if site[0] % 2 == 0]
    rect = spanning_rect(Rect(*site, *site) for site in data)
    plaquettes = {p.centre: p for p in rect.plaquettes()}
    circuit.append("RX", numbers(data))
    for centre in targets[len(data) :]:
        pauli = stim.target_x if plaquettes[centre].basis == "X" else stim.target_z
        qubits = numbers(sorted(plaquettes[centre].support()))
        circuit.append("MPP", stim.target_combined_paulis([pauli(q) for q in qubits]))
    row, column = set(rect.row()), set(rect.column())
    y = [
        (stim.target_y if s in row & column else stim.target_x if s in row else stim.target_z, s) for s in row | column
    ]
    circuit.append("MPP", stim.target_combined_paulis([pauli(q) for pauli, s in y for q in numbers([s])]))
    circuit.append("CZ", [t for q in numbers(rect.column()) for t in (stim.target_rec(-1), q)])


class Affine:
    """The affine hull of columns of bits: a point and a basis of the differences, as integers."""

    def __init__(self, columns: np.ndarray) -> None:
        points = [int.from_bytes(np.packbits(column).tobytes(), "big") for column in columns.T]
        self.point = points[0]
        self.basis: dict[int, int] = {}  # highest bit -> vector
        for point in points:
            self.add(point ^ self.point)

    def reduce(self, vector: int) -> int:
        while vector and (pivot := vector.bit_length()) in self.basis:
            vector ^= self.basis[pivot]
        return vector

    def add(self, vector: int) -> None:
        if vector := self.reduce(vector):
            self.basis[vector.bit_length()] = vector

    @property
    def rank(self) -> int:
        return len(self.basis)

    def holds(self, other: Affine) -> bool:
        """Whether the other space lies in this one."""
        return not self.reduce(other.point ^ self.point) and not any(map(self.reduce, other.basis.values()))


@pytest.mark.parametrize("build", PROGRAMS, ids=lambda f: f.__name__)
def test_records_span_the_space_of_a_physical_machine(build: Callable[[], Builder]) -> None:
    program = build().program(bits=3)
    mine = Affine(machine_records(program, SHOTS, seed=1))
    real = Affine(physical_records(program, SHOTS, seed=2))
    assert mine.rank == real.rank < SHOTS - 40  # so many shots span the whole space
    assert mine.holds(real)
    assert real.holds(mine)


@pytest.mark.parametrize("build", PROGRAMS, ids=lambda f: f.__name__)
def test_detectors_are_silent_without_noise(build: Callable[[], Builder]) -> None:
    assert run(build().program(bits=3), shots=200, seed=3).outcomes.detection_events == 0


@pytest.mark.parametrize(
    ("build", "switches"),
    [(phases, {"gauge_fix": False}), (phases, {"steer": False})],
    ids=["no gauge fix", "no steering"],
)
def test_negative_controls_differ_while_detectors_are_silent(
    build: Callable[[], Builder], switches: dict[str, bool]
) -> None:
    program = build().program(bits=3)
    wrong = Affine(machine_records(program, SHOTS, seed=1, **switches))
    real = Affine(physical_records(program, SHOTS, seed=2))
    assert not (wrong.holds(real) and real.holds(wrong))
    assert run(program, shots=200, seed=3, machine=switches).outcomes.detection_events == 0


@pytest.mark.parametrize("switches", [{"gauge_fix": False}, {"steer": False}], ids=["no gauge fix", "no steering"])
def test_negative_controls_give_wrong_answers(switches: dict[str, bool]) -> None:
    program = phases().program(bits=1)
    assert run(program, shots=500, seed=4).counts == {"1": 500}
    assert run(program, shots=500, seed=4, machine=switches).counts.get("0", 0) > 100


def test_signs_that_no_all_zero_record_has() -> None:
    program = prepared(SQUARE)
    odd = {key for key in map("{:04b}".format, range(16)) if key.count("1") % 2}
    assert run(program, shots=800, seed=4).counts.keys() == odd
    wrong = run(program, shots=800, seed=4, machine={"steer": False})
    assert not wrong.counts.keys() & odd
    assert wrong.outcomes.detection_events == 0


def test_noise_stands_where_the_calibration_says() -> None:
    """Rates of single detectors against stim's own sampling of the program's circuit with the same noise."""
    from qcosd.qec.circuit import whole_circuit

    shots = 20_000
    rates = Calibration(idle=0.004, cx=0.006, reset=0.011, measure=0.013, hadamard=0.02, handover=0.03)
    program = half_phase().program(bits=1)
    circuit = stim.Circuit(whole_circuit(program, rates).text)
    blocks = [item[2] for item in Machine(program, rates, shots, 5).run()]
    records = np.unpackbits(np.vstack(blocks), axis=1, count=shots, bitorder="little").T.astype(bool)
    mine = circuit.compile_m2d_converter().convert(measurements=records, append_observables=False)
    theirs = circuit.compile_detector_sampler(seed=6).sample(shots)
    for a, b in ((mine, theirs), (mine[:, 1:] & mine[:, :-1], theirs[:, 1:] & theirs[:, :-1])):
        p = (a.mean(0) + b.mean(0)) / 2
        busy = p * shots > 20
        z = (a.mean(0) - b.mean(0))[busy] / np.sqrt(2 * p * (1 - p) / shots)[busy]
        assert busy.sum() > 30
        assert np.abs(z).max() < 5
        assert 0.8 < z.std() < 1.2


def test_compiled_blocks_are_shared_by_equal_slots() -> None:
    b = Builder(3)
    b.init(0, (0, 0), "Z")
    b.idle(3000)
    b.measure(0, "Z", 0)
    program = b.program(bits=1)
    compiler = Compiler(program, PERFECT)
    fragment = program.fragments[0]
    plans = [compiler.block(fragment, start) for start in compiler.blocks(fragment)]
    assert sum(len(plan.m) for plan in plans) == 3001
    assert len({id(plan.steps) for plan in plans}) <= 4
