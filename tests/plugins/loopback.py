# SPDX-License-Identifier: Apache-2.0
"""Simulated machine and tracker coupled directly, without a bus: what a batch comes to, end to end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.outcomes import Outcomes
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.stim_adapter.faults import Fault
from qcos_plugins.stim_adapter.machine import Machine
from qcos_plugins.surface_code.prepare import prepare
from qcos_plugins.tableau_adapter.machine import Machine as TableauMachine
from qcos_plugins.tableau_adapter.noise import Noise
from qcos_plugins.tableau_adapter.rounds import Translator

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.stream import Block, Decided

PERFECT = Calibration.uniform(0)
PRIOR = Calibration.uniform(1e-3)
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
    ``machine``: further arguments of `machine_of`; others go to `Tracker`."""
    together = [(fault,) if isinstance(fault, Fault) else fault for fault in faults]
    stream = machine_of(hardware, program, noise, shots, seed, batch=batch, faults=together, **(machine or {})).run()
    follower = Tracker(program, prior, shots, keep_records=records, **{"templates": TEMPLATES, **tracker})
    done = Run(None, follower)  # type: ignore[arg-type]
    decided: dict[str, np.ndarray] = {}
    item = next(stream, None)
    while item is not None:
        answer = None
        if item[0] == "block":
            done.blocks.append(item[1])
            for reply in follower.receive(item[1], item[2]):
                if isinstance(reply, tuple) and isinstance(reply[0], Decided):
                    decided[reply[0].path] = reply[1]
        else:
            answer = decided.pop(item[1])
        try:
            item = stream.send(answer)
        except StopIteration:
            item = None
    done.outcomes = follower.outcomes()
    return done


def machine_of(hardware: str, program: FragmentProgram, noise: Calibration, shots: int, seed: int, **more: Any) -> Any:
    """The machine of a hardware plugin.  ``more``: what its machine takes; for tableau_adapter also what its `Translator`
    takes."""
    if hardware == "stim_adapter":
        return Machine(program, noise, shots, seed, **more)
    assert hardware == "tableau_adapter", hardware
    known = {key: more.pop(key) for key in ("known_syndrome",) if key in more}
    return TableauMachine(Translator(program, Noise(noise, more.pop("erasure", 0.0)), **known), shots, seed, **more)
