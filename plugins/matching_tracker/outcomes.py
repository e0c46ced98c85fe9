# SPDX-License-Identifier: Apache-2.0
"""What a batch came to."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
from qcos_plugins.matching_tracker.packed import Bits, members, numbers, pack, read_rows, unpack, width
from qcos_plugins.matching_tracker.plan import Plans

COUNTED = (
    "detection_events",
    "detectors_total",
    "windows",
    "templates_missed",
    "records_missing",
    "rounds_lost",
    "rounds_late",
    "calibration",
    "stall_rounds",
    "busy_ns",
    "busy_rounds",
    "hardware_ns",
)

EDGES = [factor * 10**exponent for exponent in range(12) for factor in (1, 2, 5)]  # the last ones are days
LATENCIES = [*map(str, EDGES), "inf"]
_COUNTED = attrgetter(*COUNTED)

VOLATILE = (
    "latency_us",
    "templates_missed",
    "lateness_us",
    "reaction_us",
    "stall_rounds",
    "decode_us_per_round",
    "shadow",
)
"""Of a summary's sums: what the same batch need not come to again."""

BIT_ORDER = "one character per classical bit, c[0] first, registers in order of declaration, separated by a space"


def keys(bits: Bits, registers: tuple[tuple[str, int], ...]) -> Counter[str]:
    """How often each value of the classical bits, uint8 (bits, shots), occurs."""
    columns = np.ascontiguousarray(bits.T + ord("0"))
    text = columns.tobytes().decode("ascii")
    size = len(bits)
    counts: Counter[str] = Counter()
    for whole, times in Counter(text[i * size : (i + 1) * size] for i in range(bits.shape[1])).items():
        parts, begin = [], 0
        for _, length in registers:
            parts.append(whole[begin : begin + length])
            begin += length
        counts[" ".join(parts)] += times
    return counts


def latency_label(seconds: float) -> str:
    """Upper edge, in microseconds, of the bucket that a time falls into: 1, 2, 5, 10, 20, 50, ..."""
    return LATENCIES[bisect_left(EDGES, seconds * 1e6)]


