# SPDX-License-Identifier: Apache-2.0
"""Compiler, optimiser and mapper as plugins: on the bench with the real kernel, and lease by lease."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import msgpack
import pytest
from qcos_plugins.grid_mapper import main as mapper
from qcos_plugins.pytket_compile import main as compiler
from qcos_plugins.pytket_optimise import main as optimiser
from qcos_plugins.surface_code.prepare import prepare

from qcosd.qec.device import Device
from qcosd.qec.placement import Placement
from qcosd.qec.program import LogicalProgram
from qcosd.sdk import Interrupt, Refused
from qcosd.sdk.testing import Bench, make_lease

ROOT = Path(__file__).parents[2]
MAINS = (compiler, optimiser, mapper)
GHZ = (ROOT / "etc" / "examples" / "ghz.qasm").read_bytes()
WASTEFUL = b'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\nh q[0]; h q[0]; id q[0]; cx q[0],q[1]; cx q[0],q[1];\n'


def call(main, name, inputs, **options):
    return main.plugin.operations[name].function(make_lease(name, inputs, options))


def logical(source: bytes) -> LogicalProgram:
    return LogicalProgram.from_bytes(call(compiler, "compile.compile", {"source": source}).outputs["logical"])


def test_source_to_optimised_program_on_the_bench() -> None:
    with Bench(*((main.plugin, Path(main.__file__).parent / "plugin.toml") for main in (compiler, optimiser))) as bench:
        outcome = bench.run({"source": WASTEFUL}, target="optimised", source_name="wasteful.qasm")
        assert outcome.document["state"] == "done"
        assert LogicalProgram.from_bytes(outcome.outputs["logical"]).ops[0].kind == "h"
        kinds = [op.kind for op in LogicalProgram.from_bytes(outcome.outputs["optimised"]).ops]
        assert kinds == ["barrier", "idle", "barrier"]
        facts = outcome.document["facts"]
        assert facts["compile.compile"]["gates"] == {"barrier": 2, "cx": 2, "h": 2, "idle": 1}
        assert facts["optimise.optimise"]["gates"] == {"before": {"cx": 2, "h": 2}, "after": {}}
        for name in ("compile.compile", "optimise.optimise"):
            assert facts[name]["versions"]["pytket"] == version("pytket")
            assert facts[name]["versions"]["stim-simd"] in ("sse2", "avx2", "polyfill")
        turned = bench.run(
            {"source": WASTEFUL + b"rz(0.3) q[1];"}, target="optimised", set={"epsilon": "0.01"}
        ).document
        assert turned["facts"]["compile.compile"]["approximated"] == 1
        assert turned["facts"]["compile.compile"]["epsilon"] == 0.01
        refused = bench.run({"source": WASTEFUL}, target="optimised", set={"epsilon": "none"}).document
        assert refused["error"]["name"] == "bad_input"
        assert refused["error"]["message"] == "epsilon 'none': a number from 1e-12 to 1 expected"


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        (b"", "bad_input", "a.qasm:1: the file is empty"),
        (b"\x00\x01", "bad_input", "a.qasm:1: character 0x00 is not text: this is no OpenQASM program"),
        (b"OPENQASM 2.0;\nqreg q[1];\nx q;", "bad_input", 'a.qasm:3: unknown gate x (include "qelib1.inc" is missing)'),
        (b"OPENQASM 4.0;", "unsupported", "a.qasm:1: OpenQASM 4.0 is not read, only OpenQASM 2.0 and 3"),
    ],
)
def test_the_compiler_names_file_and_line(source: bytes, code: str, message: str) -> None:
    with pytest.raises(Refused) as caught:
        call(compiler, "compile.compile", {"source": source}, source_name="a.qasm")
    assert (caught.value.code, caught.value.message) == (code, message)


def test_the_optimiser_is_switched_off() -> None:
    data = logical(WASTEFUL).to_bytes()
    result = call(optimiser, "optimise.optimise", {"logical": data}, set={"optimise": "off"})
    assert result.outputs == {"optimised": data}
    assert result.facts == {"optimise": "off"}


def test_the_optimiser_keeps_to_its_budget() -> None:
    data = logical(WASTEFUL).to_bytes()
    result = call(optimiser, "optimise.optimise", {"logical": data}, set={"optimise_budget": "0"})
    assert result.outputs == {"optimised": data}
    assert result.facts["budget_spent"] is True
    result = call(optimiser, "optimise.optimise", {"logical": data}, set={"optimise_budget": "1000"})
    assert result.facts["budget_spent"] is False
    assert len(result.outputs["optimised"]) < len(data)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimise": "maybe"}, "optimise is on or off, not 'maybe'"),
        ({"optimise_budget": "soon"}, "optimise_budget is a number of seconds, not 'soon'"),
        ({"optimise_budget": "-1"}, "not '-1'"),
        ({"optimise_budget": "nan"}, "not 'nan'"),
        ({"optimise_budget": []}, "optimise_budget is a number of seconds"),
    ],
)
def test_the_optimiser_refuses_wrong_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(Refused) as caught:
        call(optimiser, "optimise.optimise", {"logical": logical(GHZ).to_bytes()}, set=settings)
    assert caught.value.code == "bad_input"
    assert message in caught.value.message


def test_the_optimiser_refuses_what_is_no_program() -> None:
    with pytest.raises(Refused, match="not a logical program"):
        call(optimiser, "optimise.optimise", {"logical": b"\xc1"})


def test_the_mapper_places() -> None:
    fragments = prepare(logical(GHZ), 3)
    result = call(mapper, "map.place", {"fragments": fragments.to_bytes(), "device": Device().to_bytes()})
    placement = Placement.from_bytes(result.outputs["placement"])
    versions = result.facts.pop("versions")
    assert versions == {"networkx": version("networkx")}
    assert result.facts == {"device": "default", "sites": 161, "extent": [40, 24], "offset": [2, 2]}
    document = msgpack.unpackb(result.outputs["placement"])
    assert (document["device"], document["offset"], document["sites"]) == ("default", [2, 2], 161)
    assert document["map"] == [[x, y, number] for (x, y), number in placement.index.items()]


def test_the_mapper_makes_a_counter_offer() -> None:
    inputs = {"fragments": prepare(logical(GHZ), 5).to_bytes(), "device": Device.load("small-grid").to_bytes()}
    with pytest.raises(Interrupt) as caught:
        call(mapper, "map.place", inputs)
    assert caught.value.code == "does_not_fit"
    assert caught.value.details == {
        "needed_sites": 409,
        "needed": [60, 36],
        "available": [48, 28],
        "dead": 3,
        "largest_distance": 3,
    }


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"fragments": b"\x00"}, "wrong_input"),
        ({"device": b"\x00"}, "wrong_input"),
        ({"device": Device(movement=False).to_bytes()}, "wrong_input"),
    ],
)
def test_the_mapper_refuses(change: dict[str, bytes], code: str) -> None:
    turning = b'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; s q; h q; s q;'
    inputs = {"fragments": prepare(logical(turning), 3).to_bytes(), "device": Device().to_bytes()}
    with pytest.raises(Refused) as caught:
        call(mapper, "map.place", inputs | change)
    assert caught.value.code == code


@pytest.mark.parametrize("main", MAINS, ids=lambda main: main.__name__.split(".")[1])
def test_the_bus_glue_stays_short(main) -> None:
    assert len(Path(main.__file__).read_text().splitlines()) < 60
