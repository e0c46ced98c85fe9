# SPDX-License-Identifier: Apache-2.0
"""Case `adapter` of `tools/bench`: what a round costs in the simulated machine and on the stream to the tracker.

Value and floor are taken in turns, so that whatever else the machine does hits both; each is a median. What one thread
does by itself is counted in its own processor time, what goes between processes by the clock.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import stim
import zmq
from bench_adapter_peer import CREDIT, MESSAGES, grant
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.stim_adapter.frames import FlipBatch
from qcos_plugins.stim_adapter.machine import Machine
from qcos_plugins.stim_adapter.simulator import Compilers, Simulator
from qcos_plugins.stim_adapter.steps import Compiler, GaugeFix, Run, Steer
from qcos_plugins.surface_code.prepare import prepare

from qcosd.qec.calibration import Calibration
from qcosd.qec.device import Device
from qcosd.qec.fragment import FragmentProgram
from qcosd.qec.hardware import Batch, Control, feed
from qcosd.qec.placement import Placement
from qcosd.qec.stream import Block
from qcosd.sdk.streams import StreamWriter

DISTANCE = 5
NOISE = Calibration.uniform(1e-3)
SHOTS = (1, 1024)
REPEATS = 15
HEAD = 'OPENQASM 2.0; include "qelib1.inc"; '
PROGRAMS = {
    "memory": HEAD + "qreg q[1]; creg c[1]; " + "id q[0];" * 60 + "measure q -> c;",
    "GHZ3": HEAD + "qreg q[3]; creg c[3]; h q[0]; cx q[0],q[1]; cx q[1],q[2]; measure q -> c;",
}

Rows = list[dict[str, Any]]


def rows(row: Callable[..., dict[str, Any]]) -> Rows:
    programs = {name: prepare(compile_source(qasm.encode())[0], DISTANCE) for name, qasm in PROGRAMS.items()}
    found = [
        line for name, program in programs.items() for shots in SHOTS for line in _machine(row, name, program, shots)
    ]
    for shots in SHOTS:
        found += _stream(row, shots)
        found += _fed(row, programs["memory"], shots)
    return found


def medians(*actions: Callable[[], float], repeats: int = REPEATS) -> list[float]:
    """Of the seconds that each action says it took; all take turns."""
    taken = [[action() for action in actions] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


# ---- the machine


def _machine(row: Callable[..., dict[str, Any]], name: str, program: FragmentProgram, shots: int) -> Rows:
    compiler = Compiler(program, NOISE)
    fragment = program.fragments[0]
    plans = [compiler.block(fragment, start) for start in compiler.blocks(fragment)]
    qubits, none = len(compiler.sites), np.zeros(-(-shots // 8), np.uint8)

    def bare() -> float:
        simulator = stim.FlipSimulator(batch_size=shots, num_qubits=qubits, seed=1)
        start = time.thread_time()
        for plan in plans:
            for step in plan.steps:
                if isinstance(step, Run):
                    simulator.do(step.circuit)
                elif isinstance(step, Steer | GaugeFix):
                    simulator.append_measurement_flips(none)
            simulator.get_observable_flips(bit_packed=True)
        return time.thread_time() - start

    def chunks() -> float:
        frames = FlipBatch(shots, qubits, 1)
        start = time.thread_time()
        for plan in plans:
            for step in plan.steps:
                if isinstance(step, Run):
                    frames.do(step.circuit)
                elif isinstance(step, Steer | GaugeFix):
                    frames.inject(none, step.pauli)
            frames.read(plan.records)
        return time.thread_time() - start

    def whole() -> float:
        machine = Machine(program, NOISE, shots, 1, compiler=compiler)
        start = time.thread_time()
        for _ in machine.run():
            pass
        return time.thread_time() - start

    floor, *values = medians(bare, chunks, whole)
    us = 1e6 / fragment.length
    what = f"bare FlipSimulator: do + get_observable_flips, {name}, d = {DISTANCE}, {shots} shots"
    return [
        row(case, us * value, "us/round", us * floor, what)
        for case, value in zip(("chunk + read", "whole step"), values, strict=True)
    ]


# ---- the stream


def _block(shots: int) -> tuple[dict[str, Any], np.ndarray]:
    m = (DISTANCE**2 - 1,) * DISTANCE
    block = Block(0, "", shots, 0, 20, 20, 20 * m[0], m, t_hw_ns=25_000)
    return block.to_map(), np.ones((sum(m), -(-shots // 8)), np.uint8)


@contextmanager
def _peer(role: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The other process, which has an endpoint to bind."""
    with tempfile.TemporaryDirectory(prefix="qcos-bench-", dir="/tmp") as place:
        endpoint = f"ipc://{place}/stream"
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("bench_adapter_peer.py")), role, endpoint],
            stdout=subprocess.PIPE,
        )
        try:
            yield endpoint, process
        finally:
            if process.wait(60):
                raise RuntimeError(f"the {role} of a stream ended with {process.returncode}")


