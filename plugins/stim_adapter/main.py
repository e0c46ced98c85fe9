# SPDX-License-Identifier: Apache-2.0
"""Bus glue of the simulated machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qcos_plugins.stim_adapter.machine import needs_states
from qcos_plugins.stim_adapter.simulator import Compilers, Simulator
from qcos_plugins.stim_adapter.states import MAX_AMPLITUDES, largest_factor

from qcosd.qec.hardware import Aborted, Batch, Control, DecisionFault, feed
from qcosd.qec.readiness import Loaded, NotReady
from qcosd.qec.terms import Terms
from qcosd.qec.versions import versions
from qcosd.sdk import Plugin, Refused

MAX_SHOTS = 1024
"""Of a batch."""

plugin = Plugin()
loaded = Loaded()
compilers = Compilers()


@plugin.operation("hardware", "describe")
def describe(lease: Any) -> Any:
    """What a planner may know of the machine (`device`)."""
    device = _terms(lease).device
    facts = {"device": device.name, "batch_limit": MAX_SHOTS, "versions": versions("stim", "numpy")}
    return lease.result(outputs={"device": device.to_bytes()}, facts=facts)


@plugin.operation("hardware", "calibrate")
def calibrate(lease: Any) -> Any:
    """The machine's own opinion of its error rates (`calibration`): the option `prior`, or the truth."""
    rates = _terms(lease).calibration()
    return lease.result(outputs={"calibration": rates.to_bytes()}, facts={"calibration": rates.id})


@plugin.operation("hardware", "prepare")
def prepare(lease: Any) -> Any:
    """Loads a placed program and says that it can run (`ready`)."""
    device = _terms(lease).device
    with _refusing():
        program, _, ready = loaded.load(lease.inputs, lease.input, device)
    facts = {}
    if needs_states(program):
        patches = largest_factor(program)
        if (shots := MAX_AMPLITUDES >> patches) < 1:
            raise Refused(
                "unsupported",
                f"{patches} patches are entangled in this program with T gates: the states of this simulated machine hold "
                f"{MAX_AMPLITUDES.bit_length() - 1}",
            )
        facts["batch_limit"] = min(shots, MAX_SHOTS)
    return lease.result(outputs={"ready": ready.to_bytes()}, facts=facts)


@plugin.operation("hardware", "run")
def run(lease: Any) -> Any:
    """One batch of `fragments`, streamed as raw records."""
    if lease.shots > MAX_SHOTS:
        raise Refused("bad_input", f"batch of {lease.shots} shots: this machine runs at most {MAX_SHOTS} side by side")
    terms = _terms(lease)
    device = terms.device
    rates = terms.truth(lease.seed, lease.batch), terms.calibrated(lease.seed, lease.batch)
    with _refusing():
        program, placement, _ = loaded.load(lease.inputs, lease.input, device)
        control = Control(Simulator(device, rates[0], compilers, rates[1], joins=not terms.round_ns))
        control.prepare(program, placement)
        feed(
            control,
            lease.stream,
            Batch(lease.batch, lease.shots, lease.seed),
            can_pause=device.can_pause,
            buffer_blocks=device.buffer_blocks,
            round_ns=terms.round_ns,
            check=lease.check,
        )
    return lease.result()


def _terms(lease: Any) -> Terms:
    try:
        return Terms.of(lease.options)
    except ValueError as error:
        raise Refused("bad_input", str(error)) from error


@contextmanager
def _refusing() -> Iterator[None]:
    """Errors of others under the names that the kernel knows."""
    try:
        yield
    except NotReady as error:
        raise Refused("wrong_input", str(error), {"kind": error.kind}) from error
    except DecisionFault as error:
        raise Refused("wrong_input", str(error), {"stream": "rounds"}) from error
    except Aborted as error:
        raise Refused("retry_later", str(error)) from error


if __name__ == "__main__":
    plugin.main()
