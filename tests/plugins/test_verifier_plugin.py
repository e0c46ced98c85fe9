# SPDX-License-Identifier: Apache-2.0
"""The verifier's operations as leases: what passes, what is refused and of which kind, and that it keeps the protocol."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
from qcos_plugins.grid_mapper.mapper import placed
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.surface_code.prepare import prepare
from qcos_plugins.verifier import main
from qcos_plugins.verifier.audit import WrongStream

from qcosd.qec.calibration import Calibration
from qcosd.qec.device import Device
from qcosd.sdk import Refused
from qcosd.sdk.conformance import examine
from qcosd.sdk.testing import make_lease

FOLDER = Path(main.__file__).parent
SOURCE = (Path(__file__).parents[2] / "etc" / "examples" / "bell.qasm").read_bytes()


def artifacts() -> dict[str, bytes]:
    logical, _ = compile_source(SOURCE)
    fragments = prepare(logical, 3)
    placement, _ = placed(fragments, Device())
    empty = {"counts": {"00": 4}, "counts_undecoded": {"00": 4}, "shots_accepted": 4, "shots_discarded": 0}
    return {
        "source": SOURCE,
        "logical": logical.to_bytes(),
        "optimised": logical.to_bytes(),
        "fragments": fragments.to_bytes(),
        "device": Device().to_bytes(),
        "placement": placement.to_bytes(),
        "calibration": Calibration.uniform(1e-3).to_bytes(),
        "counts": msgpack.packb({**empty, "detection_events": 0, "detectors_total": 672}),
    }


RIGHT = artifacts()
OPERATIONS = {row["op"]: row for row in tomllib.loads((FOLDER / "plugin.toml").read_text())["operation"]}


def asked(op: str, inputs: dict[str, bytes], **options: object):
    given = {kind: inputs[kind] for kind in OPERATIONS[op]["consumes"]}
    return getattr(main, op)(make_lease(f"verify.{op}", given, options, shots=4, batch=0))


@pytest.mark.parametrize("op", OPERATIONS)
def test_right_artifacts_pass_and_make_nothing(op):
    result = asked(op, RIGHT, distance=3)
    assert result.facts and not result.outputs and result.summary is None


@pytest.mark.parametrize("op", OPERATIONS)
def test_each_checks_what_it_is_called_after(op):
    assert OPERATIONS[op]["checks"] == [op]
    with pytest.raises(Refused) as refused:
        asked(op, {**RIGHT, op: b"nonsense"}, distance=3)
    assert (refused.value.code, refused.value.details) == ("wrong_input", {"kind": op})


def test_a_wrong_one_is_refused_each_time():
    logical, _ = compile_source(SOURCE)
    lie = replace(logical, ops=logical.ops[1:]).to_bytes()
    for _ in range(2):
        with pytest.raises(Refused, match=r"is changed|another state|one .* too many|not there") as refused:
            asked("optimised", {**RIGHT, "optimised": lie})
        assert refused.value.details == {"kind": "optimised"}
        assert asked("optimised", RIGHT).facts["method"] == "unitary"


def test_the_distance_is_part_of_what_was_examined():
    assert asked("fragments", RIGHT, distance=3).facts["distance"] == 3
    with pytest.raises(Refused, match="distance 3, 5 was asked for"):
        asked("fragments", RIGHT, distance=5)


def test_wrong_records_are_the_fault_of_the_stream(monkeypatch):
    def loud(lease: object) -> None:
        raise WrongStream("loud")

    monkeypatch.setattr("qcos_plugins.verifier.batch.check_batch", loud)
    with pytest.raises(Refused, match="loud") as refused:
        asked("counts", RIGHT)
    assert refused.value.details == {"kind": "counts", "stream": "rounds"}


@pytest.mark.slow
def test_it_keeps_the_protocol():
    assert not [finding for finding in examine(FOLDER) if finding.fault]
