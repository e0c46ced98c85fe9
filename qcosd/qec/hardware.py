# SPDX-License-Identifier: Apache-2.0
"""The contract between a hardware adapter and its machine, and the loop that runs a batch.  docs/HARDWARE.md explains it.

    SAFE --prepare--> PREPARED --arm--> ARMED --start--> RUNNING --the batch is over--> SAFE
    any state --abort, or an exception of the machine--> SAFE

A laboratory implements `Machine`.  `Control` keeps the order of its calls, `feed` drives it from a stream.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.placement import Placement
from qcosd.qec.stream import Block, Calibrated, Discard

T = TypeVar("T")

ABORT_NOTICE: Final = 1.0
"""Seconds that a tracker which takes nothing gets to take the news that the batch is over."""

PATIENCE: Final = 100_000
"""Nanoseconds before its time from which on a block is waited for without sleep, which would be as late as that."""


@dataclass(frozen=True, slots=True)
class Batch:
    """``shots`` shots; the same seed gives the same bits, as far as the machine can do that."""

    index: int
    shots: int
    seed: int


class Said(NamedTuple):
    """A message for the tracker: a header of `qcosd.qec.stream` and its payload frames."""

    header: Block | Calibrated | Discard
    frames: tuple[bytes, ...] = ()


class Awaits(NamedTuple):
    """A path has reached the end of a fragment, or a hand-over by choice: nothing more comes of it before decision ``k`` is
    there."""

    path: str
    k: int
    shots: int


class Machine(Protocol):
    """What an adapter implements.  The calls come from one thread, in the order that `State` tells.

    A call that cannot do what it says raises, whatever the exception; `abort` is called then.
    """

    def prepare(self, program: FragmentProgram, placement: Placement) -> None:
        """Load a program.  Nothing is played yet.  The same program comes before every batch: keep what it cost."""

    def arm(self, batch: Batch) -> None:
        """Make everything ready for a batch, so that `start` only has to pull the trigger."""

    def start(self, t0_ns: int) -> None:
        """Let it run.  ``t0_ns`` is what the clock of `Block.t_hw_ns` shows at the first round."""

    def next(self) -> Said | Awaits | None:
        """The next message, or a decision that is needed, or None when every path of the batch has ended.

        Waits for the machine, not for the tracker, and not for ever.
        """

    def decide(self, path: str, k: int, values: bytes) -> None:
        """Answer to the `Awaits` that came last: ceil(shots/8) bytes, 1 for the shots that go on with `Decision.then`, or
        get a |Y>."""

    def abort(self) -> None:
        """Stop at once, wherever it is, and leave the machine safe.  Comes in every state, also twice; never raises."""


class State(Enum):
    """Where a machine is."""

    SAFE = "safe"
    PREPARED = "prepared"
    ARMED = "armed"
    RUNNING = "running"


ORDER: Final[dict[str, tuple[State, State]]] = {
    "arm": (State.PREPARED, State.ARMED),
    "start": (State.ARMED, State.RUNNING),
    "next": (State.RUNNING, State.RUNNING),
    "decide": (State.RUNNING, State.RUNNING),
}
"""Call -> (state that it needs, state after it).  `prepare` comes in SAFE or PREPARED, `abort` always."""


class OutOfOrder(Exception):
    """A call that the state of the machine does not allow.  Nothing was done."""


class DecisionFault(Exception):
    """The tracker's decision contradicts an earlier one, or is none of the shots of its path."""


class Aborted(Exception):
    """The batch was given up and must be started again: nobody took the rounds of a machine that cannot pause."""


