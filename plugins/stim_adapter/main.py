# SPDX-License-Identifier: Apache-2.0
"""Bus glue of the simulated machine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qcos_plugins.stim_adapter.feed import feed
from qcos_plugins.stim_adapter.machine import Machine
from qcos_plugins.stim_adapter.steps import Compiler

from qcosd.qec.calibration import Calibration
from qcosd.qec.device import DEFAULT_NAME, Device
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.placement import Placement
from qcosd.qec.versions import versions
from qcosd.sdk import Plugin, Refused

KEPT_PROGRAMS = 4
MAX_SHOTS = 1024
"""Of a batch."""

plugin = Plugin()
compilers: OrderedDict[tuple[str, str], Compiler] = OrderedDict()


@plugin.operation("hardware", "describe")
def describe(lease: Any) -> Any:
    """What a planner may know of the machine (`device`)."""
    device = _device(lease)
    for option in ("noise", "prior"):  # better said now than when the first batch is to run
        _rates(lease, device, option)
    facts = {"device": device.name, "versions": versions("stim", "numpy")}
    return lease.result(outputs={"device": device.to_bytes()}, facts=facts)


@plugin.operation("hardware", "calibrate")
def calibrate(lease: Any) -> Any:
    """The machine's own opinion of its error rates (`calibration`): the option `prior`, or the truth."""
    prior = lease.options.get("prior")
    rates = _rates(lease, _device(lease), "noise" if prior is None else "prior").floored()
    return lease.result(outputs={"calibration": rates.to_bytes()}, facts={"calibration": rates.id})


@plugin.operation("hardware", "run")
def run(lease: Any) -> Any:
    """One batch of `fragments`, streamed as raw records."""
    if lease.shots > MAX_SHOTS:
        raise Refused("bad_input", f"batch of {lease.shots} shots: this machine runs at most {MAX_SHOTS} side by side")
    device = _device(lease)
    noise = _rates(lease, device, "noise")
    with _refusing("wrong_output"):
        compiler = _compiler(lease, noise)
        compiler.check_placement(Placement.from_bytes(lease.input("placement")), device)
    machine = Machine(
        compiler.program, noise, lease.shots, lease.seed, lease.batch, compiler=compiler, round_ns=device.round_ns
    )
    feed(machine, lease.stream)
    return lease.result()


def _device(lease: Any) -> Device:
    name = lease.options.get("device") or DEFAULT_NAME
    with _refusing("bad_input"):
        if not isinstance(name, str):
            raise ValueError(f"device {name!r}: a name expected")
        return Device.named(name)


def _rates(lease: Any, device: Device, option: str) -> Calibration:
    """Rates of the strength that an option gives, of the device file's if it gives none."""
    p = lease.options.get(option)
    with _refusing("bad_input"):
        if p is not None and (type(p) not in (int, float) or not 0 <= p < 0.5):
            raise ValueError(f"{option} {p!r}: a number in [0, 0.5) expected")
        return device.noise.rates(p)


def _compiler(lease: Any, noise: Calibration) -> Compiler:
    """That of an earlier batch of the same program, where there is one."""
    key = (lease.inputs["fragments"], noise.id)
    if key not in compilers:
        compilers[key] = Compiler(FragmentProgram.from_bytes(lease.input("fragments")), noise)
        if len(compilers) > KEPT_PROGRAMS:
            compilers.popitem(last=False)
    compilers.move_to_end(key)
    return compilers[key]


@contextmanager
def _refusing(code: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        raise Refused(code, str(error)) from error


if __name__ == "__main__":
    plugin.main()
