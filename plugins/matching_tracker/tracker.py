# SPDX-License-Identifier: Apache-2.0
"""Live tracking of a batch: blocks of raw records in, acknowledgements and decisions out, outcomes at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.condition import holds
from qcos_plugins.matching_tracker.fault import StreamFault, WrongCheckpoint
from qcos_plugins.matching_tracker.frames import APPLIED, DECODED, UNDECODED, NotFinal
from qcos_plugins.matching_tracker.helpers import Helpers, Key
from qcos_plugins.matching_tracker.keeping import Keeping
from qcos_plugins.matching_tracker.load import Load
from qcos_plugins.matching_tracker.messages import check_discard
from qcos_plugins.matching_tracker.model import DEFAULT_DECODER
from qcos_plugins.matching_tracker.order import expect, path_of
from qcos_plugins.matching_tracker.outcomes import Outcomes
from qcos_plugins.matching_tracker.pace import Pace
from qcos_plugins.matching_tracker.packed import Bits, mask, ones, unpack, width
from qcos_plugins.matching_tracker.path import Path
from qcos_plugins.matching_tracker.payload import records
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.task import Task
from qcos_plugins.matching_tracker.told import Given, Told
from qcos_plugins.matching_tracker.window import SLIDING

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.stream import Acknowledgement, Block, Calibrated, Decided, Discard, child_path

Reply = Acknowledgement | tuple[Decided, Bits]

MOST_AHEAD = 32
"""Windows of a path that may be in somebody's hands, or wait for what is: then its records are not held any longer for them."""

ERASED = "erased"
NOT_DECODED = "missing records"

CHECKPOINT = b"\x04"
"""Version of checkpoints, their first byte."""


