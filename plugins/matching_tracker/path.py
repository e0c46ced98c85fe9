# SPDX-License-Identifier: Apache-2.0
"""A path of a batch: shots that have seen the same slots, and all that is known of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

import numpy as np
from qcos_plugins.matching_tracker.content import SlotContent
from qcos_plugins.matching_tracker.frames import DECODED, Ledger
from qcos_plugins.matching_tracker.missing import Lacking, lacking, touched
from qcos_plugins.matching_tracker.packed import (
    Bits,
    mask,
    members,
    numbers,
    ones,
    read_rows,
    select,
    totals,
    unpack,
    width,
)
from qcos_plugins.matching_tracker.plan import Plans, WindowPlan
from qcos_plugins.matching_tracker.syndrome import BlockSyndrome
from qcos_plugins.matching_tracker.task import Explained, Found, Task, explained, without
from qcos_plugins.matching_tracker.window import Window

from qcosd.qec.fragment import Decision, Measure, Merge

UNCOUNTED = 16  # blocks


class Path:
    """``shots``: their numbers in the batch, increasing.  Slots are absolute, counted from the beginning of the program.

    Buffered are the detectors and event parities of slots from ``committed`` to ``received``, packed along the shots,
    and the records of the last slot received; and what windows have found that are decoded and not committed yet.

    ``live``: packed, shots that are not discarded, ``discarded`` how many are.  Those keep their columns, which mean nothing and are kept at zero
    where that saves work.  ``unread``: packed, shots in which an event had to do without a record: only the decoder knows
    their outcome.  ``time``: hardware's clock at the last block, in ns.  ``explains``: see `Tracker`, ``drop_artifacts``.
    """

    def __init__(self, plans: Plans, shots: int, *, explains: bool = True) -> None:
        self._plans = plans
        self._explains = explains
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
        self._uncounted: list[Bits] = []  # detectors that _events does not contain yet
        self._ahead = plans.contents(0)  # slots of the fragment
        self._start = 0  # of the fragment
        self._origin = 0  # what was committed when it began
        self._windows = self._cut()  # of the fragment
        self._next = 0  # of them, the first that is not committed
        self._asked: dict[int, WindowPlan] = {}  # of them, those that are decoded or in somebody's hands
        self._found: dict[int, Found] = {}  # of them, those that are decoded
        self._explained: Explained | None = (
            None  # what the last commit did to the first of the detectors that are buffered
        )
        self._contents: list[SlotContent] = []  # slots committed - 1 (if any) to received
        self._syndrome: list[Bits] = []
        self._parities: list[Bits] = []  # of events with records, from committed on
        self._last = np.zeros((0, width(shots)), np.uint8)  # records of slot received - 1
        self._zero = np.zeros((1, width(shots)), np.uint8)
        self._missing: dict[int, Bits] = {}  # slot -> its missing records, of the slots of _contents that lack any
        self.ledger = Ledger(plans.frame_rows, plans.tags, plans.bits, shots)

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
        """Every slot of the fragment has arrived, and every window of it is committed."""
        return self.slot == self.fragment.length and self._next == len(self._windows)

    @property
    def ready(self) -> bool:
        """All slots of the next window have arrived."""
        return self._next < len(self._windows) and self._windows[self._next].needs <= self.received

    @property
    def ahead(self) -> int:
        """How many windows are decoded or in somebody's hands, and not committed."""
        return len(self._asked)

    def block(self, count: int) -> BlockSyndrome:
        """The next ``count`` slots; fewer at the end of the fragment."""
        slot = self.received - self._start
        before = self._contents[-1] if self._contents else None
        return self._plans.block(before, self._ahead[slot : slot + count])

    @property
    def whole(self) -> bool:
        """No records are missing in what has not been committed."""
        return not self._missing

    @property
    def events(self) -> np.ndarray:
        """Detection events of each shot, int64 (shots,)."""
        self._count()
        return self._events

    # ---- what happens to it

    def take(self, block: BlockSyndrome, records: Bits, missing: Bits | None = None) -> None:
        """The slots of a `block`, both uint8 (sum of m, bytes).  Records that are ``missing`` are zero in ``records``; only
        a block of one slot may have any."""
        if self.discarded:
            records, missing = records & self.live, self._lasting(missing)
        detectors, parities = block.of(np.concatenate((self._last, records, self._zero)))
        slots = len(block.m)
        self._contents += block.contents
        self._syndrome.append(detectors)
        self._parities.append(parities)
        if missing is not None:
            self._missing[self.received] = missing
        self._last = records[block.records - block.m[-1] :]
        self.received += slots
        self.records += block.records
        self.rounds += block.rounds
        self.detectors += block.detectors
        self._uncounted.append(detectors)
        if len(self._uncounted) >= UNCOUNTED:
            self._count()

    def discard(self, chosen: Bits) -> np.ndarray:
        """Shots, packed, that shall count no longer.  Returns their numbers in the batch, of those that did so far."""
        shots = len(self.shots)
        fresh = self.shots[unpack(chosen & self.live, shots).astype(bool)]
        if len(fresh):
            self.live = live = self.live & ~chosen
            self.discarded += len(fresh)
            self._last = self._last & live
            self._syndrome = [rows & live for rows in self._syndrome]
            lasting = {slot: self._lasting(missing) for slot, missing in self._missing.items()}
            self._missing = {slot: missing for slot, missing in lasting.items() if missing is not None}
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

    def tasks(self) -> Iterator[Task]:
        """Windows that can be decoded now, each once, in the order of their commits."""
        for number in range(self._next, len(self._windows)):
            window = self._windows[number]
            if window.needs > self.received:
                return  # as do those that follow
            # What was yielded before may have been committed, and more with it.
            if number >= self._next and number not in self._asked and self._informed(number):
                task = self._task(number, window)
                self._asked[number] = task.plan
                yield task

    def task(self, number: int) -> Task:
        """One of them again."""
        return self._task(number, self._windows[number])

    def due(self, number: int, fragment: int) -> WindowPlan | None:
        """The plan of a window that is in somebody's hands; None if it is not, any more."""
        here = self.fragment.index == fragment and number not in self._found
        return self._asked.get(number) if here else None

    def first_due(self) -> int | None:
        """The first window that is in somebody's hands."""
        return min(self._asked.keys() - self._found.keys(), default=None)

    def found(self, number: int, predictions: Bits, undecidable: Bits | None = None) -> None:
        """A window is decoded: see `Found`."""
        plan = self._asked[number]
        earlier, later = (plan.earlier, plan.later) if self._explains else (None, None)
        known = explained(earlier, predictions), explained(later, predictions)
        self._found[number] = Found(plan, predictions, undecidable, *known)

    def commit(self) -> tuple[int, Found] | None:
        """Settles the slots of the next window, once and for ever, if it is decoded.  Returns its number and what was found."""
        number = self._next
        found = self._found.pop(number, None)
        if found is None:
            return None
        window, plan, predictions = self._windows[number], found.plan, found.predictions
        del self._asked[number]
        self._next += 1
        older = int(self.committed > 0)  # a slot before the commit is kept
        committed = window.commit - window.first
        parities = self._parities[0] if len(self._parities) == 1 else np.concatenate(self._parities)
        own, self._parities = parities[: plan.committed_parities], [parities[plan.committed_parities :]]
        algebra = plan.algebra if self.whole else None
        if algebra is None or not algebra.apply(self.ledger, window.first, own, predictions):
            self._settle(plan, window, self._contents[older : older + committed], own, predictions)
        self.committed = window.commit
        self._contents = self._contents[older + committed - 1 :]
        if self._missing:
            self._missing = {slot: rows for slot, rows in self._missing.items() if slot >= window.commit - 1}
        self._syndrome = [self._detectors()[plan.committed_rows :]]
        self._explained = found.later
        return number, found

    def _cut(self) -> tuple[Window, ...]:
        return self._plans.windows(self._origin, self._start, self.fragment)

    def _detectors(self) -> Bits:
        """uint8 (detectors of the slots from ``committed`` to ``received``, bytes), as they came."""
        if len(self._syndrome) != 1:
            self._syndrome = [np.concatenate((self._zero[:0], *self._syndrome))]
        return self._syndrome[0]

    def _informed(self, number: int) -> bool:
        """Whether all is known that a window has to know of others."""
        window = self._windows[number]
        if window.lead:
            return True
        before = number == self._next or number - 1 in self._found
        return before and (not window.closed or number + 1 in self._found)

    def _task(self, number: int, window: Window) -> Task:
        older = int(self.committed > 0) + window.start - self.committed
        before = self._contents[older - 1] if older else None
        contents = self._contents[older : older + window.needs - window.start]
        plan = self._plans.window(before, contents, window)
        skipped = 0
        if window.start > self.committed:
            skipped = sum(len(content.detectors) for content in self._contents[int(self.committed > 0) : older])
        syndrome = self._detectors()[skipped : skipped + plan.rows]
        if not window.lead:
            syndrome = without(syndrome, 0, self._found[number - 1].later if number > self._next else self._explained)
            if window.closed:
                ghost = plan.rows - len(contents[-1].detectors)
                syndrome = without(syndrome, ghost, self._found[number + 1].earlier)
        return Task(number, self.fragment.index, window, before, contents, plan, syndrome, self._lacking(older, window))

    def _settle(
        self, plan: WindowPlan, window: Window, contents: Sequence[SlotContent], parities: Bits, predictions: Bits
    ) -> None:
        """A commit, event by event.  ``contents``: its slots; ``parities``: uint8 (its events with records, bytes)."""
        ledger, older, absent = self.ledger, int(self.committed > 0), self._absent()
        ends = np.cumsum([instance.template.predictions for instance in plan.instances])[:-1]
        found = np.split(predictions, ends)
        for instance, prediction in zip(plan.instances, found, strict=False):
            ledger.parities[instance.tags, DECODED] ^= prediction[instance.parity_columns]
        rows = iter(parities)
        for i, content in enumerate(contents):
            for event, names in zip(content.slot.events, content.event_records, strict=True):
                ledger.apply(event, window.first + i, window.commit, None if names is None else next(rows))
                if names is not None and not self.whole:
                    without = touched(names, older + i, self._contents, absent)
                    self.unread = self.unread if without is None else self.unread | without
        for instance, prediction in zip(plan.instances, found, strict=False):
            ledger.frames[instance.frames, DECODED] ^= prediction[instance.frame_columns]

    def _lacking(self, older: int, window: Window) -> Lacking | None:
        """What the shots lack in a window and the slot before it; a ghost's own records are the next window's affair.
        ``older``: its place among the slots that are kept."""
        if self.whole:
            return None
        before = int(older > 0)
        slots = slice(older - before, older + window.end - window.start)
        absent = self._absent()[slots]
        numbered = zip(range(-before, window.end - window.start), self._contents[slots], absent, strict=True)
        return lacking(numbered, len(self.shots))

    def _absent(self) -> list[Bits | None]:
        """The missing records of each slot of `_contents`."""
        return [self._missing.get(slot) for slot in range(self.received - len(self._contents), self.received)]

    # ---- stopped and continued

    def state(self, total: int) -> list[Any]:
        """All that its future depends on, of plain values and bytes.  ``total``: shots of the batch."""
        return [
            members(self.shots, total),
            self.fragment.index,
            [
                self.received,
                self.committed,
                self.rounds,
                self.records,
                self.detectors,
                self.time,
                self._start,
                self._origin,
            ],
            self.live.tobytes(),
            self.unread.tobytes(),
            self.events.astype(np.uint32).tobytes(),
            [content.number for content in self._contents],
            b"".join([slots.tobytes() for slots in self._syndrome]),
            None if self._explained is None else [self._explained[0].tolist(), self._explained[1].tobytes()],
            b"".join([slot.tobytes() for slot in self._parities]),
            self._last.tobytes() if self.received else None,
            [None if missing is None else missing.tobytes() for missing in self._absent()],
            self.ledger.state(),
        ]

    @classmethod
    def of_state(cls, plans: Plans, name: str, state: Sequence[Any], total: int, explains: bool = True) -> Path:
        """The path that said this of itself.  Raises ValueError, or what its parts raise, for the state of another program."""
        who, fragment, counted, live, unread, events, contents, syndrome, known, parities, last, missing, ledger = state
        chosen = numbers(who, total)
        shots = len(chosen)
        path = cls(plans, shots, explains=explains)
        path.name, path.shots = name, chosen
        path.fragment = plans.program.fragments[fragment]
        path._ahead = plans.contents(fragment)
        path.received, path.committed, path.rounds, path.records, path.detectors, *more = counted
        path.time, path._start, path._origin = more
        path._windows = path._cut()
        path._next = sum(window.commit <= path.committed for window in path._windows)
        path.live, path.unread = read_rows(live, shots)[0], read_rows(unread, shots)[0]
        path.discarded = shots - ones(path.live)
        path._events = np.frombuffer(events, np.uint32).astype(np.int64)
        path._contents = [plans.content(number) for number in contents]
        path._syndrome = [read_rows(syndrome, shots)]
        if known is not None:
            path._explained = np.array(known[0], np.intp), read_rows(known[1], shots)
        path._parities = [read_rows(parities, shots)]
        path._last = path._last if last is None else read_rows(last, shots)
        first = path.received - len(contents)
        path._missing = {first + i: read_rows(data, shots) for i, data in enumerate(missing) if data is not None}
        path.ledger.restore(ledger)
        return path

    def pending_bits(self) -> set[int]:
        """Classical bits that slots not yet committed will write."""
        waiting = self._contents[int(self.committed > 0) :]
        return {e.bit for content in waiting for e in content.slot.events if isinstance(e, Measure | Merge)}

    def child(self, name: str, decision: Decision, value: int, chosen: np.ndarray) -> Path:
        """The path on which ``decision`` came out as ``value``; ``chosen``: its shots, as indices into this path's."""
        assert self.complete, "a fragment ends with its last slot"
        other = copy(self)
        other.name = name
        other.shots = self.shots[chosen]
        other.fragment = self._plans.program.fragments[decision.then if value else decision.otherwise]
        other._ahead = self._plans.contents(other.fragment.index)
        other._start = self.received
        other._origin = self.committed
        other._windows, other._next, other._asked, other._found = other._cut(), 0, {}, {}
        other._contents = list(self._contents)
        shots = len(self.shots)
        other._syndrome = [select(rows, shots, chosen) for rows in self._syndrome]
        if self._explained is not None:
            detectors, flips = self._explained
            other._explained = detectors, select(flips, shots, chosen)
        other._parities = [select(rows, shots, chosen) for rows in self._parities]
        other._missing = {slot: select(missing, shots, chosen) for slot, missing in self._missing.items()}
        other.live = select(self.live, shots, chosen)
        other.discarded = len(chosen) - ones(other.live)
        other.unread = select(self.unread, shots, chosen)
        other._events = self.events[chosen]
        other._uncounted = []
        other._last = select(self._last, shots, chosen)
        other._zero = np.zeros((1, width(len(chosen))), np.uint8)
        other.ledger = self.ledger.select(chosen)
        return other
