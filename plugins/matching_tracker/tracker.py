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
from qcos_plugins.matching_tracker.fault import Aborted, StreamFault, WrongCheckpoint
from qcos_plugins.matching_tracker.frames import APPLIED, DECODED, UNDECODED, NotFinal
from qcos_plugins.matching_tracker.load import Load, behind
from qcos_plugins.matching_tracker.messages import check_block, check_discard
from qcos_plugins.matching_tracker.model import DEFAULT_DECODER
from qcos_plugins.matching_tracker.outcomes import Outcomes, latency_label, reaction_label
from qcos_plugins.matching_tracker.packed import Bits, mask, ones, read_rows, unpack, width
from qcos_plugins.matching_tracker.path import Path
from qcos_plugins.matching_tracker.payload import records
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.syndrome import BlockSyndrome

from qcosd.qec.calibration import Calibration
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.stream import Acknowledgement, Block, Calibrated, Decided, Discard, child_path

Reply = Acknowledgement | tuple[Decided, Bits]

ERASED = "erased"
NOT_DECODED = "missing records"

CHECKPOINT = b"\x03"
"""Version of checkpoints, their first byte."""


class Tracker:
    """Decodes the shots of one batch while they run.  It knows no bus and no time.

    ``decoder``: one of `decoders.offers`.  ``buffer``: look-ahead in slots, default the distance.  ``templates``: a cache
    to share with other trackers.  ``plans``: what another tracker of the same program worked out (`Tracker.plans`);
    calibration, decoder, buffer and templates are then its.  ``clock``: seconds, for the latency histogram.  ``load``: that of
    the batches before, so that those of one job are judged together.  ``batch``: the tag that all blocks must have, default that of the first.

    Shots with missing records are decoded as well as they can be, and discarded as "erased" where nothing is left to decide
    by; with ``decode_missing=False``, or if the decoder cannot, every one of them is discarded as "missing records".
    ``keep_records`` keeps all records for `Outcomes`, ``keep_shots`` those of the first shots of each path.
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
        batch: int | None = None,
        decode_missing: bool = True,
        keep_records: bool = False,
        keep_shots: int | None = None,
        templates: TemplateCache | None = None,
        plans: Plans | None = None,
        clock: Callable[[], float] | None = None,
        load: Load | None = None,
        drop_artifacts: bool = False,
    ) -> None:
        if shots < 1:
            raise ValueError(f"{shots} shots")
        if plans is None:
            plans = Plans(program, calibration, decoder=decoder, buffer=buffer, templates=templates)
        self.plans = self._given = plans
        self._clock = clock
        self._load = Load() if load is None else load
        self._round_ns = 0.0  # how long a round of the program takes on the machine's clock
        self._drop_artifacts = drop_artifacts
        self._keep_records = keep_records or keep_shots is not None
        self._kept: dict[str, list[tuple[Bits, Bits | None]]] = {}  # path -> records of its blocks, and those missing
        self._unsaved: list[tuple[str, Bits, Bits | None]] = []  # those of them that no checkpoint has
        self._decided: dict[str, tuple[Decided, Bits]] = {}  # by path; those that hardware may not have yet
        self._keep_width = None if keep_records or keep_shots is None else width(keep_shots)
        self._decode_missing = decode_missing and plans.erasures
        self._batch = batch
        self._began = False  # anything but a calibration has come
        self._open = {"": Path(plans, shots)}
        bits = plans.program.bits
        self._outcomes = Outcomes(
            plans, np.zeros((bits, shots), np.uint8), np.zeros((bits, shots), np.uint8), np.zeros(shots, np.int64)
        )
        self._outcomes.erasures = "decoded" if self._decode_missing else "discarded"

    @property
    def finished(self) -> bool:
        return not self._open

    @property
    def progress(self) -> float:
        """How far the batch is, 0 to 1: ended shots count whole, open paths by the slots of their present fragment."""
        done = sum(self._outcomes.paths.values())
        done += sum(len(p.shots) * p.slot / max(1, p.fragment.length) for p in self._open.values())
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
        self._open = {"": Path(self.plans, len(self._outcomes.rounds))}

    def _calibrated(self, calibration: Calibration) -> None:
        self._outcomes.calibration = calibration.id
        self.plans = self._given.reweighted(calibration)

    def discard(self, header: Discard, chosen: Bits) -> None:
        """Shots of an open path are worthless from now on.  ``chosen``: uint8 (ceil(header.shots/8),).

        Raises StreamFault, and takes nothing, if path or shots are not as they are here.
        """
        check_discard(header)
        path = self._path(header.path)
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
        path, due = self._check(block)
        before = path.time
        bits, missing = records(block, frames)
        self._batch = block.batch
        self._began = True
        above = block.path
        while above:  # hardware went on below them
            above = above.rpartition("/")[0]
            self._decided.pop(above, None)
        path.time = block.t_hw_ns
        if self._keep_records:
            self._keep(path, bits, missing)
        if missing is not None:
            missing = self._miss(path, missing)
        if block.status != "ok":
            self._outcomes.rounds_lost += len(block.m) * (block.status == "lost")
            self._outcomes.rounds_late += len(block.m) * (block.status == "late")
        if missing is None and path.whole:
            if block.m:
                path.take(due, bits)
                self._commit(path, began)
        else:  # slot by slot: what is undecidable in one is discarded before the next one comes
            row = 0
            for m in block.m:
                rows = slice(row, row + m)
                absent = None if missing is None or not missing[rows].any() else missing[rows]
                path.take(path.due(1), bits[rows], absent)
                row += m
                self._commit(path, began)
        replies: list[Reply] = [Acknowledgement(path.name, path.received, path.committed)]
        if path.complete:
            self._end(path, replies)
        self._time(block, before, began, built)
        return replies

    def _time(self, block: Block, before: int, began: float, built: int) -> None:
        """``before``: the machine's time, in ns, at the end of the path's last block, 0 if there was none."""
        outcomes = self._outcomes
        outcomes.stall_rounds += block.stalled
        if block.late_ns is not None:
            outcomes.lateness_us[latency_label(block.late_ns / 1e9)] += 1
        if block.reacted_ns is not None:
            outcomes.reaction_us[reaction_label(block.reacted_ns)] += 1
        if self._clock and built == self.plans.templates.misses:
            busy = self._clock() - began
            outcomes.busy_ns += round(1e9 * busy)
            outcomes.busy_rounds += len(block.m)
            if block.late_ns is not None and block.m:
                self._judge(block, before, busy, self._clock)

    def _judge(self, block: Block, before: int, busy: float, clock: Callable[[], float]) -> None:
        """Raises Behind if decoding cannot keep up with a machine whose rounds leave on a clock."""
        if before or not block.path:  # nothing says when a branch began
            self._round_ns = (block.t_hw_ns - before) / (len(block.m) + block.stalled)
        span = self._round_ns * len(block.m)
        self._outcomes.hardware_ns += round(span)
        utilisation = self._load.add(busy, span / 1e9)
        if utilisation is not None:
            raise behind(self.plans, utilisation, self._round_ns / 1e3, clock)

    def outcomes(self) -> Outcomes:
        """Raises StreamFault while a path is open."""
        if self._open:
            waiting = {name: path.received for name, path in self._open.items()}
            raise StreamFault(f"{len(waiting)} paths have not ended", waiting=waiting)
        self._hand_over()
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
            {name: path.state(shots) for name, path in self._open.items()},
            [[*vars(decided).values(), values.tobytes()] for decided, values in self._decided.values()],
            self._outcomes.state(),
        ]
        unsaved, self._unsaved = self._unsaved, []
        pieces = [msgpack.packb([[name, *map(_saved, rows)] for name, *rows in unsaved])] if unsaved else []
        return [CHECKPOINT + msgpack.packb(state), *pieces]

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
            self._open = {name: Path.of_state(self.plans, name, path, shots) for name, path in paths.items()}
            for *fields, values in decided:
                header = Decided(*fields)
                self._decided[header.path] = (header, read_rows(values, header.shots)[0])
            for name, bits, missing in (row for piece in pieces for row in msgpack.unpackb(piece)):
                self._kept.setdefault(name, []).append((_read(bits), None if missing is None else _read(missing)))
        except (ValueError, TypeError, LookupError, msgpack.UnpackException) as error:
            raise WrongCheckpoint(f"not a checkpoint: {error!r}") from error
        return list(self._decided.values())

    def _identity(self) -> list[Any]:
        kept = self._keep_width if self._keep_records else 0
        return [self._given.digest, len(self._outcomes.rounds), self._decode_missing, kept]

    def _path(self, name: str) -> Path:
        path = self._open.get(name)
        if path is None:
            raise StreamFault(f"no path {name!r} is open", path=name, open=sorted(self._open))
        return path

    def _check(self, block: Block) -> tuple[Path, BlockSyndrome]:
        def demand(what: str, expected: object, came: object) -> None:
            if expected != came:
                message = f"path {block.path!r}, slot {block.round}: {what} {came!r} came, {expected!r} is due"
                raise StreamFault(message, path=block.path, slot=block.round, what=what, expected=expected, came=came)

        check_block(block)
        if self._batch is not None:
            demand("batch", self._batch, block.batch)
        if block.status == "aborted":
            demand("end of path", True, block.last)
            raise Aborted(f"hardware gave the batch up in slot {block.round}", path=block.path, slot=block.round)
        path = self._path(block.path)
        if block.kind == "stall":
            raise StreamFault("stall rounds are not tracked yet", path=block.path, slot=block.round)
        fragment, slot, due = path.fragment, path.slot, path.due(len(block.m))
        demand("fragment", fragment.index, block.fragment)
        demand("slot", slot, block.slot)
        demand("round", path.received, block.round)
        demand("first record", path.records, block.rec_start)
        demand("shots", len(path.shots), block.shots)
        demand("records", due.m, block.m)
        ends = slot + len(block.m) == fragment.length
        demand("end of path", ends and fragment.decision is None, block.last)
        if not block.m and not block.last:
            raise StreamFault("an empty block", path=block.path, slot=block.round)
        if block.t_hw_ns < max(1, path.time):
            raise StreamFault(
                f"path {block.path!r}, slot {block.round}: hardware's clock went from {path.time} to {block.t_hw_ns} ns",
                path=block.path,
                slot=block.round,
            )
        return path, due

    def _keep(self, path: Path, bits: Bits, missing: Bits | None) -> None:
        missing = None if missing is None else missing[:, : self._keep_width]
        bits = bits[:, : self._keep_width]
        self._kept.setdefault(path.name, []).append((bits, missing))
        self._unsaved.append((path.name, bits, missing))

    def _hand_over(self) -> None:
        """The records that were kept block by block."""
        for name, blocks in self._kept.items():
            self._outcomes.records[name] = np.concatenate([bits for bits, _ in blocks])
            if any(missing is not None for _, missing in blocks):
                self._outcomes.missing[name] = np.concatenate(
                    [np.zeros_like(bits) if missing is None else missing for bits, missing in blocks]
                )
        self._kept.clear()

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

    def _commit(self, path: Path, began: float) -> None:
        outcomes = self._outcomes
        while (window := path.ready()) is not None:
            built = self.plans.templates.misses
            undecidable = path.commit(window, drop_artifacts=self._drop_artifacts)
            if undecidable is not None:
                self._discard(path, undecidable, ERASED)
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
            outcomes, shots = self._outcomes, len(path.shots)
            own: Any = path.shots if path.name else slice(None)  # indices cost more than all the rest of a single shot
            bits = unpack(path.ledger.bits, shots)
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
        shots = len(path.shots)
        # Shots that are discarded go on where the decision is 0.
        value = holds(decision.condition, path.ledger.bits)[DECODED] & path.live
        self._decided[path.name] = (Decided(path.name, decision.k, shots), value)
        replies.append(self._decided[path.name])
        taken = unpack(value, shots)
        for outcome in (0, 1):
            chosen = np.flatnonzero(taken == outcome)
            if len(chosen):
                child = path.child(child_path(path.name, decision.k, outcome), decision, outcome, chosen)
                self._open[child.name] = child
                if child.fragment.length == 0 and child.fragment.decision is not None:
                    self._end(child, replies)


def _saved(rows: Bits | None) -> list[Any] | None:
    return None if rows is None else [rows.shape[1], rows.tobytes()]


def _read(saved: list[Any]) -> Bits:
    size, data = saved
    return np.frombuffer(data, np.uint8).reshape(-1, size)
