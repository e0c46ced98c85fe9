# SPDX-License-Identifier: Apache-2.0
"""A batch of shots, each a machine of its own, block by block.

Shots of a path run in lock-step because they are told so together, not because they share anything: a decision only
selects which shots go on with which fragment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qcos_plugins.tableau_adapter.rounds import Layout, Rounds, Strike, Translator
from qcos_plugins.tableau_adapter.shot import RECORD_LIMIT, Shot

from qcosd.qec.fragment import Decision, Fragment
from qcosd.qec.stream import Block, child_path

Packed = NDArray[np.uint8]


@dataclass
class Path:
    """Shots that have come the same way, stopped between two fragments."""

    name: str
    fragment: Fragment
    shots: list[Shot]
    layout: Layout
    round: int = 0
    records: int = 0


class Machine:
    """A batch of ``shots`` shots; equal arguments and decisions give equal bits.

    ``faults``: for shot 0, 1, ... the faults that are injected into it.  ``round_ns``: length of a round, for the time
    stamps.
    """

    def __init__(
        self,
        translator: Translator,
        shots: int,
        seed: int,
        batch: int = 0,
        *,
        faults: Sequence[Iterable[Strike]] = (),
        round_ns: int = 1000,
        record_limit: int = RECORD_LIMIT,
    ) -> None:
        if len(faults) > shots:
            raise ValueError(f"{len(faults)} sets of faults for {shots} shots")
        self.batch = batch
        self.round_ns = round_ns
        self._translator = translator
        self._program = translator.program
        self._shots = [Shot(seed, number, record_limit) for number in range(shots)]
        self._faults: dict[tuple[int, int], list[Strike]] = defaultdict(list)  # (shot, absolute slot)
        for shot, strikes in enumerate(faults):
            for strike in strikes:
                self._faults[shot, strike.slot].append(strike)

    def run(self) -> Generator[tuple[Any, ...], Packed | None, None]:
        """Yields ("block", Block, frame, ...), with the frames that `Block.payload` names, for each block, and ("decide",
        path, k) at the end of a fragment that decides, which must be answered by the packed decisions of the path's shots.
        """
        waiting = [Path("", self._program.fragments[0], self._shots, dict(self._translator.layout))]
        while waiting:
            path = waiting.pop()
            decision = path.fragment.decision
            # A path ends with a block, be it an empty one.
            length = path.fragment.length if decision else max(1, path.fragment.length)
            for start in range(0, length, self._program.distance):
                last = decision is None and start + self._program.distance >= length
                yield ("block", *self._block(path, start, last))
            if decision is not None:
                reported = yield ("decide", path.name, decision.k)
                waiting += self._children(path, decision, reported)

    def _block(self, path: Path, start: int, last: bool) -> tuple[Any, ...]:
        length = min(self._program.distance, path.fragment.length - start)
        slots = [self._translator.slot(path.fragment.index, start + i) for i in range(length)]
        plan: list[Rounds] = []
        layouts: list[Layout] = []  # before each slot, the same in all shots
        for slot in slots:
            layouts.append(dict(path.layout))
            plan.append(self._translator.rounds(slot, path.layout))
            path.layout.update(plan[-1].moves)
        total = sum(rounds.measurements for rounds in plan)
        raw = np.zeros((len(path.shots), total + 1), np.uint8)  # the last column is for what has no herald
        for row, shot in enumerate(path.shots):
            for i, rounds in enumerate(plan):
                strikes = self._faults.get((shot.number, path.round + i))
                circuit = self._translator.struck(slots[i], layouts[i], strikes).circuit if strikes else rounds.circuit
                shot.do(circuit)
            raw[row, :total] = shot.read(total)
        path.round += length
        begins = np.cumsum([0, *(rounds.measurements for rounds in plan)])
        records = [rounds.records + begin for rounds, begin in zip(plan, begins[:-1], strict=True)]
        heralds = [
            np.where(rounds.heralds < 0, total, rounds.heralds + begin)
            for rounds, begin in zip(plan, begins[:-1], strict=True)
        ]
        nothing = np.zeros(0, np.intp)
        frames = {"bits": _packed(raw[:, np.concatenate([nothing, *records])])}
        if self._translator.noise.erasure > 0:
            frames["erasure"] = _packed(raw[:, np.concatenate([nothing, *heralds])])
        m = tuple(len(rounds.records) for rounds in plan)
        block = Block(
            batch=self.batch,
            path=path.name,
            shots=len(path.shots),
            fragment=path.fragment.index,
            slot=start,
            round=path.round - length,
            rec_start=path.records,
            m=m,
            t_hw_ns=max(1, path.round * self.round_ns),
            last=last,
            payload=tuple(frames),
        )
        path.records += sum(m)
        return (block, *frames.values())

    def _children(self, path: Path, decision: Decision, reported: Packed | None) -> list[Path]:
        """The paths that a decision leads to, value 1 first: the last one is run first."""
        size = -(-len(path.shots) // 8)
        if reported is None or np.shape(reported) != (size,):
            raise ValueError(f"path {path.name!r}: decision {decision.k} needs {size} bytes")
        values = np.unpackbits(np.asarray(reported, np.uint8), count=len(path.shots), bitorder="little")
        found = []
        for value, following in ((1, decision.then), (0, decision.otherwise)):
            if shots := [shot for shot, own in zip(path.shots, values, strict=True) if own == value]:
                name = child_path(path.name, decision.k, value)
                fragment = self._program.fragments[following]
                found.append(Path(name, fragment, shots, dict(path.layout), path.round, path.records))
        return found


def _packed(bits: NDArray[np.uint8]) -> Packed:
    """uint8 (shots, m) -> uint8 (m, ceil(shots/8)), packed along the shots."""
    packed: Packed = np.packbits(bits.T, axis=-1, bitorder="little")
    return packed
