# SPDX-License-Identifier: Apache-2.0
"""The second machine as a plugin: the same service as the first, chosen only when it is asked for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loopback import OFFSET, PRIOR, prepared
from loopback import run as looped
from qcos_plugins.matching_tracker.follow import follow
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.stim_adapter import main as first
from qcos_plugins.stim_adapter.simulator import Compilers, Simulator
from qcos_plugins.tableau_adapter import main
from qcos_plugins.tableau_adapter.machine import KEPT, TableauMachine, Translators
from test_stim_adapter import BRANCHES

from qcosd.qec.calibration import Calibration
from qcosd.qec.device import Device
from qcosd.qec.hardware import Batch, Control, OutOfOrder, Said, State
from qcosd.qec.noise import Noise
from qcosd.qec.placement import Placement
from qcosd.qec.stream import Block, Calibrated
from qcosd.qec.terms import Terms
from qcosd.sdk import Refused
from qcosd.sdk.testing import make_lease, read_manifest, stream_pair

PROGRAM = prepared(BRANCHES)
SITES = {
    site
    for f in PROGRAM.fragments
    for s in f.slots
    for p in s.parts
    for _, targets in p.instructions
    for site in targets
}
PLACEMENT = Placement.of("default", OFFSET, SITES)
NAKED = {"fragments": PROGRAM.to_bytes(), "placement": PLACEMENT.to_bytes()}
READY = main.prepare(make_lease("hardware.prepare", NAKED)).outputs["ready"]
INPUTS = NAKED | {"calibration": PRIOR.to_bytes(), "ready": READY}


def run(inputs: dict[str, bytes] = INPUTS, shots: int = 60, seed: int = 5, **options: Any) -> Tracker:
    """A batch with a real tracker at the other end."""
    reader, writer = stream_pair(credit=1)
    lease = make_lease("hardware.run", inputs, options, shots=shots, seed=seed, batch=0, stream=writer)
    tracker = Tracker(PROGRAM, PRIOR, shots)
    with ThreadPoolExecutor() as pool:
        following = pool.submit(follow, tracker, reader, lambda fraction, text: None)
        try:
            main.run(lease)
            following.result()
        finally:
            writer.close()
    return tracker


def test_its_manifest_is_that_of_the_first_machine_with_a_lower_rank() -> None:
    mine, other = (read_manifest(Path(module.__file__).with_name("plugin.toml")) for module in (main, first))
    assert mine.rank < other.rank
    assert mine.operations == other.operations
    assert mine.settings == other.settings


def test_it_says_of_its_device_what_the_first_machine_says() -> None:
    for options in ({}, {"device": "small-grid"}, {"set": {"can_pause": "false"}}):
        lease = make_lease("hardware.describe", {}, options)
        assert main.describe(lease).outputs == first.describe(lease).outputs
        lease = make_lease("hardware.calibrate", {"device": b""}, options | {"noise": 0.003, "prior": 0.002})
        assert main.calibrate(lease).outputs == first.calibrate(lease).outputs
    assert first.prepare(make_lease("hardware.prepare", NAKED)).outputs["ready"] == READY


@pytest.mark.parametrize("noise", [0, 2e-3])
def test_a_batch_through_a_stream_is_the_batch_of_the_machine(noise: float) -> None:
    tracker = run(noise=noise)
    expected = looped(PROGRAM, Calibration.uniform(noise), PRIOR, 60, 5, hardware="tableau_adapter")
    assert len(expected.outcomes.paths) == 3
    assert (tracker.outcomes().bits == expected.outcomes.bits).all()
    assert tracker.outcomes().detection_events == expected.outcomes.detection_events


def test_batches_of_one_program_share_its_circuits() -> None:
    main.translators = Translators()
    for seed in (1, 2):
        run(seed=seed, shots=1)
    assert len(main.translators) == 1
    for noise in (1e-4, 2e-4, 3e-4, 4e-4, 5e-4):
        run(noise=noise, shots=1)
    assert len(main.translators) == KEPT


@pytest.mark.parametrize(
    ("inputs", "options", "shots", "code"),
    [
        (INPUTS, {}, main.MAX_SHOTS + 1, "bad_input"),
        (INPUTS, {"noise": 0.5}, 1, "bad_input"),
        (INPUTS, {"set": {"erasure": "much"}}, 1, "bad_input"),
        (INPUTS | {"fragments": b"\x90"}, {}, 1, "wrong_input"),
        (INPUTS | {"placement": Placement.of("default", (-40, 0), SITES).to_bytes()}, {}, 1, "wrong_input"),
        (INPUTS | {"ready": b"\x00"}, {}, 1, "wrong_input"),
    ],
    ids=["too many shots", "noise", "setting", "fragments", "placement", "ready"],
)
def test_what_does_not_fit_is_refused(inputs: dict[str, bytes], options: dict[str, Any], shots: int, code: str) -> None:
    with pytest.raises(Refused) as refused:
        main.run(make_lease("hardware.run", inputs, options, shots=shots, batch=0))
    assert refused.value.code == code


# ---- the calls of a machine


def drifting() -> Terms:
    return Terms(replace(Device(), noise=Noise(p=0.002, drift=0.5)))


def machines() -> list[Control]:
    terms = drifting()
    truth, told = terms.truth(9, 3), terms.calibrated(9, 3)
    return [Control(Simulator(terms.device, truth, Compilers(), told)), Control(TableauMachine(terms))]


def test_both_machines_say_first_how_they_have_drifted() -> None:
    said = []
    for control in machines():
        control.prepare(PROGRAM, PLACEMENT)
        control.arm(Batch(3, 4, 9))
        control.start(1000)
        said.append([control.next() for _ in range(2)])
    assert said[0][0] == said[1][0]
    header = said[1][0].header
    assert isinstance(header, Calibrated)
    assert Calibration.from_bytes(said[1][0].frames[0]).id == header.id
    assert said[0][1].header == said[1][1].header
    assert said[1][1].header.t_hw_ns == 1000 + 3 * 1000


def test_a_drifted_machine_errs_as_it_drifted() -> None:
    """The rates of a batch are the truth of that batch, and differ from batch to batch."""
    terms = Terms(replace(Device(), noise=Noise(p=0.01, drift=3.0)))
    seen = {}
    for batch in range(4):
        control = Control(TableauMachine(terms))
        control.prepare(PROGRAM, PLACEMENT)
        control.arm(Batch(batch, 2, 9))
        control.start(0)
        told = control.next()
        assert isinstance(told, Said)
        seen[batch] = Calibration.from_bytes(told.frames[0])
        assert seen[batch].measure == pytest.approx(terms.truth(9, batch).measure)
    assert len({rates.measure for rates in seen.values()}) == 4


def test_calls_out_of_order_are_refused_and_an_aborted_machine_runs_again() -> None:
    control = machines()[1]
    with pytest.raises(OutOfOrder):
        control.arm(Batch(0, 4, 1))

    def begin() -> list[Said]:
        control.prepare(PROGRAM, PLACEMENT)
        control.arm(Batch(3, 4, 9))
        control.start(0)
        return [control.next() for _ in range(3)]  # type: ignore[misc]

    before = begin()
    control.abort()
    control.abort()
    assert control.state is State.SAFE
    assert begin() == before
    assert isinstance(before[1].header, Block)
