# SPDX-License-Identifier: Apache-2.0
"""Written records played again: the same counts with the same decoder, and nothing but clear errors for what does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgpack
import pytest
from loopback import Run, prepared, run
from qcos_plugins.recorded_adapter.player import OTHER_BRANCH, Player
from qcos_plugins.recorded_adapter.recording import Recording, RecordingError
from written import PLACED, job_of, play, total, write

from qcosd.ctl.failure import USAGE, Failure
from qcosd.qec.calibration import Calibration
from qcosd.qec.hardware import Batch

FILES = ("outcomes.b8", "undecoded.b8", "frames.b8", "circuit.stim", "model.dem", "shots.json")
EXAMPLES = Path(__file__).resolve().parents[2] / "etc" / "examples"
NOISE = Calibration.uniform(5e-3)
BRANCH = prepared((EXAMPLES / "branch.qasm").read_text())
GHZ = prepared((EXAMPLES / "ghz.qasm").read_text())


def batches(program: Any = BRANCH, count: int = 3, shots: int = 256, prior: Calibration = NOISE, **machine: float) -> list[Run]:  # fmt: skip
    return [run(program, NOISE, prior, shots, seed, records=True, machine=dict(machine)) for seed in range(count)]


def replayed(directory: Path, program: Any = BRANCH, prior: Calibration = NOISE, **options: Any) -> list[Any]:
    inputs, _ = job_of(directory)
    return play(inputs["recording"], program, prior, **options)


def counted(runs: list[Run], name: str = "counts") -> Any:
    return total([run.outcomes for run in runs], name)


def test_the_same_decoder_gives_the_same_counts(tmp_path: Path) -> None:
    runs = batches()
    write(tmp_path / "r", BRANCH, runs, NOISE)
    again = replayed(tmp_path / "r")
    assert total(again) == counted(runs)
    assert total(again, "counts_undecoded") == counted(runs, "counts_undecoded")
    assert total(again, "paths") == counted(runs, "paths")
    assert [o.detection_events for o in again] == [r.outcomes.detection_events for r in runs]
    assert not any(outcomes.discarded.any() for outcomes in again)


def test_the_job_that_plays_them(tmp_path: Path) -> None:
    write(tmp_path / "r", BRANCH, batches(), NOISE)
    inputs, options = job_of(tmp_path / "r")
    assert set(inputs) == {"fragments", "calibration", "placement", "recording"}
    assert options["shots"] == 3 * 256
    assert (options["target"], options["batch"], options["discard_budget"]) == ("counts", 256, 0)
    assert options["use"] == {"hardware": "recorded_adapter"}
    assert "deadline" not in options


@pytest.mark.parametrize("size", [7, 256, 1000])
def test_the_size_of_batches_does_not_matter(size: int, tmp_path: Path) -> None:
    runs = batches(count=1, shots=256)
    write(tmp_path / "r", BRANCH, runs, NOISE, batch=size)
    again = replayed(tmp_path / "r")
    assert len(again) == -(-256 // size)
    assert total(again) == counted(runs)


def test_another_decoder_differs_a_little_and_counts_what_it_cannot_know(tmp_path: Path) -> None:
    runs = batches(count=4)
    write(tmp_path / "r", BRANCH, runs, NOISE)
    again = replayed(tmp_path / "r", decoder="pymatching")
    discarded = sum(o.discards[OTHER_BRANCH] for o in again)
    counts = total(again)
    assert discarded > 0, "at this noise some shot is decided otherwise"
    assert sum(counts.values()) + discarded == 4 * 256
    assert [o.discarded.sum() for o in again] == [o.discards[OTHER_BRANCH] for o in again]
    differing = sum(((counts - counted(runs)) + (counted(runs) - counts)).values())
    assert 0 < differing < 0.15 * 4 * 256


def test_missing_records_and_discards_of_the_first_run(tmp_path: Path) -> None:
    runs = batches(erasure=0.002, discard=0.001, lost=0.003)
    assert sum(r.outcomes.records_missing for r in runs)
    assert sum(r.outcomes.discarded.sum() for r in runs)
    write(tmp_path / "r", BRANCH, runs, NOISE)
    again = replayed(tmp_path / "r")
    assert total(again) == counted(runs)
    assert total(again, "counts_undecoded") == counted(runs, "counts_undecoded")
    assert not any(o.discarded.any() for o in again), "discarded shots were not written"


def test_each_batch_is_decoded_with_its_own_calibration(tmp_path: Path) -> None:
    """Rates that drift: the weights differ so much that outcomes do."""
    drifted = [Calibration(p, 5e-3, p, q, 5e-3, 5e-3) for p, q in ((5e-3, 5e-3), (0.2, 1e-4), (1e-4, 0.3))]
    runs = [
        run(GHZ, NOISE, rates, 100, seed, records=True, machine={"discard": 0.002})
        for seed, rates in enumerate(drifted)
    ]
    write(tmp_path / "r", GHZ, runs, drifted[0], calibrations=[b"", *(rates.to_bytes() for rates in drifted[1:])])
    assert len(list((tmp_path / "r" / "calibrations").iterdir())) == 2
    _, options = job_of(tmp_path / "r")
    sizes = [int((~r.outcomes.discarded).sum()) for r in runs]
    assert sizes[0] % options["batch"] == sizes[1] % options["batch"] == 0, "no batch has two calibrations"
    again = replayed(tmp_path / "r", GHZ, drifted[0])
    assert total(again) == counted(runs)
    assert {o.calibration for o in again} == {"", drifted[1].id, drifted[2].id}
    plain = write_without_drift(tmp_path / "plain", runs, drifted[0])
    assert total(replayed(plain, GHZ, drifted[0])) != counted(runs)


def write_without_drift(directory: Path, runs: list[Run], rates: Calibration) -> Path:
    write(directory, GHZ, runs, rates)
    return directory


# ---- what does not fit


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with 32 shots of BRANCH, some of them without some records.  Tests copy it."""
    directory = tmp_path_factory.mktemp("sound") / "r"
    write(directory, BRANCH, batches(count=1, shots=32, erasure=0.002), NOISE)
    return directory


