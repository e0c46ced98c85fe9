# SPDX-License-Identifier: Apache-2.0
"""The `recording` artifact: the accepted shots of a job that has run, by the paths that they took.

A msgpack map:

- ``version``; ``batch``: shots of each batch in which it is to be played, but for the last one, which may be smaller.
- ``paths``: a list of {``decisions``: [0 or 1, ...], ``measurements``: records of a shot, ``shots``: uint32 little-endian
  numbers of its shots, increasing, ``records``: their records in stim's b8 format, ``missing``: as ``records``, 1 where a
  record has no value, or empty}.  Each number from 0 on stands in one path.
- ``calibrations``: a list of [first shot, `calibration` artifact]: from that shot on batches are decoded with it; an empty
  artifact stands for that of the job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

from qcosd.qec.fragment import FragmentProgram, open_artifact

VERSION = 1

Bits = npt.NDArray[np.uint8]


class RecordingError(ValueError):
    """A recording is none, or not one of the program at hand.  The message names the place."""


@dataclass(frozen=True)
class RecordedPath:
    """``shots``: their numbers, increasing.  ``records``, ``missing`` (None if nothing is): uint8 (shots, ceil(records/8)),
    little-endian bits."""

    decisions: tuple[int, ...]
    measurements: int
    shots: npt.NDArray[np.int64]
    records: Bits
    missing: Bits | None

    @property
    def place(self) -> str:
        """What it is called in a directory of records."""
        return "paths/" + ("".join(map(str, self.decisions)) or "all")

    def rows(self, data: Bits, chosen: npt.NDArray[np.intp], first: int, count: int) -> Bits:
        """Records ``first`` to ``first + count`` of some of its shots, given by row: 0/1 values, uint8 (count, shots)."""
        part = data[chosen, first // 8 : (first + count + 7) // 8]
        values = np.unpackbits(part, axis=1, bitorder="little")[:, first % 8 : first % 8 + count]
        return np.ascontiguousarray(values.T)


@dataclass(frozen=True)
class Recording:
    """``path_of``, ``row_of``: int64 (shots,), where each shot stands."""

    batch: int
    paths: tuple[RecordedPath, ...]
    calibrations: tuple[tuple[int, bytes], ...]
    path_of: npt.NDArray[np.int64]
    row_of: npt.NDArray[np.int64]

    @property
    def shots(self) -> int:
        return len(self.path_of)

    @classmethod
    def from_bytes(cls, data: bytes) -> Recording:
        """Raises RecordingError."""
        try:
            doc = open_artifact("recording", VERSION, data)
            paths = tuple(_path(entry) for entry in doc["paths"])
            calibrations = tuple((int(first), bytes(rates)) for first, rates in doc["calibrations"])
            batch = int(doc["batch"])
        except RecordingError:
            raise
        except (KeyError, TypeError, ValueError, msgpack.UnpackException) as error:
            raise RecordingError(f"not a recording: {error!r}") from error
        total = sum(len(path.shots) for path in paths)
        path_of, row_of = np.full(total, -1, np.int64), np.zeros(total, np.int64)
        for number, path in enumerate(paths):
            if len(path.shots) and not 0 <= path.shots.min() <= path.shots.max() < total:
                raise RecordingError(f"{path.place}: a shot beyond the {total} that there are")
            path_of[path.shots] = number
            row_of[path.shots] = np.arange(len(path.shots))
        if batch < 1 or (path_of < 0).any():
            raise RecordingError("not a recording: a shot stands in two paths, or batches are empty")
        if any(not 0 <= first < max(1, total) or first % batch for first, _ in calibrations):
            raise RecordingError("not a recording: a calibration begins within a batch")
        return cls(batch, paths, calibrations, path_of, row_of)

    def check(self, program: FragmentProgram) -> None:
        """Raises RecordingError where a path is none of the program, or has another number of records."""
        for path in self.paths:
            fragments = program.path(path.decisions)
            if len(fragments) != len(path.decisions) + 1:
                decided = len(fragments) - 1
                raise RecordingError(
                    f"{path.place}: the program decides {decided} times there, not {len(path.decisions)} times"
                )
            due = sum(
                repeats * len(fragment.slots[i].records()) for fragment in fragments for i, repeats in fragment.timeline
            )
            if due != path.measurements:
                raise RecordingError(f"{path.place}: {path.measurements} records a shot, the program has {due} there")

    def calibration(self, shot: int) -> bytes:
        """The artifact that the batch beginning with this shot was decoded with; empty for that of the job."""
        return next((rates for first, rates in reversed(self.calibrations) if first <= shot), b"")


def _path(entry: dict[str, Any]) -> RecordedPath:
    decisions, measurements = tuple(entry["decisions"]), entry["measurements"]
    shots = np.frombuffer(entry["shots"], "<u4").astype(np.int64)
    if not set(decisions) <= {0, 1} or type(measurements) is not int or measurements < 0:
        raise RecordingError("not a recording: a path of other things than decisions and records")
    path = RecordedPath(decisions, measurements, shots, np.zeros((0, 0), np.uint8), None)
    if (np.diff(shots) <= 0).any():
        raise RecordingError(f"{path.place}: shots are not in increasing order")
    missing = _b8(path, "missing", entry["missing"]) if entry["missing"] else None
    return RecordedPath(decisions, measurements, shots, _b8(path, "records", entry["records"]), missing)


def _b8(path: RecordedPath, name: str, data: bytes) -> Bits:
    width = (path.measurements + 7) // 8
    if len(data) != len(path.shots) * width:
        raise RecordingError(
            f"{path.place}/{name}.b8: {len(data)} bytes, {len(path.shots)} shots of {path.measurements} bits expected"
        )
    return np.frombuffer(data, np.uint8).reshape(len(path.shots), width)
