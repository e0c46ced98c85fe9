# SPDX-License-Identifier: Apache-2.0
"""How a `rounds` stream goes wrong."""

from __future__ import annotations

from typing import Any


class _Detailed(Exception):
    """``details``: plain values, for machines."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class StreamFault(_Detailed):
    """What arrived is not what must come next: the producer breaks the rules of the stream, and the batch cannot go on.

    ``details``: path, slot, what was expected and what came, as far as known; plain values.
    """


class WrongCheckpoint(Exception):
    """What a predecessor left is of another batch, another program or other software: nothing can go on from it."""


class Aborted(_Detailed):
    """Hardware gave the batch up, and says so: it must be started again."""


class Behind(_Detailed):
    """Decoding needs more time than the machine's rounds take, and has for a while.

    ``details``: utilisation, decode_us_per_round, round_us, and what would fit (`load.what_fits`).
    """
