# SPDX-License-Identifier: Apache-2.0
"""What the file and the options alone decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcosd.ctl import failure
from qcosd.ctl import options as o
from qcosd.ctl.failure import Failure
from qcosd.ctl.options import JobOptions


def refusal(**words: Any) -> str:
    """The line with which these options are refused; fails if they are accepted."""
    with pytest.raises(Failure) as caught:
        JobOptions(**words).validated("a.qasm")
    assert caught.value.code == failure.USAGE
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ({"shots": 0}, "--shots"),
        ({"shots": -1}, "--shots"),
        ({"shots": o.MAX_SHOTS + 1}, "--shots"),
        ({"distance": 1}, "--distance"),
        ({"distance": 2}, "--distance"),
        ({"distance": 4}, "--distance"),
        ({"distance": -3}, "--distance"),
        ({"distance": 103}, "--distance"),
        ({"noise": -0.001}, "--noise"),
        ({"noise": 0.5}, "--noise"),
        ({"noise": float("nan")}, "--noise"),
        ({"noise": float("inf")}, "--noise"),
        ({"prior": 0.5}, "--prior"),
        ({"prior": float("nan")}, "--prior"),
        ({"seed": -1}, "--seed"),
        ({"seed": 2**63}, "--seed"),
        ({"batch": 0}, "--batch"),
        ({"batch": 1025}, "--batch"),
        ({"decoder": "a guess"}, "--decoder"),
        ({"deadline": 0.0}, "--deadline"),
        ({"deadline": float("nan")}, "--deadline"),
        ({"deadline": float("inf")}, "--deadline"),
        ({"priority": 101}, "--priority"),
        ({"device": "\udc80"}, "--device"),
        ({"settings": ["credit"]}, "--set"),
        ({"settings": ["=1"]}, "--set"),
        ({"settings": ["a=1", "a=2"]}, "--set"),
        ({"settings": ["a=\udc80"]}, "--set"),
        ({"use": ["hardware"]}, "--use"),
        ({"use": ["hardware="]}, "--use"),
        ({"use": ["=tableau_adapter"]}, "--use"),
        ({"use": ["hardware=a b"]}, "--use"),
        ({"use": ["hardware=a", "hardware=b"]}, "--use"),
        ({"discard_budget": -1}, "--discard-budget"),
        ({"discard_budget": o.MAX_SHOTS + 1}, "--discard-budget"),
    ],
)
def test_out_of_range_is_refused_and_names_the_option(words: dict[str, Any], option: str) -> None:
    assert refusal(**words).startswith(option + " ")


def test_defaults_are_those_of_the_design() -> None:
    options = JobOptions().validated("a.qasm")
    seed = options.pop("seed")
    assert 0 <= seed < 2**o.SEED_BITS
    assert options == {
        "shots": 1000, "distance": 3, "noise": 0.001, "prior": 0.001, "batch": 256, "decoder": "pymatching-tempered",
        "priority": 0, "target": "counts", "source_name": "a.qasm", "set": {},
    }  # fmt: skip


def test_what_is_chosen_for_the_kernel_is_passed_on() -> None:
    options = JobOptions(use=["hardware=tableau_adapter", "track = mine"], verify=False, discard_budget=0).validated(
        "a"
    )
    assert options["use"] == {"hardware": "tableau_adapter", "track": "mine"}
    assert options["verify"] is False
    assert options["discard_budget"] == 0


def test_every_edge_of_the_ranges_is_accepted() -> None:
    low = JobOptions(shots=1, distance=3, noise=0.0, prior=0.0, seed=0, batch=1, priority=-100, deadline=1e-6)
    high = JobOptions(shots=o.MAX_SHOTS, distance=101, noise=0.4999, seed=2**63 - 1, batch=1024, priority=100)
    assert low.validated("a")["seed"] == 0
    assert low.validated("a")["prior"] == 0.0
    assert high.validated("a")["prior"] == 0.4999


def test_seeds_that_are_drawn_differ() -> None:
    assert JobOptions().validated("a")["seed"] != JobOptions().validated("a")["seed"]


def test_the_same_key_draws_the_same_seed() -> None:
    one, again, other = (JobOptions().validated("a", key)["seed"] for key in ("k", "k", "l"))
    assert one == again != other
    assert 0 <= one < 2**o.SEED_BITS
    assert JobOptions(seed=5).validated("a", "k")["seed"] == 5


def test_settings_are_split_at_the_first_equals_sign() -> None:
    assert o.parse_settings(["credit=1", "feedback = insert", "x=a=b", "empty="]) == {
        "credit": "1",
        "feedback": "insert",
        "x": "a=b",
        "empty": "",
    }


def test_a_file_name_that_is_not_text_is_still_a_source_name() -> None:
    assert JobOptions().validated("gh\udc80z.qasm")["source_name"] == "gh?z.qasm"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "{}: is empty"),
        (b" \n\t\r\n", "{}: is empty"),
        (b"OPENQASM 2.0;\n\xff\xfe", "{}:2: not text (byte 14 is not UTF-8)"),
        (b"OPENQASM 2.0;\nqreg\x00q[1];\n", "{}:2: not text (a control character)"),
        (b"\x1b[1m", "{}:1: not text (a control character)"),
        (b" " * (o.MAX_SOURCE_BYTES + 1), "{}: larger than 16 MiB, not a program"),
    ],
)
def test_a_file_that_is_no_text_is_refused_with_its_line(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "program.qasm"
    path.write_bytes(content)
    with pytest.raises(Failure) as caught:
        o.read_source(str(path))
    assert (caught.value.code, caught.value.message) == (failure.USAGE, text.format(path))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("absent.qasm", "no such file"),
        (".", "is a directory"),
        ("a\0b", "cannot be read"),
        ("x" * 300, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(Failure, match=text) as caught:
        o.read_source(f"{tmp_path}/{name}")
    assert caught.value.code == failure.USAGE


def test_a_program_is_passed_on_byte_by_byte(tmp_path: Path) -> None:
    source = "OPENQASM 2.0;\r\n// größer\n\tqreg q[1];\f\n".encode()
    (tmp_path / "a.qasm").write_bytes(source)
    assert o.read_source(str(tmp_path / "a.qasm")) == source


@given(st.text())
def test_names_are_what_the_protocol_takes(word: str) -> None:
    from qcosd import schema

    try:
        schema.NAME.check(word, "name")
        taken = True
    except schema.Violation:
        taken = False
    assert o.is_name(word) == taken
