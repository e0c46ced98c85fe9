# SPDX-License-Identifier: Apache-2.0
"""Decoders as users meet them: listed, chosen, refused."""

from __future__ import annotations

import json

import pytest
from system_world import World

PROGRAM = """OPENQASM 2.0;
include "qelib1.inc";
qreg q[2];
creg c[2];
h q[0];
cx q[0], q[1];
measure q -> c;
"""


@pytest.mark.long
def test_the_list(world: World) -> None:
    done = world.ctl("decoders", "--json")
    assert done.code == 0, done
    table = json.loads(done.out)
    states = {entry["name"]: entry["state"] for entry in table["decoders"]}
    assert states[table["default"]] == "admitted"
    for name in ("pymatching", "pymatching-correlated", "fusion-blossom", "tesseract"):
        assert states[name] == "admitted", done.out
    assert all(entry["reason"] for entry in table["decoders"] if entry["state"] != "admitted")


@pytest.mark.long
@pytest.mark.parametrize("decoder", ["fusion-blossom", "tesseract"])
def test_a_program_decoded_by_another_decoder(world: World, decoder: str) -> None:
    path = world.file("bell.qasm", PROGRAM)
    done = world.ctl("run", path, "--decoder", decoder, "--shots", 200, "--noise", "0.003", "--seed", 5, "--json")
    assert done.code == 0, done
    document = json.loads(done.out)
    assert document["decoder"] == decoder

    def wrong(counts: dict[str, int]) -> int:
        return sum(n for key, n in counts.items() if key not in ("00", "11"))

    assert sum(document["counts"].values()) == 200
    assert wrong(document["counts"]) < 30 < wrong(document["counts_undecoded"])
