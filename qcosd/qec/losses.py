# SPDX-License-Identifier: Apache-2.0
"""What a simulated machine loses and knows that it has lost: erased qubits, rounds, shots.

All of it happens to records that are there already, with random numbers of its own: without losses a seed gives the
bits that it always gave, and the same places are lost whatever was measured.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcosd.qec.fragment import FragmentProgram, Slot
from qcosd.qec.hardware import Said
from qcosd.qec.noise import Noise
from qcosd.qec.stream import Block, Discard, child_path

Packed = NDArray[np.uint8]

REASON = "heralded"
"""Of the discards of this file."""


class Losses:
    """The losses of one batch of ``program``: what `Noise.erasure`, `lost` and `discard` say.

    An erased record is a fair coin.  Nothing else has to happen to the simulated state: a measured qubit is reset before
    it is used again (`readiness.check` demands it), and that it was mixed instead of measured cannot be told from
    outside.  A lost round is a block of its own.  The records of a discarded shot are noise from then on.
    """

    def __init__(self, program: FragmentProgram, noise: Noise, shots: int, seed: int, round_ns: int) -> None:
        self._noise = noise
        self._seed = seed
        self._round_ns = round_ns
        self._slots = [list(fragment.sequence()) for fragment in program.fragments]
        self._erasable: dict[int, NDArray[np.bool_]] = {}  # id of a slot -> which of its records
        self._generators: dict[tuple[str, str], np.random.Generator] = {}
        self._discarded = {"": np.zeros(shots, np.bool_)}

    def of(self, block: Block, bits: Packed) -> list[Said]:
        """What the tracker hears of a block.  ``bits``: uint8 (sum(m), ceil(shots/8)), as it came out of the machine."""
        bits = bits.copy()
        said = self._discards(block, bits)
        slots = self._slots[block.fragment][block.slot : block.slot + len(block.m)]
        chance = self._random(block.path, "lost").random(len(slots))
        # A round is lost, not a final read-out: that comes with no round.
        lost = [bool(slot.regions) and float(chance[i]) < self._noise.lost for i, slot in enumerate(slots)]
        erased = self._erase(block, slots, bits)
        begin = 0
        while begin < len(slots) or not slots:
            end = begin + 1
            while end < len(slots) and not lost[begin] and not lost[end]:
                end += 1
            said.append(self._piece(block, bits, erased, begin, end, lost=bool(slots) and lost[begin]))
            if not slots:
                break
            begin = end
        return said

    def decided(self, path: str, k: int, values: bytes) -> None:
        """Decision ``k`` of a path has split its shots."""
        discarded = self._discarded.pop(path)
        taken = np.unpackbits(np.frombuffer(values, np.uint8), count=len(discarded), bitorder="little")
        for value in (0, 1):
            self._discarded[child_path(path, k, value)] = discarded[taken == value]

    def _discards(self, block: Block, bits: Packed) -> list[Said]:
        discarded = self._discarded[block.path]
        generator = self._random(block.path, "discard")
        fresh = (generator.random(block.shots) < self._noise.discard) & ~discarded
        discarded |= fresh
        if discarded.any():
            bits ^= generator.integers(256, size=bits.shape, dtype=np.uint8) & _packed(discarded)
        if not fresh.any():
            return []
        return [Said(Discard(block.path, block.shots, block.round, REASON), (_packed(fresh).tobytes(),))]

    def _erase(self, block: Block, slots: list[Slot], bits: Packed) -> Packed | None:
        """Makes the erased records random; returns which they are."""
        if not self._noise.erasure:
            return None
        generator = self._random(block.path, "erasure")
        erased = generator.random((len(bits), block.shots)) < self._noise.erasure
        if slots:
            erased &= np.concatenate([self._may_be_erased(slot) for slot in slots])[:, None]
        packed = _packed(erased)
        bits ^= generator.integers(256, size=bits.shape, dtype=np.uint8) & packed
        return packed

    def _may_be_erased(self, slot: Slot) -> NDArray[np.bool_]:
        # An encoded state arrives with known syndrome: nothing is measured for it.
        if id(slot) not in self._erasable:
            self._erasable[id(slot)] = np.array([k == 0 for _, _, k in slot.records()], np.bool_)
        return self._erasable[id(slot)]

    def _piece(self, block: Block, bits: Packed, erased: Packed | None, begin: int, end: int, *, lost: bool) -> Said:
        """Slots ``begin`` to ``end`` of a block as a block of their own."""
        first, last = sum(block.m[:begin]), sum(block.m[:end])
        frames: dict[str, bytes] = {}
        if not lost:
            frames["bits"] = bits[first:last].tobytes()
            if erased is not None and erased[first:last].any():
                frames["erasure"] = erased[first:last].tobytes()
        left = max(0, len(block.m) - end)
        changed: dict[str, Any] = {
            "slot": block.slot + begin,
            "round": block.round + begin,
            "rec_start": block.rec_start + first,
            "m": block.m[begin:end],
            "t_hw_ns": block.t_hw_ns - left * self._round_ns,
            "last": block.last and not left,
            "status": "lost" if lost else block.status,
            "payload": tuple(frames),
        }
        return Said(replace(block, **changed), tuple(frames.values()))

    def _random(self, path: str, use: str) -> np.random.Generator:
        key = (path, use)
        if key not in self._generators:
            digest = sha256(f"{self._seed}/{path}/losses/{use}".encode()).digest()
            self._generators[key] = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        return self._generators[key]


def _packed(mask: NDArray[np.bool_]) -> Packed:
    return np.packbits(mask, axis=-1, bitorder="little")
