# SPDX-License-Identifier: Apache-2.0
"""Simulated machine and tracker coupled directly, without a bus: what a batch comes to, end to end."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.follow import take
from qcos_plugins.matching_tracker.outcomes import Outcomes
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.stim_adapter.faults import Fault
from qcos_plugins.stim_adapter.machine import Machine
from qcos_plugins.stim_adapter.steps import Compiler
from qcos_plugins.surface_code.prepare import prepare
from qcos_plugins.tableau_adapter.machine import TableauMachine

from qcosd.qec.calibration import RATES, Calibration
from qcosd.qec.device import Device
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.hardware import Awaits, Batch, Control, Said
from qcosd.qec.noise import LOSSES, Noise
from qcosd.qec.placement import Placement
from qcosd.qec.simulated import Raw, Simulated
from qcosd.qec.stream import Block, Decided
from qcosd.qec.terms import Terms

PERFECT = Calibration.uniform(0)
PRIOR = Calibration.uniform(1e-3)
OFFSET = (2, 4)  # of the program on the device: neither is 0, and no coordinate gets negative
TEMPLATES = TemplateCache()  # shared by all runs of a test session: most of the time goes into building them


@dataclass
class Run:
    """A finished batch.  ``blocks``: headers in the order sent.  ``records``: raw bits of each path's own fragments."""

    outcomes: Outcomes
    tracker: Tracker
    blocks: list[Block] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        return self.outcomes.counts

    @property
    def records(self) -> dict[str, np.ndarray]:
        return self.outcomes.records


def prepared(qasm: str, distance: int = 3) -> FragmentProgram:
    """OpenQASM text as fragments."""
    return prepare(compile_source(qasm.encode())[0], distance)


def run(
    program: FragmentProgram,
    noise: Calibration = PERFECT,
    prior: Calibration = PRIOR,
    shots: int = 256,
    seed: int = 0,
    *,
    batch: int = 0,
    faults: Sequence[Fault | Iterable[Fault]] = (),
    hardware: str = "stim_adapter",
    machine: dict[str, Any] | None = None,
    records: bool = False,
    **tracker: Any,
) -> Run:
    """Runs a batch.  ``faults``: for each shot one fault, or several.  ``hardware``: the plugin whose machine is taken.
    ``machine``: further arguments of `said`; others go to `Tracker`."""
    together = [(fault,) if isinstance(fault, Fault) else fault for fault in faults]
    follower = Tracker(program, prior, shots, keep_records=records, **{"templates": TEMPLATES, **tracker})
    done = Run(None, follower)  # type: ignore[arg-type]
    decided: dict[tuple[str, int], bytes] = {}
    stream = said(hardware, program, noise, shots, seed, batch=batch, faults=together, **(machine or {}))
    item = next(stream, None)
    while item is not None:
        answer = None
        if isinstance(item, Said):
            if isinstance(item.header, Block):
                done.blocks.append(item.header)
            for reply in take(follower, item.header.to_map(), item.frames):
                if isinstance(reply, tuple) and isinstance(reply[0], Decided):
                    decided[reply[0].path, reply[0].k] = reply[1].tobytes()
        else:
            answer = decided.pop((item.path, item.k))
        try:
            item = stream.send(answer)
        except StopIteration:
            item = None
    done.outcomes = follower.outcomes()
    return done


class Framed(Simulated):
    """The machine of stim_adapter with arguments that the plugin does not have."""

    def __init__(self, device: Device, noise: Calibration, more: dict[str, Any]) -> None:
        super().__init__(device)
        self._noise = noise
        self._more = more

    def prepare(self, program: FragmentProgram, placement: Placement) -> None:
        self.program = program
        controls = {key: self._more.pop(key) for key in ("steer", "gauge_fix") if key in self._more}
        self._more.setdefault("compiler", Compiler(program, self._noise, offset=placement.offset, **controls))

    def run(self, batch: Batch, t0_ns: int) -> Raw:
        return Machine(self.program, self._noise, batch.shots, batch.seed, batch.index, t0_ns=t0_ns, **self._more).run()


def said(
    hardware: str, program: FragmentProgram, noise: Calibration, shots: int, seed: int, *, batch: int = 0, **more: Any
) -> Generator[Said | Awaits, bytes | None, None]:
    """All that the machine of a hardware plugin says in a batch.  `Awaits` must be answered.

    ``more``: ``erasure``, ``lost``, ``discard`` of the device; others go to the machine.
    """
    losses = {key: more.pop(key) for key in LOSSES if key in more}
    device = replace(Device(), noise=device_noise(noise, **losses))
    machine = {
        "stim_adapter": lambda: Framed(device, noise, more),
        "tableau_adapter": lambda: TableauMachine(Terms(device), **more),
    }[hardware]()
    control = Control(machine)
    sites = {site for f in program.fragments for s in f.slots for p in s.parts for _, t in p.instructions for site in t}
    control.prepare(program, Placement.of("default", OFFSET, sites))
    control.arm(Batch(batch, shots, seed))
    control.start(0)
    while (item := control.next()) is not None:
        answer = yield item
        if isinstance(item, Awaits):
            assert answer is not None
            control.decide(item.path, item.k, answer)


def device_noise(rates: Calibration, **losses: float) -> Noise:
    """A device with exactly these rates, none of them 0 where a site or coupler has another."""
    return Noise(
        p=1.0,
        **{kind: getattr(rates, kind) for kind in RATES},
        sites={site: {k: r / getattr(rates, k) for k, r in own.items()} for site, own in rates.sites.items()},
        couplers={pair: rate / rates.cx for pair, rate in rates.couplers.items()},
        **losses,
    )
