# SPDX-License-Identifier: Apache-2.0
"""A path of a batch: shots that have seen the same slots, and all that is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from qcos_plugins.matching_tracker.content import SlotContent
from qcos_plugins.matching_tracker.frames import DECODED, Ledger
from qcos_plugins.matching_tracker.missing import lacking, touched
from qcos_plugins.matching_tracker.packed import (
    Bits,
    mask,
    members,
    numbers,
    ones,
    pack,
    read_rows,
    select,
    totals,
    unpack,
)
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.window import Window, next_window

from qcosd.qec.fragment import Decision, Measure, RecordName


class Path:
    """``shots``: their numbers in the batch, increasing.  Slots are absolute, counted from the beginning of the program.

    Buffered are the detectors and event parities of slots from ``committed`` to ``received``, packed along the shots,
    and the records of the last slot received.

    ``live``: packed, shots that are not discarded, ``discarded`` how many are.  Those keep their columns, which mean nothing and are kept at zero
    where that saves work.  ``unread``: packed, shots in which an event had to do without a record: only the decoder knows
    their outcome.  ``time``: hardware's clock at the last block, in ns.
    """

    def __init__(self, plans: Plans, shots: int) -> None:
        self._plans = plans
        self.name = ""
        self.shots = np.arange(shots)
        self.fragment = plans.program.fragments[0]
        self.received = 0
        self.committed = 0
        self.rounds = 0
        self.records = 0
        self.detectors = 0
        self.time = 0
        self.discarded = 0
        self.live = mask(shots)
        self.unread = np.zeros_like(self.live)
        self._events = np.zeros(shots, np.int64)
        self._uncounted: list[Bits] = []  # detectors of slots that _events does not contain yet
        self._ahead = plans.contents(0)  # slots of the fragment
        self._start = 0  # of the fragment
        self._contents: list[SlotContent] = []  # slots committed - 1 (if any) to received
        self._syndrome: list[Bits] = []
        self._parities: list[Bits] = []  # one array a slot, from committed on
        self._last: Bits | None = None  # records of slot received - 1
        self._missing: list[Bits | None] = []  # of the slots of _contents
        self.ledger = Ledger(plans.frame_rows, plans.tags, plans.program.bits, shots)

    # ---- where it stands

    @property
    def slot(self) -> int:
        """The next slot within the fragment."""
        return self.received - self._start

    @property
    def total(self) -> int | None:
        """Length of the path in slots; None while a decision is ahead."""
        return None if self.fragment.decision else self._start + self.fragment.length

    @property
    def complete(self) -> bool:
        """Every slot of the fragment has arrived."""
        return self.slot == self.fragment.length

    def expected(self, count: int) -> tuple[int, ...]:
        """Records of each of the next ``count`` slots; fewer at the end of the fragment."""
        return tuple(content.records for content in self._ahead[self.slot : self.slot + count])

    @property
    def events(self) -> np.ndarray:
        """Detection events of each shot, int64 (shots,)."""
        self._count()
        return self._events

    # ---- what happens to it

    def take(self, records: Bits, missing: Bits | None = None) -> None:
        """The next slot, both uint8 (m, bytes).  Records that are ``missing`` are zero in ``records``."""
        if self.discarded:
            records, missing = records & self.live, self._lasting(missing)
        content = self._ahead[self.slot]
        before = self._contents[-1] if self._contents else None
        both = records if self._last is None else np.concatenate((self._last, records))
        detectors, parities = self._plans.syndrome(before, content).of(both)
        self._contents.append(content)
        self._syndrome.append(detectors)
        self._parities.append(parities)
        self._missing.append(missing)
        self._last = records
        self.received += 1
        self.records += content.records
        self.rounds += content.has_round
        self.detectors += len(detectors)
        self._uncounted.append(detectors)

    def discard(self, chosen: Bits) -> np.ndarray:
        """Shots, packed, that shall count no longer.  Returns their numbers in the batch, of those that did so far."""
        shots = len(self.shots)
        fresh = self.shots[unpack(chosen & self.live, shots).astype(bool)]
        if len(fresh):
            self.live = live = self.live & ~chosen
            self.discarded += len(fresh)
            self._last = None if self._last is None else self._last & live
            self._syndrome = [rows & live for rows in self._syndrome]
            self._missing = [self._lasting(missing) for missing in self._missing]
        return fresh

    def _count(self) -> None:
        if self._uncounted:
            self._events += totals(np.concatenate(self._uncounted), len(self.shots))
            self._uncounted = []

    def _lasting(self, missing: Bits | None) -> Bits | None:
        """The missing records that still matter."""
        if missing is not None:
            missing = missing & self.live
        return missing if missing is not None and missing.any() else None

    def ready(self) -> Window | None:
        """The next window, if all its slots are here."""
        window = next_window(self.committed, self._plans.commit, self._plans.buffer, self.total)
        return window if window is not None and window.needs <= self.received else None

    def commit(self, window: Window, *, drop_artifacts: bool = False) -> Bits | None:
        """Decodes a window and settles its committed slots, once and for ever.

        Returns the shots, packed, whose missing records leave nothing to decide by, None if there are none.
        """
        self._count()  # before artifacts change detectors in place
        older = int(self.committed > 0)  # a slot before the window is kept
        before = self._contents[0] if older else None
        contents = self._contents[older : older + window.needs - window.start]
        plan = self._plans.window(before, contents, window)
        syndrome = np.concatenate(self._syndrome) if len(self._syndrome) > 1 else self._syndrome[0]
        shots, ledger = len(self.shots), self.ledger
        missing = self._lacking(older, window)
        lost: Bits | None = None
        found = []
        for instance in plan.instances:
            prediction, undecidable = instance.decode(syndrome, shots, missing)
            found.append(prediction)
            if undecidable is not None and undecidable.any():
                lost = pack(undecidable) | (0 if lost is None else lost)
        for instance, prediction in zip(plan.instances, found, strict=True):
            if len(instance.artifacts) and not drop_artifacts:
                syndrome[instance.artifacts] ^= prediction[len(instance.template.columns) :]
            ledger.parities[instance.tags, DECODED] ^= prediction[instance.parity_columns]
        committed = window.commit - window.start
        for i in range(committed):
            rows = iter(self._parities[i])
            for event, names in zip(contents[i].slot.events, contents[i].event_records, strict=True):
                ledger.apply(event, window.start + i, window.commit, None if names is None else next(rows))
                if missing is not None and names is not None:
                    self._note_unread(names, older + i)
        for instance, prediction in zip(plan.instances, found, strict=True):
            ledger.frames[instance.frames, DECODED] ^= prediction[instance.frame_columns]
        self.committed = window.commit
        self._contents = self._contents[older + committed - 1 :]
        self._missing = self._missing[older + committed - 1 :]
        self._syndrome = [syndrome[plan.committed_rows :]]
        self._parities = self._parities[committed:]
        return lost

    def _lacking(self, older: int, window: Window) -> list[tuple[RecordName, ...]] | None:
        """What the shots lack in a window and the slot before it; a ghost's own records are the next window's affair."""
        count = older + window.end - window.start
        if not any(missing is not None for missing in self._missing[:count]):
            return None
        numbered = zip(range(-older, count - older), self._contents, self._missing, strict=False)
        return lacking(numbered, len(self.shots))

    def _note_unread(self, names: Sequence[RecordName], slot: int) -> None:
        without = touched(names, slot, self._contents, self._missing)
        if without is not None:
            self.unread = self.unread | without

    # ---- stopped and continued

    def state(self, total: int) -> list[Any]:
        """All that its future depends on, of plain values and bytes.  ``total``: shots of the batch."""
        return [
            members(self.shots, total),
            self.fragment.index,
            [self.received, self.committed, self.rounds, self.records, self.detectors, self.time, self._start],
            self.live.tobytes(),
            self.unread.tobytes(),
            self.events.astype(np.uint32).tobytes(),
            [content.number for content in self._contents],
            b"".join([slots.tobytes() for slots in self._syndrome]),
            b"".join([slot.tobytes() for slot in self._parities]),
            None if self._last is None else self._last.tobytes(),
            [None if missing is None else missing.tobytes() for missing in self._missing],
            self.ledger.state(),
        ]

    @classmethod
    def of_state(cls, plans: Plans, name: str, state: Sequence[Any], total: int) -> Path:
        """The path that said this of itself.  Raises ValueError, or what its parts raise, for the state of another program."""
        who, fragment, counted, live, unread, events, contents, syndrome, parities, last, missing, ledger = state
        chosen = numbers(who, total)
        shots = len(chosen)
        path = cls(plans, shots)
        path.name, path.shots = name, chosen
        path.fragment = plans.program.fragments[fragment]
        path._ahead = plans.contents(fragment)
        path.received, path.committed, path.rounds, path.records, path.detectors, path.time, path._start = counted
        path.live, path.unread = read_rows(live, shots)[0], read_rows(unread, shots)[0]
        path.discarded = shots - ones(path.live)
        path._events = np.frombuffer(events, np.uint32).astype(np.int64)
        path._contents = [plans.content(number) for number in contents]
        path._syndrome = [read_rows(syndrome, shots)]
        waiting = path._contents[int(path.committed > 0) :]
        ends = np.cumsum([sum(names is not None for names in c.event_records) for c in waiting], dtype=np.intp)
        path._parities = np.split(read_rows(parities, shots), ends[:-1]) if waiting else []
        path._last = None if last is None else read_rows(last, shots)
        path._missing = [None if data is None else read_rows(data, shots) for data in missing]
        path.ledger.restore(ledger)
        return path

    def pending_bits(self) -> set[int]:
        """Classical bits that slots not yet committed will write."""
        waiting = self._contents[int(self.committed > 0) :]
        return {e.bit for content in waiting for e in content.slot.events if isinstance(e, Measure)}

    def child(self, name: str, decision: Decision, value: int, chosen: np.ndarray) -> Path:
        """The path on which ``decision`` came out as ``value``; ``chosen``: its shots, as indices into this path's."""
        assert self.complete, "a fragment ends with its last slot"
        other = copy(self)
        other.name = name
        other.shots = self.shots[chosen]
        other.fragment = self._plans.program.fragments[decision.then if value else decision.otherwise]
        other._ahead = self._plans.contents(other.fragment.index)
        other._start = self.received
        other._contents = list(self._contents)
        shots = len(self.shots)
        other._syndrome = [select(rows, shots, chosen) for rows in self._syndrome]
        other._parities = [select(rows, shots, chosen) for rows in self._parities]
        other._missing = [m if m is None else select(m, shots, chosen) for m in self._missing]
        other.live = select(self.live, shots, chosen)
        other.discarded = len(chosen) - ones(other.live)
        other.unread = select(self.unread, shots, chosen)
        other._events = self.events[chosen]
        other._uncounted = []
        other._last = None if self._last is None else select(self._last, shots, chosen)
        other.ledger = self.ledger.select(chosen)
        return other
