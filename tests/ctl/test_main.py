# SPDX-License-Identifier: Apache-2.0
"""Command lines that end before a daemon is asked: usage, help, exit codes, the form of errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qcosd import __version__
from qcosd.ctl import failure
from qcosd.ctl.connection import translated
from qcosd.ctl.failure import Failure
from qcosd.ctl.main import COMMANDS, call

LEAVES = [
    "run", "job submit", "job list", "job show", "job wait", "job result", "job explain", "job logs", "job rerun", "job cancel",
    "plugin list", "plugin show", "plugin logs", "plugin start", "plugin stop", "plugin restart", "plugin kill", "plugin reset",
    "status", "doctor", "events", "config check", "config show", "version",
]  # fmt: skip


@pytest.mark.parametrize("words", ["", "job", "plugin", *LEAVES])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(words: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call([*words.split(), flag]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"Usage: qcosctl{' ' if words else ''}{words}")
    assert shown.err == ""


@pytest.mark.parametrize("words", ["", "job", "plugin"])
def test_a_group_alone_shows_its_help_and_is_wrong_usage(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(words.split()) == failure.USAGE
    shown = capsys.readouterr()
    assert "Commands:" in shown.out + shown.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nonsense"], "nonsense"),
        (["job", "nonsense"], "nonsense"),
        (["run"], "FILE"),
        (["run", "a", "b"], "b"),
        (["run", "a", "--shots", "many"], "--shots"),
        (["run", "a", "--nonsense"], "--nonsense"),
        (["status", "x"], "x"),
        (["job", "wait", "1", "--timeout", "-1"], "--timeout"),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(words) == failure.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("qcosctl: ")
    assert text in shown.err
    assert "--help)" in shown.err


def test_under_json_an_error_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "no.qasm")
    assert call(["run", missing, "--json"]) == failure.USAGE
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"error": {"name": "bad_input", "message": f"{missing}: no such file", "exit": 2}}
    assert shown.err == f"qcosctl: {missing}: no such file\n"


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--shots", "0"], "--shots"),
        (["--key", ""], "--key"),
        (["--key", "k" * 129], "--key"),
        (["--target", "a b"], "--target"),
        (["--as", ""], "--as"),
    ],
)
def test_options_are_refused_before_the_file_is_read(
    words: list[str], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["run"], ["job", "submit"]):
        assert call([*command, "/nowhere.qasm", *words]) == failure.USAGE
        assert capsys.readouterr().err.startswith(f"qcosctl: {option} ")


def test_a_cancelled_job_is_said_to_be_so_once() -> None:
    from qcosd.ctl.run import report

    error = {"code": 200, "name": "cancelled", "message": "cancelled on request", "details": {}, "chain": []}
    with pytest.raises(Failure) as caught:
        report({"job": "7", "state": "cancelled", "error": error}, False)
    assert caught.value.message == "job 7 cancelled: cancelled on request"


def test_the_version_is_an_option_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--version"]) == 0
    assert capsys.readouterr().out == f"qcosctl, version {__version__}\n"


def test_a_job_id_that_cannot_exist_is_not_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--runtime-dir", str(tmp_path), "job", "show", "a b"]) == failure.FAILED
    assert capsys.readouterr().err == "qcosctl: no job has the name 'a b'\n"


@pytest.mark.parametrize("place", ["general", "own", "environment"])
@pytest.mark.parametrize("words", ["status", "job list", "job wait 1", "plugin list", "events", "plugin stop hello"])
def test_no_daemon_is_exit_3_at_once(
    place: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = words.split()
    if place == "environment":
        monkeypatch.setenv("QCOS_RUNTIME_DIR", str(tmp_path))
    elif place == "general":
        arguments = ["--runtime-dir", str(tmp_path), *arguments]
    else:
        arguments = [*arguments, "--runtime-dir", str(tmp_path)]
    assert call(arguments) == failure.NO_DAEMON
    shown = capsys.readouterr()
    assert shown.out == ""
    assert str(tmp_path) in shown.err.splitlines()[0]
    assert "start one with" in shown.err.splitlines()[1]


def test_version_needs_no_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == __version__
    assert call(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"qcosctl {__version__}, ")


@pytest.mark.parametrize("words", [["version"], ["version", "--json"], ["config", "show"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_the_output_is_one_line(words: list[str], unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "qcosd.ctl.main", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == failure.FAILED
    assert done.stderr == "qcosctl: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("words", ["version", "config show --json", "--help", "job list --help"])
def test_a_closed_output_is_one_line(words: str) -> None:
    command = [sys.executable, "-m", "qcosd.ctl.main", *words.split()]
    shell = ["sh", "-c", 'exec "$@" <&- >&-', "sh", *command]
    done = subprocess.run(shell, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == failure.FAILED
    assert done.stderr == "qcosctl: the output cannot be written: Bad file descriptor\n"
    shell[2] += " 2>&-"
    assert subprocess.run(shell, check=False).returncode == failure.FAILED


@pytest.mark.parametrize("words", ["version", "config show --json", "--help"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone_is_told_nothing(words: str, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "qcosd.ctl.main", *words.split()],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (failure.FAILED, "")


def test_what_is_said_on_a_closed_stderr_is_lost() -> None:
    shell = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-m", "qcosd.ctl.main", "nonsense", "--json"]
    done = subprocess.run(shell, stdout=subprocess.PIPE, check=False)
    assert done.returncode == failure.USAGE
    assert json.loads(done.stdout)["error"]["name"] == "usage"


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        ("stopped", "`kill -CONT 7`"),
        ("running", "restart it"),
        ("sleeping", "restart it"),
        ("not running", "start it again"),
        ("not running, its socket was left behind", "start it again"),
        ("dead, not reaped", "start it again"),
        ("qcosd.service is enabled but not up", "systemctl status qcosd"),
    ],
)
def test_a_silent_daemon_comes_with_what_to_do(state: str, remedy: str) -> None:
    from qcosd.sdk import errors

    with pytest.raises(Failure) as caught, translated():
        raise errors.DaemonSilent("/x", 7, state)
    assert remedy in caught.value.hint


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("key_conflict", "--key"), ("no_such_job", "job list"), ("no_such_plugin", "plugin list"), ("over_quota", "")],
)
def test_what_the_daemon_refuses_comes_with_what_to_do(name: str, remedy: str) -> None:
    from qcosd.sdk import errors

    with pytest.raises(Failure) as caught, translated():
        raise errors.RequestFailed(7, name, "no")
    assert remedy in caught.value.hint
    assert bool(remedy) == bool(caught.value.hint)


def test_what_the_sdk_raises_becomes_an_exit_code() -> None:
    from qcosd.sdk import errors

    for error, code in (
        (errors.DaemonAbsent("/x"), failure.NO_DAEMON),
        (errors.DaemonSilent("/x", 7, "stopped"), failure.NO_DAEMON),
        (errors.DeadlineExceeded("late"), failure.TIMED_OUT),
        (errors.RequestFailed(104, "bad_input", "a.qasm:3: no"), failure.USAGE),
        (errors.RequestFailed(8, "deadline", "late"), failure.TIMED_OUT),
        (errors.RequestFailed(100, "no_such_job", "no job 9"), failure.FAILED),
        (errors.SdkError("token not readable"), failure.FAILED),
    ):
        with pytest.raises(Failure) as caught, translated():
            raise error
        assert caught.value.code == code
    with pytest.raises(Failure) as caught, translated():
        raise errors.DeadlineExceeded("no answer to JOB_LIST in time")
    assert "qcosctl doctor" in caught.value.hint
    assert "pid 7, stopped" in str(errors.DaemonSilent("/x", 7, "stopped"))


@pytest.mark.parametrize(
    ("state", "error", "code"),
    [
        ("done", None, 0),
        ("failed", {"name": "bad_input"}, 2),
        ("failed", {"name": "unsupported"}, 2),
        ("failed", {"name": "does_not_fit"}, 1),
        ("failed", {"name": "deadline"}, 4),
        ("failed", None, 1),
        ("cancelled", {"name": "cancelled"}, 1),
    ],
)
def test_the_end_of_a_job_becomes_an_exit_code(state: str, error: dict[str, str] | None, code: int) -> None:
    assert failure.exit_code_of(state, error) == code


def test_quick_commands_import_only_what_they_need() -> None:
    code = (
        "import sys; from qcosd.ctl.main import call; code = call(['version']);"
        "print(code, sorted({'asyncio', 'zmq', 'numpy', 'subprocess', 'tempfile'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_a_reader_that_has_gone_is_no_traceback() -> None:
    command = f"{sys.executable} -m qcosd.ctl.main run --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_the_commands_are_those_of_the_design() -> None:
    assert set(COMMANDS) >= {"run", "job", "plugin", "status", "events", "version"}
