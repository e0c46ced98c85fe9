# SPDX-License-Identifier: Apache-2.0
"""What simulated machines have in common: the calls of `hardware.Machine` around a generator of blocks, and losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcosd.qec.calibration import Calibration
from qcosd.qec.device import Device
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.hardware import Awaits, Batch, Said
from qcosd.qec.losses import Losses
from qcosd.qec.noise import LOSSES
from qcosd.qec.placement import Placement
from qcosd.qec.stream import Block, Calibrated

Packed = NDArray[np.uint8]
Raw = Generator[tuple[Any, ...], Packed | None, None]
"""Yields ("block", Block, bits) and ("decide", path, k, shots); is sent the packed decision after the latter.

``bits``: uint8 (sum(m), ceil(shots/8)), little-endian along the shots, padding zero."""

JOINED = 8
"""Blocks that leave as one, at most: a few messages of a batch should be on their way while others are made."""

JOINED_BYTES = 8192
"""Of one that is joined, at most: beyond it a message costs little beside its records."""


class Simulated(ABC):
    """A `hardware.Machine` whose batches are generators.  ``device``: its losses happen to what the generator yields.

    ``calibration``: what the machine says of its rates at the beginning of each batch, if it says anything.
    ``joins``: blocks that follow one another leave as one while they are small.  For machines in virtual time: a message
    costs as much as its records where these are few, and nobody waits for its first round.
    """

    def __init__(self, device: Device, calibration: Calibration | None = None, *, joins: bool = False) -> None:
        self.device = device
        self.calibration = calibration
        self.joins = joins
        self.program: FragmentProgram
        self._batch: Batch
        self._running: Generator[Said | Awaits, bytes | None, None] | None = None
        self._answer: bytes | None = None

    @abstractmethod
    def prepare(self, program: FragmentProgram, placement: Placement) -> None:
        """Load a program; sets ``self.program``."""

    @abstractmethod
    def run(self, batch: Batch, t0_ns: int) -> Raw:
        """The blocks of a batch of the program.  `Block.t_hw_ns` counts from ``t0_ns``."""

    def arm(self, batch: Batch) -> None:
        self._batch = batch

    def start(self, t0_ns: int) -> None:
        self._running = self._said(self._batch, t0_ns)
        self._answer = None

    def next(self) -> Said | Awaits | None:
        if self._running is None:
            raise RuntimeError("the machine is not running")
        answer, self._answer = self._answer, None
        try:
            return self._running.send(answer)
        except StopIteration:
            self._running = None
            return None

    def decide(self, path: str, k: int, values: bytes) -> None:
        self._answer = values

    def abort(self) -> None:
        if self._running is not None:
            running, self._running = self._running, None
            running.close()

    def _said(self, batch: Batch, t0_ns: int) -> Generator[Said | Awaits, bytes | None, None]:
        if self.calibration is not None:
            yield Said(Calibrated(batch.index, self.calibration.id), (self.calibration.to_bytes(),))
        losses = None
        if any(getattr(self.device.noise, key) for key in LOSSES):
            losses = Losses(self.program, self.device.noise, batch.shots, batch.seed, self.device.round_ns)
        raw = self.run(batch, t0_ns)
        if self.joins and losses is None:
            raw = joined(raw)
        answer: Packed | None = None
        while True:
            try:
                item = raw.send(answer)
            except StopIteration:
                return
            answer = None
            if item[0] == "block":
                _, block, bits = item
                if losses is None:
                    yield Said(block, (bits.tobytes(),))
                else:
                    yield from losses.of(block, bits)
                continue
            _, path, k, shots = item
            values = yield Awaits(path, k, shots)
            if values is None:
                raise RuntimeError(f"path {path!r}: decision {k} is missing")
            if losses is not None and k not in self.program.choices:
                losses.decided(path, k, values)
            answer = np.frombuffer(values, np.uint8)


def joined(raw: Raw) -> Raw:
    """The same records in fewer blocks: up to JOINED as one, of no more than JOINED_BYTES, and none across a decision."""
    together: list[tuple[Block, Packed]] = []
    size = 0
    answer: Packed | None = None
    while True:
        try:
            item = raw.send(answer)
        except StopIteration:
            break
        answer = None
        if item[0] != "block":
            if together:
                yield _one(together)
                together = []
            answer = yield item
            continue
        _, block, bits = item
        fits = len(together) < JOINED and size + bits.nbytes <= JOINED_BYTES
        if together and not (fits and _follows(together[-1][0], block)):
            yield _one(together)
            together = []
        size = bits.nbytes + (size if together else 0)
        together.append((block, bits))
    if together:
        yield _one(together)


def _follows(block: Block, after: Block) -> bool:
    """Whether both can be one block."""
    here = (block.path, block.fragment, block.slot + len(block.m))
    return not block.last and here == (after.path, after.fragment, after.slot)


def _one(together: list[tuple[Block, Packed]]) -> tuple[str, Block, Packed]:
    if len(together) == 1:
        return ("block", *together[0])
    first, last = together[0][0], together[-1][0]
    m = tuple(chain.from_iterable(block.m for block, _ in together))
    header = replace(first, m=m, t_hw_ns=last.t_hw_ns, last=last.last)
    return ("block", header, np.concatenate([bits for _, bits in together]))
