# SPDX-License-Identifier: Apache-2.0
"""Rates of single sites and couplers strike at these places of the device, wherever the program was put."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import stim
from loopback import PERFECT, prepared
from qcos_plugins.stim_adapter.machine import Machine
from qcos_plugins.stim_adapter.steps import Compiler

from qcosd.qec.calibration import Calibration, coupler
from qcosd.qec.circuit import whole_circuit
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.geometry import Coord

OFFSET = (6, 10)
SHOTS = 1024
BATCHES = 12
IDLE = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; id q[0]; id q[0]; measure q[0] -> c[0];'
BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'


def shifted(site: Coord) -> Coord:
    return (site[0] + OFFSET[0], site[1] + OFFSET[1])


def on_device(rates: Calibration) -> Calibration:
    """The same for a program that stands at OFFSET."""
    return replace(
        rates,
        sites={shifted(site): by for site, by in rates.sites.items()},
        couplers={coupler(shifted(a), shifted(b)): rate for (a, b), rate in rates.couplers.items()},
    )


def detections(program: FragmentProgram, noise: Calibration) -> np.ndarray:
    """Share of the shots in which each detector fires on the simulated machine at OFFSET."""
    circuit = stim.Circuit(whole_circuit(program, observables=()).text)
    converter = circuit.compile_m2d_converter()
    compiler = Compiler(program, noise, offset=OFFSET)
    total = np.zeros(circuit.num_detectors)
    for seed in range(BATCHES):
        machine = Machine(program, noise, SHOTS, seed, compiler=compiler)
        bits = np.concatenate([item[2] for item in machine.run() if item[0] == "block"])
        records = np.unpackbits(bits, axis=1, count=SHOTS, bitorder="little").T.astype(np.bool_)
        total += converter.convert(measurements=records, append_observables=False).sum(axis=0)
    return total / (SHOTS * BATCHES)


def expected(program: FragmentProgram, rates: Calibration) -> np.ndarray:
    """Exact probability of each detector, from the errors of the circuit at no offset."""
    model = stim.Circuit(whole_circuit(program, rates, observables=()).text).detector_error_model(flatten_loops=True)
    signs = np.ones(model.num_detectors)
    for instruction in model:
        if instruction.type == "error":
            for target in instruction.targets_copy():
                signs[target.val] *= 1 - 2 * instruction.args_copy()[0]
    return (1 - signs) / 2


RATES = {
    "measure": replace(PERFECT, sites={(3, 1): {"measure": 0.1}}),
    "reset": replace(PERFECT, sites={(1, 1): {"reset": 0.1}}),
    "idle": replace(PERFECT, sites={(2, 2): {"idle": 0.1}}),
    "data read-out": replace(PERFECT, sites={(0, 4): {"measure": 0.1}}),
    "cx of a site": replace(PERFECT, sites={(1, 3): {"cx": 0.1}}),
    "coupler": replace(PERFECT, couplers={((1, 1), (2, 2)): 0.1}),
    "all over a noisy device": replace(
        Calibration.uniform(0.003),
        sites={(2, 2): {"idle": 0.05, "cx": 0.01}, (3, 1): {"measure": 0.0}},
        couplers={((1, 1), (2, 2)): 0.1, ((3, 3), (4, 4)): 0.0},
    ),
}


@pytest.mark.parametrize("text", [IDLE, BELL], ids=["idle", "bell"])
@pytest.mark.parametrize("name", RATES)
def test_detectors_fire_as_often_as_the_errors_of_their_places_say(text: str, name: str) -> None:
    program = prepared(text)
    seen, due = detections(program, on_device(RATES[name])), expected(program, RATES[name])
    assert (due > 0.02).any()  # the place is one that the program uses
    if name != "all over a noisy device":
        assert (due == 0).sum() > 10
    assert (seen[due == 0] == 0).all()
    live = due > 0
    sigma = np.sqrt(due[live] * (1 - due[live]) / (SHOTS * BATCHES))
    assert (np.abs(seen[live] - due[live]) < 5 * sigma).all()


def test_a_measure_qubit_that_is_read_wrongly_fires_by_the_textbook() -> None:
    program = prepared(IDLE)
    keys = whole_circuit(program, observables=()).detectors
    seen = detections(program, on_device(RATES["measure"]))
    inner = [i for i, (t, kind, x, y) in enumerate(keys) if (kind, x, y) == (0, 3, 1) and t > 0]
    assert len(inner) >= 4
    assert seen[inner] == pytest.approx(2 * 0.1 * 0.9, abs=5 * (0.18 * 0.82 / SHOTS / BATCHES) ** 0.5)
    assert not any(seen[i] for i, (_, _, x, y) in enumerate(keys) if (x, y) != (3, 1))


def test_elsewhere_on_the_device_the_same_rates_do_nothing() -> None:
    assert not detections(prepared(IDLE), RATES["measure"]).any()
