# SPDX-License-Identifier: Apache-2.0
"""Error rates: one analysis serves all of them, and a wrong prior costs failures but never makes a right outcome wrong."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest
import sampled
import stim
from qcos_plugins.matching_tracker.analysis import Analysis
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.content import Interner
from qcos_plugins.matching_tracker.elements import shifted
from qcos_plugins.matching_tracker.local import local_circuit
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.window import Window, region_windows

from qcosd.qec.calibration import RATES, Calibration, coupler
from qcosd.qec.circuit import whole_circuit
from qcosd.qec.fragment import FragmentProgram

D = 3
OFFSET = (4, 2)


def sites_of(program: FragmentProgram) -> list[tuple[int, int]]:
    """Of the device."""
    parts = [part for slot in program.fragments[0].slots for part in slot.parts]
    found = {site for part in parts for _, targets in part.instructions for site in targets}
    return sorted((x + OFFSET[0], y + OFFSET[1]) for x, y in found)


def uneven(program: FragmentProgram, seed: int) -> Calibration:
    """Rates over three decades; a third of the sites and some couplers have their own."""
    generator = random.Random(seed)
    sites = sites_of(program)

    def rate() -> float:
        return 10 ** generator.uniform(-4, -1.5)

    own = {site: {k: rate() for k in generator.sample(RATES, 3)} for site in generator.sample(sites, len(sites) // 3)}
    pairs = [coupler((x, y), (x + 1, y + 1)) for x, y in sites if (x + 1, y + 1) in sites]
    couplers = {pair: rate() for pair in generator.sample(pairs, len(pairs) // 4)}
    return Calibration(*(rate() for _ in RATES), sites=own, couplers=couplers)


PROGRAMS = {
    "memory": lambda: sampled.memory(D, 5),
    "cnot": lambda: sampled.cnot(D, "Z"),
    "s-s": lambda: sampled.phases(D, dagger=False),
    "hhh": lambda: sampled.hadamards(D, "X"),
}


@pytest.mark.parametrize("even", [True, False], ids=["even", "uneven"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_model_at_any_rates_is_that_of_stim(name: str, even: bool) -> None:
    """Errors, their decomposition and their order are equal, and so are probabilities to rounding."""
    program = PROGRAMS[name]()
    rates = uneven(program, seed=3)
    if even:
        rates = Calibration(*(getattr(rates, kind) for kind in RATES))
    interner = Interner(D)
    slots = [interner.content(slot) for slot in program.fragments[0].sequence()]
    compared = 0
    for start in range(0, len(slots), 2):
        end = min(start + 2 * D, len(slots))
        for region in region_windows(slots[start - 1] if start else None, slots[start:end]):
            circuits = [
                local_circuit(region, min(D, end - start), end - start, D, rates, offset=OFFSET, tagged=tagged)
                for tagged in (False, True)
            ]
            expected, tagged = (
                stim.Circuit(c.text).detector_error_model(decompose_errors=True, flatten_loops=True) for c in circuits
            )
            classes = circuits[1].classes
            assert all(c.where is None for c in classes) == even
            analysis = Analysis(tagged, classes)
            place = (region.origin[0] + OFFSET[0], region.origin[1] + OFFSET[1])
            found = analysis.flips.probabilities([rates.rate(c.kind, shifted(c.where, place)) for c in classes])
            lines = [line[6:].split(") ") for line in str(expected).split("\n") if line.startswith("error(")]
            assert analysis.targets == [targets for _, targets in lines]
            probabilities = np.array([float(p) for p, _ in lines])
            assert np.abs(found - probabilities).max() < 1e-12
            assert np.abs(found / probabilities - 1).max() < 1e-10
            compared += len(lines)
    assert compared > 500


def plan_of(plans: Plans) -> list:
    contents = plans.contents(0)
    return list(plans.window(contents[0], contents[1 : 1 + 2 * D], Window(1, 1 + D, 1 + 2 * D)).instances)


@pytest.mark.parametrize("decoder", ["pymatching", "pymatching-correlated", "pymatching-tempered"])
def test_other_rates_share_the_structure_and_give_what_a_fresh_start_gives(decoder: str) -> None:
    program = sampled.cnot(D, "X")
    first, second = Calibration.uniform(1e-3), Calibration(4e-3, 1e-3, 2e-2, 3e-2, 1e-3, 1e-3)
    plans = Plans(program, first, decoder=decoder)
    old = plan_of(plans)
    misses = plans.templates.misses
    other = plans.reweighted(second)
    new = plan_of(other)
    assert plans.templates.misses == misses
    assert plans.templates.reweighted == len(new)
    assert (plans.calibration, other.calibration) == (first, second)
    fresh = plan_of(Plans(program, second, decoder=decoder))
    generator = np.random.default_rng(2)
    for a, b, c in zip(old, new, fresh, strict=True):
        assert b.template.structure is a.template.structure
        assert b.template is not a.template
        assert b.rows is a.rows
        syndrome = np.packbits(generator.random((b.rows.max() + 1, 400)) < 0.03, axis=1, bitorder="little")
        assert np.array_equal(b.decode(syndrome, 400)[0], c.decode(syndrome, 400)[0])
        assert not np.array_equal(b.decode(syndrome, 400)[0], a.decode(syndrome, 400)[0])
    assert plan_of(plans) == old
    again = plans.reweighted(first)
    assert [i.template for i in plan_of(again)] == [i.template for i in old]


def test_the_place_on_the_device_counts_only_where_rates_differ() -> None:
    program = sampled.memory(D, 9)
    templates = TemplateCache()
    even, odd = Calibration.uniform(1e-3), uneven(program, seed=4)

    def template(rates: Calibration, offset: tuple[int, int]) -> object:
        return plan_of(Plans(program, rates, templates=templates, offset=offset))[0].template

    assert template(even, (0, 0)) is template(even, (8, 8))
    assert template(odd, OFFSET) is not template(odd, (8, 8))
    assert template(odd, OFFSET) is template(odd, OFFSET)
    moved = Calibration(
        *(getattr(odd, kind) for kind in RATES),
        sites={(x + 8, y): own for (x, y), own in odd.sites.items()},
        couplers={((a + 8, b), (c + 8, d)): rate for ((a, b), (c, d)), rate in odd.couplers.items()},
    )
    assert template(moved, (OFFSET[0] + 8, OFFSET[1])) is template(odd, OFFSET)


# ---- what a prior is worth


@cache
def recorded() -> sampled.Recording:
    """Memory on a device with two bad measure qubits and two bad data qubits."""
    program = sampled.memory(D, 12)
    sites = {(3, 3): {"measure": 0.2}, (1, 1): {"measure": 0.2}, (2, 2): {"idle": 0.05}, (4, 0): {"idle": 0.05}}
    rates = Calibration(*([2e-3] * len(RATES)), sites=sites)
    text = whole_circuit(program, rates, ((0,),)).text
    records = stim.Circuit(text).compile_sampler(seed=9).sample(20_000)
    return sampled.Recording(program, rates, ((0,),), (), records)


def failures(prior: Calibration) -> int:
    recording = recorded()
    assumed = sampled.Recording(recording.program, prior, recording.observables, (), recording.records)
    return int(sampled.track(assumed).bits[0].sum())


@pytest.mark.slow
def test_a_wrong_prior_costs_failures() -> None:
    truth = recorded().rates
    right = failures(truth)
    misplaced = {(x, 4 - y): own for (x, y), own in truth.sites.items()}
    misplaced |= {site: {kind: 1e-4 for kind in own} for site, own in truth.sites.items() if site not in misplaced}
    wrong = failures(Calibration(*(getattr(truth, kind) for kind in RATES), sites=misplaced))
    measure = failures(Calibration(*(2e-3 * (10 if kind == "measure" else 0.1) for kind in RATES)))
    for worse in (wrong, measure):
        assert worse - right > 5 * np.sqrt(right + worse), (right, wrong, measure)


@pytest.mark.parametrize("factor", [0.1, 10])
def test_without_noise_no_prior_changes_an_outcome(factor: float) -> None:
    for name in ("cnot", "s-s"):
        program = PROGRAMS[name]()
        clean = sampled.record(program, 0.0, 200)
        odd = uneven(program, seed=5)
        for prior in (odd, Calibration.uniform(1e-3 * factor)):
            outcomes = sampled.track(sampled.Recording(program, prior, clean.observables, (), clean.records))
            assert np.array_equal(outcomes.bits, outcomes.undecoded)
            assert np.array_equal(clean.parities(outcomes.bits), clean.undecoded())
