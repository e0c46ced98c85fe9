# SPDX-License-Identifier: Apache-2.0
"""Two machines that share no physics: raw records, detectors and injected faults have to agree, bit by bit where nothing is
left to chance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from agreement import deviations, events, records
from loopback import PERFECT, prepared, run
from qcos_plugins.stim_adapter.faults import Fault, faults_of
from qcos_plugins.surface_code.builder import Builder
from test_stim_adapter_records import PROGRAMS, Affine, half_phase, phases
from test_two_machines import MACHINES, MIXED

from qcosd.qec.calibration import RATES, Calibration
from qcosd.qec.fragment import FragmentProgram

UNEVEN = Calibration(idle=0.004, cx=0.006, reset=0.011, measure=0.013, hadamard=0.02, handover=0.03)


# ---- detectors, one by one


def detector_deviations(
    program: FragmentProgram, one: Calibration, two: Calibration, shots: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Of each detector, and of each two neighbours in the list together."""
    a = events(program, records("stim_adapter", program, one, shots[0], seed=6))
    b = events(program, records("tableau_adapter", program, two, shots[1], seed=7))
    return deviations(a, b), deviations(a[:, 1:] & a[:, :-1], b[:, 1:] & b[:, :-1])


def alike(z: np.ndarray) -> bool:
    """Standard scores of one distribution: none beyond 5, and 1 on average."""
    assert len(z) > 30
    return bool(np.abs(z).max() < 5) and bool(0.8 < (z**2).mean() ** 0.5 < 1.2)


@pytest.mark.slow
def test_detectors_fire_alike_on_both() -> None:
    """Each kind of error has a rate of its own here, so that none can stand for another."""
    for z in detector_deviations(half_phase().program(bits=1), UNEVEN, UNEVEN, (20_000, 5000)):
        assert alike(z), z


def hot() -> Calibration:
    """A site and a coupler far worse than the others, and one that is better.  Places of the device (see `loopback.OFFSET`)."""
    return Calibration(
        **{kind: getattr(UNEVEN, kind) for kind in RATES},
        sites={(4, 6): {"idle": 0.1, "measure": 0.1}, (3, 5): {"measure": 0.15, "cx": 0.08}, (4, 4): {"cx": 0.12}},
        couplers={((3, 5), (4, 4)): 0.001, ((5, 7), (6, 8)): 0.2},
    )


@pytest.mark.slow
def test_detectors_near_bad_sites_fire_alike_on_both() -> None:
    program = phases().program(bits=1)
    for z in detector_deviations(program, hot(), hot(), (20_000, 4000)):
        assert alike(z), z


@pytest.mark.parametrize("kind", RATES)
def test_one_rate_that_differs_shows_in_the_detectors(kind: str) -> None:
    """Negative control."""
    values = {k: getattr(UNEVEN, k) for k in RATES}
    other = Calibration(**{**values, kind: 2.5 * values[kind]})
    singles, _ = detector_deviations(half_phase().program(bits=1), UNEVEN, other, (20_000, 2000))
    assert not alike(singles)


def injected(hardware: str, program: FragmentProgram, faults: list[Fault], observables: list[list[int]]) -> np.ndarray:
    together = [(fault,) for fault in faults]
    return events(program, records(hardware, program, PERFECT, len(faults), seed=8, faults=together), observables)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "bits"), [(phases, [[0]]), (half_phase, []), (PROGRAMS[0], [[0, 1]])], ids=["S S", "S H S", "bell"]
)
def test_a_fault_fires_the_same_detectors_on_both(build: Callable[[], Builder], bits: list[list[int]]) -> None:
    """Injected one by one, on machines that are perfect otherwise: equal down to the last detector and outcome."""
    program = build().program(bits=2)
    faults = faults_of(program)
    chosen = [faults[i] for i in np.random.default_rng(9).choice(len(faults), 300, replace=False)]
    found = [injected(name, program, chosen, bits) for name in MACHINES]
    assert (found[0] == found[1]).all()
    assert found[0].any(1).sum() > 200
    assert not (found[0] == np.roll(found[1], 1, axis=0)).all()


# ---- raw records


def forced(program: FragmentProgram, value: int) -> dict[int, int]:
    """The same answer to every decision."""
    return {f.decision.k: value for f in program.fragments if f.decision is not None}


@pytest.mark.parametrize("build", PROGRAMS, ids=lambda f: f.__name__)
def test_raw_records_span_the_same_space(build: Callable[[], Builder]) -> None:
    """The affine hull of complete records: equal rank, and each space holds the other."""
    program = build().program(bits=3)
    frames = Affine(records("stim_adapter", program, PERFECT, 320, seed=1).T)
    qubits = Affine(records("tableau_adapter", program, PERFECT, 320, seed=2, known_syndrome="plus").T)
    assert frames.rank == qubits.rank < 280  # so many shots span the whole space
    assert frames.holds(qubits)
    assert qubits.holds(frames)


@pytest.mark.slow
@pytest.mark.parametrize("value", [0, 1])
def test_raw_records_of_a_branch_span_the_same_space(value: int) -> None:
    program = prepared(MIXED)
    answers = forced(program, value)
    assert answers
    spaces = [
        Affine(records(name, program, PERFECT, 640, seed=3, decisions=answers, **more).T)
        for name, more in zip(MACHINES, ({}, {"known_syndrome": "plus"}), strict=True)
    ]
    assert spaces[0].rank == spaces[1].rank < 600
    assert spaces[0].holds(spaces[1])
    assert spaces[1].holds(spaces[0])


@pytest.mark.parametrize("switches", [{"gauge_fix": False}, {"steer": False}], ids=["no gauge fix", "no steering"])
def test_without_gauge_fix_or_steering_the_spaces_differ(switches: dict[str, bool]) -> None:
    """Negative controls, silent in every detector."""
    program = phases().program(bits=1)
    bits = records("stim_adapter", program, PERFECT, 320, seed=1, **switches)
    assert not events(program, bits).any()
    wrong = Affine(bits.T)
    right = Affine(records("tableau_adapter", program, PERFECT, 320, seed=2, known_syndrome="plus").T)
    assert not (wrong.holds(right) and right.holds(wrong))


def test_states_may_arrive_with_any_syndrome() -> None:
    """More than the frames can show: X plaquettes of an arriving |Y> have random signs too, and nothing depends on it."""
    program = phases().program(bits=1)
    plus = Affine(records("tableau_adapter", program, PERFECT, 400, seed=1, known_syndrome="plus").T)
    bits = records("tableau_adapter", program, PERFECT, 400, seed=2)
    every = Affine(bits.T)
    assert every.rank == plus.rank + 2 * 4  # two gadgets, four X plaquettes
    assert every.holds(plus)
    assert not events(program, bits).any()
    assert run(program, shots=300, hardware="tableau_adapter").counts == {"1": 300}
