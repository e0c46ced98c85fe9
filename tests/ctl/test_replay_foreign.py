# SPDX-License-Identifier: Apache-2.0
"""`qcosctl replay` of a directory that somebody else has published: what is sent, and what is said of the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import pytest
from qcos_plugins.recorded_adapter import experiment_files

from qcosd.ctl import foreign as reader
from qcosd.ctl import result
from qcosd.ctl.failure import Failure
from qcosd.ctl.replay import Opening, replay_of


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name in ("circuit.stim", "measurements.b8", "properties.yml"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_the_names_are_those_that_the_plugin_reads() -> None:
    assert set(reader.CIRCUITS) == {*experiment_files.CIRCUITS, *experiment_files.MODELS}


def test_files_are_sent_and_an_experiment_is_asked_for(directory: Path) -> None:
    opening = replay_of(str(directory))
    assert isinstance(opening, Opening)
    files = msgpack.unpackb(opening.inputs["experiment_files"])
    assert files == {name: name.encode() for name in ("circuit.stim", "measurements.b8")}
    assert opening.options["target"] == "experiment"
    assert opening.options["use"] == {"hardware": "recorded_adapter"}
    assert not {"noise", "prior", "distance"} & opening.options.keys()


def test_what_it_takes_is_not_refused(directory: Path) -> None:
    assert isinstance(replay_of(str(directory), ("window", "credit")), Opening)


def test_then_all_its_shots_are_played(directory: Path) -> None:
    opening = replay_of(str(directory))
    assert isinstance(opening, Opening)
    made = {"experiment": "e1", "experiment_shots": "s1", "experiment_files": "f1"}
    playing = opening.after({"artifacts": made, "facts": {"hardware.open": {"shots": 4321}}})
    assert (playing.options["target"], playing.options["shots"], playing.options["batch"]) == ("counts", 4321, 1024)

    class Client:
        def submit(self, options: dict[str, Any], inputs: dict[str, str]) -> str:
            self.inputs = inputs
            return "2"

    client = Client()
    assert playing.send(client) == "2"  # type: ignore[arg-type]
    assert client.inputs == {"experiment": "e1", "experiment_shots": "s1"}


@pytest.mark.parametrize("missing", ["circuit.stim", "measurements.b8"])
def test_a_directory_without_circuit_or_shots_is_none(directory: Path, missing: str) -> None:
    (directory / missing).unlink()
    with pytest.raises(Failure, match=r"no records that can be played .* a published experiment"):
        replay_of(str(directory))


def test_more_than_is_played_at_once_is_refused_with_the_largest_file(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_BYTES", 20)
    with pytest.raises(Failure, match=r"27 bytes, at most 20 .*measurements.b8 has 15: give fewer shots"):
        replay_of(str(directory))


def test_the_result_says_how_often_a_logical_error_was_left() -> None:
    job = {
        "job": "2",
        "state": "done",
        "options": {"target": "counts", "shots": 200, "seed": 0},
        "plan": {"providers": {"hardware.play": "recorded_adapter"}},
        "summary": {
            "same": {"experiment": "DIR", "registers": [["L", 1]]},
            "sum": {"counts": {"0": 197, "1": 3}, "logical_errors": 3, "shots_accepted": 200},
        },
    }
    document = result.public_document(job)
    assert (document["logical_errors"], document["logical_error_rate"]) == (3, 0.015)
    assert (document["experiment"], document["hardware"]) == ("DIR", "recorded_adapter")
    text = result.describe(document)
    assert "3 logical, rate 0.015" in text and "noise" not in text
    assert "logical_errors" not in result.public_document({"options": {}, "summary": {"sum": {}}})


@pytest.mark.parametrize(("left", "told"), [(20, False), (21, False), (24, True)])
def test_decoding_that_makes_it_worse_is_told(left: int, told: bool) -> None:
    counts = {"00": 200 - left, "01": left - 5, "11": 5}
    undecoded = {"00": 179, "10": 11, "11": 10}
    done = {"counts": counts, "counts_undecoded": undecoded, "logical_errors": left, "shots_accepted": 200}
    job = {"state": "done", "options": {"target": "counts", "shots": 200}, "degraded": ["x"], "summary": {"sum": done}}
    line = f"decoding left more logical errors ({left}) than there were without it (21): where that is no chance, this decoder does not fit this code"
    document = result.public_document(job)
    assert document["degraded"] == (["x", line] if told else ["x"])
    assert (line in result.describe(document)) == told
