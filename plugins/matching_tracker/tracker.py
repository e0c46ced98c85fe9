# SPDX-License-Identifier: Apache-2.0
"""Live tracking of a batch: blocks of raw records in, acknowledgements and decisions out, outcomes at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.condition import holds
from qcos_plugins.matching_tracker.frames import APPLIED, DECODED, UNDECODED, NotFinal
from qcos_plugins.matching_tracker.model import DEFAULT_DECODER
from qcos_plugins.matching_tracker.outcomes import Outcomes, latency_label
from qcos_plugins.matching_tracker.packed import Bits, mask, unpack, width
from qcos_plugins.matching_tracker.path import Path
from qcos_plugins.matching_tracker.plan import Plans

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.stream import Acknowledgement, Block, Decided, child_path

Reply = Acknowledgement | tuple[Decided, Bits]


class StreamFault(Exception):
    """What arrived is not what the program says must come next: the batch cannot go on.

    ``details``: path, slot, what was expected and what came.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class Tracker:
    """Decodes the shots of one batch while they run.  It knows no bus and no time.

    ``decoder``: one of `model.DECODERS`.  ``buffer``: look-ahead in slots, default the distance.  ``templates``: a cache
    to share with other trackers.  ``plans``: what another tracker of the same program worked out (`Tracker.plans`);
    calibration, decoder, buffer and templates are then its.  ``clock``: seconds, for the latency histogram.
    ``drop_artifacts`` makes the results wrong on purpose: a negative control for tests.
    """

    def __init__(
        self,
        program: FragmentProgram,
        calibration: Calibration,
        shots: int,
        *,
        decoder: str = DEFAULT_DECODER,
        buffer: int | None = None,
        keep_records: bool = False,
        templates: TemplateCache | None = None,
        plans: Plans | None = None,
        clock: Callable[[], float] | None = None,
        drop_artifacts: bool = False,
    ) -> None:
        if shots < 1:
            raise ValueError(f"{shots} shots")
        if plans is None:
            plans = Plans(program, calibration, decoder=decoder, buffer=buffer, templates=templates)
        self.plans = plans
        self._clock = clock
        self._drop_artifacts = drop_artifacts
        self._keep_records = keep_records
        self._batch: int | None = None
        self._open = {"": Path(plans, shots)}
        bits = plans.program.bits
        self._outcomes = Outcomes(
            plans, np.zeros((bits, shots), np.uint8), np.zeros((bits, shots), np.uint8), np.zeros(shots, np.int64)
        )

    @property
    def finished(self) -> bool:
        return not self._open

    @property
    def progress(self) -> float:
        """How far the batch is, 0 to 1: ended shots count whole, open paths by the slots of their present fragment."""
        done = sum(self._outcomes.paths.values())
        done += sum(len(p.shots) * p.slot / max(1, p.fragment.length) for p in self._open.values())
        return done / len(self._outcomes.rounds)

    def receive(self, block: Block, bits: Bits) -> list[Reply]:
        """Takes a block of slots.  ``bits``: uint8 (sum(block.m), ceil(block.shots/8)), little-endian along the shots.

        Raises StreamFault, and takes nothing, if it is not the block that must come next.
        """
        path = self._check(block, bits)
        began = self._clock() if self._clock else 0.0
        if self._keep_records:
            kept = self._outcomes.records.get(path.name, bits[:0])
            self._outcomes.records[path.name] = np.concatenate((kept, bits))
        self._batch = block.batch
        row = 0
        for m in block.m:
            self._outcomes.detection_events += path.take(bits[row : row + m])
            row += m
            self._commit(path, began)
        replies: list[Reply] = [Acknowledgement(path.name, path.received, path.committed)]
        if path.complete:
            self._end(path, replies)
        return replies

    def outcomes(self) -> Outcomes:
        """Raises StreamFault while a path is open."""
        if self._open:
            waiting = {name: path.received for name, path in self._open.items()}
            raise StreamFault(f"{len(waiting)} paths have not ended", waiting=waiting)
        return self._outcomes

    def _check(self, block: Block, bits: Bits) -> Path:
        def demand(what: str, expected: object, came: object) -> None:
            if expected != came:
                message = f"path {block.path!r}, slot {block.round}: {what} {came!r} came, {expected!r} is due"
                raise StreamFault(message, path=block.path, slot=block.round, what=what, expected=expected, came=came)

        path = self._open.get(block.path)
        if path is None:
            raise StreamFault(f"no path {block.path!r} is open", path=block.path, open=sorted(self._open))
        if self._batch is not None:
            demand("batch", self._batch, block.batch)
        if block.status not in ("ok", "late"):
            raise StreamFault(
                f"slot {block.round} is {block.status}", path=block.path, slot=block.round, status=block.status
            )
        if block.kind == "stall":
            raise StreamFault("stall rounds are not tracked yet", path=block.path, slot=block.round)
        demand("fragment", path.fragment.index, block.fragment)
        demand("slot", path.slot, block.slot)
        demand("round", path.received, block.round)
        demand("first record", path.records, block.rec_start)
        demand("shots", len(path.shots), block.shots)
        demand("records", path.expected(len(block.m)), block.m)
        ends = path.slot + len(block.m) == path.fragment.length
        demand("end of path", ends and path.fragment.decision is None, block.last)
        if not block.m and not block.last:
            raise StreamFault("an empty block", path=block.path, slot=block.round)
        demand("payload", ("bits",), block.payload)
        demand("type", "uint8", str(bits.dtype))
        demand("shape", (sum(block.m), width(block.shots)), bits.shape)
        demand("bits beyond the last shot", False, bool((bits[:, -1] & ~mask(block.shots)[-1]).any()))
        return path

    def _commit(self, path: Path, began: float) -> None:
        outcomes = self._outcomes
        while (window := path.ready()) is not None:
            built = self.plans.templates.misses
            path.commit(window, drop_artifacts=self._drop_artifacts)
            outcomes.windows += 1
            outcomes.templates_missed += self.plans.templates.misses - built
            if self._clock:
                outcomes.latency_us[latency_label(self._clock() - began)] += 1

    def _end(self, path: Path, replies: list[Reply]) -> None:
        """The fragment of a path is over: record its results, or decide how it goes on."""
        del self._open[path.name]
        if self._keep_records:
            self._outcomes.members[path.name] = path.shots
        decision = path.fragment.decision
        if decision is None:
            outcomes = self._outcomes
            outcomes.bits[:, path.shots] = unpack(path.ledger.bits[:, DECODED], len(path.shots))
            outcomes.undecoded[:, path.shots] = unpack(path.ledger.bits[:, UNDECODED], len(path.shots))
            outcomes.applied[:, path.shots] = unpack(path.ledger.bits[:, APPLIED], len(path.shots))
            outcomes.rounds[path.shots] = path.rounds
            outcomes.detectors_total += path.detectors * len(path.shots)
            outcomes.paths[path.name] = len(path.shots)
            return
        if late := path.pending_bits() & set(decision.condition.bits):
            raise NotFinal(f"decision {decision.k} reads bits {sorted(late)} before they are final")
        shots = len(path.shots)
        value = holds(decision.condition, path.ledger.bits)[DECODED] & mask(shots)
        replies.append((Decided(path.name, decision.k, shots), value))
        taken = unpack(value, shots)
        for outcome in (0, 1):
            chosen = np.flatnonzero(taken == outcome)
            if len(chosen):
                child = path.child(child_path(path.name, decision.k, outcome), decision, outcome, chosen)
                self._open[child.name] = child
                if child.fragment.length == 0 and child.fragment.decision is not None:
                    self._end(child, replies)
