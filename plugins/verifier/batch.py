# SPDX-License-Identifier: Apache-2.0
"""Whether the counts of a batch are right, as far as the shots that were shown with them tell."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from qcos_plugins.verifier.audit import Decoding, Shots, check_audit, check_improved, check_rate
from qcos_plugins.verifier.counts import check_summary, check_totals, read_counts
from qcos_plugins.verifier.finding import TooLarge, Wrong

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.placement import Placement

KEPT: Final = 16
PATHS: Final = 4
"""Paths that are decoded again: those with the most shots."""

_kept: OrderedDict[tuple[Any, ...], Decoding] = OrderedDict()


def check_batch(lease: Any) -> dict[str, Any]:
    """Returns facts.  Raises finding.Wrong, audit.WrongStream."""
    document = read_counts(lease.input("counts"))
    program = FragmentProgram.from_bytes(lease.input("fragments"))
    check_totals(document, program.registers, lease.shots)
    if "counts" in lease.summaries:  # a kernel that tells nothing of it merges nothing from it
        check_summary(document, lease.summaries["counts"])
    if "audit" not in document:
        return {"skipped": ["how shots were decoded: none were shown"]}
    if not isinstance(document["audit"], list):
        raise Wrong("its audit is no list")
    shots = [Shots.of(row, program.bits) for row in document["audit"]]
    if any(not -1 < value < 2 for some in shots for value in some.decisions):
        raise Wrong("its audit has decisions that are neither 0 nor 1")
    data = document.get("calibration") or lease.input("calibration")
    rates = Calibration.from_bytes(data)
    offset = Placement.from_bytes(lease.input("placement")).offset
    decodings: dict[tuple[int, ...], Decoding] = {}
    skipped = []
    for some in sorted(shots, key=lambda some: -len(some.outcomes))[:PATHS]:
        if len(program.path(some.decisions)) != len(some.decisions) + 1:
            raise Wrong(f"its audit has a path with decisions {list(some.decisions)}, which does not exist")
        key = (lease.inputs["fragments"], rates.id, offset, some.decisions)
        try:
            if key not in _kept:
                _kept[key] = Decoding(program, some.decisions, rates, offset)
            decodings[some.decisions] = _kept[key]
            _kept.move_to_end(key)
        except TooLarge as error:
            skipped.append(f"how shots were decoded: {error}")
    while len(_kept) > KEPT:
        _kept.popitem(last=False)
    if not decodings:
        return {"audited": 0, "skipped": skipped}
    options = lease.options
    prior = options.get("prior") is not None and options.get("prior") != options.get("noise")
    predicted = max(decoding.rate for decoding in decodings.values())
    ratio = check_rate(document, predicted, prior)
    buffer = (options.get("set") or {}).get("buffer")
    good = buffer is None or int(buffer) >= program.distance
    facts = check_audit(
        shots, decodings, document, program.registers, ratio, compare=good, seed=lease.seed & 0xFFFFFFFF
    )
    if len(shots) == 1 and not shots[0].decisions and () in decodings:
        check_improved(shots[0], decodings[()], document, program.registers)
    if skipped:
        facts["skipped"] = [*facts.get("skipped", []), *skipped]
    return facts
