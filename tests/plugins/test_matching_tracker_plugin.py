# SPDX-License-Identifier: Apache-2.0
"""The tracker as a plugin: one lease, one stream, one summary."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import sampled
from qcos_plugins.matching_tracker import main, planned
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.disk import Disk
from qcos_plugins.matching_tracker.outcomes import VOLATILE
from test_matching_tracker_soundness import spoiled

from qcosd.core.manifest import Manifest
from qcosd.qec.calibration import Calibration
from qcosd.qec.placement import Placement
from qcosd.qec.stream import Calibrated, Discard
from qcosd.sdk import Refused
from qcosd.sdk.streams import StreamWriter
from qcosd.sdk.testing import make_lease, stream_pair
from qcosd.shell.manifest import read_manifest

RECORDING = sampled.record(sampled.ghz(3, 3), 3e-3, 50, [[0, 1], [0, 2]])
INPUTS = {
    "fragments": RECORDING.program.to_bytes(),
    "calibration": RECORDING.rates.to_bytes(),
    "placement": Placement.of("default", (0, 0), []).to_bytes(),
}


def run(blocks: list[tuple[Any, ...]], inputs: dict[str, bytes] = INPUTS, **options: Any) -> tuple[Any, list]:
    """What the operation returns, and what it sends, when a machine sends these blocks with a credit of one."""
    reader, writer = stream_pair(credit=1)
    lease = make_lease("track.run", inputs, options, shots=RECORDING.shots, batch=0, stream=reader)
    with ThreadPoolExecutor() as pool:
        sending = pool.submit(send, writer, blocks)
        try:
            result = main.run(lease)
        finally:
            reader.close()
            answers = sending.result()
    return result, answers


def send(writer: StreamWriter, messages: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    for header, *frames in messages:
        writer.send(header.to_map(), *(frame if isinstance(frame, bytes) else frame.tobytes() for frame in frames))
    # A writer that has sent nothing was never opened, and nobody tells it of the end.
    return [message.header for message in writer] if messages else []


def recorded() -> list[tuple[sampled.Block, Any]]:
    return sampled.blocks(RECORDING.program, RECORDING.records, RECORDING.program.distance)


def test_a_lease_gives_the_counts_of_its_batch() -> None:
    result, answers = run(recorded())
    expected = sampled.track(RECORDING)
    assert result.summary["sum"]["counts"] == expected.counts
    assert result.summary["sum"]["counts_undecoded"] == expected.counts_undecoded
    assert sum(result.summary["sum"]["latency_us"].values()) == expected.windows
    assert set(result.outputs) == {"counts"}
    assert result.facts["versions"].keys() == {"pymatching", "stim", "stim-simd", "numpy"}
    counts = msgpack.unpackb(result.outputs["counts"])
    lasting = {key: value for key, value in result.summary["sum"].items() if key not in VOLATILE}
    assert {key: counts[key] for key in lasting} == lasting
    assert not set(VOLATILE) & set(counts)
    assert {header["type"] for header in answers} == {"ack"}
    assert answers[-1]["committed"] == answers[-1]["received"] == expected.rounds[0] + 1
    assert msgpack.unpackb(msgpack.packb(result.summary)) == result.summary


def test_a_second_batch_of_a_program_builds_nothing() -> None:
    run(recorded())
    result, _ = run(recorded())
    assert result.summary["sum"]["templates_missed"] == 0


def test_what_was_prepared_is_not_built_by_a_batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor by a successor that was not there then."""

    def begin() -> None:
        monkeypatch.setattr(planned, "templates", TemplateCache(disk=Disk(tmp_path / "templates")))
        planned.kept.clear()

    begin()
    gc.unfreeze()
    made = main.prepare(make_lease("track.prepare", INPUTS, {}))
    assert gc.get_freeze_count() > 0, "no collection of garbage in the middle of a batch looks through it"
    assert msgpack.unpackb(made.outputs["windows"])["windows"] > 3
    assert made.facts["built"] == planned.templates.misses > 3
    assert run(recorded())[0].summary["sum"]["templates_missed"] == 0
    begin()
    assert run(recorded())[0].summary["sum"]["templates_missed"] == 0
    assert planned.templates.loaded == made.facts["built"]


def test_fragments_that_are_no_good_are_found_before_anything_runs() -> None:
    bare = spoiled(RECORDING.program, lambda detector: None)
    with pytest.raises(Refused) as refused:
        main.prepare(make_lease("track.prepare", {**INPUTS, "fragments": bare.to_bytes()}, {}))
    assert (refused.value.code, refused.value.details) == ("wrong_input", {"kind": "fragments"})


def test_options_choose_decoder_and_buffer() -> None:
    result, _ = run(recorded(), decoder="pymatching", set={"buffer": "2"})
    assert result.summary["same"]["decoder"] == "pymatching"
    assert result.summary["same"]["window"] == {"commit": 3, "buffer": 2, "scheme": "sliding"}
    expected = sampled.track(RECORDING, decoder="pymatching", buffer=2)
    assert result.summary["sum"]["counts"] == expected.counts


def full_of_everything() -> list[tuple[Any, ...]]:
    """A calibration, two discarded shots, a lost round and, in each other block, an erased record of one shot."""
    rates = Calibration.uniform(2e-3)
    found: list[tuple[Any, ...]] = [(Calibrated(0, rates.id), rates.to_bytes())]
    found.append((Discard("", 50, 0, "leakage"), bytes([0b11000, 0, 0, 0, 0, 0, 0])))
    for i, (block, bits) in enumerate(sampled.blocks(RECORDING.program, RECORDING.records, 1)):
        if i == 2:
            found.append((replace(block, status="lost", payload=()),))
        else:
            erasure = np.zeros_like(bits)
            erasure[i % len(bits), 0] = 1 << i % 2
            found.append((replace(block, payload=("bits", "erasure")), bits.tobytes(), erasure.tobytes()))
    return found


