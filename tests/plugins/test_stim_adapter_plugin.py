# SPDX-License-Identifier: Apache-2.0
"""The simulated machine as a plugin: what it says of itself, and one batch through a stream with a credit of one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import stim
from loopback import PRIOR, prepared
from loopback import run as looped
from qcos_plugins.matching_tracker.follow import follow
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.stim_adapter import main
from qcos_plugins.stim_adapter.simulator import KEPT, Compilers, Simulator
from qcos_plugins.stim_adapter.steps import Compiler
from test_stim_adapter import BRANCHES

from qcosd.qec.calibration import PRIOR_FLOOR, Calibration
from qcosd.qec.device import Device
from qcosd.qec.hardware import Batch, Control, DecisionFault, feed
from qcosd.qec.placement import Placement
from qcosd.qec.readiness import Ready
from qcosd.qec.stream import Calibrated, Decided
from qcosd.qec.terms import SETTINGS
from qcosd.sdk import Refused, StreamClosed
from qcosd.sdk.testing import make_lease, read_manifest, stream_pair

SIMD = stim.Circuit.__module__.removeprefix("stim._stim_")
PROGRAM = prepared(BRANCHES)
PLACEMENT = Placement.of("default", (2, 4), Compiler(PROGRAM, PRIOR).sites)
NAKED = {"fragments": PROGRAM.to_bytes(), "placement": PLACEMENT.to_bytes()}
READY = main.prepare(make_lease("hardware.prepare", NAKED)).outputs["ready"]
INPUTS = NAKED | {"calibration": PRIOR.to_bytes(), "ready": READY}


def run(inputs: dict[str, bytes] = INPUTS, shots: int = 100, seed: int = 5, **options: Any) -> Tracker:
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


def rates(**options: Any) -> Calibration:
    device = Device.named(options.get("device") or "default")
    lease = make_lease("hardware.calibrate", {"device": device.to_bytes()}, options)
    return Calibration.from_bytes(main.calibrate(lease).outputs["calibration"])


def test_the_manifest_names_what_the_plugin_offers() -> None:
    manifest = read_manifest(Path(main.__file__).with_name("plugin.toml"))
    assert {f"{op.service}.{op.op}" for op in manifest.operations} == {
        f"hardware.{op}" for op in ("describe", "calibrate", "prepare", "run")
    }


def test_it_describes_its_device_and_keeps_the_noise_to_itself() -> None:
    result = main.describe(make_lease("hardware.describe", {}, {"device": "small-grid"}))
    device = Device.from_bytes(result.outputs["device"])
    assert device.name == "small-grid"
    assert device.width == 48
    assert b"noise" not in result.outputs["device"]
    assert result.facts["versions"] == {"stim": stim.__version__, "stim-simd": SIMD, "numpy": np.__version__}


def test_the_calibration_is_the_truth_unless_a_prior_is_asked_for() -> None:
    assert rates() == Calibration.uniform(1e-3)
    assert rates(noise=3e-3) == Calibration.uniform(3e-3)
    assert rates(noise=3e-3, prior=1e-2) == Calibration.uniform(1e-2)
    assert rates(noise=0) == rates(prior=0) == Calibration.uniform(PRIOR_FLOOR)
    assert rates(noise=None, prior=None, device=None) == Calibration.uniform(1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"noise": 0.5},
        {"noise": -0.1},
        {"noise": float("nan")},
        {"noise": True},
        {"noise": "much"},
        {"noise": [1]},
        {"prior": 1},
        {"device": "none-such"},
        {"device": "../x"},
        {"device": 7},
    ],
    ids=str,
)
def test_bad_options_are_refused_at_once_and_by_name(options: dict[str, Any]) -> None:
    (name,) = options
    for operation, inputs in ((main.describe, {}), (main.calibrate, {"device": Device.named("default").to_bytes()})):
        lease = make_lease(f"hardware.{operation.__name__}", inputs, options)
        with pytest.raises(Refused) as refused:
            operation(lease)
        assert refused.value.code == "bad_input"
        assert name in str(refused.value)


@pytest.mark.parametrize(("key", "value"), [("erasure", "2"), ("lost", "x"), ("discard", -1), ("can_pause", "perhaps")])
def test_bad_settings_are_refused_at_once_and_by_name(key: str, value: object) -> None:
    with pytest.raises(Refused, match=key) as refused:
        main.describe(make_lease("hardware.describe", {}, {"set": {key: value}}))
    assert refused.value.code == "bad_input"


def test_the_settings_of_the_manifest_are_those_that_it_reads() -> None:
    assert set(read_manifest(Path(main.__file__).with_name("plugin.toml")).settings) == set(SETTINGS)


def test_the_device_is_described_as_the_settings_make_it() -> None:
    result = main.describe(make_lease("hardware.describe", {}, {"device": "uneven", "set": {"can_pause": "off"}}))
    document = msgpack.unpackb(result.outputs["device"])
    assert document["can_pause"] is False
    assert set(document["native"]) >= {"R", "CX", "M", "PERM"}
    assert result.facts["batch_limit"] == main.MAX_SHOTS


def test_what_was_prepared_is_named_and_counted() -> None:
    ready = Ready.from_bytes(READY)
    rounds = max(sum(f.length for f in PROGRAM.path(way)) for way in ((0, 0), (0, 1), (1, 0), (1, 1)))
    assert (ready.sites, ready.rounds, ready.paths) == (len(PLACEMENT.coordinates), rounds, 4)
    assert ready.fragments == sha256(INPUTS["fragments"]).hexdigest()


def test_a_batch_that_was_not_prepared_is_refused() -> None:
    elsewhere = Placement.of("default", (4, 4), PLACEMENT.coordinates).to_bytes()
    with pytest.raises(Refused, match="not of this program") as refused:
        main.run(make_lease("hardware.run", INPUTS | {"placement": elsewhere}, shots=1, batch=0))
    assert refused.value.details == {"kind": "ready"}


def first_message(batch: int, **options: Any) -> Any:
    """What a batch begins with."""
    reader, writer = stream_pair(credit=1000)
    placement = PLACEMENT if not options else replace(PLACEMENT, device=options["device"])
    inputs = {"fragments": INPUTS["fragments"], "placement": placement.to_bytes(), "calibration": PRIOR.to_bytes()}
    inputs["ready"] = main.prepare(make_lease("hardware.prepare", inputs, options)).outputs["ready"]
    lease = make_lease("hardware.run", inputs, options, shots=4, seed=5, batch=batch, stream=writer)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(main.run, lease)
        first = reader.recv()
        reader.close()
        with pytest.raises(StreamClosed):
            running.result()
    return first


def test_a_device_that_drifts_says_its_rates_before_each_batch() -> None:
    for batch in (0, 3):
        message = first_message(batch, device="uneven")
        header = Calibrated.from_map(message.header)
        rates = Calibration.from_bytes(message.payload[0])
        assert (header.batch, header.id) == (batch, rates.id)
        assert rates == Device.named("uneven").noise.drifted(5, batch).floored()
        assert rates.sites[2, 2]["idle"] == pytest.approx(8 * rates.idle)
    assert first_message(0).header["type"] == "block"


def test_a_batch_with_losses_comes_to_its_end_with_a_real_tracker() -> None:
    tracker = run(noise=2e-3, set={"erasure": 0.01, "lost": 0.01, "discard": 0.01})
    summary = tracker.outcomes().summary()["sum"]
    assert summary["records_missing"] > 0
    assert summary["shots_discarded"] > 0
    assert summary["shots_accepted"] + summary["shots_discarded"] == 100


def test_what_a_batch_holds_is_bounded() -> None:
    lease = make_lease("hardware.run", INPUTS, shots=main.MAX_SHOTS + 1, batch=0)
    with pytest.raises(Refused, match="1025 shots") as refused:
        main.run(lease)
    assert refused.value.code == "bad_input"


@pytest.mark.parametrize("noise", [0, 2e-3])
def test_a_batch_through_a_stream_is_the_batch_of_the_machine(noise: float) -> None:
    tracker = run(noise=noise)
    expected = looped(PROGRAM, Calibration.uniform(noise), PRIOR, 100, 5)
    assert len(expected.outcomes.paths) == 3
    assert (tracker.outcomes().bits == expected.outcomes.bits).all()
    assert tracker.outcomes().detection_events == expected.outcomes.detection_events


def test_batches_of_one_program_share_what_was_compiled() -> None:
    compilers = Compilers()
    first = compilers.of(PROGRAM, PRIOR, (2, 4))
    assert compilers.of(PROGRAM, PRIOR, (2, 4)) is first
    assert compilers.of(PROGRAM, PRIOR, (0, 0)) is not first
    for noise in (1e-4, 2e-4, 3e-4, 4e-4):
        compilers.of(PROGRAM, Calibration.uniform(noise), (2, 4))
    assert len(compilers) == KEPT
    assert compilers.of(PROGRAM, PRIOR, (2, 4)) is not first


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("placement", b"\x00"),
        ("placement", Placement.of("elsewhere", (0, 0), PLACEMENT.coordinates).to_bytes()),
        ("placement", Placement.of("default", (0, 0), PLACEMENT.coordinates[1:]).to_bytes()),
        ("placement", Placement.of("default", (-40, 0), PLACEMENT.coordinates).to_bytes()),
        ("fragments", b"\x90"),
    ],
    ids=["no placement", "another device", "a site short", "off the grid", "no fragments"],
)
def test_artifacts_that_do_not_fit_are_refused(kind: str, data: bytes) -> None:
    for operation, inputs in ((main.prepare, NAKED), (main.run, INPUTS)):
        lease = make_lease(f"hardware.{operation.__name__}", inputs | {kind: data}, shots=1, batch=0)
        with pytest.raises(Refused) as refused:
            operation(lease)
        assert refused.value.code == "wrong_input"
        assert refused.value.details == {"kind": kind}


@pytest.mark.parametrize("second", [0, 1], ids=["equal", "contradiction"])
def test_an_equal_decision_is_ignored_and_a_contradiction_is_a_fault(second: int) -> None:
    reader, writer = stream_pair(credit=1)
    with ThreadPoolExecutor() as pool:
        deciding = pool.submit(decide, reader, [("", 0, 0), ("", 0, second), ("k0=0", 1, 0)])
        try:
            control = Control(Simulator(Device(), PRIOR, Compilers()))
            control.prepare(PROGRAM, PLACEMENT)
            if second:
                with pytest.raises(DecisionFault):
                    feed(control, writer, Batch(0, 1, 1))
            else:
                assert feed(control, writer, Batch(0, 1, 1))["blocks"] > 3
        finally:
            writer.close()
            deciding.result()


def decide(reader: Any, decisions: list[tuple[str, int, int]]) -> None:
    """Takes whatever comes, and says all decisions at the first block."""
    for message in reader:
        if message.header["round"] == 0:
            for path, k, value in decisions:
                reader.send(Decided(path, k, 1).to_map(), bytes([value]))
        reader.ack()
