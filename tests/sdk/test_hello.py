# SPDX-License-Identifier: Apache-2.0
"""The example plugin: its algorithm alone, and on the bench."""

from __future__ import annotations

from pathlib import Path

import pytest
from qcos_plugins.hello import main
from qcos_plugins.hello.greeting import NotAName, greet

from qcosd.sdk.testing import Bench

FOLDER = Path(main.__file__).parent


def test_the_algorithm_greets_each_line() -> None:
    assert greet(b"Ada\n Erwin \n") == b"Hello, Ada!\nHello, Erwin!\n"
    assert greet("Schrödinger".encode(), "Grüezi") == "Grüezi, Schrödinger!\n".encode()


@pytest.mark.parametrize(("names", "line"), [(b"", 1), (b"a\n\nb", 2), (b"a\nb\n\xff", 3)])
def test_the_algorithm_says_where_the_input_is_wrong(names: bytes, line: int) -> None:
    with pytest.raises(NotAName) as caught:
        greet(names)
    assert caught.value.line == line


def test_on_the_bench() -> None:
    with Bench((main.plugin, FOLDER / "plugin.toml")) as bench:
        outcome = bench.run({"greeting": b"world"}, target="greeted", set={"greeting_word": "Salut"})
        assert outcome.outputs["greeted"] == b"Salut, world!\n"
        assert outcome.document["facts"] == {"hello.greet": {"letters": 14}}
        refused = bench.run({"greeting": b"\n"}, target="greeted", source_name="names.txt").document
        assert (refused["error"]["name"], refused["error"]["message"]) == (
            "bad_input",
            "names.txt:1: a name is missing",
        )


def test_the_bus_glue_stays_short() -> None:
    assert len((FOLDER / "main.py").read_text().splitlines()) < 60
