# SPDX-License-Identifier: Apache-2.0
"""The order of a machine's calls, and the loop that runs a batch: pauses, buffers, aborts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from loopback import PRIOR, prepared
from qcos_plugins.stim_adapter import main
from qcos_plugins.stim_adapter.simulator import Compilers, Simulator
from test_stim_adapter import BRANCHES

from qcosd.qec import hardware
from qcosd.qec.device import Device
from qcosd.qec.hardware import (
    Aborted,
    Awaits,
    Batch,
    Control,
    DecisionFault,
    OutOfOrder,
    Said,
    State,
    feed,
)
from qcosd.qec.noise import Noise
from qcosd.qec.placement import Placement
from qcosd.qec.stream import Block, Decided
from qcosd.sdk import Refused, Revoked
from qcosd.sdk.stream_session import StreamMessage
from qcosd.sdk.testing import make_lease, stream_pair

IDLE = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; ' + "id q[0];" * 12 + "measure q[0] -> c[0];"
LONG = prepared(IDLE)
BRANCHING = prepared(BRANCHES)
COMPILERS = Compilers()
PLACEMENT = Placement.of("default", (0, 0), ())
SHOTS = 9


class Watched(Simulator):
    """Calls ``before(n)`` before what it says n-th, and counts aborts."""

    def __init__(self, before: Callable[[int], None] = lambda n: None, **noise: float) -> None:
        super().__init__(Device(noise=Noise(**noise)), PRIOR, COMPILERS)
        self.before = before
        self.aborts = 0
        self.count = 0
        self.at_abort: Callable[[], None] = lambda: None

    def next(self) -> Said | Awaits | None:
        self.before(self.count)
        self.count += 1
        return super().next()

    def abort(self) -> None:
        super().abort()
        self.aborts += 1
        self.at_abort()


def ready(machine: Simulator, program: Any = LONG) -> Control:
    control = Control(machine)
    control.prepare(program, PLACEMENT)
    return control


def until_awaited(control: Control) -> Awaits:
    while not isinstance(item := control.next(), Awaits):
        assert item is not None
    return item


CALLS: dict[str, Callable[[Control], object]] = {
    "prepare": lambda control: control.prepare(BRANCHING, PLACEMENT),
    "arm": lambda control: control.arm(Batch(0, SHOTS, 1)),
    "start": lambda control: control.start(0),
    "next": lambda control: control.next(),
    "decide": lambda control: control.decide("", 0, b"\x00\x00"),
}
STEPS = ("prepare", "arm", "start")


@pytest.mark.parametrize(
    ("state", "allowed"),
    [
        (State.SAFE, {"prepare"}),
        (State.PREPARED, {"prepare", "arm"}),
        (State.ARMED, {"start"}),
        (State.RUNNING, {"next"}),
    ],
)
@pytest.mark.parametrize("call", CALLS)
def test_calls_out_of_order_are_refused_and_do_nothing(state: State, allowed: set[str], call: str) -> None:
    machine = Watched()
    control = Control(machine)
    for step in STEPS[: list(State).index(state)]:
        CALLS[step](control)
    assert control.state is state
    if call in allowed:
        CALLS[call](control)
        return
    with pytest.raises(OutOfOrder, match=call):
        CALLS[call](control)
    assert control.state is state
    assert machine.aborts == machine.count == 0


def test_a_decision_is_due_once_and_before_anything_else() -> None:
    control = ready(Watched(), BRANCHING)
    control.arm(Batch(0, SHOTS, 1))
    control.start(0)
    assert until_awaited(control) == Awaits("", 0, SHOTS)
    with pytest.raises(OutOfOrder, match="decision 0 of path '' is awaited"):
        control.next()
    for path, k in (("", 1), ("k0=0", 0)):
        with pytest.raises(OutOfOrder, match="not awaited"):
            control.decide(path, k, b"\x00\x00")
    for values in (b"", b"\x00", b"\x00\x02", b"\x00\x00\x00"):
        with pytest.raises(DecisionFault, match="9 shots"):
            control.decide("", 0, values)
    control.decide("", 0, b"\xff\x01")
    with pytest.raises(OutOfOrder):
        control.decide("", 0, b"\xff\x01")
    following = control.next()
    assert isinstance(following, Said)
    assert following.header.path == "k0=1"


def test_after_a_batch_the_machine_is_safe_and_must_be_prepared() -> None:
    control = ready(Watched())
    control.arm(Batch(0, 1, 1))
    control.start(0)
    while control.next() is not None:
        assert control.state is State.RUNNING
    assert control.state is State.SAFE
    with pytest.raises(OutOfOrder):
        control.arm(Batch(1, 1, 1))


@pytest.mark.parametrize("steps", range(4))
def test_an_abort_makes_it_safe_from_any_state(steps: int) -> None:
    machine = Watched()
    control = Control(machine)
    for step in STEPS[:steps]:
        CALLS[step](control)
    control.abort()
    assert control.state is State.SAFE
    control.abort()
    assert machine.aborts == 2
    # And it can be used again.
    reader, writer = stream_pair(credit=100)
    control.prepare(LONG, PLACEMENT)
    control.arm(Batch(0, 1, 1))
    control.start(0)
    assert control.next() is not None
    reader.close()
    writer.close()


def test_a_clock_before_zero_is_refused() -> None:
    control = ready(Watched())
    control.arm(Batch(0, 1, 1))
    with pytest.raises(ValueError, match="t0_ns"):
        control.start(-1)
    assert control.state is State.ARMED


def test_an_exception_of_the_machine_makes_it_safe() -> None:
    def fail(n: int) -> None:
        if n == 2:
            raise ZeroDivisionError

    machine = Watched(fail)
    reader, writer = stream_pair(credit=100)
    with pytest.raises(ZeroDivisionError):
        feed(ready(machine), writer, Batch(0, 1, 1))
    assert machine.aborts
    reader.close()


def test_work_that_is_not_wanted_any_more_makes_it_safe() -> None:
    calls = iter([None, None, ConnectionAbortedError()])

    def check() -> None:
        if (error := next(calls)) is not None:
            raise error

    machine = Watched()
    control = ready(machine)
    reader, writer = stream_pair(credit=100)
    with pytest.raises(ConnectionAbortedError):
        feed(control, writer, Batch(0, 1, 1), check=check)
    assert control.state is State.SAFE
    assert machine.aborts
    reader.close()


@pytest.mark.parametrize("program", [LONG, BRANCHING], ids=["no credit", "no decision"])
@pytest.mark.parametrize("can_pause", [True, False])
def test_a_revoked_lease_makes_it_safe_whatever_it_waits_for(program: Any, can_pause: bool) -> None:
    reader, writer = stream_pair(credit=2 if program is LONG else 1000)
    machine = Watched()
    control = ready(machine, program)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(feed, control, writer, Batch(0, SHOTS, 1), can_pause=can_pause, buffer_blocks=1000)
        reader.recv()
        reader.recv()
        writer.wake(Revoked("not wanted any more"))
        with pytest.raises(Revoked):
            running.result()
    assert control.state is State.SAFE
    assert machine.aborts
    reader.close()


# ---- a machine that can pause waits, one that cannot does not


def taken(reader: Any) -> list[Block]:
    """All that is there now, acknowledged, without the times of this run."""
    found = []
    while (message := reader.poll()) is not None:
        found.append(replace(Block.from_map(message.header), late_ns=None))
        reader.ack()
    return found


def expected() -> list[Block]:
    control = ready(Watched())
    control.arm(Batch(0, SHOTS, 1))
    control.start(0)
    found = []
    while (item := control.next()) is not None:
        assert isinstance(item, Said)
        found.append(item.header)
    return found  # type: ignore[return-value]


def test_a_machine_that_cannot_pause_keeps_what_nobody_takes_in_order() -> None:
    reader, writer = stream_pair(credit=1)
    got: list[Block] = []

    def take(n: int) -> None:
        if n % 3 == 2:  # two blocks in three have to wait
            got.extend(taken(reader))

    machine = Watched(take)
    with ThreadPoolExecutor() as pool:
        # What is left at the end is sent with patience, by which time nobody pauses.
        machine.before = lambda n: take(n) if n < 12 else None
        running = pool.submit(feed, ready(machine), writer, Batch(0, SHOTS, 1), can_pause=False, buffer_blocks=20)
        while not running.done():
            if machine.count >= 12:
                got.extend(taken(reader))
        blocks = running.result()["blocks"]
    assert got == expected()
    assert blocks == len(got)


def test_when_the_buffer_is_full_the_batch_is_aborted_without_a_gap() -> None:
    reader, writer = stream_pair(credit=2)
    got: list[Block] = []
    machine = Watched()
    machine.at_abort = lambda: got.extend(taken(reader))  # the tracker wakes up too late
    control = ready(machine)
    with pytest.raises(Aborted, match="room for 3"):
        feed(control, writer, Batch(0, SHOTS, 1), can_pause=False, buffer_blocks=3)
    assert control.state is State.SAFE
    got.extend(taken(reader))
    due = expected()
    assert got[:2] == due[:2]
    assert len(got) == 3
    end = got[2]
    assert (end.status, end.last, end.payload, end.round, end.m) == ("aborted", True, (), due[2].round, due[2].m)
    assert machine.count == 2 + 3 + 1  # credit, buffer, one too many


def test_a_tracker_that_takes_nothing_cannot_stop_the_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "ABORT_NOTICE", 0.01)
    reader, writer = stream_pair(credit=1)
    control = ready(Watched())
    with pytest.raises(Aborted):
        feed(control, writer, Batch(0, SHOTS, 1), can_pause=False, buffer_blocks=2)
    assert control.state is State.SAFE
    reader.close()


def test_a_machine_that_can_pause_waits_instead() -> None:
    reader, writer = stream_pair(credit=1)
    machine = Watched()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(feed, ready(machine), writer, Batch(0, SHOTS, 1), buffer_blocks=1)
        got = []
        while len(got) < len(expected()):
            message = reader.recv()
            assert machine.count <= len(got) + 2
            got.append(Block.from_map(message.header))
            reader.ack()
        running.result()
    assert got == expected()


def test_a_machine_that_cannot_pause_keeps_to_its_clock() -> None:
    now = 0
    left: list[tuple[int, int]] = []
    reader, writer = stream_pair(credit=1000)

    class Stamped:
        """The stream, which notes when what leaves it."""

        def send(self, header: dict[str, Any], *payload: bytes, timeout: float | None = None) -> int:
            left.append((now, header["t_hw_ns"]))
            return writer.send(header, *payload, timeout=timeout)

        def recv(self, timeout: float | None = None) -> Any:
            raise TimeoutError

        def poll(self) -> Any:
            return writer.poll()

        def drain(self, timeout: float | None = None) -> None:
            taken(reader)
            writer.drain(timeout)

    def clock() -> int:
        nonlocal now
        now += 100
        return now

    feed(ready(Watched()), Stamped(), Batch(0, 1, 1), t0_ns=5, can_pause=False, clock=clock)
    assert len(left) > 10
    assert all(at >= t - 5 for at, t in left)
    left.clear()
    began = now
    feed(ready(Watched()), Stamped(), Batch(0, 1, 1), clock=clock)
    assert left[-1][0] - began < left[-1][1]  # one that waits for others need not wait for a clock


class Timed:
    """A writer that has credit as long as ``full`` says no, and a clock that goes on by a nanosecond with each look."""

    def __init__(self, full: Callable[[int], int] = lambda n: 0) -> None:
        self.full = full  # n-th block -> nanoseconds until there is credit for it
        self.now = 1_000_000
        self.left: list[tuple[int, Block]] = []
        self.decisions: list[Any] = []

    def clock(self) -> int:
        self.now += 1
        return self.now

    def send(self, header: dict[str, Any], *payload: bytes, timeout: float | None = None) -> int:
        wait = self.full(len(self.left))
        if wait and timeout is not None:
            raise TimeoutError
        self.now += wait
        self.left.append((self.now, Block.from_map(header)))
        return len(self.left)

    def recv(self, timeout: float | None = None) -> Any:
        if timeout is None:
            self.now += 7_300  # a decision comes after that
            block = self.left[-1][1]
            header = Decided(block.path, block.path.count("="), block.shots).to_map()
            return StreamMessage(header, [bytes(-(-block.shots // 8))], 1)
        self.now += max(1, round(timeout * 1e9))
        raise TimeoutError

    def poll(self) -> None:
        return None

    def drain(self, timeout: float | None = None) -> None:
        return None


ROUND = 1000
LEAST = 50
"""Nanoseconds that a few looks at the clock take."""


def test_on_the_clock_no_block_leaves_before_its_time_and_late_ones_move_no_other() -> None:
    stream = Timed()

    def slow(n: int) -> None:
        stream.now += 9_400 * (n == 3)

    feed(ready(Watched(slow)), stream, Batch(0, 1, 1), t0_ns=5, round_ns=ROUND, clock=stream.clock)
    for i, (at, block) in enumerate(stream.left):
        due = 1_000_000 + block.t_hw_ns - 5
        assert block.late_ns is not None
        assert due <= at
        # Three rounds a block: what takes 9400 ns makes the fourth 6400 ns late, the next ones less and less.
        late = {3: 6_400, 4: 3_400, 5: 400}.get(i, 0)
        assert late <= block.late_ns <= late + LEAST
        assert block.stalled == 0
    assert [block.t_hw_ns - 5 for _, block in stream.left] == [
        ROUND * (block.round + len(block.m)) for _, block in stream.left
    ]


def test_without_credit_the_clock_of_a_machine_that_can_pause_stands_still() -> None:
    stream = Timed(lambda n: 4_200 * (n in (2, 5)))
    feed(ready(Watched()), stream, Batch(0, 1, 1), round_ns=ROUND, clock=stream.clock)
    assert {i: block.stalled for i, (_, block) in enumerate(stream.left) if block.stalled} == {3: 5, 6: 5}
    for i, (at, block) in enumerate(stream.left):
        assert block.late_ns is not None
        assert block.late_ns < LEAST
        assert block.t_hw_ns == ROUND * (block.round + len(block.m) + 5 * (i > 2) + 5 * (i > 5))
        assert at >= 1_000_000 + block.t_hw_ns


@pytest.mark.parametrize("can_pause", [True, False])
def test_a_decision_that_comes_late_is_a_stall(can_pause: bool) -> None:
    stream = Timed()
    feed(
        ready(Watched(), BRANCHING),
        stream,
        Batch(0, 1, 1),
        round_ns=ROUND,
        can_pause=can_pause,
        clock=stream.clock,
    )
    paths = [block.path for _, block in stream.left]
    stalls = {i: block.stalled for i, (_, block) in enumerate(stream.left) if block.stalled}
    assert stalls == {paths.index("k0=0"): 8, paths.index("k0=0/k1=0"): 8}
    times = [block.t_hw_ns for _, block in stream.left]
    assert times == sorted(set(times))


def test_time_stands_still_while_a_decision_is_awaited() -> None:
    """Everything that waits is sent first: the decision may depend on it."""
    reader, writer = stream_pair(credit=1)

    def answer() -> list[str]:
        paths = []
        for message in reader:
            block = Block.from_map(message.header)
            paths.append(block.path)
            depth = block.path.count("=")
            if block.slot == 0 and depth < 2:
                values = np.zeros(-(-block.shots // 8), np.uint8).tobytes()
                reader.send(Decided(block.path, depth, block.shots).to_map(), values)
            reader.ack()
        return paths

    with ThreadPoolExecutor() as pool:
        running = pool.submit(answer)
        control = ready(Watched(), BRANCHING)
        feed(control, writer, Batch(0, SHOTS, 1), can_pause=False, buffer_blocks=1000)
        writer.close()
    assert set(running.result()) == {"", "k0=0", "k0=0/k1=0"}


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        ({"type": "decided", "path": "", "k": 0, "shots": SHOTS}, (b"\x00",)),
        ({"type": "decided", "path": "", "k": 1, "shots": SHOTS}, (b"\x00\x00",)),
        ({"type": "decided", "path": "", "k": 0, "shots": SHOTS}, ()),
        ({"type": "decided", "k": 0}, (b"\x00\x00",)),
    ],
    ids=["too short", "another decision", "no values", "no path"],
)
def test_a_decision_that_is_none_is_a_fault_of_the_tracker(header: dict[str, Any], payload: tuple[bytes, ...]) -> None:
    reader, writer = stream_pair(credit=1000)
    lease = make_lease("hardware.run", inputs(), shots=SHOTS, batch=0, stream=writer)
    writer.open()
    reader.poll_link()
    reader.send(header, *payload)
    with pytest.raises(Refused) as refused:
        main.run(lease)
    assert (refused.value.code, refused.value.details) == ("wrong_input", {"stream": "rounds"})


def test_the_plugin_asks_for_another_try_after_an_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "ABORT_NOTICE", 0.01)
    reader, writer = stream_pair(credit=1)
    long = prepared(IDLE.replace("measure", "id q[0];" * 70 + " measure"))
    given = inputs(long)
    lease = make_lease("hardware.run", given, {"set": {"can_pause": "false"}}, shots=1, batch=0, stream=writer)
    with pytest.raises(Refused, match="cannot pause") as refused:
        main.run(lease)
    assert refused.value.code == "retry_later"
    assert reader.poll() is not None


def inputs(program: Any = BRANCHING) -> dict[str, bytes]:
    sites = {site for f in program.fragments for s in f.slots for p in s.parts for i in p.instructions for site in i[1]}
    given = {"fragments": program.to_bytes(), "placement": Placement.of("default", (2, 4), sites).to_bytes()}
    ready = main.prepare(make_lease("hardware.prepare", given)).outputs["ready"]
    return given | {"calibration": PRIOR.to_bytes(), "ready": ready}