@pytest.mark.parametrize("missing", ["decode", "discard"])
def test_every_message_of_the_stream_reaches_the_summary(missing: str) -> None:
    result, _ = run(full_of_everything(), set={"missing": missing})
    total, blocks = result.summary["sum"], len(full_of_everything()) - 2
    assert total["calibrations"] == {Calibration.uniform(2e-3).id: 50}
    assert result.summary["same"]["calibration"] == RECORDING.rates.id
    assert result.summary["same"]["erasures"] == {"decode": "decoded", "discard": "discarded"}[missing]
    assert total["rounds_lost"] == 1
    lost = len(list(RECORDING.program.fragments[0].sequence())[2].records())
    if missing == "decode":
        assert total["discards"] == {"leakage": 2}
        assert total["records_missing"] == 48 * lost + blocks - 1
        assert sum(total["counts"].values()) == total["shots_accepted"] == 48
    else:
        assert total["discards"] == {"leakage": 2, "missing records": 48}
        assert (total["counts"], total["shots_accepted"]) == ({}, 0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda block, bits: (replace(block, round=block.round + 1), bits),
        lambda block, bits: (block, bits[:-1]),
        lambda block, bits: (replace(block, status="lost"), bits),
    ],
    ids=["gap", "short", "lost"],
)
def test_a_broken_stream_ends_the_lease_and_names_the_producer(spoil: Any) -> None:
    blocks = recorded()[:2]
    blocks[1] = spoil(*blocks[1])
    with pytest.raises(Refused) as refused:
        run(blocks)
    assert refused.value.code == "wrong_input"
    assert refused.value.details["stream"] == "rounds"
    assert msgpack.unpackb(msgpack.packb(refused.value.details))


def test_a_batch_that_hardware_gives_up_is_asked_for_again() -> None:
    blocks = recorded()[:2]
    blocks[1] = (replace(blocks[1][0], status="aborted", payload=(), last=True, m=()),)
    with pytest.raises(Refused) as refused:
        run(blocks)
    assert refused.value.code == "retry_later"


def test_a_stream_that_ends_too_early_is_named() -> None:
    """Who is to blame depends on what its producer says to the kernel."""
    reader, writer = stream_pair(credit=20)
    lease = make_lease("track.run", INPUTS, {}, shots=RECORDING.shots, batch=0, stream=reader)
    block, bits = recorded()[0]
    writer.send(block.to_map(), bits.tobytes())
    writer.close()
    with pytest.raises(Refused, match="before its last block") as refused:
        main.run(lease)
    assert (refused.value.code, refused.value.details) == ("retry_later", {"stream": "rounds"})


def test_a_block_of_another_batch_is_the_producers_fault() -> None:
    with pytest.raises(Refused, match="batch 1 came, 0 is due") as refused:
        run([(replace(block, batch=1), bits) for block, bits in recorded()[:1]])
    assert refused.value.code == "wrong_input"


def test_what_follows_the_last_block_is_the_producers_fault() -> None:
    reader, writer = stream_pair(credit=20)
    lease = make_lease("track.run", INPUTS, {}, shots=RECORDING.shots, batch=0, stream=reader)
    blocks = recorded()
    for block, bits in [*blocks, blocks[-1]]:
        writer.send(block.to_map(), bits.tobytes())
    with pytest.raises(Refused, match="follows the last block") as refused:
        main.run(lease)
    assert refused.value.code == "wrong_input"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": "magic"}, "unknown decoder 'magic'"),
        ({"set": {"buffer": "-1"}}, "buffer -1"),
        ({"set": {"buffer": "wide"}}, "buffer 'wide'"),
        ({"set": {"buffer": []}}, "buffer "),
        ({"set": {"missing": "zero"}}, "missing 'zero': decode or discard"),
        ({"decoder": ["pymatching"]}, "decoder "),
    ],
)
def test_bad_input_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message) as refused:
        run([], **options)
    assert refused.value.code == "bad_input"


@pytest.mark.parametrize("kind", ["fragments", "calibration", "placement"])
def test_an_artifact_that_is_none_is_its_makers_fault(kind: str) -> None:
    with pytest.raises(Refused, match=f"not a {kind}") as refused:
        run([], {**INPUTS, kind: b"\x01"})
    assert (refused.value.code, refused.value.details) == ("wrong_input", {"kind": kind})


def test_the_manifest_says_what_the_operation_is() -> None:
    manifest: Manifest = read_manifest(Path(main.__file__).with_name("plugin.toml"))
    operations = {operation.name: operation for operation in manifest.operations}
    for name, produced in (("track.run", ("counts",)), ("track.record", ("counts", "records"))):
        operation = operations[name]
        assert operation.stream_in == "rounds"
        assert set(operation.consumes) >= {"fragments", "calibration", "placement", "windows"}
        assert tuple(operation.produces) == produced
    assert list(operations).index("track.run") < list(operations).index("track.record"), "counts alone come from run"
    assert operations["track.prepare"].produces == ("windows",)
    assert operations["track.prepare"].each == "job"
    assert operations["track.circuits"].produces == ("circuits",)
