# SPDX-License-Identifier: Apache-2.0
"""The operations around written records, as leases: `track.record`, `track.circuits` and `hardware.replay`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgpack
import pytest
import sampled
import stim
from loopback import prepared, run
from qcos_plugins.matching_tracker import main as tracker
from qcos_plugins.recorded_adapter import main as player
from written import job_of, write

from qcosd.qec.calibration import Calibration
from qcosd.qec.placement import Placement
from qcosd.sdk import Refused
from qcosd.sdk.testing import make_lease, stream_pair
from qcosd.shell.manifest import read_manifest

NOISE = Calibration.uniform(3e-3)
BRANCH = prepared((Path(__file__).resolve().parents[2] / "etc" / "examples" / "branch.qasm").read_text())
PLACED = Placement.of("default", (0, 0), []).to_bytes()
INPUTS = {"fragments": BRANCH.to_bytes(), "calibration": NOISE.to_bytes(), "placement": PLACED}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Inputs of the job that plays 64 shots of BRANCH, and their counts."""
    directory = tmp_path_factory.mktemp("recording") / "r"
    done = run(BRANCH, NOISE, NOISE, 64, 1, records=True)
    write(directory, BRANCH, [done], NOISE)
    return {**job_of(directory)[0], "counts": msgpack.packb(done.outcomes.counts)}


def together(produce: Callable[[Any], Any], consume: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Both ends of a stream at work; what they return."""
    reader, writer = stream_pair(credit=2)

    def played() -> Any:
        with writer:
            return produce(writer)

    with ThreadPoolExecutor() as pool:
        sending = pool.submit(played)
        try:
            result = consume(reader)
        finally:
            reader.close()
        return sending.result(), result


def replay(recording: dict[str, bytes], shots: int = 64) -> Callable[[Any], Any]:
    def produce(writer: Any) -> Any:
        lease = make_lease("hardware.replay", recording, {}, shots=shots, batch=0, stream=writer)
        return player.replay(lease)

    return produce


def test_replay_and_record_give_the_same_records(recording: dict[str, bytes]) -> None:
    def consume(reader: Any) -> Any:
        return tracker.record(make_lease("track.record", INPUTS, {}, shots=64, batch=0, stream=reader))

    produced, result = together(replay(recording), consume)
    assert dict(produced.outputs) == {}
    assert set(result.outputs) == {"counts", "records"}
    assert result.summary["sum"]["counts"] == msgpack.unpackb(recording["counts"])
    written = msgpack.unpackb(result.outputs["records"])
    played = msgpack.unpackb(recording["recording"])
    assert written["batch"] == 0
    assert written["calibration"] == b"", "the batch brought none of its own"
    key = lambda path: path["decisions"]  # noqa: E731
    for one, other in zip(sorted(written["paths"], key=key), sorted(played["paths"], key=key), strict=True):
        assert (one["decisions"], one["measurements"]) == (other["decisions"], other["measurements"])
        assert (one["records"], one["missing"]) == (other["records"], other["missing"])


def test_circuits_of_the_paths_that_are_asked_for() -> None:
    paths = msgpack.packb([[0, 0, 0, 0], [1, 1, 1, 1]])
    result = tracker.circuits(make_lease("track.circuits", {**INPUTS, "paths": paths}, {}))
    found = msgpack.unpackb(result.outputs["circuits"])
    assert len(found) == 2
    for each in found:
        circuit, model = stim.Circuit(each["circuit"]), stim.DetectorErrorModel(each["model"])
        assert circuit.num_observables == model.num_observables == BRANCH.bits
        assert circuit.num_detectors == model.num_detectors
    assert found[0] != found[1]


def test_paths_that_the_program_has_not_are_refused() -> None:
    with pytest.raises(Refused, match="is no path of this program") as refused:
        tracker.circuits(make_lease("track.circuits", {**INPUTS, "paths": msgpack.packb([[0]])}, {}))
    assert refused.value.code == "bad_input"


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"recording": b"\x01"}, "recording", "not a recording"),
        ({"fragments": b"\x01"}, "fragments", "not a fragments artifact"),
        ({"fragments": sampled.memory(3, 4).to_bytes()}, "recording", "the program decides 0 times"),
    ],
)
def test_a_recording_that_does_not_fit_is_its_makers_fault(
    recording: dict[str, bytes], change: dict[str, bytes], kind: str, text: str
) -> None:
    reader, writer = stream_pair(credit=2)
    with reader, writer, pytest.raises(Refused, match=text) as refused:
        replay({**recording, **change})(writer)
    assert (refused.value.code, refused.value.details) == ("wrong_input", {"kind": kind})


def test_a_batch_of_another_size_is_refused(recording: dict[str, bytes]) -> None:
    reader, writer = stream_pair(credit=2)
    with reader, writer, pytest.raises(Refused, match="the recording has 64 in batches of") as refused:
        replay(recording, 63)(writer)
    assert refused.value.details == {"kind": "recording"}


def test_the_manifest_comes_before_machines() -> None:
    manifest = read_manifest(Path(player.__file__).with_name("plugin.toml"))
    (operation,) = [operation for operation in manifest.operations if operation.name == "hardware.replay"]
    assert manifest.rank > 0
    assert operation.stream_out == "rounds"
    assert set(operation.consumes) == {"recording", "fragments"}
