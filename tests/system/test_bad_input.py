# SPDX-License-Identifier: Apache-2.0
"""Bad input: exit 2, one clear line with file and line, no traceback, nothing left running."""

from __future__ import annotations

import pytest
from system_world import EXAMPLES, DaemonWorld, Done, World

HEAD = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'

# What no daemon is needed for: name, content, options, words of the line after the file's name or the option.
BY_FILE_AND_OPTIONS = {
    "empty": (b"", (), ": is empty"),
    "blank": (b"\n  \n", (), ": is empty"),
    "binary": (b"\x7fELF\x02\x01\x01\x00\xff", (), ":1: not text"),
    "control": (b"OPENQASM 2.0;\n\x00", (), ":2: not text"),
    "shots": (HEAD, ("--shots", "0"), "--shots 0: "),
    "shots below": (HEAD, ("--shots=-5",), "--shots -5: "),
    "even distance": (HEAD, ("--distance", "4"), "--distance 4: "),
    "distance 1": (HEAD, ("--distance", "1"), "--distance 1: "),
    "noise": (HEAD, ("--noise", "0.5"), "--noise 0.5: "),
    "noise below": (HEAD, ("--noise=-0.1",), "--noise -0.1: "),
    "noise nan": (HEAD, ("--noise", "nan"), "--noise nan: "),
    "prior": (HEAD, ("--prior", "1"), "--prior 1.0: "),
    "batch": (HEAD, ("--batch", "1025"), "--batch 1025: "),
    "decoder": (HEAD, ("--decoder", "an oracle"), "--decoder 'an oracle': "),
    "set": (HEAD, ("--set", "feedback"), "--set 'feedback': "),
    "no number": (HEAD, ("--shots", "many"), "Invalid value for '--shots': 'many'"),
}

# What the compile plugin finds: content, line, words.
BY_COMPILER = {
    "no QASM": ("hello, this is prose\n", 1, ""),
    "no header": ('include "qelib1.inc";\nqreg q[1];\n', 1, ""),
    "unknown gate": (HEAD + "qreg q[1];\nfrobnicate q[0];\n", 4, "frobnicate"),
    "index": (HEAD + "qreg q[2];\ncreg c[2];\nh q[0];\nmeasure q[2] -> c[0];\n", 6, "2"),
    "no register": (HEAD + "qreg q[2];\nh r[0];\n", 4, "r"),
    "opaque gate": (HEAD + "opaque magic a;\nqreg q[1];\nmagic q[0];\n", 5, "magic"),
    "same qubit twice": (HEAD + "qreg q[2];\ncx q[0], q[0];\n", 4, ""),
}


def assert_one_line(done: Done, *parts: str) -> None:
    """Exit 2, nothing on stdout, and one line that says what is wrong beside the remark about the private daemon."""
    lines = [line for line in done.err.splitlines() if "starting a private one" not in line]
    assert done.code == 2, done
    assert done.out == ""
    assert len(lines) == 1, done.err
    assert lines[0].startswith("qcosctl: ")
    for part in parts:
        assert part in lines[0]


@pytest.mark.parametrize("name", BY_FILE_AND_OPTIONS)
def test_file_and_options_alone(world: World, name: str) -> None:
    content, options, words = BY_FILE_AND_OPTIONS[name]
    done = world.ctl("run", world.file("bad.qasm", content), *options)
    assert_one_line(done, words)
    assert "private" not in done.err, "no daemon is started for what can be seen without one"


def test_a_missing_file(world: World) -> None:
    assert_one_line(world.ctl("run", world.home / "absent.qasm"), "absent.qasm: no such file")
    assert_one_line(world.ctl("job", "submit", world.home), ": is a directory")


@pytest.mark.parametrize("name", BY_COMPILER)
def test_the_compiler_names_file_and_line(world: World, name: str) -> None:
    content, line, words = BY_COMPILER[name]
    path = world.file("bad.qasm", content)
    assert_one_line(world.ctl("run", path, "--shots", 10), f"{path}:{line}: ", words)
    world.assert_empty()


def test_the_tracker_names_the_decoders_that_it_admits(world: World) -> None:
    path = world.file("good.qasm", HEAD + "qreg q[1];\ncreg c[1];\nmeasure q -> c;\n")
    done = world.ctl("run", path, "--shots", 10, "--decoder", "oracle")
    assert_one_line(done, "unknown decoder 'oracle'; admitted: ", "pymatching-tempered", "pymatching-correlated")


def test_kinds_that_no_plugin_knows_are_refused_with_those_that_they_know(daemon: DaemonWorld) -> None:
    path = daemon.file("good.qasm", HEAD + "qreg q[1];\ncreg c[1];\nmeasure q -> c;\n")
    nope = daemon.ctl("job", "submit", path, "--target", "cuonts", "--json")
    assert (nope.code, nope.document["error"]["name"]) == (2, "bad_input")
    assert_one_line(
        daemon.ctl("run", path, "--target", "cuonts"), "target: nobody makes 'cuonts', did you mean 'counts'?"
    )
    assert_one_line(daemon.ctl("run", path, "--as", "nope"), "as: nobody takes 'nope'; known: ", "source")
    assert daemon.ctl("job", "list", "--json").document == []


def test_bad_input_of_a_submitted_job(daemon: DaemonWorld) -> None:
    """The same errors, asked for later; under --json the document carries them, and a good job is none the worse."""
    path = daemon.file("bad.qasm", HEAD + "qreg q[1];\nfrobnicate q[0];\n")
    job = daemon.ctl("job", "submit", path, "--json").document["job"]
    waited = daemon.ctl("job", "wait", job, "--json")
    assert waited.code == 2
    assert waited.document["state"] == "failed"
    assert waited.document["error"]["name"] == "bad_input"
    assert waited.document["error"]["message"].startswith(f"{path}:4: ")
    assert_one_line(daemon.ctl("job", "result", job), f"{path}:4: ")
    assert daemon.ctl("run", EXAMPLES / "bell.qasm", "--shots", 10, "--noise", 0).code == 0
