# SPDX-License-Identifier: Apache-2.0
"""Every classical bit of a path is an observable that is deterministic for the error model, be it random or not."""

from __future__ import annotations

from itertools import product
from random import Random

import msgpack
import numpy as np
import pytest
import stim
from logical_programs import random_program
from loopback import TEMPLATES, prepared, run
from qcos_plugins.matching_tracker.circuits import written_circuits
from qcos_plugins.matching_tracker.effects import settled_effects
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.recording import recorded
from qcos_plugins.surface_code.prepare import prepare

from qcosd.qec.calibration import Calibration
from qcosd.qec.circuit import whole_circuit
from qcosd.qec.fragment import FragmentProgram

RATES = Calibration.uniform(1e-3)
GHZ = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q->c;'


def some_program(seed: int) -> FragmentProgram:
    return prepare(random_program(Random(seed), 3, 3, 8), 3)


def some_paths(program: FragmentProgram) -> list[list[int]]:
    found = {len(program.path(values)) - 1: values for values in product((0, 1), repeat=2)}
    paths = [list(values)[:n] + [0] * (n - 2) for n, values in found.items()]
    return [path for path in paths if len(program.path(path)) == len(path) + 1]


@pytest.mark.parametrize("seed", range(12))
def test_bits_of_random_programs_are_deterministic_but_for_errors(seed: int) -> None:
    program = some_program(seed)
    for decisions in some_paths(program):
        text = whole_circuit(program, RATES, decisions=decisions, conditional=False).text
        # stim refuses a detector or an observable that is not deterministic.
        model = stim.Circuit(text).detector_error_model(decompose_errors=True)
        assert model.num_observables == program.bits


@pytest.mark.parametrize("seed", range(4))
def test_records_of_random_programs_give_their_outcomes(seed: int) -> None:
    """Without noise: observable xor frame is the outcome, whatever Paulis were applied on condition."""
    program = some_program(seed)
    done = run(program, shots=128, seed=seed, records=True)
    seen = 0
    for path in msgpack.unpackb(recorded(done.outcomes, 0))["paths"]:
        circuit = stim.Circuit(whole_circuit(program, None, decisions=path["decisions"], conditional=False).text)
        shots = len(path["shots"])

        def rows(name: str, bits: int, path: dict = path, shots: int = shots) -> np.ndarray:
            packed = np.frombuffer(path[name], np.uint8).reshape(shots, -1)
            return np.unpackbits(packed, axis=1, count=bits, bitorder="little").astype(bool)

        assert circuit.num_measurements == path["measurements"]
        syndrome, values = circuit.compile_m2d_converter(skip_reference_sample=True).convert(
            measurements=rows("records", path["measurements"]), separate_observables=True
        )
        assert not syndrome.any()
        assert (values ^ rows("frames", program.bits) == rows("outcomes", program.bits)).all()
        assert (rows("undecoded", program.bits) == rows("outcomes", program.bits)).all()
        seen += shots
    assert seen == 128


def test_without_cuts_a_random_bit_is_no_observable() -> None:
    text = whole_circuit(prepared(GHZ), RATES, conditional=False).text
    cuts = [line for line in text.splitlines() if line.startswith("OBSERVABLE_INCLUDE") and "rec" not in line]
    assert cuts
    without = "\n".join(line for line in text.splitlines() if line not in cuts)
    with pytest.raises(ValueError, match="non-deterministic observable"):
        stim.Circuit(without).detector_error_model()


def test_a_parity_that_is_fixed_needs_no_cut() -> None:
    text = whole_circuit(prepared(GHZ), RATES, [[0, 1]]).text
    assert not [line for line in text.splitlines() if line.startswith("OBSERVABLE_INCLUDE") and "rec" not in line]


def test_effects_are_those_of_some_error() -> None:
    """What a window has settled for an edge is what one of the errors with these detectors does."""
    program = prepared(GHZ)
    plans = Plans(program, RATES, decoder="pymatching", templates=TEMPLATES)
    whole = whole_circuit(program, RATES, conditional=False)
    possible: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for error in stim.Circuit(whole.text).detector_error_model(decompose_errors=True).flattened():
        if error.type == "error":
            for piece in "".join(f" {t}" for t in error.targets_copy()).split("^"):
                ids = [(word[0], int(word[1:])) for word in piece.split()]
                detectors = tuple(sorted(i for kind, i in ids if kind == "D"))
                possible.setdefault(detectors, set()).add(tuple(sorted(i for kind, i in ids if kind == "L")))
    effects = settled_effects(plans, [], whole.detectors)
    assert len(effects) >= len(possible) - 1  # errors that no detector sees are no edges
    assert any(len(several) > 1 for several in possible.values()), "some edges have a choice"
    for detectors, bits in effects.items():
        assert bits in possible[detectors]


@pytest.mark.parametrize("paths", [b"\xc1", b"\x01", msgpack.packb([[2]]), msgpack.packb([[0]])])
def test_paths_that_are_none_are_refused(paths: bytes) -> None:
    plans = Plans(prepared(GHZ), RATES, templates=TEMPLATES)
    with pytest.raises(ValueError, match="path"):
        written_circuits(plans, (0, 0), paths)