def damaged(directory: Path, name: str, change: Any) -> str:
    """The line with which a damaged directory is refused."""
    path = next(iter(sorted(directory.glob(name))))
    data = change(path.read_bytes())
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    with pytest.raises(Failure) as caught:
        job_of(directory)
    assert caught.value.code == USAGE
    assert path.name in caught.value.message or data is None
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("paths/*/records.b8", lambda data: data[:-1], "shots of"),
        ("paths/*/records.b8", lambda data: data + b"\0", "shots of"),
        ("paths/*/records.b8", lambda data: None, "records.b8: no such file"),
        *((f"paths/*/{name}.b8", lambda data: data[:-1], "shots of") for name in ("outcomes", "undecoded", "frames")),
        ("paths/*/missing.b8", lambda data: data[:-1], "shots of"),
        *((f"paths/*/{name}", lambda data: None, f"{name}: no such file") for name in FILES),
        ("paths/*/circuit.stim", lambda data: data[:-1], "circuit.stim: "),
        ("paths/*/model.dem", lambda data: data[:-1], "model.dem: "),
        ("paths/*/missing.b8", lambda data: None, "missing.b8: no such file"),
        ("program.bin", lambda data: None, "program.bin: "),
        ("program.bin", lambda data: GHZ.to_bytes(), "not the one of this job"),
        ("calibration.bin", lambda data: data[:-1], "not the one of this job"),
        ("job.json", lambda data: b"{", "not JSON"),
        ("job.json", lambda data: b'{"format": "other"}', "qcos.records 1 expected"),
        ("job.json", lambda data: b"[]", "a map expected"),
        ("job.json", lambda data: b'{"version": 1, "format": "qcos.records"}', "it lacks the artifacts"),
        ("job.json", lambda data: data.replace(b'"files"', b'"f"'), "neither which files nor how many shots there are"),
        ("paths/*/shots.json", lambda data: b"{}", "not a list of shots"),
        ("paths/*/shots.json", lambda data: data.replace(b'"shots": [', b'"shots": ["a", ', 1), "not a list of shots"),
    ],
)
def test_a_damaged_directory_is_refused_with_its_file(
    name: str, change: Any, text: str, sound: Path, tmp_path: Path
) -> None:
    shutil.copytree(sound, tmp_path / "r")
    assert text in damaged(tmp_path / "r", name, change)