class Spent(NamedTuple):
    """Seconds by the clock, and of the processors."""

    clock: float
    cpu: float


class Meter:
    """From its making on."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def spent(self, peer: subprocess.Popen[bytes] | None = None) -> Spent:
        """Here, and of the processor time what the peer says that it took there."""
        clock, cpu = self._began
        clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
        return Spent(clock, cpu if peer is None or peer.stdout is None else cpu + float(peer.stdout.readline()))


def _medians(*actions: Callable[[], Spent], repeats: int = 5) -> list[Spent]:
    taken = [[action() for action in actions] for _ in range(repeats)]
    return [Spent(*map(statistics.median, zip(*column, strict=True))) for column in zip(*taken, strict=True)]


def _stream(row: Callable[..., dict[str, Any]], shots: int) -> Rows:
    header, bits = _block(shots)
    frames = StreamWriter(grant("", "connect")).session.send(header, (bits,))

    def bare(*, answers: bool) -> Spent:
        with (
            _peer("bare answering" if answers else "bare") as (endpoint, process),
            zmq.Context() as context,
            context.socket(zmq.PAIR) as socket,
        ):
            socket.connect(endpoint)
            socket.recv()
            meter = Meter()
            for sent in range(MESSAGES):
                if answers and sent >= CREDIT:
                    socket.recv()
                socket.send_multipart(frames)
            for _ in range(CREDIT if answers else 0):
                socket.recv()
            socket.recv()
            return meter.spent(process)

    def ours() -> Spent:
        with _peer("reader") as (endpoint, process), StreamWriter(grant(endpoint, "connect")) as writer:
            writer.recv()
            meter = Meter()
            for _ in range(MESSAGES):
                writer.send(header, bits)
            writer.drain()
            return meter.spent(process)

    one_way, answered, value = _medians(lambda: bare(answers=False), lambda: bare(answers=True), ours)
    us, size = 1e6 / MESSAGES, f"{sum(len(memoryview(f).cast('B')) for f in frames)} bytes"
    with_answers = f"the same with an empty answer to each, {CREDIT} at most open"
    return [
        row(
            "stream", us * value.clock, "us/block", us * one_way.clock, f"bare PAIR over ipc, one way, the same {size}"
        ),
        row("stream", us * value.clock, "us/block", us * answered.clock, with_answers),
        row("stream cpu", us * value.cpu, "us/block", us * answered.cpu, f"{with_answers}; both processes"),
        row("stream rate", MESSAGES / value.clock, "blocks/s", MESSAGES / one_way.clock, "one way"),
    ]


def _fed(row: Callable[..., dict[str, Any]], program: FragmentProgram, shots: int) -> Rows:
    """From the machine to the arrays of a tracker that does not decode."""
    compilers = Compilers()
    control = Control(Simulator(Device(), NOISE, compilers))
    placement = Placement.of("default", (0, 0), ())

    def alone() -> Spent:
        machine = Machine(program, NOISE, shots, 1, compiler=compilers.of(program, NOISE, (0, 0)))
        meter = Meter()
        for _ in machine.run():
            pass
        return meter.spent()

    def fed() -> Spent:
        with _peer("follower") as (endpoint, process), StreamWriter(grant(endpoint, "connect")) as writer:
            writer.recv()
            control.prepare(program, placement)
            meter = Meter()
            feed(control, writer, Batch(0, shots, 1))
            return meter.spent(process)

    floor, value = _medians(alone, fed)
    us, what = 1e6 / program.fragments[0].length, f"the machine alone, its whole step, {shots} shots"
    return [
        row("fed", us * value.clock, "us/round", us * floor.clock, what),
        row("fed cpu", us * value.cpu, "us/round", us * floor.cpu, f"{what}; both processes"),
    ]
