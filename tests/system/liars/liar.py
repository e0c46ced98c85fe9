# SPDX-License-Identifier: Apache-2.0
"""Plugins of third parties that lie: each does the work of a shipped one, and then changes one thing of it.

`liar.py SERVICE` offers the operations of one service.  The option `--set lie=NAME` says which lie is told; without it, and
for lies of other services, the work is honest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import msgpack
import numpy as np

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import Detector, FragmentProgram, Frame, Instruction, Measure, Part, Slot
from qcosd.qec.placement import Placement
from qcosd.qec.program import LogicalProgram, Op
from qcosd.sdk import Plugin, Refused, Result

SHIPPED = {
    "compile": ("pytket_compile", {"compile": "compile_"}),
    "optimise": ("pytket_optimise", {"optimise": "optimise"}),
    "qecc": ("surface_code", {"prepare": "prepare_"}),
    "map": ("grid_mapper", {"place": "place"}),
    "hardware": (
        "stim_adapter",
        {"describe": "describe", "calibrate": "calibrate", "prepare": "prepare", "run": "run"},
    ),
    "track": ("matching_tracker", {"admit": "admit", "prepare": "prepare", "run": "run"}),
    "verify": ("verifier", {"logical": "logical", "optimised": "optimised", "fragments": "fragments"}),
}

Change = Callable[[Any], Any]


# ---- programs


def _ops(change: Callable[[list[Op]], list[Op]]) -> Change:
    def lie(program: LogicalProgram) -> LogicalProgram:
        return replace(program, ops=tuple(change(list(program.ops))))

    return lie


def _first(ops: list[Op], *kinds: str) -> int:
    return next(place for place, op in enumerate(ops) if op.kind in kinds)


def _drop(*kinds: str) -> Change:
    return _ops(lambda ops: [op for place, op in enumerate(ops) if place != _first(ops, *kinds)])


def _cross(ops: list[Op]) -> list[Op]:
    return [replace(op, bit=1 - op.bit) if op.kind == "measure" else op for op in ops]


def _merge_idles(ops: list[Op]) -> list[Op]:
    one, *others = [place for place, op in enumerate(ops) if op.kind == "idle"]
    ops[one] = replace(ops[one], blocks=sum(op.blocks for op in ops if op.kind == "idle"))
    return [op for place, op in enumerate(ops) if place not in others]


def _sign(ops: list[Op]) -> list[Op]:
    place = _first(ops, "z", "x", "y")
    return [*ops[:place], *ops[place + 1 :]]


# ---- fragments


def _slots(change: Callable[[Slot], Slot]) -> Change:
    def lie(program: FragmentProgram) -> FragmentProgram:
        made = [replace(f, slots=tuple(map(change, f.slots))) for f in program.fragments]
        return replace(program, fragments=tuple(made))

    return lie


def _no_detector(slot: Slot) -> Slot:
    return slot._replace(parts=tuple(part._replace(detectors=part.detectors[1:]) for part in slot.parts))


def _other_basis(slot: Slot) -> Slot:
    names = {"R": "RX", "RX": "R"}

    def turned(part: Part) -> Part:
        made = tuple(Instruction(names.get(n, n) if len(t) == 9 else n, t) for n, t in part.instructions)
        return part._replace(instructions=made)

    return slot._replace(parts=tuple(map(turned, slot.parts)))


def _no_frame(slot: Slot) -> Slot:
    return slot._replace(events=tuple(event for event in slot.events if not isinstance(event, Frame)))


def _half_detector(slot: Slot) -> Slot:
    def halved(part: Part) -> Part:
        return part._replace(detectors=tuple(Detector(x, y, k, r[:-1]) for x, y, k, r in part.detectors))

    return slot._replace(parts=tuple(map(halved, slot.parts)))


def _other_bits(slot: Slot) -> Slot:
    events = [e._replace(bit=1 - e.bit) if isinstance(e, Measure) and e.bit >= 0 else e for e in slot.events]
    return slot._replace(events=tuple(events))


# ---- what a batch came to


def _counts(document: dict[str, Any], **other: Any) -> dict[str, Any]:
    return {**document, **other}


def _undecoded(document: dict[str, Any]) -> dict[str, Any]:
    """The raw outcomes as the decoded ones, in the table and in what is shown."""
    shown = [{**row, "outcomes": row["undecoded"]} for row in document["audit"]] if "audit" in document else []
    return _counts(document, counts=document["counts_undecoded"], **({"audit": shown} if shown else {}))


def _one_more(document: dict[str, Any]) -> dict[str, Any]:
    key = min(document["counts"])
    return _counts(document, counts={**document["counts"], key: document["counts"][key] + 1})


def _table_only(document: dict[str, Any]) -> dict[str, Any]:
    return _counts(document, counts=document["counts_undecoded"])


def _short_keys(document: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, int] = {}
    for key, times in document["counts"].items():
        merged[key[1:]] = merged.get(key[1:], 0) + times
    return _counts(document, counts=merged)


# ---- lies by name: kind of artifact, how it is read, what is changed

LIES: dict[str, dict[str, tuple[str, Callable[[bytes], Any], Change]]] = {
    "compile": {
        "lost_gate": ("logical", LogicalProgram.from_bytes, _drop("s", "sdg")),
        "crossed_bits": ("logical", LogicalProgram.from_bytes, _ops(_cross)),
    },
    "optimise": {
        "lost_sign": ("optimised", LogicalProgram.from_bytes, _ops(_sign)),
        "merged_idle": ("optimised", LogicalProgram.from_bytes, _ops(_merge_idles)),
    },
    "qecc": {
        "missing_detectors": ("fragments", FragmentProgram.from_bytes, _slots(_no_detector)),
        "half_detectors": ("fragments", FragmentProgram.from_bytes, _slots(_half_detector)),
        "other_basis": ("fragments", FragmentProgram.from_bytes, _slots(_other_basis)),
        "no_frames": ("fragments", FragmentProgram.from_bytes, _slots(_no_frame)),
        "other_bits": ("fragments", FragmentProgram.from_bytes, _slots(_other_bits)),
    },
    "map": {
        "off_the_chip": ("placement", Placement.from_bytes, lambda p: replace(p, offset=(-100, -100))),
        "a_site_too_few": ("placement", Placement.from_bytes, lambda p: replace(p, coordinates=p.coordinates[1:])),
        "odd_shift": ("placement", Placement.from_bytes, lambda p: replace(p, offset=(p.offset[0] + 1, p.offset[1]))),
    },
    "hardware": {
        "rosy_calibration": ("calibration", Calibration.from_bytes, lambda c: c.scaled(dict.fromkeys(RATES, 0.01))),
        "no_calibration": ("calibration", Calibration.from_bytes, lambda c: c.scaled(dict.fromkeys(RATES, 0.0))),
    },
    "track": {
        "undecoded": ("counts", msgpack.unpackb, _undecoded),
        "undecoded_table": ("counts", msgpack.unpackb, _table_only),
        "one_more": ("counts", msgpack.unpackb, _one_more),
        "short_keys": ("counts", msgpack.unpackb, _short_keys),
    },
}
RATES = ("idle", "cx", "reset", "measure", "hadamard", "handover")


# ---- the stream


class BentStream:
    """Passes everything on, but for one block of the batch."""

    def __init__(self, stream: Any, lie: str) -> None:
        self._stream = stream
        self._lie = lie
        self._blocks = 0
        self._random = np.random.default_rng(1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def send(self, header: dict[str, Any], *frames: Any, **how: Any) -> None:
        if header.get("type") != "block":
            self._stream.send(header, *frames, **how)
            return
        self._blocks += 1
        if self._lie == "random_bits":
            size = memoryview(frames[0]).nbytes
            frames = (self._random.integers(0, 256, size, np.uint8).tobytes(), *frames[1:])
        if self._blocks == 1:  # small ones travel together: there may be no more
            if self._lie == "skipped_round":
                return
            if self._lie == "repeated_block":
                self._stream.send({**header, "last": False}, *frames, **how)  # after the last one nobody may listen
            if self._lie == "wrong_m":
                header = {**header, "m": [*header["m"][:-1], header["m"][-1] + 1]}
        self._stream.send(header, *frames, **how)


class BentLease:
    """The lease, with another stream."""

    def __init__(self, lease: Any, lie: str) -> None:
        self._lease = lease
        self.stream = BentStream(lease.stream, lie)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lease, name)


# ---- the plugins


def told(service: str, op: str, honest: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def work(lease: Any) -> Any:
        lie = (lease.options.get("set") or {}).get("lie", "")
        if service == "verify":
            return verified(op, lie, honest, lease)
        if service == "hardware" and op == "run":
            return honest(BentLease(lease, lie))
        result = honest(lease)
        if (
            lie == "other_summary" and result.summary is not None
        ):  # an honest artifact, and something else in the report
            sums = {**result.summary["sum"], "counts": {"01": lease.shots}}
            return Result(result.outputs, result.facts, {**result.summary, "sum": sums})
        if lie not in LIES.get(service, {}):
            return result
        kind, read, change = LIES[service][lie]
        if kind not in result.outputs:
            return result
        made = change(read(result.outputs[kind]))
        data = made.to_bytes() if hasattr(made, "to_bytes") else msgpack.packb(made)
        summary = result.summary
        if kind == "counts":  # the summary says the same
            told = {key: value for key, value in made.items() if key in summary["sum"]}
            summary = {**summary, "sum": told}
        return Result({**result.outputs, kind: data}, result.facts, summary)

    return work


def verified(op: str, lie: str, honest: Callable[[Any], Any], lease: Any) -> Any:
    if lie == "false_accusation" and op == "logical":
        raise Refused("wrong_input", "I do not like it", {"kind": "logical"})
    if lie == "accuses_strangers" and op == "logical":
        raise Refused("wrong_input", "somebody is wrong", {"kind": "counts"})
    return honest(lease)


def main(service: str) -> None:
    plugin = Plugin()
    name, operations = SHIPPED[service]
    shipped = import_module(f"qcos_plugins.{name}.main")
    for op, function in operations.items():
        plugin.operation(service, op)(told(service, op, getattr(shipped, function)))
    plugin.main()


if __name__ == "__main__":
    main(sys.argv[1])
