# SPDX-License-Identifier: Apache-2.0
"""Live tracking of a batch of a foreign experiment: records in, acknowledgements out, logical errors at the end.

It takes the same stream as `tracker.Tracker`, from a machine that knows no program: one path, one fragment, no decisions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from qcos_plugins.matching_tracker.experiment_windows import ModelWindows
from qcos_plugins.matching_tracker.fault import Aborted, StreamFault
from qcos_plugins.matching_tracker.messages import check_block, check_discard
from qcos_plugins.matching_tracker.outcomes import keys, latency_label
from qcos_plugins.matching_tracker.packed import Bits, mask, ones, unpack, width
from qcos_plugins.matching_tracker.payload import records

from qcosd.qec.experiment import Experiment, Parity
from qcosd.qec.stream import Acknowledgement, Block, Calibrated, Discard

NOT_DECODED = "missing records"
BIT_ORDER = "one character per observable of the experiment, in its order; 1: a logical error is left"


class ExperimentTracker:
    """Decodes the shots of one batch while they come.  ``windows``: those of the experiment, shared by its batches.

    ``clock``: seconds, for the latency histogram.  A shot with a missing record is discarded.  ``drop_artifacts`` makes the
    results wrong on purpose: a negative control for tests.
    """

    def __init__(
        self,
        experiment: Experiment,
        windows: ModelWindows,
        shots: int,
        *,
        batch: int | None = None,
        clock: Callable[[], float] | None = None,
        drop_artifacts: bool = False,
    ) -> None:
        if shots < 1:
            raise ValueError(f"{shots} shots")
        self._experiment = experiment
        self._windows = windows
        self._shots = shots
        self._batch = batch
        self._clock = clock
        self._drop_artifacts = drop_artifacts
        self._received = 0  # slots
        self._arrived = 0  # records
        self._committed = 0  # slots
        self._time = 0
        self._live = mask(shots)
        self._needed = _first_needed(experiment)
        self._begin = 0  # number of the first record that is kept
        self._held = np.zeros((0, width(shots)), np.uint8)
        self._syndrome: list[Bits] = []  # one array a slot, from committed on
        self._observables = _Accumulated(experiment.observables, width(shots))
        self._corrections = np.zeros((len(experiment.observables), width(shots)), np.uint8)
        self._discards: Counter[str] = Counter()
        self._latency: Counter[str] = Counter()
        self._totals: Counter[str] = Counter()
        self._events = np.zeros(shots, np.int64)

    @property
    def finished(self) -> bool:
        return self._received == len(self._experiment.slots)

    @property
    def progress(self) -> float:
        """How far the batch is, 0 to 1."""
        return self._received / max(1, len(self._experiment.slots))

    def calibrate(self, header: Calibrated, data: bytes) -> None:
        """Raises StreamFault: an experiment's error model is all that is known of its rates."""
        raise StreamFault("a recorded experiment has no calibration of its own", batch=header.batch)

    def discard(self, header: Discard, chosen: Bits) -> None:
        """As `Tracker.discard`."""
        check_discard(header)
        real = mask(self._shots)
        if (header.path, header.shots) != ("", self._shots) or chosen.shape != real.shape or (chosen & ~real).any():
            raise StreamFault(f"a discard of {header.shots} shots of path {header.path!r}; there are {self._shots}")
        self._discard(chosen, header.reason)

    def receive(self, block: Block, *frames: npt.NDArray[Any]) -> list[Acknowledgement]:
        """As `Tracker.receive`."""
        self._check(block)
        bits, missing = records(block, frames)
        began = self._clock() if self._clock else 0.0
        self._batch = block.batch
        self._time = block.t_hw_ns
        self._totals["rounds_lost"] += len(block.m) * (block.status == "lost")
        self._totals["rounds_late"] += len(block.m) * (block.status == "late")
        if missing is not None:
            missing = missing & self._live
            self._totals["records_missing"] += ones(missing)
            self._discard(np.bitwise_or.reduce(missing, axis=0), NOT_DECODED)
        row = 0
        for m in block.m:
            self._take(bits[row : row + m])
            row += m
            self._commit(began)
        return [Acknowledgement("", self._received, self._committed)]

    def flips(self) -> tuple[Bits, Bits]:
        """Where an observable is wrong, uint8 (observables, shots) of 0 and 1: after decoding, and without it.

        Raises StreamFault before the end.
        """
        if not self.finished:
            raise StreamFault(f"the recording ended after {self._received} of {len(self._experiment.slots)} slots")
        raw = self._observables.values
        return unpack(raw ^ self._corrections, self._shots), unpack(raw, self._shots)

    def summary(self) -> dict[str, Any]:
        """The batch summary that the kernel merges."""
        decoded, undecoded = self.flips()
        live = unpack(self._live, self._shots).astype(bool)
        shots, slots = int(live.sum()), len(self._experiment.slots)
        registers = (("L", len(decoded)),)
        return {
            "same": {
                "registers": [list(register) for register in registers],
                "bit_order": BIT_ORDER,
                "decoder": self._windows.decoder,
                "window": {"commit": self._windows.commit, "buffer": self._windows.buffer},
                "detectors": self._experiment.detectors,
                "erasures": "discarded",
                "experiment": self._experiment.name,
            },
            "sum": {
                "counts": dict(keys(decoded[:, live], registers)),
                "counts_undecoded": dict(keys(undecoded[:, live], registers)),
                "logical_errors": int(decoded[:, live].any(axis=0).sum()),
                "detection_events": int(self._events[live].sum()),
                "detectors_total": self._experiment.detectors * shots,
                "shots_accepted": shots,
                "shots_discarded": self._shots - shots,
                "discards": dict(self._discards),
                **{name: self._totals[name] for name in ("records_missing", "rounds_lost", "rounds_late", "windows")},
                "rounds_total": slots * shots,
                "latency_us": dict(self._latency),
            },
            "min": {"rounds": slots},
            "max": {"rounds": slots},
        }

    def _check(self, block: Block) -> None:
        def demand(what: str, expected: object, came: object) -> None:
            if expected != came:
                message = f"slot {block.round}: {what} {came!r} came, {expected!r} is due"
                raise StreamFault(message, slot=block.round, what=what, expected=expected, came=came)

        check_block(block)
        if self._batch is not None:
            demand("batch", self._batch, block.batch)
        if block.status == "aborted":
            demand("end of path", True, block.last)
            raise Aborted(f"hardware gave the batch up in slot {block.round}", slot=block.round)
        slots = self._experiment.slots
        demand("path", "", block.path)
        demand("fragment", 0, block.fragment)
        demand("slot", self._received, block.slot)
        demand("round", self._received, block.round)
        demand("first record", self._arrived, block.rec_start)
        demand("shots", self._shots, block.shots)
        due = slots[self._received : self._received + len(block.m)]
        demand("records", tuple(slot.records for slot in due), block.m)
        demand("end of path", self._received + len(due) == len(slots), block.last)
        if not block.m:
            raise StreamFault("an empty block", slot=block.round)
        if block.t_hw_ns < max(1, self._time):
            raise StreamFault(f"hardware's clock went from {self._time} to {block.t_hw_ns} ns", slot=block.round)

    def _discard(self, chosen: Bits, reason: str) -> None:
        fresh = ones(chosen & self._live)
        if fresh:
            self._discards[reason] += fresh
            self._live = self._live & ~chosen

    def _take(self, bits: Bits) -> None:
        slot = self._experiment.slots[self._received]
        self._observables.add(bits, self._arrived)
        self._held = np.concatenate((self._held, bits))
        self._arrived += len(bits)
        found = np.zeros((len(slot.detectors), bits.shape[1]), np.uint8)
        for row, detector in enumerate(slot.detectors):
            if detector.constant:
                found[row] = mask(self._shots)
            for record in detector.records:
                found[row] ^= self._held[record - self._begin]
        self._events += np.add.reduce(unpack(found, self._shots), axis=0, dtype=np.int64)
        self._syndrome.append(found)
        self._received += 1
        needed = min(self._needed[self._received], self._arrived)
        self._held = self._held[needed - self._begin :]
        self._begin = needed

    def _commit(self, began: float) -> None:
        while (plan := self._windows.window(self._committed)) is not None and plan.window.needs <= self._received:
            window = plan.window
            slots = window.end - window.start
            syndrome = np.concatenate(self._syndrome[:slots])
            prediction = plan.decode(syndrome, self._shots)
            self._corrections ^= prediction[: plan.observables]
            committed = window.commit - window.start
            self._syndrome = self._syndrome[committed:]
            if not self._drop_artifacts:
                self._explain(plan.artifacts, prediction[plan.observables :], window.commit)
            self._committed = window.commit
            self._totals["windows"] += 1
            if self._clock:
                self._latency[latency_label(self._clock() - began)] += 1

    def _explain(self, artifacts: npt.NDArray[np.intp], flips: Bits, commit: int) -> None:
        """Detectors beyond the commit that it has explained already."""
        starts = self._windows.starts
        for detector, flip in zip(artifacts.tolist(), flips, strict=True):
            slot = int(np.searchsorted(starts, detector, side="right")) - 1
            self._syndrome[slot - commit][detector - starts[slot]] ^= flip


class _Accumulated:
    """Parities of records that are added up while the records arrive: an observable may reach over the whole experiment."""

    def __init__(self, parities: tuple[Parity, ...], size: int) -> None:
        self.values = np.zeros((len(parities), size), np.uint8)
        self._of: dict[int, list[int]] = {}
        for row, parity in enumerate(parities):
            if parity.constant:
                self.values[row] = 255
            for record in parity.records:
                self._of.setdefault(record, []).append(row)

    def add(self, bits: Bits, first: int) -> None:
        """``first``: the number of the first of these records.  Padding bits of `values` mean nothing."""
        for i, row in enumerate(bits):
            for target in self._of.get(first + i, ()):
                self.values[target] ^= row


def _first_needed(experiment: Experiment) -> list[int]:
    """After each number of slots: the first record that a later detector reads."""
    needed = experiment.records
    out = [needed]
    for slot in reversed(experiment.slots):
        needed = min([needed, *(record for detector in slot.detectors for record in detector.records)])
        out.append(needed)
    return out[::-1]
