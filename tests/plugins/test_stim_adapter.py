# SPDX-License-Identifier: Apache-2.0
"""The simulated machine end to end with the tracker: distributions, inverses, batch sizes, branches, headers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import oracle
import pytest
from loopback import PERFECT, prepared, run
from qcos_plugins.stim_adapter.machine import Machine
from qcos_plugins.stim_adapter.steps import Compiler

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram

NOISY = Calibration.uniform(2e-3)

BRANCHES = """
OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg a[1]; creg b[1]; creg c[2];
h q[0]; cx q[0],q[1]; measure q[0] -> a[0];
if(a==1) h q[0];
measure q[0] -> b[0];
if(b==1) h q[1];
measure q[0] -> c[0]; measure q[1] -> c[1];
"""


def bits_of(program: FragmentProgram, shots: int, seed: int, noise: Calibration = NOISY, **more: object) -> list[bytes]:
    """All that a machine says, every decision answered by 0, 1, 0, 1, ..."""
    said = []
    shots_of = {}
    stream = Machine(program, noise, shots, seed, **more).run()
    item = next(stream)
    try:
        while True:
            if item[0] == "block":
                shots_of[item[1].path] = item[1].shots
                said.append(repr(item[1]).encode() + item[2].tobytes())
                item = next(stream)
            else:
                item = stream.send(np.full(-(-shots_of[item[1]] // 8), 0xAA, np.uint8))
    except StopIteration:
        return said


@pytest.mark.parametrize(("text", "key"), [("", ""), ("creg c[2]; x q[0]; barrier q;", "00")])
def test_a_program_that_does_nothing_ends_with_nothing(text: str, key: str) -> None:
    done = run(prepared(f'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; {text}'), NOISY, shots=20)
    assert done.counts == {key: 20}
    assert (done.outcomes.rounds == 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 60, 20))
def test_random_programs_give_their_exact_distribution(first: int) -> None:
    paths = 0
    for seed in range(first, first + 20):
        circuit = oracle.random_circuit(seed)
        done = run(prepared(circuit.qasm()), shots=1000, seed=seed)
        oracle.check_counts(done.counts, oracle.distribution(circuit), alpha=1e-5)
        assert done.counts == done.outcomes.counts_undecoded
        assert done.outcomes.detection_events == 0
        paths += len(done.outcomes.paths)
    assert paths > 24  # some of them branch


@pytest.mark.parametrize("seed", range(12))
def test_a_circuit_and_its_inverse_give_zero(seed: int) -> None:
    qubits = 1 + seed % 3
    circuit = oracle.mirrored(seed, qubits, 4 + 2 * qubits)
    done = run(prepared(circuit.qasm()), shots=300, seed=seed)
    assert done.counts == {"0" * qubits: 300}
    assert done.outcomes.detection_events == 0
    assert done.outcomes.rounds.min() >= 3 * 4


def test_without_steering_a_circuit_and_its_inverse_fail_in_silence() -> None:
    wrong = Counter[str]()
    for seed in range(6):
        circuit = oracle.mirrored(seed, 2, 8)
        done = run(prepared(circuit.qasm()), shots=200, seed=seed, machine={"steer": False})
        wrong.update(done.counts)
        assert done.outcomes.detection_events == 0
    assert sum(n for key, n in wrong.items() if key != "00") > 200


@pytest.mark.parametrize("shots", [1, 13, 64, 256, 1024])
def test_batches_of_any_size_agree_with_the_distribution(shots: int) -> None:
    circuit = oracle.random_circuit(9)
    program = prepared(circuit.qasm())
    compiler = Compiler(program, PERFECT)
    counts = Counter[str]()
    known = run(program, shots=1).tracker.plans
    for seed in range(max(1, 300 // shots)):
        counts.update(run(program, shots=shots, seed=seed, machine={"compiler": compiler}, plans=known).counts)
    assert len(program.fragments) > 1
    oracle.check_counts(counts, oracle.distribution(circuit), alpha=1e-5)


def test_moving_to_a_fresh_simulator_after_every_block_changes_nothing() -> None:
    for seed in (1, 2, 3, 9):
        circuit = oracle.mirrored(seed, 2, 6) if seed < 3 else oracle.random_circuit(seed)
        done = run(prepared(circuit.qasm()), shots=600, seed=seed, machine={"record_bytes": 0})
        oracle.check_counts(done.counts, oracle.distribution(circuit), alpha=1e-5)
        assert done.outcomes.detection_events == 0


def test_moving_to_a_fresh_simulator_keeps_the_noise() -> None:
    program = prepared(
        'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; id q[0]; id q[0]; id q[0]; measure q[0] -> c[0];'
    )
    rates = []
    for record_bytes in (0, 1 << 30):
        done = run(program, NOISY, NOISY, 4000, 5, machine={"record_bytes": record_bytes})
        rates.append(done.outcomes.detection_events / done.outcomes.detectors_total)
    assert rates[0] == pytest.approx(rates[1], rel=0.05)


def test_equal_seeds_give_equal_bits() -> None:
    program = prepared(BRANCHES)
    assert bits_of(program, 40, 1) == bits_of(program, 40, 1) != bits_of(program, 40, 2)
    shared = Compiler(program, NOISY)
    bits_of(program, 8, 3, compiler=shared)
    assert bits_of(program, 40, 1, compiler=shared) == bits_of(program, 40, 1)


def test_branches_run_in_order_with_all_their_shots() -> None:
    program = prepared(BRANCHES)
    done = run(program, shots=500, seed=1)
    paths = list(dict.fromkeys(block.path for block in done.blocks))
    assert paths == ["", "k0=0", "k0=0/k1=0", "k0=1", "k0=1/k1=0", "k0=1/k1=1"]
    assert sum(done.outcomes.paths.values()) == 500
    assert 200 < done.outcomes.paths["k0=0/k1=0"] < 300
    # a = 0: q0 and q1 are 0.  a = 1: q0 is random, and q1 is 1, or random if b = 1.
    exact = {"0 0 00": 0.5, "1 0 01": 0.25, "1 1 10": 0.125, "1 1 11": 0.125}
    oracle.check_counts(done.counts, exact, alpha=1e-5)


def test_one_shot_goes_one_way() -> None:
    program = prepared(BRANCHES)
    seen = {tuple(run(program, shots=1, seed=seed).outcomes.paths) for seed in range(20)}
    assert seen == {("k0=0/k1=0",), ("k0=1/k1=0",), ("k0=1/k1=1",)}


def test_the_reported_decision_counts_whatever_the_reference_has() -> None:
    """A decision that flips a fair coin's outcome still leads to a branch that runs, with silent detectors."""
    program = prepared(BRANCHES)
    for value in (0x00, 0xFF):
        stream = Machine(program, PERFECT, 8, 1).run()
        item, paths = next(stream), set()
        with pytest.raises(StopIteration):
            while True:
                paths.add(item[1] if item[0] == "decide" else item[1].path)
                item = stream.send(np.array([value], np.uint8) if item[0] == "decide" else None)
        assert paths == {"", f"k0={value & 1}", f"k0={value & 1}/k1={value & 1}"}


