# SPDX-License-Identifier: Apache-2.0
"""A plugin that gets a broken artifact names the artifact, so that the kernel finds who made it."""

from __future__ import annotations

from typing import Any

import pytest
from loopback import PRIOR, prepared
from qcos_plugins.grid_mapper import main as mapper
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.pytket_optimise import main as optimiser
from qcos_plugins.stim_adapter import main as stim_adapter
from qcos_plugins.surface_code import main as code

from qcosd.qec.device import Device
from qcosd.qec.fragment import Fragment, FragmentProgram, Instruction, Part, Region, Slot
from qcosd.qec.geometry import Rect
from qcosd.sdk import Refused
from qcosd.sdk.testing import make_lease

QASM = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'
LOGICAL = compile_source(QASM.encode())[0].to_bytes()
DEVICE = Device()
FRAGMENTS = prepared(QASM).to_bytes()
FINE = {"logical": LOGICAL, "optimised": LOGICAL, "device": DEVICE.to_bytes(), "fragments": FRAGMENTS}
PLACEMENT = mapper.place(make_lease("map.place", FINE)).outputs["placement"]
READY = stim_adapter.prepare(make_lease("hardware.prepare", FINE | {"placement": PLACEMENT})).outputs["ready"]


def program(*instructions: Instruction, regions: tuple[Region, ...] = ()) -> bytes:
    slot = Slot((Part((0,), 5, instructions),), (), regions)
    return FragmentProgram(3, 1, (("c", 1),), (Fragment(0, (), (slot,), ((0, 1),)),)).to_bytes()


OVERLAP = program(regions=(Region(Rect(0, 0, 4, 4), (0,)), Region(Rect(4, 4, 8, 8), (1,))))
MOVES = program(Instruction("PERM", ((0, 0), (2, 0))))
FAR = program(Instruction("CX", ((0, 0), (8, 8))))


@pytest.mark.parametrize(
    ("operation", "kind", "data"),
    [
        (mapper.place, "fragments", b"\xc1"),
        (mapper.place, "fragments", OVERLAP),
        (mapper.place, "fragments", FAR),
        (mapper.place, "device", b"\x00"),
        (optimiser.optimise, "logical", b"\x00"),
        (code.prepare_, "optimised", b"\x00"),
        (code.prepare_, "device", b"\x80"),
        (stim_adapter.prepare, "fragments", FAR),
        (stim_adapter.prepare, "placement", b"\x00"),
        (stim_adapter.run, "ready", b"\x00"),
    ],
)
def test_the_broken_artifact_is_named(operation: Any, kind: str, data: bytes) -> None:
    inputs = FINE | {"placement": PLACEMENT, "calibration": PRIOR.to_bytes(), "ready": READY} | {kind: data}
    with pytest.raises(Refused) as refused:
        operation(make_lease("any.work", inputs, batch=0, shots=1))
    assert (refused.value.code, refused.value.details) == ("wrong_input", {"kind": kind})


def test_moving_on_a_device_that_cannot_is_the_fault_of_the_fragments() -> None:
    still = Device(movement=False).to_bytes()
    with pytest.raises(Refused, match="moves qubits") as refused:
        mapper.place(make_lease("map.place", FINE | {"device": still, "fragments": MOVES}))
    assert (refused.value.code, refused.value.details) == ("wrong_input", {"kind": "fragments"})
