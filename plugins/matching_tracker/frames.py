# SPDX-License-Identifier: Apache-2.0
"""The logical book-keeping of a path: Pauli frames, parities of logical measurements, classical bits.

A frame says by which sign the logical X and Z of a patch differ from those of the ideal program.  While two patches are
merged by ZZ, the first holds the sign of the joint X and the second has none (zero); with XX the same for Z.

Everything is kept three times: *decoded*, where the decoder's corrections are added; *undecoded*, the same algebra on raw
records alone; and *applied*, the same algebra on no records at all: what constant Paulis, and conditional ones as they were
decided, have done.  A decoded bit is a parity of records, xor the decoder's corrections, xor what was applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from qcos_plugins.matching_tracker.condition import holds
from qcos_plugins.matching_tracker.packed import Bits, select, width

from qcosd.qec.fragment import Choose, Event, Frame, Hadamard, Handover, Init, Measure, Merge, Split

DECODED, UNDECODED, APPLIED = range(3)
PLANES = 3
X, Z = 0, 1


class NotFinal(RuntimeError):
    """The program reads a parity before the window that settles it: a fault of the program's construction."""


def sign(basis: str) -> int:
    """Which sign of a frame a measurement in this basis reads."""
    return X if basis == "X" else Z


class Ledger:
    """Frames, parities and bits of the shots of one path.

    ``frames``: uint8 (2 * patches, 3, bytes), row ``2 * rows[patch] + (X or Z)``; ``parities``: (tags, 3, bytes); ``bits``:
    (classical bits, 3, bytes).  The middle axis is decoded, undecoded, applied.  ``values``: all of them, in this order.
    ``chosen``: number, bit and value, uint8 (bytes,), of decisions that are made and wait to be told; whoever tells them empties it.
    ``constants``: uint8 (2, bytes), ones and zeros.  ``settled``: tag -> the commit end from which on its parity is final.
    """

    def __init__(self, rows: Mapping[int, int], tags: int, bits: int, shots: int) -> None:
        self._rows = rows
        self.settled: dict[int, int] = {}
        self.chosen: list[tuple[int, int, Bits]] = []
        self._ends = (2 * len(rows), 2 * len(rows) + tags)
        self._hold(np.zeros((self._ends[1] + bits, PLANES, width(shots)), np.uint8), shots)

    def _hold(self, values: Bits, shots: int) -> None:
        self.shots = shots
        self.values = values
        self.frames, self.parities, self.bits = np.split(values, self._ends)  # views
        self.constants = np.array([[255], [0]], np.uint8).repeat(width(shots), axis=1)

    def select(self, chosen: np.ndarray) -> Ledger:
        """The ledger of some of the shots."""
        other = copy(self)
        other.settled = dict(self.settled)
        other.chosen = []
        other._hold(select(self.values, self.shots, chosen), len(chosen))
        return other

    def state(self) -> list[Any]:
        """All of it, of plain values and bytes."""
        return [self.settled, self.frames.tobytes(), self.parities.tobytes(), self.bits.tobytes()]

    def restore(self, state: Sequence[Any]) -> None:
        """To what `state` said of a ledger of the same rows, tags, bits and shots.  Raises ValueError if it is another."""
        settled, *arrays = state
        self.settled = dict(settled)
        for own, data in zip((self.frames, self.parities, self.bits), arrays, strict=True):
            own[:] = np.frombuffer(data, np.uint8).reshape(own.shape)

    def apply(self, event: Event, slot: int, commit: int, raw: Bits | None) -> None:
        """Carry the frames through one event.

        ``slot``: its absolute slot; ``commit``: end of the commit that it is part of; ``raw``: parity of the event's
        records, uint8 (bytes,), None for events without records.
        """
        frames = self.frames
        if raw is not None:
            plain, raw = raw, np.zeros((PLANES, len(raw)), np.uint8)
            raw[:APPLIED] = plain
        match event:
            case Init() | Handover():
                row = 2 * self._rows[event.patch]
                frames[row : row + 2] = 0
            case Merge():
                first, second = 2 * self._rows[event.first], 2 * self._rows[event.second]
                measured = sign(event.basis)
                self._settle(event.tag, slot + 2)
                self.parities[event.tag] ^= frames[first + measured] ^ frames[second + measured] ^ raw
                frames[first + 1 - measured] ^= frames[second + 1 - measured]
                frames[second + 1 - measured] = 0
                if event.bit >= 0:
                    if slot + 2 > commit:
                        raise NotFinal(f"slot {slot}: parity {event.tag} is read when slots below {commit} are final")
                    self.bits[event.bit] = self.parities[event.tag]
            case Split():
                frames[2 * self._rows[event.first] + 1 - sign(event.basis)] ^= raw
            case Measure():
                self._settle(event.tag, slot + 1)
                self.parities[event.tag] ^= frames[2 * self._rows[event.patch] + sign(event.basis)] ^ raw
                if event.bit >= 0:
                    self.bits[event.bit] = self.parities[event.tag]
            case Hadamard():
                row = 2 * self._rows[event.patch]
                frames[row + X], frames[row + Z] = frames[row + Z] ^ raw, frames[row + X].copy()
            case Frame():
                self._apply_frame(event, slot, commit)
            case Choose():
                # What the machine did is what was decoded, whoever asks.
                self.bits[event.bit] = holds(event.condition, self.bits)[DECODED]
                self.chosen.append((event.k, event.bit, self.bits[event.bit, DECODED].copy()))

    def _apply_frame(self, event: Frame, slot: int, commit: int) -> None:
        if event.condition is not None:
            value = holds(event.condition, self.bits)
            value[APPLIED] = value[DECODED]
        else:
            value = np.full(self.frames.shape[1:], 255 * event.constant, np.uint8)
            for tag in event.tags:
                if self.settled.get(tag, commit + 1) > commit:
                    raise NotFinal(
                        f"slot {slot}: a frame reads parity {tag}, which is not final when slots below {commit} are"
                    )
                value ^= self.parities[tag]
        row = 2 * self._rows[event.patch]
        # An applied X flips the sign of Z, and the other way round.
        if event.pauli in ("X", "Y"):
            self.frames[row + Z] ^= value
        if event.pauli in ("Z", "Y"):
            self.frames[row + X] ^= value

    def _settle(self, tag: int, commit: int) -> None:
        if tag in self.settled:
            raise ValueError(f"parity {tag} is measured twice on one path")
        self.settled[tag] = commit
