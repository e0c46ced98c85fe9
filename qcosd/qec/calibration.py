# SPDX-License-Identifier: Apache-2.0
"""The `calibration` artifact: error rates of a device, and where in a noiseless slot those errors strike.

Hardware publishes one; the tracker builds its weights from it.  The simulator's device has one of its own (its true
noise), which the tracker never sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from hashlib import sha256

import msgpack

from qcosd.qec.fragment import Instruction, open_artifact
from qcosd.qec.geometry import Coord

VERSION = 1

PRIOR_FLOOR = 1e-4  # below this a matching graph would have no edges worth the name

NoiseLine = tuple[str, float, tuple[Coord, ...]]


@dataclass(frozen=True)
class Calibration:
    """Probabilities of circuit-level noise, each in [0, 0.5).

    ``idle``: depolarising, each data qubit once a round.  ``cx``: two-qubit depolarising after each CX.  ``reset`` and
    ``measure``: a flip after preparing, before reading.  ``hadamard``: depolarising after each H.  ``handover``:
    depolarising on the data qubits of an encoded state that arrives.
    """

    idle: float
    cx: float
    reset: float
    measure: float
    hadamard: float
    handover: float

    def __post_init__(self) -> None:
        for f in fields(self):
            rate = getattr(self, f.name)
            if not 0 <= rate < 0.5:
                raise ValueError(f"calibration: {f.name} = {rate} is outside [0, 0.5)")

    @classmethod
    def uniform(cls, p: float) -> Calibration:
        return cls(p, p, p, p, p, p)

    def floored(self, floor: float = PRIOR_FLOOR) -> Calibration:
        """The same with every rate at least ``floor``, so that every edge of the graph exists."""
        return Calibration(**{k: max(v, floor) for k, v in asdict(self).items()})

    @property
    def id(self) -> str:
        """Content id: 16 hexadecimal digits."""
        return sha256(self.to_bytes()).hexdigest()[:16]

    def to_bytes(self) -> bytes:
        return bytes(msgpack.packb({"version": VERSION, "rates": asdict(self)}))

    @classmethod
    def from_bytes(cls, data: bytes) -> Calibration:
        """Raises ValueError when the bytes are not a `calibration` artifact of this version."""
        doc = open_artifact("calibration", VERSION, data)
        try:
            return cls(**doc["rates"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a calibration artifact: {error!r}") from error


def noise_before(instruction: Instruction, rates: Calibration) -> list[NoiseLine]:
    """Noise that strikes before an instruction: (stim channel, probability, sites).  Channels of rate 0 are left out."""
    name, targets = instruction
    if name == "M":
        return _line("X_ERROR", rates.measure, targets)
    if name == "MX":
        return _line("Z_ERROR", rates.measure, targets)
    return []


def noise_after(instruction: Instruction, rates: Calibration) -> list[NoiseLine]:
    """Noise that strikes after an instruction, as `noise_before`."""
    name, targets = instruction
    if name == "R":
        return _line("X_ERROR", rates.reset, targets)
    if name == "RX":
        return _line("Z_ERROR", rates.reset, targets)
    if name == "CX":
        return _line("DEPOLARIZE2", rates.cx, targets)
    if name == "H":
        return _line("DEPOLARIZE1", rates.hadamard, targets)
    if name == "I":
        return _line("DEPOLARIZE1", rates.idle, targets)
    if name == "HANDOVER_Y":
        return _line("DEPOLARIZE1", rates.handover, [c for c in targets if c[0] % 2 == 0])
    return []


def _line(channel: str, p: float, targets: Sequence[Coord]) -> list[NoiseLine]:
    return [(channel, p, tuple(targets))] if p > 0 and targets else []
