# SPDX-License-Identifier: Apache-2.0
"""Case `reaction` of `tools/bench`: from sending the last block before a decision to having the decision, as the adapter sees it.

The system is a daemon with its plugins, and rounds leave on a clock; what counts is `reaction_us` of the result, which the adapter
measures.  The floor is `bench_reaction_peer.py`: two processes that send the same bytes over the same kind of sockets at the
same pace, one of which decodes the same windows with the same templates and does nothing else.  Both take turns.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench_throughput import DECODER, NOISE, PLUGINS
from chaos_world import World, only

DISTANCES = (3, 5, 7, 9)
ROUND = 400e-6  # seconds: blocks do not wait for one another, also on a machine that others use
DECISIONS = 6  # of a shot
SHOTS = 60
REPEATS = 3
PERCENTILES = (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))

Row = dict[str, Any]


def rows(row: Callable[..., Row], bench: Any, repeats: int = REPEATS) -> list[Row]:
    """All rows of the case; ``row`` makes one."""
    found: list[Row] = []
    with World(config=only(*PLUGINS)) as world:
        bench.wait_until_ready(world.runtime)
        program = world.home / "decisions.qasm"
        program.write_text(_program())
        for distance in DISTANCES:
            found += _compared(row, bench, world, program, distance, repeats)
    return found


def _compared(
    row: Callable[..., Row], bench: Any, world: World, program: Path, distance: int, repeats: int
) -> list[Row]:
    def system(seed: int, shots: int = SHOTS) -> dict[str, float]:
        words = ["--distance", str(distance), "--noise", str(NOISE), "--decoder", DECODER, "--no-verify"]
        words += ["--shots", str(shots), "--batch", "1", "--set", f"round_time={ROUND}", "--seed", str(seed)]
        document = bench.qcosctl(world.runtime, "run", str(program), *words)
        times: dict[str, float] = document["reaction_us"]
        return times

    system(1, 4)  # templates are built
    ours, bare = [], []
    with _pair(world, program, distance) as ask:
        ask(SHOTS)
        for seed in range(2, 2 + repeats):
            ours.append(system(seed))
            taken = sorted(ask(SHOTS * DECISIONS))
            bare.append({name: taken[min(len(taken) - 1, int(share * len(taken)))] for name, share in PERCENTILES})
    what = f"bare: the same bytes and decoding, {repeats} x {SHOTS * DECISIONS} decisions in turns"
    found = []
    for name, _ in PERCENTILES:
        value, floor = (statistics.median(times[name] for times in all_) for all_ in (ours, bare))
        found.append(row(f"reaction d{distance} {name}", value, "us", floor, what))
    return found


def _program() -> str:
    """One qubit of two is measured again and again, and what happens to the other depends on it; after a while of idling."""
    again = "measure q[0] -> a[0];\nif (a==1) h q[1];\nreset q[0];\nh q[0];\n" * DECISIONS
    head = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg a[1];\ncreg b[1];\n'
    return f"{head}{'id q[0];' * 10}{'id q[1];' * 10}\nh q[0];\n{again}measure q[1] -> b[0];\n"


@contextmanager
def _pair(world: World, program: Path, distance: int) -> Iterator[Callable[[int], list[float]]]:
    """A function that lets the two bare processes exchange so many blocks and decisions."""
    script = Path(__file__).with_name("bench_reaction_peer.py")
    endpoint = f"ipc://{world.home}/bare"

    def start(role: str, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(script), role, endpoint, str(program), str(distance), str(NOISE), DECODER, *more],
            env=world.environment,  # the templates of the system are theirs
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def said(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"a bare process ended with {process.wait()}")
        return line

    tracker, machine = start("tracker"), start("machine", str(distance * ROUND))
    try:
        for process in (tracker, machine):
            said(process)

        def ask(count: int) -> list[float]:
            assert machine.stdin is not None
            machine.stdin.write(f"{count}\n")
            machine.stdin.flush()
            taken: list[float] = json.loads(said(machine))
            return taken

        yield ask
    finally:
        for process in (tracker, machine):
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                stream.close()