def test_headers_count_slots_records_and_time() -> None:
    program = prepared(BRANCHES)
    done = run(program, NOISY, NOISY, 100, 2, batch=7, machine={"round_ns": 500})
    ends: dict[str, tuple[int, int]] = {"": (0, 0)}
    for block in done.blocks:
        fragment = program.fragments[block.fragment]
        parent = block.path.rpartition("/")[0]
        slot, record = ends.get(block.path, ends[parent] if block.path else (0, 0))
        assert (block.round, block.rec_start, block.batch) == (slot, record, 7)
        assert block.slot % program.distance == 0
        assert len(block.m) == min(program.distance, fragment.length - block.slot)
        assert block.last == (fragment.decision is None and block.slot + len(block.m) == fragment.length)
        ends[block.path] = (slot + len(block.m), record + sum(block.m))
        assert block.t_hw_ns == ends[block.path][0] * 500
    assert len(ends) > 3


def test_a_decision_is_demanded_in_full() -> None:
    program = prepared(BRANCHES)
    for answer in (None, np.zeros(1, np.uint8)):
        stream = Machine(program, PERFECT, 9, 1).run()
        item = next(stream)
        while item[0] == "block":
            item = next(stream)
        with pytest.raises(ValueError, match="decision 0 needs 2 bytes"):
            stream.send(answer)
