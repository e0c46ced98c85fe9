# SPDX-License-Identifier: Apache-2.0
"""Plays the shots of a foreign experiment as a machine would send them: blocks of packed records, slot after slot."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from qcosd.qec.experiment import Experiment, ExperimentShots
from qcosd.qec.stream import Block

SLOT_NS = 1000  # a recording has no clock: a slot counts as a microsecond
MAX_SLOTS = 64  # of a block


def blocks(
    experiment: Experiment, held: ExperimentShots, batch: int, first: int, shots: int
) -> Iterator[tuple[Block, npt.NDArray[np.uint8]]]:
    """The blocks of the shots from ``first`` on, with their bits, uint8 (sum(m), ceil(shots/8)).

    Raises ValueError where the recording has no such shots, or is one of another experiment.
    """
    if held.records != experiment.records:
        raise ValueError(f"shots of {held.records} records, the experiment has {experiment.records}")
    if shots < 1 or first < 0 or first + shots > held.shots:
        raise ValueError(f"shots {first} to {first + shots - 1} are wanted, the recording has {held.shots}")
    rows = np.frombuffer(held.data, np.uint8, shots * held.row, first * held.row).reshape(shots, held.row)
    values = np.unpackbits(rows, axis=1, count=held.records, bitorder="little").T
    total = len(experiment.slots)
    size = min(MAX_SLOTS, experiment.window or MAX_SLOTS)
    record = 0
    for start in range(0, total, size):
        m = tuple(slot.records for slot in experiment.slots[start : start + size])
        bits = np.packbits(values[record : record + sum(m)], axis=1, bitorder="little")
        end = start + len(m)
        yield (
            Block(
                batch=batch,
                path="",
                shots=shots,
                fragment=0,
                slot=start,
                round=start,
                rec_start=record,
                m=m,
                t_hw_ns=end * SLOT_NS,
                last=end == total,
            ),
            bits,
        )
        record += sum(m)
