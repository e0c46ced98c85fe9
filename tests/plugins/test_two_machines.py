# SPDX-License-Identifier: Apache-2.0
"""Two machines that share no physics, behind one compiler, scheduler, mapper and tracker: outcomes have to agree.

stim_adapter follows Pauli frames over a record that is all zero, and steers logical outcomes into it.  tableau_adapter
simulates every physical qubit of every shot and knows nothing of logical qubits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import oracle
import pytest
from agreement import ALPHA, disagreement
from loopback import PERFECT, Run, prepared, run
from qcos_plugins.grid_mapper.mapper import placed
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.pytket_optimise.optimiser import optimised
from qcos_plugins.surface_code.prepare import prepare
from test_stim_adapter_records import SQUARE

from qcosd.qec.calibration import Calibration
from qcosd.qec.device import Device
from qcosd.qec.fragment import FragmentProgram

MACHINES = ("stim_adapter", "tableau_adapter")
EXAMPLES = [
    path
    for path in sorted((Path(__file__).parents[2] / "etc" / "examples").glob("*.qasm"))
    if not compile_source(path.read_bytes(), 0.1)[1]["t_count"]  # what one of the two machines cannot do
]
QUICK = [path for path in EXAMPLES if path.stem != "repetition"]  # that one alone has 48 rounds of ten patches
NOISE = Calibration.uniform(3e-3)

# S and H in the middle, a measured qubit that goes on, and one that is made anew.
MIXED = """
OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg a[1]; creg c[2];
h q[0]; s q[0]; cx q[0],q[1]; h q[0]; measure q[0] -> a[0];
if(a==1) s q[1];
reset q[0]; h q[0]; sdg q[0]; h q[0]; cx q[0],q[1]; h q[1];
measure q -> c;
"""


def as_the_daemon_does(qasm: str) -> FragmentProgram:
    """Compiled, optimised, prepared, and found to fit the default device."""
    program, _ = optimised(compile_source(qasm.encode())[0], lambda: False)
    fragments = prepare(program, 3)
    placed(fragments, Device())
    return fragments


def on_both(program: FragmentProgram, noise: Calibration, shots: tuple[int, int], seed: int) -> list[Run]:
    """Results of the machines; the first one is the fast one."""
    return [run(program, noise, shots=n, seed=seed, hardware=name) for name, n in zip(MACHINES, shots, strict=True)]


def check_exact(circuit: oracle.Circuit, program: FragmentProgram, shots: int, seed: int) -> None:
    """Without noise: the oracle's distribution on both machines, silent detectors, nothing for the decoder to do."""
    exact = oracle.distribution(circuit)
    for done in on_both(program, PERFECT, (shots, shots), seed):
        oracle.check_counts(done.counts, exact, alpha=1e-5)
        assert done.counts == done.outcomes.counts_undecoded
        assert done.outcomes.detection_events == 0


def check_alike(program: FragmentProgram, shots: tuple[int, int], seed: int) -> None:
    """With noise: decoded and undecoded outcomes, and the rate of detection events, are the same within statistics."""
    stim_, tableau = (done.outcomes for done in on_both(program, NOISE, shots, seed))
    assert disagreement(stim_.counts, tableau.counts) > ALPHA, (stim_.counts, tableau.counts)
    raw = stim_.counts_undecoded, tableau.counts_undecoded
    assert disagreement(*raw) > ALPHA, raw
    rates = [o.detection_events / o.detectors_total for o in (stim_, tableau)]
    # Events come in clusters of about two, and shots differ: three times the scatter of independent ones is generous.
    assert abs(rates[0] - rates[1]) < 4 * 3 * (rates[0] / tableau.detectors_total) ** 0.5


def wrong_share(done: Run, possible: Mapping[str, float]) -> tuple[int, int]:
    return sum(n for key, n in done.counts.items() if key not in possible), sum(done.counts.values())


def logical(qasm: str) -> oracle.Circuit:
    return oracle.from_logical(compile_source(qasm.encode())[0])


# ---- without noise


@pytest.mark.slow
@pytest.mark.parametrize("path", QUICK, ids=lambda path: path.stem)
def test_examples_have_their_exact_distribution_on_both(path: Path) -> None:
    qasm = path.read_text()
    check_exact(logical(qasm), as_the_daemon_does(qasm), 400, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("qasm", [MIXED, SQUARE], ids=["mixed", "square"])
def test_named_programs_have_their_exact_distribution_on_both(qasm: str) -> None:
    check_exact(logical(qasm), prepared(qasm), 400, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 3])
