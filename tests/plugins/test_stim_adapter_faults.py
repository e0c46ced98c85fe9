# SPDX-License-Identifier: Apache-2.0
"""Every single fault that the noise model knows, one per shot, on a machine that is perfect otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from loopback import prepared, run
from qcos_plugins.matching_tracker.model import DEFAULT_DECODER
from qcos_plugins.stim_adapter.faults import Fault, faults_of
from qcos_plugins.surface_code.builder import Builder

from qcosd.qec.fragment import FragmentProgram

PER_BATCH = 4096


def cnot(basis: str) -> FragmentProgram:
    b = Builder(3)
    b.init(0, (0, 0), basis)
    b.init(1, (2, 1), basis)
    b.idle(1)
    b.cnot(0, 1, ancilla=9)
    b.idle(1)
    b.measure(0, basis, 0)
    b.measure(1, basis, 1)
    return b.program(bits=2)


def phases(basis: str) -> FragmentProgram:
    """S S = Z: 0 on |0>, 1 on |+>."""
    b = Builder(3)
    b.init(0, (0, 0), basis)
    b.idle(1)
    b.phase(0, ancilla=1)
    b.phase(0, ancilla=2)
    b.idle(1)
    b.measure(0, basis, 0)
    return b.program(bits=1)


def hadamard(basis: str) -> FragmentProgram:
    b = Builder(3)
    b.init(0, (0, 0), basis)
    b.idle(3)
    b.hadamard(0)
    b.idle(3)
    b.measure(0, {"Z": "X", "X": "Z"}[basis], 0)
    return b.program(bits=1)


def outcomes(program: FragmentProgram, faults: list[Fault], decoder: str) -> tuple[np.ndarray, np.ndarray]:
    """Decoded and undecoded bits, (bits, faults)."""
    decoded, undecoded = [], []
    for start in range(0, len(faults), PER_BATCH):
        some = faults[start : start + PER_BATCH]
        done = run(program, shots=len(some), seed=start, faults=some, decoder=decoder)
        decoded.append(done.outcomes.bits)
        undecoded.append(done.outcomes.undecoded)
    return np.hstack(decoded), np.hstack(undecoded)


CASES = [(f, basis, int(f is phases and basis == "X")) for f in (cnot, phases, hadamard) for basis in "ZX"]
IDS = [f"{f.__name__} {basis}" for f, basis, _ in CASES]


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ["pymatching", DEFAULT_DECODER])
@pytest.mark.parametrize(("build", "basis", "answer"), CASES, ids=IDS)
def test_no_single_fault_changes_an_outcome(build, basis: str, answer: int, decoder: str) -> None:  # type: ignore[no-untyped-def]
    program = build(basis)
    faults = faults_of(program)
    decoded, undecoded = outcomes(program, faults, decoder)
    assert [faults[i] for i in np.flatnonzero((decoded != answer).any(0))] == []
    assert (undecoded != answer).any(0).sum() > 100  # the faults were there


@pytest.mark.slow
@pytest.mark.parametrize(("build", "basis", "answer"), CASES, ids=IDS)
def test_correlated_matching_gives_way_to_few_single_faults(build, basis: str, answer: int) -> None:  # type: ignore[no-untyped-def]
    """Reweighting takes a few two-qubit faults at d = 3 for something likelier; the default decoder bounds it."""
    program = build(basis)
    faults = faults_of(program)
    decoded, _ = outcomes(program, faults, "pymatching-correlated")
    wrong = [faults[i] for i in np.flatnonzero((decoded != answer).any(0))]
    assert len(wrong) <= 0.01 * len(faults)


def test_faults_are_all_paulis_of_all_channels() -> None:
    b = Builder(3)
    b.init(0, (0, 0), "Z")
    b.idle(1)
    b.measure(0, "Z", 0)
    found = faults_of(b.program(bits=1))
    assert len(set(found)) == len(found)
    # 9 resets, 9 idle data qubits, 8 resets and reads of measure qubits, 24 CX, 9 reads.
    assert len(found) == 9 + 9 * 3 + 8 + 24 * 15 + 8 + 9
    assert {fault.slot for fault in found} == {0, 1}
    assert {fault.after for fault in found if fault.slot == 1} == {False}


def test_a_fault_strikes_its_own_shot_and_no_other() -> None:
    b = Builder(3)
    b.init(0, (0, 0), "Z")
    b.idle(1)
    b.measure(0, "Z", 0)
    program = b.program(bits=1)
    corner = Fault(slot=1, part=0, instruction=0, after=False, paulis=(((0, 0), "X"),))
    harmless = corner._replace(paulis=(((0, 0), "Z"),))
    done = run(program, shots=12, seed=1, faults=[harmless, corner, harmless])
    assert np.flatnonzero(done.outcomes.undecoded[0]).tolist() == [1]
    assert done.outcomes.detection_events == 1
    assert not done.outcomes.bits.any()
    with pytest.raises(ValueError, match="sets of faults for"):
        run(program, shots=1, faults=[corner, corner])


def test_faults_find_their_shots_in_branches() -> None:
    qasm = (
        'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[1]; creg d[2]; h q[0]; measure q[0] -> c[0]; '
        "if(c==1) h q[1]; if(c==1) h q[1]; measure q -> d;"
    )
    program = prepared(qasm)
    last = program.path([0, 0])
    slot = sum(fragment.length for fragment in last) - 1
    faults = [fault for fault in faults_of(program, [0, 0]) if fault.slot == slot and not fault.after]
    assert faults  # flips of data qubits in the last read-out
    shots = 4 * len(faults)
    done = run(program, shots=shots, seed=1, faults=faults * 4, machine={"steer": True})
    struck = done.outcomes.detection_events
    assert len(done.outcomes.paths) == 2
    assert struck > len(faults)
    assert (done.outcomes.bits[1:] == [done.outcomes.bits[0], np.zeros(shots)]).all()
