# SPDX-License-Identifier: Apache-2.0
"""The two bare processes that `bench_reaction.py` compares with: one asks, the other decodes and answers, over the same sockets.

Both work out the same exchanges from the same seeds: the bytes of each block that completes a deciding window, what decoders are
asked for it, and the bytes of the decision.  The machine paces its blocks as the system's does and prints the microseconds
from each send to the answer, as one line of JSON for each number that it is given on a line.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgpack
import numpy as np
import zmq
from bench_tracker import Call, _decode, _Heard
from qcos_plugins.matching_tracker.cache import TemplateCache
from qcos_plugins.matching_tracker.disk import Disk, default_directory
from qcos_plugins.matching_tracker.plan import Plans
from qcos_plugins.matching_tracker.tracker import Tracker
from qcos_plugins.pytket_compile.compiler import compile_source
from qcos_plugins.stim_adapter.machine import Machine
from qcos_plugins.stim_adapter.steps import Compiler
from qcos_plugins.surface_code.prepare import prepare

from qcosd.qec.calibration import Calibration
from qcosd.qec.hardware import PATIENCE

SEEDS = 30


class Exchange(NamedTuple):
    """Frames of the block, what decoders are asked, frames of the decision."""

    block: list[bytes]
    calls: list[Call]
    decision: list[bytes]


def exchanges(source: bytes, distance: int, noise: float, decoder: str) -> list[Exchange]:
    """Those of some batches of one shot."""
    program, rates = prepare(compile_source(source)[0], distance), Calibration.uniform(noise)
    plans = Plans(program, rates, decoder=decoder, templates=TemplateCache(disk=Disk(default_directory())))
    compiler = Compiler(program, rates)
    calls: list[Call] = []
    list(_exchanges(plans, compiler, calls))  # builds what is missing
    for plan in plans._windows.values():
        for instance in plan.instances:
            if not isinstance(instance.template._compiled, _Heard):
                instance.template._compiled = _Heard(instance.template._compiled, calls)
    return list(_exchanges(plans, compiler, calls))


def _exchanges(plans: Plans, compiler: Compiler, calls: list[Call]) -> Iterator[Exchange]:
    for seed in range(SEEDS):
        tracker = Tracker(plans.program, plans.calibration, 1, plans=plans)
        machine = Machine(plans.program, plans.calibration, 1, seed, compiler=compiler).run()
        values, decided = None, np.zeros(0, np.uint8)
        while True:
            try:
                item = machine.send(values)
            except StopIteration:
                break
            values = None
            if item[0] == "decide":
                values = decided
                continue
            _, block, bits = item
            calls.clear()
            for reply in tracker.receive(block, np.array(bits)):
                if isinstance(reply, tuple):
                    header, decided = reply
                    data = [msgpack.packb(block.to_map()), bits.tobytes()]
                    yield Exchange(data, [*calls], [msgpack.packb(header.to_map()), decided.tobytes()])


def answer(endpoint: str, known: list[Exchange]) -> None:
    """Until it is ended."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(endpoint)
        print("ready", flush=True)
        for exchange in itertools.cycle(known):
            who, *_ = socket.recv_multipart()
            _decode(exchange.calls)
            socket.send_multipart([who, *exchange.decision])


def ask(endpoint: str, known: list[Exchange], interval: float) -> None:
    """Until nothing more is read."""
    again = itertools.cycle(known)
    patience = PATIENCE / 1e9
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.connect(endpoint)
        print("ready", flush=True)
        for line in sys.stdin:
            taken = []
            due = time.monotonic()
            for exchange in itertools.islice(again, int(line)):
                due = max(due + interval, time.monotonic())
                if (left := due - time.monotonic() - patience) > 0:
                    time.sleep(left)
                while time.monotonic() < due:
                    pass
                began = time.monotonic_ns()
                socket.send_multipart(exchange.block)
                socket.recv_multipart()
                taken.append((time.monotonic_ns() - began) / 1e3)
            print(json.dumps(taken), flush=True)


if __name__ == "__main__":
    role, at, program_file, d, p, name, *more = sys.argv[1:]
    found = exchanges(Path(program_file).read_bytes(), int(d), float(p), name)
    if role == "tracker":
        answer(at, found)
    else:
        ask(at, found, float(more[0]))