class Tracker:
    """Decodes the shots of one batch while they run.  It knows no bus and no time.

    ``decoder``: one of `decoders.offers`.  ``buffer``: look-ahead in slots, default the distance.  ``scheme``: one of
    `window.SCHEMES`.  ``templates``: a cache to share with other trackers.  ``plans``: what another tracker of the same program
    worked out (`Tracker.plans`); calibration, decoder, buffer, scheme and templates are then its.  ``helpers``: who may decode
    windows for it; what comes of it does not depend on them, nor on when they answer.  ``clock``: seconds, for the latency histogram.  ``load``: that of
    the batches before, so that those of one job are judged together.  ``batch``: the tag that all blocks must have, default that of the first.

    Shots with missing records are decoded as well as they can be, and discarded as "erased" where nothing is left to decide
    by; with ``decode_missing=False``, or if the decoder cannot, every one of them is discarded as "missing records".
    ``keep_records`` keeps all records for `Outcomes`, ``keep_shots`` those of the first shots of each path.
    ``decides``: who decides in its place.  ``open``: the paths that have not ended.  ``drop_artifacts`` makes the results wrong on purpose: a negative control for tests.
    """

    def __init__(
        self,
        program: FragmentProgram,
        calibration: Calibration,
        shots: int,
        *,
        decoder: str = DEFAULT_DECODER,
        buffer: int | None = None,
        scheme: str = SLIDING,
        batch: int | None = None,
        decode_missing: bool = True,
        keep_records: bool = False,
        keep_shots: int | None = None,
        templates: TemplateCache | None = None,
        plans: Plans | None = None,
        clock: Callable[[], float] | None = None,
        load: Load | None = None,
        helpers: Helpers | None = None,
        decides: Given | None = None,
        drop_artifacts: bool = False,
    ) -> None:
        if shots < 1:
            raise ValueError(f"{shots} shots")
        if plans is None:
            plans = Plans(program, calibration, decoder=decoder, buffer=buffer, scheme=scheme, templates=templates)
        self.plans = self._given = plans
        self._clock = clock
        self._explains = not drop_artifacts
        kept_width = None if keep_records or keep_shots is None else width(keep_shots)
        self._keeping = Keeping(kept_width) if keep_records or keep_shots is not None else None
        self._kept = 0 if self._keeping is None else kept_width
        self._told = Told(decides)
        self._helpers = helpers
        self._decode_missing = decode_missing and plans.erasures
        self._batch = batch
        self._began = False  # anything but a calibration has come
        self.open = {"": self._root(shots)}
        bits = plans.program.bits
        self._outcomes = Outcomes(
            plans, np.zeros((bits, shots), np.uint8), np.zeros((bits, shots), np.uint8), np.zeros(shots, np.int64)
        )
        hands = (lambda: 1) if helpers is None else (lambda: 1 + helpers.count)
        self._pace = Pace(self._outcomes, clock, Load() if load is None else load, hands)
        self._outcomes.erasures = "decoded" if self._decode_missing else "discarded"

    @property
    def finished(self) -> bool:
        return not self.open

    @property
    def hungry(self) -> bool:
        """Whether hardware has more to say: records of some path, or what it does when a decision has come."""
        return any(path.slot < path.fragment.length or path.fragment.decision for path in self.open.values())

    @property
    def progress(self) -> float:
        """How far the batch is, 0 to 1: ended shots count whole, open paths by the slots of their present fragment."""
        done = sum(self._outcomes.paths.values())
        done += sum(len(p.shots) * p.slot / max(1, p.fragment.length) for p in self.open.values())
        return done / len(self._outcomes.rounds)

    def calibrate(self, header: Calibrated, data: bytes) -> None:
        """The rates of this batch, a `calibration` artifact, in place of those of the plans.

        Raises StreamFault, and takes nothing, if it is none, is not the one announced, or comes too late.
        """
        if self._batch not in (None, header.batch):
            raise StreamFault(f"a calibration of batch {header.batch} in batch {self._batch}", batch=header.batch)
        if self._began or self._outcomes.calibration:
            raise StreamFault("a calibration comes before anything else, and once", batch=header.batch)
        try:
            calibration = Calibration.from_bytes(data)
        except ValueError as error:
            raise StreamFault(str(error), batch=header.batch) from error
        if calibration.id != header.id:
            raise StreamFault(f"calibration {header.id} is announced and {calibration.id} came", batch=header.batch)
        self._batch = header.batch
        self._calibrated(calibration)
        self.open = {"": self._root(len(self._outcomes.rounds))}

    def _calibrated(self, calibration: Calibration) -> None:
        self._outcomes.calibration = calibration.id
        self.plans = self._given.reweighted(calibration)

    def discard(self, header: Discard, chosen: Bits) -> None:
        """Shots of an open path are worthless from now on.  ``chosen``: uint8 (ceil(header.shots/8),).

        Raises StreamFault, and takes nothing, if path or shots are not as they are here.
        """
        check_discard(header)
        path = path_of(header.path, self.open)
        real = mask(len(path.shots))
        if header.shots != len(path.shots) or chosen.shape != real.shape or (chosen & ~real).any():
            raise StreamFault(
                f"path {path.name!r} has {len(path.shots)} shots; a discard of {header.shots} in {chosen.size} bytes came",
                path=path.name,
            )
        if not 0 <= header.round <= path.received - path.slot + path.fragment.length:
            raise StreamFault(f"a discard of round {header.round} in slot {path.received}", path=path.name)
        self._began = True
        self._discard(path, chosen, header.reason)

    def receive(self, block: Block, *frames: npt.NDArray[Any]) -> list[Reply]:
        """Takes a block of slots.  ``frames``: as `block.payload` names them, of the types and shapes of `Block`.

        Raises StreamFault, and takes nothing, if it is not the block that must come next; Aborted, if it says that none
        will.
        """
        began, built = self._clock() if self._clock else 0.0, self.plans.templates.misses
        path, taken = expect(block, self._batch, self.open)
        before = path.time
        bits, missing = records(block, frames)
        self._batch = block.batch
        self._began = True
        self._told.came(block, path)
        path.time = block.t_hw_ns
        if self._keeping is not None:
            self._keeping.keep(path.name, bits, missing)
        if missing is not None:
            missing = self._miss(path, missing)
        if block.status != "ok":
            self._outcomes.rounds_lost += len(block.m) * (block.status == "lost")
            self._outcomes.rounds_late += len(block.m) * (block.status == "late")
        replies: list[Reply] = []
        if missing is None and path.whole:
            if block.m:
                path.take(taken, bits)
            self._advance(path, began)
        else:  # slot by slot: what is undecidable in one is discarded before the next one comes
            row = 0
            for m in block.m:
                rows = slice(row, row + m)
                absent = None if missing is None or not missing[rows].any() else missing[rows]
                path.take(path.block(1), bits[rows], absent)
                row += m
                self._advance(path, began, alone=True)
        replies += self._told.chosen(path)
        replies.append(Acknowledgement(path.name, path.received, path.committed))
        if path.complete:
            self._end(path, replies)
        warm = built == self.plans.templates.misses
        self._pace.took(block, before, self._clock() - began if self._clock and warm else None, self.plans)
        return replies

    def answered(self, key: Key, predictions: Bits, busy: float = 0.0) -> list[Reply]:
        """Somebody has decoded a window that was handed out, in ``busy`` seconds.  ``predictions``: as `WindowPlan.decode`.

        Of windows that have been decoded meanwhile nothing is taken.  Raises ValueError for what no decoder gives.
        """
        name, fragment, number = key
        path = self.open.get(name)
        plan = None if path is None else path.due(number, fragment)
        if path is None or plan is None:
            return []
        real = mask(len(path.shots))
        if predictions.shape != (plan.predictions, len(real)) or (predictions & ~real).any():
            due = (plan.predictions, len(real))
            raise ValueError(f"predictions of shape {predictions.shape}, or with padding; {due} without any is due")
        self._pace.helped(busy)
        path.found(number, predictions)
        return self._went_on(path)

    def agrees(self, key: Key, predictions: Bits) -> bool:
        """Whether the tracker itself would come to these predictions, for a window that is in somebody's hands."""
        name, fragment, number = key
        path = self.open.get(name)
        if path is None or path.due(number, fragment) is None:
            return True  # nobody needs it any more
        return np.array_equal(path.task(number).decode(len(path.shots))[0], predictions)

    def help_out(self) -> list[Reply] | None:
        """Decodes the first window of some path that is in somebody else's hands; None if there is none."""
        for path in self.open.values():
            number = path.first_due()
            if number is not None:
                path.found(number, *path.task(number).decode(len(path.shots)))
                return self._went_on(path)
        return None

    def _went_on(self, path: Path) -> list[Reply]:
        self._advance(path, self._clock() if self._clock else 0.0)
        replies: list[Reply] = [*self._told.chosen(path)]
        if path.complete:
            self._end(path, replies)
        return replies

    def outcomes(self) -> Outcomes:
        """Raises StreamFault while a path is open."""
        if self.open:
            waiting = {name: path.received for name, path in self.open.items()}
            raise StreamFault(f"{len(waiting)} paths have not ended", waiting=waiting)
        for name, (bits, missing) in (self._keeping.take() if self._keeping else {}).items():
            self._outcomes.records[name] = bits
            if missing is not None:
                self._outcomes.missing[name] = missing
        return self._outcomes

    def checkpoint(self) -> list[bytes]:
        """All that it is, as opaque bytes, and then the records that were kept since the last checkpoint, if any.

        A tracker of the same batch that restores it, in this process or another one, goes on from here bit for bit.
        """
        shots = len(self._outcomes.rounds)
        state = [
            self._identity(),
            self._batch,
            self._began,
            self.plans.calibration.to_bytes() if self._outcomes.calibration else b"",
            {name: path.state(shots) for name, path in self.open.items()},
            self._told.state(),
            self._outcomes.state(),
        ]
        return [CHECKPOINT + msgpack.packb(state), *(self._keeping.piece() if self._keeping else ())]

    def restore(self, checkpoint: bytes, *pieces: bytes) -> list[Reply]:
        """Begin where a predecessor made this checkpoint, with the records of all that it made.

        Returns the decisions that hardware may not have got.  Raises WrongCheckpoint for what is not of this batch.
        """
        if not checkpoint.startswith(CHECKPOINT):
            raise WrongCheckpoint(f"a checkpoint of version {checkpoint[:1].hex()}, {CHECKPOINT.hex()} is known here")
        shots = len(self._outcomes.rounds)
        try:
            state = msgpack.unpackb(checkpoint[len(CHECKPOINT) :], strict_map_key=False)
            identity, batch, self._began, rates, paths, decided, outcomes = state
            if identity != self._identity() or (None not in (batch, self._batch) and batch != self._batch):
                raise WrongCheckpoint("a checkpoint of another batch, program or version of what decodes it")
            self._batch = self._batch if batch is None else batch
            self._outcomes.restore(outcomes)
            if rates:
                self._calibrated(Calibration.from_bytes(rates))
            self.open = {
                name: Path.of_state(self.plans, name, path, shots, self._explains) for name, path in paths.items()
            }
            self._told.restore(decided)
            if self._keeping:
                self._keeping.restore(pieces)
            replies: list[Reply] = [*self._told.all()]
            for path in list(self.open.values()):  # what others were about to decode for the predecessor
                replies += self._went_on(path)
        except (ValueError, TypeError, LookupError, msgpack.UnpackException) as error:
            raise WrongCheckpoint(f"not a checkpoint: {error!r}") from error
        return replies

    def _identity(self) -> list[Any]:
        return [self._given.digest, len(self._outcomes.rounds), self._decode_missing, self._kept]

    def _miss(self, path: Path, missing: Bits) -> Bits | None:
        """Counts the missing records of shots that count.  Returns those that are to be decoded."""
        missing = missing & path.live
        self._outcomes.records_missing += ones(missing)
        if self._decode_missing:
            return missing
        self._discard(path, np.bitwise_or.reduce(missing, axis=0), NOT_DECODED)
        return None

    def _discard(self, path: Path, chosen: Bits, reason: str) -> None:
        fresh = path.discard(chosen)
        if len(fresh):
            self._outcomes.discarded[fresh] = True
            self._outcomes.discards[reason] += len(fresh)

    def _root(self, shots: int) -> Path:
        return Path(self.plans, shots, explains=self._explains)

    def _advance(self, path: Path, began: float, *, alone: bool = False) -> None:
        """Decodes and commits what can be.  ``alone``: nothing is left to others."""
        built, moved = self.plans.templates.misses, True
        while moved and path.ready:
            moved = False
            for task in path.tasks():
                if self._helpers is None or alone or not self._hand_out(self._helpers, path, task, began):
                    path.found(task.number, *task.decode(len(path.shots)))
                    moved = True
                    self._commit(path, began)
            if (alone or path.ahead > MOST_AHEAD) and (number := path.first_due()) is not None:
                path.found(number, *path.task(number).decode(len(path.shots)))
                moved = True
            moved |= self._commit(path, began)
        self._outcomes.templates_missed += self.plans.templates.misses - built

    def _commit(self, path: Path, began: float) -> bool:
        """Commits the windows that are decoded, as far as none is missing; whether there are any."""
        some = False
        while path.ready and (committed := path.commit()) is not None:
            number, found = committed
            some = True
            if found.undecidable is not None:
                self._discard(path, found.undecidable, ERASED)
            self._outcomes.windows += 1
            self._pace.committed(path, number, began)
        return some

    def _hand_out(self, helpers: Helpers, path: Path, task: Task, began: float) -> bool:
        """Whether somebody else takes it."""
        key = (path.name, task.fragment, task.number)
        taken = task.missing is None and helpers.take(key, task, len(path.shots))
        if taken:
            self._pace.handed_out(key, began)
        return taken

    def _end(self, path: Path, replies: list[Reply]) -> None:
        """The fragment of a path is over: record its results, or decide how it goes on."""
        del self.open[path.name]
        if self._keeping is not None:
            self._outcomes.members[path.name] = path.shots
        decision = path.fragment.decision
        if decision is None:
            outcomes, shots = self._outcomes, len(path.shots)
            own: Any = path.shots if path.name else slice(None)  # indices cost more than all the rest of a single shot
            bits = unpack(path.ledger.bits[: self.plans.program.bits], shots)
            outcomes.bits[:, own] = bits[:, DECODED]
            outcomes.undecoded[:, own] = bits[:, UNDECODED]
            outcomes.applied[:, own] = bits[:, APPLIED]
            outcomes.unread[own] = unpack(path.unread, shots)
            outcomes.rounds[own] = path.rounds
            outcomes.detectors_total += path.detectors * (shots - path.discarded)
            outcomes.detection_events += int(path.events @ unpack(path.live, shots))
            outcomes.paths[path.name] = shots
            return
        if late := path.pending_bits() & set(decision.condition.bits):
            raise NotFinal(f"decision {decision.k} reads bits {sorted(late)} before they are final")
        made = self._told.decide(path, decision.k, holds(decision.condition, path.ledger.bits)[DECODED])
        replies.append(made)
        taken = unpack(made[1], len(path.shots))
        for outcome in (0, 1):
            chosen = np.flatnonzero(taken == outcome)
            if len(chosen):
                child = path.child(child_path(path.name, decision.k, outcome), decision, outcome, chosen)
                self.open[child.name] = child
                if child.fragment.length == 0 and child.fragment.decision is not None:
                    self._end(child, replies)