def test_random_programs_have_their_exact_distribution_on_both(first: int) -> None:
    for seed in range(first, first + 3):
        circuit = oracle.random_circuit(1000 + seed, qubits=1 + seed % 3)
        check_exact(circuit, as_the_daemon_does(circuit.qasm()), 300, seed)


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, 40, 5))
def test_many_random_programs_have_their_exact_distribution_on_both(first: int) -> None:
    for seed in range(first, first + 5):
        circuit = oracle.random_circuit(2000 + seed)
        check_exact(circuit, as_the_daemon_does(circuit.qasm()), 600, seed)


@pytest.mark.long
def test_the_repetition_code_has_its_exact_distribution_on_both() -> None:
    (path,) = set(EXAMPLES) - set(QUICK)
    check_exact(logical(path.read_text()), as_the_daemon_does(path.read_text()), 1000, seed=1)


# ---- with noise


@pytest.mark.slow
@pytest.mark.parametrize("path", QUICK, ids=lambda path: path.stem)
def test_examples_err_alike_on_both(path: Path) -> None:
    qasm = path.read_text()
    program = as_the_daemon_does(qasm)
    check_alike(program, (8000, 1200), seed=3)


@pytest.mark.slow
def test_a_program_of_everything_errs_alike_on_both() -> None:
    check_alike(prepared(MIXED), (8000, 1500), seed=4)


@pytest.mark.slow
def test_logical_error_rates_are_the_same() -> None:
    """Wrong outcomes of a Bell pair: two proportions, 4 sigma."""
    qasm = (EXAMPLES[0].parent / "bell.qasm").read_text()
    possible = oracle.distribution(logical(qasm))
    done = on_both(as_the_daemon_does(qasm), NOISE, (20_000, 6000), seed=5)
    (w1, n1), (w2, n2) = (wrong_share(each, possible) for each in done)
    p = (w1 + w2) / (n1 + n2)
    assert w2 > 100
    assert abs(w1 / n1 - w2 / n2) < 4 * (p * (1 - p) * (1 / n1 + 1 / n2)) ** 0.5


@pytest.mark.slow
def test_erased_qubits_cost_the_same_on_both() -> None:
    """One machine depolarises the qubit before it is read, the other replaces the record by a coin."""
    program = as_the_daemon_does((EXAMPLES[0].parent / "ghz.qasm").read_text())
    both = []
    for name, shots in zip(MACHINES, (1500, 800), strict=True):
        done = run(program, NOISE, shots=shots, seed=6, hardware=name, machine={"erasure": 0.02}).outcomes
        both.append(done.summary()["sum"])
    one, two = both
    assert disagreement(one["counts"], two["counts"]) > ALPHA
    assert disagreement(one["counts_undecoded"], two["counts_undecoded"]) > ALPHA
    kept = [{"kept": each["shots_accepted"], **each["discards"]} for each in both]
    assert disagreement(*kept) > ALPHA
    rates = one["records_missing"] / 1500, two["records_missing"] / 800
    assert rates[0] == pytest.approx(rates[1], rel=5 * (1 / one["records_missing"] + 1 / two["records_missing"]) ** 0.5)


@pytest.mark.long
@pytest.mark.parametrize("name", ["bell", "teleport", "branch"])
def test_programs_err_alike_at_distance_five(name: str) -> None:
    program = prepared((EXAMPLES[0].parent / f"{name}.qasm").read_text(), 5)
    check_alike(program, (20_000, 4000), seed=8)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(12))
def test_many_programs_err_alike_on_both(seed: int) -> None:
    circuit = oracle.random_circuit(3000 + seed)
    check_alike(as_the_daemon_does(circuit.qasm()), (10_000, 2500), seed)


@pytest.mark.parametrize("p", [2e-3, 5e-3])
def test_the_test_of_alikeness_notices_other_noise(p: float) -> None:
    """Negative control: the same comparison, one machine with other noise."""
    program = prepared((EXAMPLES[0].parent / "ghz.qasm").read_text())
    one = run(program, NOISE, shots=8000, seed=3).outcomes
    two = run(program, Calibration.uniform(p), shots=1200, seed=3, hardware="tableau_adapter").outcomes
    assert min(disagreement(one.counts, two.counts), disagreement(one.counts_undecoded, two.counts_undecoded)) < ALPHA
