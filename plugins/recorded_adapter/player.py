# SPDX-License-Identifier: Apache-2.0
"""Plays a batch of a recording, block by block, as the machine that it was made on.

What is decided now counts.  A shot for which it is not what was decided then has no records from there on: it is heralded
as worthless, and its columns are zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from qcos_plugins.recorded_adapter.recording import Recording, RecordingError

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import Fragment, FragmentProgram
from qcosd.qec.hardware import Awaits, Batch, Said
from qcosd.qec.placement import Placement
from qcosd.qec.stream import Block, Calibrated, Discard, child_path

OTHER_BRANCH = "other branch"
ROUND_NS = 1000
"""Length of a round: a recording has no clock of its own."""


@dataclass
class _Branch:
    """``shots``: places in the batch, increasing; ``known``: bool, of those that were recorded on this way."""

    path: str
    decisions: tuple[int, ...]
    fragment: Fragment
    shots: npt.NDArray[np.int64]
    known: npt.NDArray[np.bool_]
    round: int = 0
    records: int = 0


class Player:
    """A `qcosd.qec.hardware.Machine` without hardware.  Raises RecordingError for a batch that was not recorded."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._program: FragmentProgram | None = None
        self._batch: Batch | None = None
        self._first = 0
        self._t0_ns = 0
        self._items: Iterator[Said | Awaits] = iter(())
        self._answer: npt.NDArray[np.uint8] | None = None

    def prepare(self, program: FragmentProgram, placement: Placement | None = None) -> None:
        if program is not self._program:
            self.recording.check(program)
            self._program = program

    def arm(self, batch: Batch) -> None:
        recording = self.recording
        first = batch.index * recording.batch
        left = recording.shots - first
        if not 0 < batch.shots == min(recording.batch, left):
            raise RecordingError(
                f"batch {batch.index} of {batch.shots} shots: the recording has {recording.shots} in batches of "
                f"{recording.batch}"
            )
        self._batch, self._first = batch, first

    def start(self, t0_ns: int) -> None:
        assert self._program is not None and self._batch is not None, "the order of calls is kept"
        self._t0_ns = t0_ns
        self._items = self._play(self._program, self._batch)

    def next(self) -> Said | Awaits | None:
        return next(self._items, None)

    def decide(self, path: str, k: int, values: bytes) -> None:
        self._answer = np.frombuffer(values, np.uint8)

    def abort(self) -> None:
        self._items = iter(())

    def _play(self, program: FragmentProgram, batch: Batch) -> Iterator[Said | Awaits]:
        rates = self.recording.calibration(self._first)
        if rates:
            yield Said(Calibrated(batch.index, Calibration.from_bytes(rates).id), (rates,))
        shots = np.arange(batch.shots)
        waiting = [_Branch("", (), program.fragments[0], shots, np.ones(batch.shots, np.bool_))]
        while waiting:
            branch = waiting.pop()
            yield from self._blocks(branch, program.distance, batch.index)
            decision = branch.fragment.decision
            if decision is None:
                continue
            yield Awaits(branch.path, decision.k, len(branch.shots))
            assert self._answer is not None, "an answer comes before the next call"
            taken = np.unpackbits(self._answer, count=len(branch.shots), bitorder="little")
            children = []
            for value in (0, 1):
                chosen = np.flatnonzero(taken == value)
                if len(chosen):
                    fragment = program.fragments[decision.then if value else decision.otherwise]
                    child = self._child(branch, child_path(branch.path, decision.k, value), value, fragment, chosen)
                    lost = branch.known[chosen] & ~child.known
                    if lost.any():
                        header = Discard(child.path, len(chosen), child.round, OTHER_BRANCH)
                        yield Said(header, (np.packbits(lost, bitorder="little").tobytes(),))
                    children.append(child)
            waiting += reversed(children)

    def _child(
        self, branch: _Branch, path: str, value: int, fragment: Fragment, chosen: npt.NDArray[np.intp]
    ) -> _Branch:
        decisions = (*branch.decisions, value)
        ways = np.array([p.decisions[: len(decisions)] == decisions for p in self.recording.paths], np.bool_)
        shots = branch.shots[chosen]
        known = ways[self.recording.path_of[self._first + shots]]
        return _Branch(path, decisions, fragment, shots, known, branch.round, branch.records)

    def _blocks(self, branch: _Branch, size: int, batch: int) -> Iterator[Said]:
        fragment = branch.fragment
        sizes = [len(slot.records()) for slot in fragment.slots]
        lengths = [sizes[i] for i, repeats in fragment.timeline for _ in range(repeats)]
        ends_here = fragment.decision is None
        # A path whose last fragment is empty ends with an empty block.
        for slot in range(0, len(lengths), size) or ([0] if ends_here else []):
            m = tuple(lengths[slot : slot + size])
            bits, missing = self._values(branch, sum(m))
            frames = [bits] if missing is None else [bits, 1 - missing]
            header = Block(
                batch=batch,
                path=branch.path,
                shots=len(branch.shots),
                fragment=fragment.index,
                slot=slot,
                round=branch.round,
                rec_start=branch.records,
                m=m,
                t_hw_ns=self._t0_ns + (branch.round + max(1, len(m))) * ROUND_NS,
                last=ends_here and slot + size >= len(lengths),
                payload=("bits",) if missing is None else ("bits", "valid"),
            )
            branch.round += len(m)
            branch.records += sum(m)
            yield Said(header, tuple(np.packbits(frame, axis=1, bitorder="little").tobytes() for frame in frames))

    def _values(self, branch: _Branch, count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
        """The next records of a branch, 0/1 of shape (count, shots), and where they are missing, None if nowhere."""
        recording, shots = self.recording, self._first + branch.shots
        bits = np.zeros((count, len(shots)), np.uint8)
        missing: npt.NDArray[np.uint8] | None = None
        for number in np.unique(recording.path_of[shots[branch.known]]):
            path = recording.paths[number]
            here = np.flatnonzero(branch.known & (recording.path_of[shots] == number))
            rows = recording.row_of[shots[here]]
            bits[:, here] = path.rows(path.records, rows, branch.records, count)
            if path.missing is not None and (without := path.rows(path.missing, rows, branch.records, count)).any():
                missing = np.zeros_like(bits) if missing is None else missing
                missing[:, here] = without
        return bits, missing
