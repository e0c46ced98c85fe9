# SPDX-License-Identifier: Apache-2.0
"""A decoder that falls behind a machine's clock is noticed, and nothing else is taken for it. The clock here is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import sampled
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.fault import Behind
from qcos_plugins.matching_tracker.load import LEAST, REPEATS, Load, random_syndrome, what_fits
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.surface_code.builder import Builder

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram

D = 5
RATES = Calibration.uniform(3e-3)
TEMPLATES = TemplateCache()


def memory(rounds: int) -> FragmentProgram:
    b = Builder(D)
    b.init(0, (0, 0), "Z")
    b.idle(rounds)
    b.measure(0, "Z", bit=0)
    return b.program(1)


def ticking(seconds: float) -> Callable[[], float]:
    """A clock that goes on by so much each time that it is read."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += seconds
        return now

    return clock


def judged(load: Load, busy: float, hardware: float, times: int) -> list[float]:
    said = [load.add(busy, hardware) for _ in range(times)]
    return [utilisation for utilisation in said if utilisation is not None]


def test_only_what_lasts_is_an_overload() -> None:
    part = LEAST / 4
    assert judged(Load(), part, part * 1.01, 100) == [], "it keeps up, barely"
    assert judged(Load(), part, part / 2, 7) == [], "not for long enough"
    assert judged(Load(), part, part / 2, 8) == [2.0]
    load = Load()
    assert judged(load, part, part / 2, 4) == []
    assert judged(load, part, part * 2, 4) == [], "a hiccup"
    assert judged(load, part, part / 2, 7) == []
    assert judged(load, part, part / 2, 1) == [2.0]


@pytest.mark.parametrize(
    ("tick", "round_ns", "late_ns", "behind"),
    [(0.01, 1000, 0, True), (0.01, 10**9, 0, False), (0.01, 1000, None, False), (1e-7, 10**6, 0, False)],
)
def test_a_tracker_says_when_it_cannot_keep_up(tick: float, round_ns: int, late_ns: int | None, behind: bool) -> None:
    program = memory(300)
    recording = sampled.record(program, 3e-3, 8, [[0]], seed=1)
    blocks = sampled.blocks(program, recording.records, D)
    Tracker(program, RATES, 8, templates=TEMPLATES)  # windows are built below, in time that does not count
    tracker = Tracker(program, RATES, 8, templates=TEMPLATES, clock=ticking(tick))

    def feed() -> None:
        for block, bits in blocks:
            end = (block.round + len(block.m)) * round_ns
            tracker.receive(replace(block, t_hw_ns=end, late_ns=late_ns), bits)

    if not behind:
        feed()
        spent = tracker.outcomes().summary()["sum"]["decode_us_per_round"]
        assert (spent["hardware_us"] > 0) == (late_ns is not None)
        return
    with pytest.raises(Behind, match="times as long as the rounds do") as caught:
        feed()
    details = caught.value.details
    assert details["round_us"] == round_ns / 1000
    assert details["decode_us_per_round"] == pytest.approx(details["utilisation"] * details["round_us"], rel=1e-3)
    assert "a round_time above" in str(caught.value)


def test_rounds_for_which_the_machine_stood_still_are_no_time_for_the_program() -> None:
    """The machine waits for its decoder: without that, the decoder would seem to keep up."""
    program = memory(300)
    recording = sampled.record(program, 3e-3, 8, [[0]], seed=1)
    tracker = Tracker(program, RATES, 8, templates=TEMPLATES, clock=ticking(0.01))
    stalled = 0
    with pytest.raises(Behind):
        for block, bits in sampled.blocks(program, recording.records, D):
            stalled += 10**6
            end = (block.round + len(block.m) + stalled) * 1000
            tracker.receive(replace(block, t_hw_ns=end, late_ns=0, stalled=10**6), bits)


def tracked(shots: int) -> tuple[Plans, dict[str, int]]:
    """Plans of which the windows are known, and sums over the shots that they are known from."""
    program = memory(20)
    plans = Plans(program, RATES, templates=TEMPLATES)
    recording = sampled.record(program, 3e-3, shots, [[0]], seed=1)
    tracker = Tracker(program, RATES, shots, plans=plans)
    for block, bits in sampled.blocks(program, recording.records, D):
        tracker.receive(block, bits)
    return plans, tracker.outcomes().summary()["sum"]


def scripted(costs: Sequence[float]) -> Callable[[], float]:
    """A clock by which decoders take these times, one after the other."""
    times = iter([time for cost in costs for _ in range(REPEATS) for time in (0.0, cost)])
    return lambda: next(times)


@pytest.mark.parametrize(
    ("utilisation", "costs", "offer"),
    [
        (1.5, (1.0, 2.0, 0.5), {"decoder": "pymatching", "distance": 3}),
        (1.5, (1.0, 0.5, 0.9), {"decoder": "pymatching-correlated", "distance": 3}),
        (1.5, (1.0, 0.8, 2.0), {"distance": 3}),
        (3.1, (1.0, 0.8, 2.0), {}),
    ],
)
def test_what_would_fit(utilisation: float, costs: Sequence[float], offer: dict[str, object]) -> None:
    """The number of detectors in a round falls to a third from distance 5 to 3."""
    plans, _ = tracked(8)
    assert what_fits(plans, utilisation, scripted(costs)) == offer


def test_random_syndromes_are_as_dense_as_errors_make_them() -> None:
    plans, summary = tracked(2000)
    window = plans.largest_template()
    assert window is not None
    syndrome = random_syndrome(window)
    share = sum(int(byte).bit_count() for byte in syndrome.reshape(-1)) / (8 * syndrome.size)
    real = summary["detection_events"] / summary["detectors_total"]
    assert share == pytest.approx(real, rel=0.25)
