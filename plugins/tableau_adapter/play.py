# SPDX-License-Identifier: Apache-2.0
"""A batch of shots, each a machine of its own, block by block.

Shots of a path run in lock-step because they are told so together, not because they share anything: a decision only
selects which shots go on with which fragment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from qcos_plugins.tableau_adapter.rounds import Layout, Rounds, Strike, Translator
from qcos_plugins.tableau_adapter.shot import RECORD_LIMIT, Shot

from qcosd.qec.fragment import Decision, Fragment
from qcosd.qec.hardware import Awaits, Batch, Said
from qcosd.qec.stream import Block, Discard, child_path

Packed = NDArray[np.uint8]

REASON = "heralded"
"""Of a discard."""


@dataclass
class Path:
    """Shots that have come the same way, stopped between two fragments.  ``slots``, ``records``: behind them."""

    name: str
    fragment: Fragment
    shots: list[Shot]
    layout: Layout
    slots: int = 0
    records: int = 0


class Play:
    """``lost``: probability that the records of a round do not arrive.  ``discard``: that a shot is called worthless, each
    block.  ``t0_ns``, ``round_ns``: hardware's clock at the first round, and length of a round.  ``faults``: for shot 0, 1,
    ... those that are injected into it.  Equal arguments and decisions give equal bits.
    """

    def __init__(
        self,
        translator: Translator,
        batch: Batch,
        *,
        lost: float = 0.0,
        discard: float = 0.0,
        t0_ns: int = 0,
        round_ns: int = 1000,
        faults: Sequence[Iterable[Strike]] = (),
        record_limit: int = RECORD_LIMIT,
    ) -> None:
        if len(faults) > batch.shots:
            raise ValueError(f"{len(faults)} sets of faults for {batch.shots} shots")
        self._batch = batch
        self._translator = translator
        self._program = translator.program
        self._lost = lost
        self._discard = discard
        self._t0_ns = t0_ns
        self._round_ns = round_ns
        self._shots = [Shot(batch.seed, number, record_limit) for number in range(batch.shots)]
        self._worthless: set[int] = set()  # numbers of shots
        self._faults: dict[tuple[int, int], list[Strike]] = defaultdict(list)  # (shot, slot of the path)
        for shot, strikes in enumerate(faults):
            for strike in strikes:
                self._faults[shot, strike.slot].append(strike)

    def run(self) -> Generator[Said | Awaits, bytes | None, None]:
        """All that is said, path after path.  `Awaits` must be answered by the packed decisions of the path's shots."""
        waiting = [Path("", self._program.fragments[0], self._shots, dict(self._translator.layout))]
        while waiting:
            path = waiting.pop()
            decision = path.fragment.decision
            # A path ends with a block, be it an empty one.
            length = path.fragment.length if decision else max(1, path.fragment.length)
            chance = self._chances(path)
            for start in range(0, length, self._program.distance):
                last = decision is None and start + self._program.distance >= length
                yield from self._worthless_from(path, chance)
                yield from self._block(path, start, last, chance)
            if decision is not None:
                reported = yield Awaits(path.name, decision.k, len(path.shots))
                waiting += self._children(path, decision, reported)

    # ---- rounds

    def _block(self, path: Path, start: int, last: bool, chance: np.random.Generator) -> Iterator[Said]:
        """Up to d slots: one block, or several where some of their rounds are lost."""
        length = min(self._program.distance, path.fragment.length - start)
        first = path.slots
        plan, raw = self._measured(path, start, length)
        begins = np.cumsum([0, *(rounds.measurements for rounds in plan)])
        stretches: list[tuple[bool, list[int]]] = [(False, [])]  # an empty block is a block
        if length:
            lost = [self._is_lost(path, start + i, chance) for i in range(length)]
            stretches = [(gone, list(slots)) for gone, slots in groupby(range(length), lost.__getitem__)]
        for gone, slots in stretches:
            frames = {} if gone else self._frames(raw, [(plan[i], int(begins[i])) for i in slots])
            m = tuple(len(plan[i].records) for i in slots)
            path.slots += len(slots)
            header = Block(
                batch=self._batch.index,
                path=path.name,
                shots=len(path.shots),
                fragment=path.fragment.index,
                slot=start + (slots[0] if slots else 0),
                round=path.slots - len(slots),
                rec_start=path.records,
                m=m,
                status="lost" if gone else "ok",
                t_hw_ns=max(1, self._t0_ns + path.slots * self._round_ns),
                last=last and path.slots == first + length,
                payload=tuple(frames),
            )
            path.records += sum(m)
            yield Said(header, tuple(frame.tobytes() for frame in frames.values()))

    def _is_lost(self, path: Path, number: int, chance: np.random.Generator) -> bool:
        # A round is lost; a final read-out comes without one.
        has_round = bool(self._translator.slot(path.fragment.index, number).regions)
        return self._lost > 0 and has_round and bool(chance.random() < self._lost)

    def _measured(self, path: Path, start: int, length: int) -> tuple[list[Rounds], Packed]:
        """What to measure in each slot, and the measurements of each shot, uint8 (shots, measurements + 1): the last
        column is zero, for records that have no herald."""
        slots = [self._translator.slot(path.fragment.index, start + i) for i in range(length)]
        plan: list[Rounds] = []
        layouts: list[Layout] = []  # before each slot
        for slot in slots:
            layouts.append(dict(path.layout))
            plan.append(self._translator.rounds(slot, path.layout))
            path.layout.update(plan[-1].moves)
        total = sum(rounds.measurements for rounds in plan)
        raw = np.zeros((len(path.shots), total + 1), np.uint8)
        for row, shot in enumerate(path.shots):
            for i, rounds in enumerate(plan):
                strikes = self._faults.get((shot.number, path.slots + i))
                circuit = self._translator.struck(slots[i], layouts[i], strikes).circuit if strikes else rounds.circuit
                shot.do(circuit)
            raw[row, :total] = shot.read(total)
        return plan, raw

    def _frames(self, raw: Packed, plan: list[tuple[Rounds, int]]) -> dict[str, Packed]:
        """Payload frames of some slots; with each, the number of its first measurement."""
        nothing = np.zeros(0, np.intp)
        bits = np.concatenate([nothing, *(rounds.records + begin for rounds, begin in plan)])
        frames = {"bits": _packed(raw[:, bits])}
        if self._translator.noise.erasure > 0:
            heralds = [np.where(rounds.heralds < 0, -1, rounds.heralds + begin) for rounds, begin in plan]
            frames["erasure"] = _packed(raw[:, np.concatenate([nothing, *heralds])])
        return frames

    # ---- shots

    def _worthless_from(self, path: Path, chance: np.random.Generator) -> Iterator[Said]:
        """Says which shots are discarded from now on, if any."""
        if self._discard <= 0:
            return
        drawn = chance.random(len(path.shots)) < self._discard
        drawn &= [shot.number not in self._worthless for shot in path.shots]
        if drawn.any():
            self._worthless.update(shot.number for shot, gone in zip(path.shots, drawn, strict=True) if gone)
            mask = np.packbits(drawn, bitorder="little").tobytes()
            yield Said(Discard(path.name, len(path.shots), path.slots, REASON), (mask,))

    def _children(self, path: Path, decision: Decision, reported: bytes | None) -> list[Path]:
        """The paths that a decision leads to, value 1 first: the last one is run first."""
        size = -(-len(path.shots) // 8)
        if reported is None or len(reported) != size:
            raise ValueError(f"path {path.name!r}: decision {decision.k} needs {size} bytes")
        values = np.unpackbits(np.frombuffer(reported, np.uint8), count=len(path.shots), bitorder="little")
        found = []
        for value, following in ((1, decision.then), (0, decision.otherwise)):
            if shots := [shot for shot, own in zip(path.shots, values, strict=True) if own == value]:
                name = child_path(path.name, decision.k, value)
                fragment = self._program.fragments[following]
                found.append(Path(name, fragment, shots, dict(path.layout), path.slots, path.records))
        return found

    def _chances(self, path: Path) -> np.random.Generator:
        """What is lost on a path depends on seed and path alone."""
        digest = sha256(f"{self._batch.seed}/{path.name}/chances".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def _packed(bits: NDArray[np.uint8]) -> Packed:
    """uint8 (shots, m) -> uint8 (m, ceil(shots/8)), packed along the shots."""
    packed: Packed = np.packbits(bits.T, axis=-1, bitorder="little")
    return packed