def reaction_label(nanoseconds: int) -> str:
    """The time in whole microseconds, rounded up to two digits: what is compared with a bare machine needs finer buckets."""
    us = -(-nanoseconds // 1000)
    unit = 10 ** max(0, len(str(us)) - 2)
    return str(-(-us // unit) * unit)


@dataclass
class Outcomes:
    """Results of all shots of a batch, in the batch's order.

    ``bits``, ``undecoded``: uint8 (classical bits, shots), 0 or 1, with the decoder's corrections and without.
    ``rounds``: int64 (shots,), QEC rounds that each shot went through.  ``detectors``: of the path on which every decision is
    0; ``detectors_total``: over all shots and the paths they took.  ``paths``: shots of each path that ended.
    ``latency_us``: windows by time from the arrival of their last slot to the end of their commit, see `latency_label`.
    ``shadow``: how the batch compares with what a shadow came to, None where none was asked for.
    ``reaction_us``: decisions by what hardware says of them, see `reaction_label`.
    ``lateness_us``: in the same way, blocks by how late they left hardware's clock, if it has one; ``stall_rounds``: for how
    many rounds it stood still.  ``busy_ns``: what was spent on ``busy_rounds`` rounds of the batch; those for which
    something had to be built first are left out, as it is kept.

    ``applied``: as ``bits``, what constant and conditional Paulis added to them.  ``discarded``: bool (shots,), shots that
    count in no total, and ``discards`` how many for which reason.  ``records_missing``: records without a value, summed over
    shots.  ``rounds_lost``, ``rounds_late``: rounds of the batch that came without records, or late.  ``calibration``: id of
    the one that the batch was decoded with, by default that of the plans.  ``erasures``: whether shots with missing records
    were "decoded" or "discarded".  ``unread``: bool (shots,), shots that have no undecoded value, because a record that it
    needs is missing: they count in ``counts`` and not in ``counts_undecoded``.

    If they were kept: ``records``, raw records of each path, uint8 (records of its own fragment, bytes); ``missing``, of the
    same shape, 1 where a record has no value, for paths that lack any; ``members``, the shots of each path, increasing.
    """

    plans: Plans
    bits: Bits
    undecoded: Bits
    rounds: np.ndarray
    paths: dict[str, int] = field(default_factory=dict)
    detection_events: int = 0
    detectors_total: int = 0
    windows: int = 0
    templates_missed: int = 0
    latency_us: Counter[str] = field(default_factory=Counter)
    lateness_us: Counter[str] = field(default_factory=Counter)
    reaction_us: Counter[str] = field(default_factory=Counter)
    stall_rounds: int = 0
    busy_ns: int = 0
    busy_rounds: int = 0
    hardware_ns: int = 0
    records: dict[str, Bits] = field(default_factory=dict)
    missing: dict[str, Bits] = field(default_factory=dict)
    members: dict[str, np.ndarray] = field(default_factory=dict)
    applied: Bits = field(init=False)
    discarded: np.ndarray = field(init=False)
    discards: Counter[str] = field(default_factory=Counter)
    records_missing: int = 0
    rounds_lost: int = 0
    rounds_late: int = 0
    calibration: str = ""
    shadow: dict[str, int] | None = None
    erasures: str = "decoded"
    unread: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.applied = np.zeros_like(self.bits)
        self.discarded = np.zeros(len(self.rounds), np.bool_)
        self.unread = np.zeros(len(self.rounds), np.bool_)

    def state(self) -> list[Any]:
        """What there is of it so far, of plain values and bytes, without records."""
        shots = len(self.rounds)
        none = bytes(width(shots))
        arrays: list[bytes] = []
        if self.paths:  # else there is nothing in them
            arrays = [pack(bits).tobytes() for bits in (self.bits, self.undecoded, self.applied)]
            arrays.append(self.rounds.astype(np.uint32).tobytes())
        return [
            arrays,
            pack(self.discarded).tobytes() if self.discards else none,
            pack(self.unread).tobytes() if self.paths else none,
            self.paths,
            {name: members(own, shots) for name, own in self.members.items()},
            [dict(counter) for counter in (self.latency_us, self.lateness_us, self.reaction_us, self.discards)],
            _COUNTED(self),
        ]

    def restore(self, state: Sequence[Any]) -> None:
        """To what `state` said of the outcomes of another tracker of the same batch."""
        arrays, discarded, unread, paths, own, counters, counted = state
        shots = len(self.rounds)
        if arrays:
            *bits, rounds = arrays
            for array, data in zip((self.bits, self.undecoded, self.applied), bits, strict=True):
                array[:] = unpack(read_rows(data, shots), shots)
            self.rounds[:] = np.frombuffer(rounds, np.uint32)
        self.discarded[numbers(discarded, shots)] = True
        self.unread[numbers(unread, shots)] = True
        self.paths = dict(paths)
        self.members = {name: numbers(data, shots) for name, data in own.items()}
        self.latency_us, self.lateness_us, self.reaction_us, self.discards = map(Counter, counters)
        for name, value in zip(COUNTED, counted, strict=True):
            setattr(self, name, value)

    @property
    def counts(self) -> dict[str, int]:
        return dict(keys(self.bits[:, ~self.discarded], self.plans.program.registers))

    @property
    def counts_undecoded(self) -> dict[str, int]:
        return dict(keys(self.undecoded[:, ~(self.discarded | self.unread)], self.plans.program.registers))

    @property
    def detectors(self) -> int:
        return sum(
            repeats * sum(len(part.detectors) for part in fragment.slots[i].parts)
            for fragment in self.plans.program.path()
            for i, repeats in fragment.timeline
        )

    def summary(self) -> dict[str, Any]:
        """The batch summary that the kernel merges: what is equal in all batches, what adds up, extremes."""
        plans, accepted = self.plans, self.rounds[~self.discarded]
        shots = len(accepted)
        return {
            "same": {
                "registers": [list(register) for register in plans.program.registers],
                "bit_order": BIT_ORDER,
                "decoder": plans.decoder,
                "window": {"commit": plans.commit, "buffer": plans.buffer, "scheme": plans.scheme},
                "detectors": self.detectors,
                "calibration": plans.calibration.id,
                "erasures": self.erasures,
            },
            "sum": {
                "counts": self.counts,
                "counts_undecoded": self.counts_undecoded,
                "detection_events": self.detection_events,
                "detectors_total": self.detectors_total,
                "shots_accepted": shots,
                "shots_discarded": len(self.rounds) - shots,
                "discards": dict(self.discards),
                "records_missing": self.records_missing,
                "rounds_lost": self.rounds_lost,
                "rounds_late": self.rounds_late,
                "calibrations": {self.calibration or plans.calibration.id: len(self.rounds)},
                "rounds_total": int(accepted.sum()),
                "latency_us": dict(self.latency_us),
                "lateness_us": dict(self.lateness_us),
                "reaction_us": dict(self.reaction_us),
                "stall_rounds": self.stall_rounds,
                "decode_us_per_round": {
                    "busy_us": self.busy_ns // 1000,
                    "rounds": self.busy_rounds,
                    "hardware_us": self.hardware_ns // 1000,
                },
                "windows": self.windows,
                "templates_missed": self.templates_missed,
                **({} if self.shadow is None else {"shadow": self.shadow}),
            },
            "min": {"rounds": int(accepted.min())} if shots else {},
            "max": {"rounds": int(accepted.max())} if shots else {},
        }