def test_what_is_no_directory_of_records_is_refused(tmp_path: Path) -> None:
    for directory, text in ((tmp_path / "nowhere", "no such directory"), (tmp_path, "no records that can be played")):
        with pytest.raises(Failure, match=text) as caught:
            job_of(directory)
        assert caught.value.code == USAGE


@pytest.mark.parametrize("listed", [True, False])
def test_a_path_that_was_removed_is_missed(listed: bool, sound: Path, tmp_path: Path) -> None:
    """Also where job.json tells no more than how many shots were accepted."""
    directory = tmp_path / "r"
    shutil.copytree(sound, directory)
    if not listed:
        document = json.loads((directory / "job.json").read_text())
        del document["files"]
        document["result"]["shots_accepted"] = 32
        (directory / "job.json").write_text(json.dumps(document))
        job_of(directory)
    gone = next(iter(sorted(directory.glob("paths/*"))))
    shutil.rmtree(gone)
    text = f"{gone}: no such directory" if listed else r"paths: \d+ shots; job.json says that 32 were accepted"
    with pytest.raises(Failure, match=text) as caught:
        job_of(directory)
    assert caught.value.code == USAGE


def test_a_path_of_another_recording_is_refused(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "r")
    shutil.copytree(next(sound.glob("paths/*")), tmp_path / "r" / "paths" / "0101")
    with pytest.raises(Failure, match="paths/0101: not of this recording"):
        job_of(tmp_path / "r")


def recording(directory: Path) -> dict[str, Any]:
    return msgpack.unpackb(job_of(directory)[0]["recording"])


def test_records_of_another_program_are_refused_with_their_path(sound: Path) -> None:
    doc = recording(sound)
    player = Player(Recording.from_bytes(msgpack.packb(doc)))
    with pytest.raises(RecordingError, match=r"paths/\d+: the program decides 0 times there"):
        player.prepare(GHZ, PLACED)
    path = doc["paths"][0]
    path["missing"] = b""
    path["measurements"] -= 8
    path["records"] = path["records"][: len(path["shots"]) // 4 * ((path["measurements"] + 7) // 8)]
    player = Player(Recording.from_bytes(msgpack.packb(doc)))
    with pytest.raises(RecordingError, match=rf"{path['measurements']} records a shot, the program has"):
        player.prepare(BRANCH, PLACED)


@pytest.mark.parametrize(
    "change",
    [
        lambda doc: doc.update(version=2),
        lambda doc: doc.pop("paths"),
        lambda doc: doc["paths"][0].update(records=doc["paths"][0]["records"][:-1]),
        lambda doc: doc["paths"][0].update(missing=b"\0"),
        lambda doc: doc["paths"][0].update(shots=doc["paths"][0]["shots"][::-1]),
        lambda doc: doc["paths"].append(doc["paths"][0]),
        lambda doc: doc.update(batch=0),
        lambda doc: doc.update(calibrations=[[5, b""]]),
        lambda doc: doc["paths"][0].update(decisions=[7]),
        lambda doc: doc["paths"][0].update(measurements="many"),
    ],
)
def test_a_recording_that_is_none_is_refused(change: Any, sound: Path) -> None:
    doc = recording(sound)
    Recording.from_bytes(msgpack.packb(doc))
    change(doc)
    with pytest.raises(ValueError):
        Recording.from_bytes(msgpack.packb(doc))


@pytest.mark.parametrize("batch", [Batch(0, 31, 0), Batch(1, 1, 0), Batch(0, 33, 0)])
def test_a_batch_that_was_not_recorded_is_refused(batch: Batch, sound: Path) -> None:
    player = Player(Recording.from_bytes(msgpack.packb(recording(sound))))
    player.prepare(BRANCH, PLACED)
    with pytest.raises(RecordingError, match="the recording has 32 in batches of"):
        player.arm(batch)
