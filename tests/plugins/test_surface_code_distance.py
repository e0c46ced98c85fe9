# SPDX-License-Identifier: Apache-2.0
"""Every program that the builder and the scheduler write keeps the distance of the code, and misses no detector."""

from __future__ import annotations

import pytest
import stim
from logical_programs import measure, op, program
from qcos_plugins.surface_code.builder import Builder
from qcos_plugins.surface_code.prepare import prepare

from qcosd.qec.calibration import Calibration
from qcosd.qec.circuit import NonlinearFrame, whole_circuit
from qcosd.qec.geometry import other
from qcosd.qec.program import Condition

BASES = ("Z", "X")


def memory(d, basis):
    builder = Builder(d)
    builder.init(0, (0, 0), basis)
    builder.idle(d)
    builder.measure(0, basis, 0)
    return builder.program(bits=1), [[0]], [0]


def cnot(d, basis, pair=(0, 1), wait=1):
    builder = Builder(d)
    builder.init(0, (0, 0), basis)
    builder.init(1, (2, 1), basis)
    builder.idle(wait)
    builder.cnot(*pair, ancilla=9)
    for q in (0, 1):
        builder.measure(q, basis, q)
    return builder.program(bits=2), [[0], [1]], [0, 0]


def reverse_cnot_at_once(d, basis):
    return cnot(d, basis, pair=(1, 0), wait=0)


def ghz(d, basis, n=3):
    builder = Builder(d)
    builder.init(0, (0, 0), "X")
    for q in range(1, n):
        builder.init(q, (2 * q, q), "Z")
    builder.idle(1)
    for q in range(1, n):
        builder.cnot(0, q, ancilla=9)
    for q in range(n):
        builder.measure(q, basis, q)
    parities = [[0, q] for q in range(1, n)] if basis == "Z" else [list(range(n))]
    return builder.program(bits=n), parities, [0] * len(parities)


def bell(d, basis):
    return ghz(d, basis, n=2)


def phase_gadget(d, basis):
    """S|0> = |0> seen in Z; S S |+> = |-> seen in X."""
    builder = Builder(d)
    builder.init(0, (0, 0), basis)
    for _ in range(1 if basis == "Z" else 2):
        builder.phase(0, ancilla=1)
    builder.measure(0, basis, 0)
    return builder.program(bits=1), [[0]], [0 if basis == "Z" else 1]


def hadamard_chain(d, basis):
    builder = Builder(d)
    builder.init(0, (0, 0), basis)
    for _ in range(3):
        builder.idle(d)
        builder.hadamard(0)
    builder.idle(1)
    builder.measure(0, other(basis), 0)
    return builder.program(bits=1), [[0]], [0]


def scheduled_bell(d, basis):
    """Births in the slot of the first merge, as the scheduler places them, and read-out through an H."""
    turn = [op("h", 0), op("h", 1)] if basis == "X" else []
    logical = program(2, 2, op("h", 0), op("cx", 0, 1), *turn, measure(0, 0), measure(1, 1))
    return prepare(logical, d), [[0, 1]], [0]


def scheduled_clifford(d, basis):
    """All gates back to back: H right after a split, S right after a preparation, measurement into a new patch."""
    ops = [op("h", 0), op("s", 0), op("h", 0), op("s", 0), op("h", 0), op("s", 0)]  # (HS)^3 is a phase
    if basis == "X":
        ops = [op("cx", 1, 0), op("h", 0), op("h", 1), op("cx", 0, 1), op("h", 0), op("h", 1)]
    logical = program(2, 3, measure(0, 0), op("x", 0), *ops, measure(0, 1), measure(1, 2))
    return prepare(logical, d), [[0], [1], [2]], [0, 1, 0]


PROGRAMS = (
    memory,
    cnot,
    reverse_cnot_at_once,
    bell,
    ghz,
    phase_gadget,
    hadamard_chain,
    scheduled_bell,
    scheduled_clifford,
)


def check(write, d, basis):
    fragments, parities, values = write(d, basis)
    noisy = whole_circuit(fragments, Calibration.uniform(1e-3), parities)
    circuit = stim.Circuit(noisy.text)
    assert circuit.missing_detectors().num_detectors == 0
    assert len(noisy.detectors) == len(set(noisy.detectors)) == circuit.num_detectors
    # stim raises here where a detector or an observable is not deterministic.
    circuit.detector_error_model(decompose_errors=True)
    assert len(circuit.shortest_graphlike_error()) == d

    silent = whole_circuit(fragments, None, parities)
    records = stim.Circuit(silent.text).compile_sampler().sample(32)
    assert records.shape[1] == silent.measurements == sum(len(s.records()) for s in fragments.fragments[0].sequence())
    detections = (
        stim.Circuit(silent.text).compile_m2d_converter().convert(measurements=records, append_observables=False)
    )
    assert not detections.any()
    for parity, value in zip(silent.observables, values, strict=True):
        assert ((records[:, sorted(parity.records)].sum(axis=1) + parity.constant) % 2 == value).all()


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("d", [3, 5])
@pytest.mark.parametrize("write", PROGRAMS)
def test_distance(write, d, basis):
    check(write, d, basis)


@pytest.mark.slow
@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("write", PROGRAMS)
def test_distance_7(write, basis):
    check(write, 7, basis)


def test_a_detector_left_out_would_be_noticed():
    fragments, parities, _ = cnot(3, "Z")
    lines = whole_circuit(fragments, None, parities).text.splitlines()
    lines.remove(next(line for line in lines if line.startswith("DETECTOR") and line.count("rec") == 2))
    assert stim.Circuit("\n".join(lines)).missing_detectors().num_detectors == 1


def two_branches(condition):
    builder = Builder(3)
    builder.init(0, (0, 0), "X")
    builder.init(1, (2, 1), "Z")
    builder.idle(3)
    builder.measure(0, "Z", 0)
    builder.frame(1, "X", condition=condition)
    builder.round()
    builder.measure(1, "Z", 1)
    return builder.program(bits=2)


def test_a_frame_on_one_bit_is_a_parity():
    for comparison, value in (("==", 1), ("==", 0), ("<", 2)):
        fragments = two_branches(Condition((0,), comparison, value))
        whole = whole_circuit(fragments, None, [[0, 1]] if value < 2 else [[1]])
        records = stim.Circuit(whole.text).compile_sampler().sample(64)
        (parity,) = whole.observables
        expected = {("==", 1): 0, ("==", 0): 1, ("<", 2): 1}[comparison, value]
        assert ((records[:, sorted(parity.records)].sum(axis=1) + parity.constant) % 2 == expected).all()


def test_a_frame_on_two_random_bits_is_no_parity():
    builder = Builder(3)
    for q in range(2):
        builder.init(q, (2 * q, q), "X")
    builder.init(2, (4, 2), "Z")
    builder.idle(3)
    for q in range(2):
        builder.measure(q, "Z", q)
    builder.frame(2, "X", condition=Condition((0, 1), "==", 3))
    builder.measure(2, "Z", 0)
    with pytest.raises(NonlinearFrame):
        whole_circuit(builder.program(bits=2))
