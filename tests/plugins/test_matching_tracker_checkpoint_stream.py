# SPDX-License-Identifier: Apache-2.0
"""A tracker that is killed while a machine runs: operation, stream and machine are the real ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from loopback import Framed, device_noise, prepared
from qcos_plugins.matching_tracker import follow, main
from qcos_plugins.matching_tracker.outcomes import VOLATILE
from qcos_plugins.tableau_adapter.machine import TableauMachine

from qcosd.qec.calibration import Calibration
from qcosd.qec.device import Device
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.hardware import Aborted, Batch, Control, Machine, feed
from qcosd.qec.placement import Placement
from qcosd.qec.terms import Terms
from qcosd.sdk import Refused, Revoked
from qcosd.sdk.links import MemoryLink, memory_pair
from qcosd.sdk.stream_session import KEPT, Grant
from qcosd.sdk.streams import StreamReader, StreamWriter
from qcosd.sdk.testing import make_lease

SHOTS = 21
RATES = Calibration.uniform(1e-3)
NOISE = Calibration.uniform(4e-3)
QASM = """OPENQASM 2.0; include "qelib1.inc";
qreg q[2]; creg a[1]; creg b[2];
h q[0]; cx q[0],q[1]; measure q[0] -> a[0]; id q[1]; id q[1]; id q[1]; if (a == 1) h q[1]; measure q[1] -> b[0];
if (b == 1) h q[0]; measure q[0] -> b[1];
"""
GRANT = Grant(7, 1, "rounds", "connect", "memory", "s" * 64, 4, resumes=True)


class Killed(Exception):
    """The process of the tracker is no more."""


class Mortal(StreamReader):
    """Lives for so many calls.  What it said before arrives."""

    def __init__(self, grant: Grant, link: MemoryLink | None, calls: int | None) -> None:
        super().__init__(grant, link)
        self.calls = calls

    def _live(self) -> None:
        if self.calls is not None:
            if self.calls == 0:
                raise Killed
            self.calls -= 1

    def resumed(self, timeout: float | None = None) -> list[bytes]:
        self._live()
        return super().resumed(timeout)

    def recv(self, timeout: float | None = None) -> Any:
        self._live()
        return super().recv(timeout)

    def ack(self, upto: int | None = None, checkpoint: bytes = b"", *pieces: bytes) -> None:
        self._live()
        super().ack(upto, checkpoint, *pieces)

    def send(self, header: Any, *payload: Any, timeout: float | None = None) -> None:
        self._live()
        super().send(header, *payload, timeout=timeout)


@cache
def program() -> FragmentProgram:
    return prepared(QASM)


@cache
def inputs() -> dict[str, bytes]:
    return {
        "fragments": program().to_bytes(),
        "calibration": RATES.to_bytes(),
        "placement": Placement.of("default", (0, 0), []).to_bytes(),
    }


def stim_machine() -> Machine:
    return Framed(replace(Device(), noise=device_noise(NOISE, erasure=0.002, lost=0.15, discard=0.01)), NOISE, {})


def tableau_machine() -> Machine:
    return TableauMachine(Terms(replace(Device(), noise=device_noise(NOISE))))


def ready(machine: Machine) -> Control:
    sites = {s for f in program().fragments for t in f.slots for p in t.parts for _, at in p.instructions for s in at}
    control = Control(machine)
    control.prepare(program(), Placement.of("default", (0, 0), sites))
    return control


class Bench:
    """A machine that runs a batch in a thread, and the trackers that follow it one after the other."""

    def __init__(self, folder: Path | None, pool: ThreadPoolExecutor) -> None:
        self._folder = folder
        self._pool = pool
        self._links: dict[int, tuple[MemoryLink, MemoryLink]] = {}
        self._readers: list[StreamReader] = []
        self.epoch = 1
        self.writer = StreamWriter(self._grant("connect"), self._link(self._grant("connect")), self._link)

    def _grant(self, role: str) -> Grant:
        place = "memory" if self._folder is None else f"ipc://{self._folder}/7.{self.epoch}"
        return replace(GRANT, role=role, epoch=self.epoch, endpoint=place)

    def _link(self, grant: Grant) -> MemoryLink | None:
        if self._folder is not None:
            return None
        return self._links.setdefault(grant.epoch, memory_pair())[grant.role == "connect"]

    def play(self, machine: Machine, seed: int = 3, **options: Any) -> None:
        self.done = self._pool.submit(self._play, machine, seed, options)

    def _play(self, machine: Machine, seed: int, options: dict[str, Any]) -> dict[str, int]:
        try:
            return feed(ready(machine), self.writer, Batch(0, SHOTS, seed), **options)
        finally:
            self.writer.close(final=True)

    def track(self, calls: int | None = None, operation: Callable[[Any], Any] = main.record, **options: Any) -> Any:
        reader = Mortal(self._grant("bind"), self._link(self._grant("bind")), calls)
        self._readers.append(reader)
        return operation(make_lease("track.run", inputs(), options, shots=SHOTS, batch=0, stream=reader))

    def take_over(self) -> None:
        self.epoch += 1
        self.writer.regrant(self._grant("connect"))

    def close(self) -> None:
        self.writer.wake(Revoked("the test is over"))
        for reader in self._readers:
            reader.close()


@pytest.fixture
def benches() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []
    with ThreadPoolExecutor() as pool:

        def new(folder: Path | None = None) -> Bench:
            made.append(Bench(folder, pool))
            return made[-1]

        yield new
        for bench in made:
            bench.close()


def lasting(result: Any) -> Any:
    summary = {**result.summary, "sum": {k: v for k, v in result.summary["sum"].items() if k not in VOLATILE}}
    return dict(result.outputs), dict(result.facts), summary


def run(bench: Bench, lives: Sequence[int], machine: Callable[[], Machine] = stim_machine) -> tuple[Any, int]:
    """The result of a batch whose trackers live for so many calls, and how many of them were killed."""
    bench.play(machine())
    killed = 0
    for calls in lives:
        try:
            result = bench.track(calls)
            break
        except Killed:
            killed += 1
            bench.take_over()
    else:
        result = bench.track()
    bench.done.result(60)
    return lasting(result), killed


@pytest.fixture(params=[1, follow.EVERY])
def every(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(follow, "EVERY", request.param)
    return int(request.param)


def test_checkpoints_come_before_the_producer_has_to_wait_for_them() -> None:
    assert follow.EVERY < KEPT


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.long)])
def test_whenever_the_tracker_dies_the_result_is_the_same(benches: Callable[..., Bench], every: int, step: int) -> None:
    undisturbed, _ = run(benches(), [])
    assert undisturbed[2]["sum"]["rounds_lost"]
    calls = 0
    while True:
        found, killed = run(benches(), [calls])
        assert found == undisturbed
        if not killed:
            break
        calls += step
    assert calls > 40  # two for each message, the checkpoints and the decisions


@pytest.mark.parametrize("lives", [(20, 3), (5, 0, 0, 30), (30, 20, 1), (2,) * 6])
def test_several_deaths_in_a_row(benches: Callable[..., Bench], lives: tuple[int, ...]) -> None:
    undisturbed, _ = run(benches(), [])
    assert run(benches(), lives) == (undisturbed, len(lives))


def test_the_other_machine_goes_on_as_well(benches: Callable[..., Bench]) -> None:
    undisturbed, _ = run(benches(), [], tableau_machine)
    assert run(benches(), [10, 25], tableau_machine) == (undisturbed, 2)


def test_over_sockets(benches: Callable[..., Bench], tmp_path: Path) -> None:
    undisturbed, _ = run(benches(), [])
    assert run(benches(tmp_path), [30, 7]) == (undisturbed, 2)


def test_what_another_tracker_left_is_refused_and_the_batch_begins_again(benches: Callable[..., Bench]) -> None:
    bench = benches()
    bench.play(stim_machine())
    with pytest.raises(Killed):
        bench.track(40)
    bench.take_over()
    with pytest.raises(Refused, match="another batch, program or version") as refusal:
        bench.track(set={"missing": "discard"})
    assert refusal.value.code == "retry_later"


def test_a_machine_that_cannot_pause_waits_for_a_successor_as_long_as_it_has_room(
    benches: Callable[..., Bench],
) -> None:
    undisturbed, _ = run(benches(), [])
    bench = benches()
    bench.play(stim_machine(), can_pause=False, buffer_blocks=1000)
    with pytest.raises(Killed):
        bench.track(17)
    bench.take_over()
    assert lasting(bench.track()) == undisturbed
    bench = benches()
    bench.play(stim_machine(), can_pause=False, buffer_blocks=1)
    with pytest.raises(Killed):
        bench.track(3)
    with pytest.raises(Aborted, match="room for 1"):
        bench.done.result(60)
