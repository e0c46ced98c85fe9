# SPDX-License-Identifier: Apache-2.0
"""`run --records` and `replay`, as far as file and options decide."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcosd.ctl import failure
from qcosd.ctl.failure import Failure
from qcosd.ctl.main import call
from qcosd.ctl.recording_readme import readme, script_in
from qcosd.ctl.records import RecordsDirectory

SOURCE = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\ncreg c[1];\nmeasure q->c;\n'


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "a.qasm"
    path.write_text(SOURCE)
    return str(path)


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which a command is refused before any daemon is asked."""
    assert call(list(words)) == failure.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    return shown.err


def test_a_directory_that_holds_something_is_refused_at_once(
    tmp_path: Path, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("x")
    assert "is not empty" in refusal(capsys, "run", program, "--records", str(full))
    assert [path.name for path in full.iterdir()] == ["mine"]


def test_what_is_no_directory_is_refused_at_once(
    tmp_path: Path, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for place in (program, str(link)):
        assert "is no directory" in refusal(capsys, "run", program, "--records", place)
    for place in (f"{program}/below", "/proc/nothing", "a\0b"):
        assert "cannot be written" in refusal(capsys, "run", program, "--records", place)


def test_records_go_with_counts(tmp_path: Path, program: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("run", program, "--records", str(tmp_path / "r"), "--target", "logical")
    assert "--records goes with counts" in refusal(capsys, *words)
    assert not (tmp_path / "r").exists()


def test_bad_options_leave_nothing(tmp_path: Path, program: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.iterdir())
    refusal(capsys, "run", program, "--records", str(tmp_path / "r"), "--shots", "0")
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), RecordsDirectory(str(tmp_path / "r")):
        assert len(list(tmp_path.iterdir())) == 1, "it is made aside"
        assert not (tmp_path / "r").exists()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    with RecordsDirectory(str(tmp_path / "r")):
        pass
    assert list((tmp_path / "r").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nowhere"], "nowhere: no such directory"),
        (["."], "no records that can be played"),
        ([".", "--deadline", "0"], "--deadline 0.0"),
        ([".", "--use", "hardware"], "--use 'hardware'"),
        ([".", "--set", "buffer"], "--set 'buffer'"),
    ],
)
def test_replay_refuses_before_a_daemon_is_asked(
    words: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert text in refusal(capsys, "replay", *words)


@pytest.mark.parametrize("name", ["job.json", "circuit.stim"])
def test_no_machine_replays(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither records of one's own nor those of others: a machine would make new ones."""
    for file in (name, "measurements.b8"):
        (tmp_path / file).write_bytes(b"{}")
    words = ("--use", "hardware=stim_adapter")
    assert "a replay is played by recorded_adapter" in refusal(capsys, "replay", str(tmp_path), *words)


@pytest.mark.parametrize(
    ("name", "key", "known"),
    [("job.json", key, "buffer, credit, missing") for key in ("window", "erasure", "optimise", "nonsense")]
    + [("circuit.stim", key, "credit, window") for key in ("buffer", "missing", "can_pause")],
)
def test_replay_refuses_settings_that_change_nothing(
    name: str, key: str, known: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (name, "measurements.b8"):
        (tmp_path / file).write_bytes(b"{}")
    told = refusal(capsys, "replay", str(tmp_path), "--set", "credit=2", "--set", f"{key}=1")
    assert told.startswith(f"qcosctl: --set {key}: changes nothing in a replay of {tmp_path}") and known in told


def test_a_run_has_no_window_to_set(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["run"], ["job", "submit"]):
        told = refusal(capsys, *command, program, "--set", "buffer=3", "--set", "window=3")
        assert "--set window: changes nothing here" in told


def test_the_readme_names_its_decoder_and_matches_as_that_does() -> None:
    for decoder, correlated in (("pymatching", False), ("pymatching-tempered", True), ("fusion-blossom", False)):
        assert decoder in readme(decoder, 1)
        assert ("enable_correlations" in script_in(readme(decoder, 1))) == correlated
        compile(script_in(readme(decoder, 1)), "README.txt", "exec")


def test_without_bits_there_is_no_script() -> None:
    assert "import" not in readme("pymatching", 0)
    assert "nothing to decode" in readme("pymatching", 0)


def test_a_failure_to_write_is_told_in_one_line(tmp_path: Path) -> None:
    directory = RecordsDirectory(str(tmp_path / "r"))
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "meanwhile").write_text("x")
    with directory, pytest.raises(Failure, match="--records"):
        directory.finish(b"\x90", {"artifacts": dict.fromkeys(("fragments", "calibration", "placement"), ""), "options": {}}, {"decoder": "x"})  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
