# SPDX-License-Identifier: Apache-2.0
"""The simulated machine behind the calls of `qcosd.qec.hardware`."""

from __future__ import annotations

from collections import OrderedDict

from qcos_plugins.stim_adapter.machine import Machine
from qcos_plugins.stim_adapter.steps import Compiler

from qcosd.qec.calibration import Calibration
from qcosd.qec.device import Device
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.geometry import Coord
from qcosd.qec.hardware import Batch
from qcosd.qec.placement import Placement
from qcosd.qec.simulated import Raw, Simulated

KEPT = 4


class Compilers:
    """Those of the latest programs: batches of one program share the work."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._found: OrderedDict[tuple[int, str, Coord], Compiler] = OrderedDict()

    def __len__(self) -> int:
        return len(self._found)

    def of(self, program: FragmentProgram, noise: Calibration, offset: Coord) -> Compiler:
        # A compiler keeps its program alive, so nothing else can have the same id.
        key = (id(program), noise.id, offset)
        if key not in self._found:
            self._found[key] = Compiler(program, noise, offset=offset)
            if len(self._found) > self._kept:
                self._found.popitem(last=False)
        self._found.move_to_end(key)
        return self._found[key]


class Simulator(Simulated):
    """``noise``: the true rates.  ``calibration``: what it says of them at the beginning of a batch.  ``joins``: see `Simulated`."""

    def __init__(
        self,
        device: Device,
        noise: Calibration,
        compilers: Compilers,
        calibration: Calibration | None = None,
        *,
        joins: bool = False,
    ) -> None:
        super().__init__(device, calibration, joins=joins)
        self._noise = noise
        self._compilers = compilers
        self._compiler: Compiler

    def prepare(self, program: FragmentProgram, placement: Placement) -> None:
        self.program = program
        self._compiler = self._compilers.of(program, self._noise, placement.offset)

    def run(self, batch: Batch, t0_ns: int) -> Raw:
        machine = Machine(
            self.program,
            self._noise,
            batch.shots,
            batch.seed,
            batch.index,
            compiler=self._compiler,
            round_ns=self.device.round_ns,
            t0_ns=t0_ns,
        )
        return machine.run()
