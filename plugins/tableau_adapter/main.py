# SPDX-License-Identifier: Apache-2.0
"""Bus glue of the second machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qcos_plugins.tableau_adapter.machine import TableauMachine, Translators

from qcosd.qec.hardware import Aborted, Batch, Control, DecisionFault, feed
from qcosd.qec.readiness import Loaded, NotReady
from qcosd.qec.terms import Terms
from qcosd.qec.versions import versions
from qcosd.sdk import Plugin, Refused

MAX_SHOTS = 256
"""Of a batch: each holds the stabiliser state of every qubit, half a megabyte for a thousand qubits."""

plugin = Plugin()
loaded = Loaded()
translators = Translators()


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
    with _told_to_the_kernel():
        program, _, ready = loaded.load(lease.inputs, lease.input, device)
    if program.choices:
        raise Refused(
            "unsupported",
            "the program has T gates, and this machine is a stabiliser simulator: run it with --use hardware=stim_adapter",
        )
    return lease.result(outputs={"ready": ready.to_bytes()})


@plugin.operation("hardware", "run")
def run(lease: Any) -> Any:
    """One batch of `fragments`, streamed as raw records."""
    if lease.shots > MAX_SHOTS:
        raise Refused("bad_input", f"batch of {lease.shots} shots: this machine runs at most {MAX_SHOTS} side by side")
    terms = _terms(lease)
    with _told_to_the_kernel():
        program, placement, _ = loaded.load(lease.inputs, lease.input, terms.device)
        control = Control(TableauMachine(terms, translators))
        control.prepare(program, placement)
        feed(
            control,
            lease.stream,
            Batch(lease.batch, lease.shots, lease.seed),
            can_pause=terms.device.can_pause,
            buffer_blocks=terms.device.buffer_blocks,
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
def _told_to_the_kernel() -> Iterator[None]:
    """Errors of others, by the names that the kernel has for them."""
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
