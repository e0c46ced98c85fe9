# SPDX-License-Identifier: Apache-2.0
"""One shot: one stabiliser state, and nothing that it shares with any other shot."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import stim
from numpy.typing import NDArray

RECORD_LIMIT = 1024
"""A simulator hands out its record as a whole, so that a long one is slow to read: past this many the state moves on."""


class Shot:
    """``number``: in the batch.  Equal seeds, numbers and circuits give equal bits, whatever other shots do."""

    def __init__(self, seed: int, number: int, record_limit: int = RECORD_LIMIT) -> None:
        self.number = number
        self._seed = seed
        self._record_limit = record_limit
        self._lives = 0
        self._simulator = self._fresh()
        self._length = 0

    def do(self, circuit: stim.Circuit) -> None:
        self._simulator.do(circuit)

    def read(self, count: int) -> NDArray[np.uint8]:
        """The ``count`` newest measurements, which must be all since the last reading: uint8 (count,)."""
        record = self._simulator.current_measurement_record()
        self._length += count
        if len(record) != self._length:
            raise ValueError(f"{len(record)} measurements in a record of {self._length}")
        if self._length > self._record_limit:
            state = self._simulator.current_inverse_tableau()
            self._simulator = self._fresh()
            self._simulator.set_inverse_tableau(state)
            self._length = 0
        return np.array(record[len(record) - count :], np.uint8)

    def _fresh(self) -> stim.TableauSimulator:
        digest = sha256(f"{self._seed}/{self.number}/{self._lives}".encode()).digest()
        self._lives += 1
        return stim.TableauSimulator(seed=int.from_bytes(digest[:8], "big") >> 1)