class Control:
    """A machine, with the order of its calls kept.  After an exception of the machine it has been aborted and is safe."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._awaited: Awaits | None = None
        self.choices: frozenset[int] = frozenset()
        self.state = State.SAFE

    def prepare(self, program: FragmentProgram, placement: Placement) -> None:
        if self.state not in (State.SAFE, State.PREPARED):
            raise OutOfOrder(f"prepare: the machine is {self.state.value}")
        self._guarded(self._machine.prepare, program, placement)
        self.choices = program.choices
        self.state = State.PREPARED

    def arm(self, batch: Batch) -> None:
        after = self._allowed("arm")
        self._guarded(self._machine.arm, batch)
        self.state = after

    def start(self, t0_ns: int) -> None:
        if t0_ns < 0:
            raise ValueError(f"start: t0_ns = {t0_ns}")
        after = self._allowed("start")
        self._guarded(self._machine.start, t0_ns)
        self.state = after

    def next(self) -> Said | Awaits | None:
        self._allowed("next")
        if self._awaited is not None:
            raise OutOfOrder(f"next: decision {self._awaited.k} of path {self._awaited.path!r} is awaited")
        item = self._guarded(self._machine.next)
        if item is None:
            self.state = State.SAFE
        elif isinstance(item, Awaits):
            self._awaited = item
        return item

    def decide(self, path: str, k: int, values: bytes) -> None:
        """Raises DecisionFault when the values are not those of the path's shots."""
        self._allowed("decide")
        awaited = self._awaited
        if awaited is None or (awaited.path, awaited.k) != (path, k):
            raise OutOfOrder(f"decide: decision {k} of path {path!r} is not awaited")
        size, spare = -(-awaited.shots // 8), -awaited.shots % 8
        if len(values) != size or (spare and values[-1] >> (8 - spare)):
            raise DecisionFault(f"path {path!r}, decision {k}: {values!r} is no bit for each of {awaited.shots} shots")
        self._awaited = None
        self._guarded(self._machine.decide, path, k, values)

    def abort(self) -> None:
        """To SAFE, from wherever it is."""
        self.state = State.SAFE
        self._awaited = None
        self._machine.abort()

    def _allowed(self, call: str) -> State:
        needed, after = ORDER[call]
        if self.state is not needed:
            raise OutOfOrder(f"{call}: the machine is {self.state.value}, it must be {needed.value}")
        return after

    def _guarded(self, call: Callable[..., T], *arguments: Any) -> T:
        try:
            return call(*arguments)
        except BaseException:
            self.abort()
            raise


# ---- running a batch


class Message(Protocol):
    """What a stream delivers: a header as in `qcosd.qec.stream`, and payload frames."""

    @property
    def header(self) -> dict[str, Any]: ...

    @property
    def payload(self) -> list[bytes]: ...


class Writer(Protocol):
    """The producer's end of a stream.  ``send`` waits for credit, ``recv`` for a message, ``drain`` until all is taken.

    A call whose ``timeout``, seconds, has passed raises TimeoutError, and nothing was sent or received.
    """

    def send(self, header: dict[str, Any], *payload: bytes, timeout: float | None = None) -> int: ...

    def recv(self, timeout: float | None = None) -> Message: ...

    def poll(self) -> Message | None: ...

    def drain(self, timeout: float | None = None) -> None: ...


@dataclass
class _Feeding:
    """One batch on its way into a stream.  ``room``: messages that may wait for credit; None: the machine waits.
    ``round_ns``: length of a round, to count those for which the machine stood still; 0: they are not counted."""

    control: Control
    stream: Writer
    room: int | None
    round_ns: int
    clock: Callable[[], int]
    waiting: deque[Said] = field(default_factory=deque)
    decided: dict[tuple[str, int], bytes] = field(default_factory=dict)
    blocks: int = 0
    records: int = 0
    t0_ns: int = 0
    ends: dict[str, int] = field(default_factory=dict)  # path -> hardware's time of its last block
    due: int = 0  # of the clock when the last block had to be over
    stalled: int = 0  # rounds that the tracker has not been told of
    slipped_ns: int = 0  # by which the machine's clock went on while it stood still
    left: dict[str, int] = field(default_factory=dict)  # path -> when its latest block went, while more may come
    reactions: deque[int] = field(default_factory=deque)  # of decisions; the tracker has not been told of them

    def say(self, said: Said) -> None:
        if isinstance(said.header, Block):
            self.blocks += 1
            self.records += sum(said.header.m)
            if self.reactions:
                said = Said(replace(said.header, reacted_ns=self.reactions.popleft()), said.frames)
        if self.room is None:
            self.send(said)
        else:
            self.waiting.append(said)
            self.flush(0.0)
            if len(self.waiting) > self.room:
                self.give_up()
        while (message := self.stream.poll()) is not None:
            self.note(message)

    def send(self, said: Said) -> None:
        """To a machine that can pause the lack of credit is a pause."""
        if not self.round_ns:
            self.leave(said, None)
            return
        began = self.clock()
        try:
            self.leave(said, 0.0)
        except TimeoutError:
            self.leave(said, None)
            self.stall(began)

    def leave(self, said: Said, timeout: float | None) -> None:
        """Sends it; how long a decision takes after that is real time, also where the machine's is not."""
        began = time.monotonic_ns()
        self.stream.send(said.header.to_map(), *said.frames, timeout=timeout)
        if isinstance(said.header, Block):
            if said.header.last:
                self.left.pop(said.header.path, None)
            else:
                self.left[said.header.path] = began

    def stall(self, began: int) -> None:
        """The machine stood still since then: it goes on with the beginning of a round."""
        rounds = -(-(self.clock() - began) // self.round_ns)
        self.stalled += rounds
        self.slipped_ns += rounds * self.round_ns
        self.due += rounds * self.round_ns

    def flush(self, timeout: float | None) -> None:
        """Sends what waits, as far as there is credit within the time."""
        with suppress(TimeoutError):
            while self.waiting:
                self.leave(self.waiting[0], timeout)
                self.waiting.popleft()

    def give_up(self) -> None:
        self.control.abort()
        kept = len(self.waiting)
        # Told in place of the first block that nobody took, so that the stream has no gap.
        first = next((said.header for said in self.waiting if isinstance(said.header, Block)), None)
        if first is not None:
            news = replace(first, status="aborted", payload=(), last=True)
            with suppress(TimeoutError):
                self.stream.send(news.to_map(), timeout=ABORT_NOTICE)
        raise Aborted(
            f"this machine cannot pause, and nobody took the last {kept} blocks (room for {self.room}): the tracker is too "
            "slow for it, or timing.buffer_blocks of the device too small"
        )

    def answer(self, awaited: Awaits) -> None:
        began = max(self.due, self.clock())
        self.flush(None)
        due = awaited.path, awaited.k
        waits = due not in self.decided
        while due not in self.decided:
            # A path awaits many choices, which come as soon as they are known, and ends once.
            if wrong := {k for path, k in self.decided if path == awaited.path} - self.control.choices:
                raise DecisionFault(f"path {awaited.path!r}: decision {min(wrong)} came, {awaited.k} is due")
            self.note(self.stream.recv())
        if waits and self.round_ns:
            self.stall(began)
        elif waits:
            self.due = max(self.due, self.clock())
        self.control.decide(*due, self.decided[due])

    def note(self, message: Message) -> None:
        # Acknowledgements need no answer here: credit is the stream's affair.
        if message.header.get("type") != "decided":
            return
        try:
            path, k, values = message.header["path"], message.header["k"], bytes(message.payload[0])
        except (KeyError, IndexError) as error:
            raise DecisionFault(f"not a decision: {error!r}") from error
        if (began := self.left.pop(path, None)) is not None:
            self.reactions.append(time.monotonic_ns() - began)
        if self.decided.setdefault((path, k), values) != values:
            raise DecisionFault(f"path {path!r}: decision {k} came twice, with another value")

    def wait(self, said: Said, block: Block) -> Said:
        """Until the block is over on the machine's clock, taking in what comes meanwhile.  Returns it with its times.

        A block that is made too late leaves at once, and moves no other: the clock does not wait for it.
        """
        before = self.ends.get(block.path, self.ends.get(block.path.rpartition("/")[0], self.t0_ns))
        self.ends[block.path] = block.t_hw_ns
        self.due += block.t_hw_ns - before
        while (left := self.due - self.clock()) > 0:
            with suppress(TimeoutError):
                self.note(self.stream.recv(timeout=max(0, left - PATIENCE) / 1e9))
        header = replace(block, t_hw_ns=block.t_hw_ns + self.slipped_ns, late_ns=-left, stalled=self.stalled)
        self.stalled = 0
        return Said(header, said.frames)


def feed(
    control: Control,
    stream: Writer,
    batch: Batch,
    *,
    t0_ns: int = 0,
    can_pause: bool = True,
    buffer_blocks: int = 64,
    round_ns: int = 0,
    check: Callable[[], None] = lambda: None,
    clock: Callable[[], int] = time.monotonic_ns,
) -> dict[str, int]:
    """Runs a batch of a prepared machine to its end.  Returns what was sent: ``blocks`` and ``records`` (bits a shot).

    ``round_ns``: length of a round if they are to leave on the clock, 0 if time is virtual.  On the clock no block leaves
    before it is over by `Block.t_hw_ns`, counted from the start; how late it was stands in `Block.late_ns`.
    ``can_pause``: the machine waits while nothing is taken, and its clock with it; the rounds that it stood still stand
    in `Block.stalled`.  One that cannot is always on the clock: ``buffer_blocks`` of its blocks are kept while nothing is
    taken, and with one more the batch is aborted (Aborted), never slowed down.  Time stands still while a decision is
    awaited, which counts as stalled: rounds that only wait are not made.
    ``check`` is called before each block and raises when the batch is not wanted any more.

    Raises Aborted, DecisionFault, what the machine raises, what the stream raises; the machine is safe then.
    """
    feeding = _Feeding(control, stream, None if can_pause else buffer_blocks, round_ns, clock)
    on_clock = round_ns > 0 or not can_pause
    try:
        control.arm(batch)
        control.start(t0_ns)
        feeding.t0_ns, feeding.due = t0_ns, clock()
        while (item := control.next()) is not None:
            check()
            if isinstance(item, Awaits):
                feeding.answer(item)
                continue
            feeding.say(feeding.wait(item, item.header) if on_clock and isinstance(item.header, Block) else item)
        feeding.flush(None)
        stream.drain()
    except BaseException:
        control.abort()
        raise
    return {"blocks": feeding.blocks, "records": feeding.records}
