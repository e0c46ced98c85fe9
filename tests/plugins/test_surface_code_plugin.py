# SPDX-License-Identifier: Apache-2.0
"""What the plugin answers to a lease."""

from __future__ import annotations

import msgpack
import pytest
from logical_programs import conditional, measure, op, program
from qcos_plugins.surface_code.main import plugin
from qcos_plugins.surface_code.prepare import facts, prepare

from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.program import Op
from qcosd.sdk import Lease, Refused

LOGICAL = program(2, 2, op("h", 0), op("cx", 0, 1), Op("h", (1,), 4), op("s", 1), measure(0, 0), measure(1, 1))


MOVING = msgpack.packb({"movement": True})


def answer(logical=None, device=MOVING, **options):
    blobs = {"optimised": LOGICAL.to_bytes() if logical is None else logical, "device": device}
    body = {
        "lease": 1,
        "epoch": 1,
        "job": "j1",
        "service": "qecc",
        "op": "prepare",
        "batch": None,
        "options": {"source_name": "bell.qasm", **options},
        "shots": 100,
        "seed": 1,
        "budget": 60.0,
        "inputs": {kind: {"sha": kind, "size": len(data)} for kind, data in blobs.items()},
    }
    return plugin.operations["qecc.prepare"].function(Lease(body, blobs.__getitem__, lambda fraction, text: None))


def test_fragments_and_facts():
    result = answer(distance=5)
    prepared = prepare(LOGICAL, 5)
    assert FragmentProgram.from_bytes(result.outputs["fragments"]) == prepared
    assert result.facts == facts(prepared)
    assumptions = result.facts.pop("assumptions")
    assert result.facts == {"distance": 5, "patches": 3, "fragments": 1, "rounds": 20, "decisions": 0, "paths": 1}
    assert len(assumptions) == 2 and "|Y>" in assumptions[0] and "noise.handover" in assumptions[0]


def test_the_distance_is_3_by_default():
    assert answer().facts["distance"] == 3


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"distance": 4}, "bad_input", "distance 4"),
        ({"distance": 1}, "bad_input", "distance 1"),
        ({"distance": 103}, "bad_input", "distance 103"),
        ({"distance": "5"}, "bad_input", "distance '5'"),
        *[
            ({"set": {"max_branches": n}}, "bad_input", f"max_branches {n!r}")
            for n in (0, -1, "0", "", "x", "1.5", "²", True)
        ],
        ({"logical": b"\x00"}, "wrong_input", "logical program"),
        ({"device": msgpack.packb({})}, "wrong_input", "moves qubits"),
        ({"device": b"\xc1"}, "wrong_input", "moves qubits"),
        ({"device": msgpack.packb({"movement": False})}, "unsupported", "bell.qasm:4: h"),
    ],
)
def test_what_it_refuses(change, code, message):
    with pytest.raises(Refused) as refused:
        answer(**change)
    assert refused.value.code == code
    assert message in str(refused.value)


def test_batches_of_a_program_with_many_paths_are_bounded():
    ops = [op("h", 0), measure(0, 0), *[conditional((0,), "==", 1, op("h", 0)) for _ in range(3)], measure(0, 0)]
    logical = program(1, 1, *ops).to_bytes()
    assert answer(logical=logical).facts["paths"] == 8
    assert "batch_limit" not in answer(logical=logical).facts
    for most in (7, "7", 1):
        assert answer(logical=logical, set={"max_branches": most}).facts["batch_limit"] == int(most)


def test_wide_registers_and_constants_pass():
    logical = program(1, 100, measure(0, 0), conditional(tuple(range(100)), ">=", 2**99, op("x", 0)), measure(0, 1))
    result = answer(logical=logical.to_bytes())
    assert FragmentProgram.from_bytes(result.outputs["fragments"]) == prepare(logical, 3)
