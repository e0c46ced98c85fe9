# SPDX-License-Identifier: Apache-2.0
"""Bus glue of the verifier.

The libraries that it needs take a second to import, and a job would wait for that.  So they are imported beside the work,
in the order in which a job will need them; whoever needs one sooner waits for that one alone.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from qcos_plugins.verifier.finding import Wrong

from qcosd.sdk import Plugin, Refused

NEEDED: Final = ("logical", "fragments", "placement", "batch")
"""Modules beside this one, in the order in which a job needs them."""

REMEMBERED: Final = 256
DEFAULT_EPSILON: Final = 1e-3
"""Of the setting epsilon, as compilers have it."""

plugin = Plugin()
passed: OrderedDict[tuple[Any, ...], dict[str, Any]] = OrderedDict()  # examinations that found nothing wrong


@plugin.prepare
def prepare() -> None:
    """Begins to import what will be needed."""
    threading.Thread(target=_import, name="imports", daemon=True).start()


def _import() -> None:
    for name in NEEDED:
        import_module(f"qcos_plugins.verifier.{name}")


@plugin.operation("verify", "logical")
def logical(lease: Any) -> Any:
    """Whether `logical` is what `source` says."""
    from qcos_plugins.verifier.logical import check_logical

    source, program = lease.input("source"), _program(lease, "logical")
    epsilon = float((lease.options.get("set") or {}).get("epsilon", DEFAULT_EPSILON))
    return _verdict(lease, "logical", lambda: check_logical(source, program, lease.seed, epsilon))


@plugin.operation("verify", "optimised")
def optimised(lease: Any) -> Any:
    """Whether `optimised` does what `logical` does."""
    from qcos_plugins.verifier.logical import check_optimised

    before, after = _program(lease, "logical"), _program(lease, "optimised")
    return _verdict(lease, "optimised", lambda: check_optimised(before, after, lease.seed))


@plugin.operation("verify", "fragments")
def fragments(lease: Any) -> Any:
    """Whether `fragments` do what `optimised` says, at the distance asked for."""
    from qcos_plugins.verifier.fragments import check_fragments

    program, made = _program(lease, "optimised"), _fragments(lease)
    distance = lease.options.get("distance")
    return _verdict(lease, "fragments", lambda: check_fragments(program, made, distance, lease.seed))


@plugin.operation("verify", "placement")
def placement(lease: Any) -> Any:
    """Whether `placement` puts `fragments` on sites and couplers of the `device`."""
    from qcos_plugins.verifier.placement import check_placement

    from qcosd.qec.placement import Placement

    made, device = _fragments(lease), _device(lease)
    place = lease.read("placement", Placement.from_bytes)
    return _verdict(lease, "placement", lambda: check_placement(made, device, place))


@plugin.operation("verify", "calibration")
def calibration(lease: Any) -> Any:
    """Whether `calibration` speaks of the `device`."""
    from qcos_plugins.verifier.placement import check_calibration

    from qcosd.qec.calibration import Calibration

    device, rates = _device(lease), lease.read("calibration", Calibration.from_bytes)
    return _verdict(lease, "calibration", lambda: check_calibration(device, rates))


@plugin.operation("verify", "counts")
def counts(lease: Any) -> Any:
    """Whether `counts` add up, and the shots shown with them come out the same when they are decoded again."""
    from qcos_plugins.verifier.audit import WrongStream
    from qcos_plugins.verifier.batch import check_batch

    try:
        return _verdict(lease, "counts", lambda: check_batch(lease))
    except WrongStream as wrong:
        raise Refused("wrong_input", str(wrong), {"kind": "counts", "stream": "rounds"}) from wrong


def _verdict(lease: Any, kind: str, examine: Callable[[], dict[str, Any]]) -> Any:
    """What an examination comes to.  Equal artifacts are examined once."""
    key = (lease.op, *sorted(lease.inputs.items()), lease.options.get("distance"))
    try:
        if kind == "counts" or key not in passed:
            passed[key] = examine()
    except Wrong as wrong:
        raise Refused("wrong_input", str(wrong), {"kind": kind}) from wrong
    passed.move_to_end(key)
    while len(passed) > REMEMBERED:
        passed.popitem(last=False)
    return lease.result(facts=passed[key])


def _program(lease: Any, kind: str) -> Any:
    from qcosd.qec.program import LogicalProgram

    return lease.read(kind, LogicalProgram.from_bytes)


def _fragments(lease: Any) -> Any:
    from qcosd.qec.fragment import FragmentProgram

    return lease.read("fragments", FragmentProgram.from_bytes)


def _device(lease: Any) -> Any:
    from qcosd.qec.device import Device

    return lease.read("device", Device.from_bytes)


if __name__ == "__main__":
    plugin.main()
