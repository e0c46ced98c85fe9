# SPDX-License-Identifier: Apache-2.0
"""Case `throughput` of `tools/bench`: shot-rounds a second through the running system, beside one bare process that does the same.

The system is a daemon with its plugins; what counts is the execution phase of a job of many batches of one memory, its templates
built before.  The floor is `bench_throughput_peer.py`: one process without streams, checks or frames, whose counts must be the
system's, bit by bit, for every job.  Beside it the same with stim's detector sampler in place of the machine's simulator, and
sinter (one worker, global decoding).  All take turns; figures are medians.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from chaos_world import ROOT, World, only

NOISE, DECODER = 1e-3, "pymatching-tempered"
DISTANCES = (3, 5, 9, 13)
SIZES = (1, 64, 1024)
SECONDS = 1.0  # of one measurement, about
MOST = 64  # batches of a job
REPEATS = 3
PLUGINS = ("stim_adapter", "matching_tracker", "surface_code", "pytket_compile", "pytket_optimise", "grid_mapper")
WORKERS = "decode_worker"  # the component that decodes for the tracker, where there is one

Row = dict[str, Any]


def rows(row: Callable[..., Row], bench: Any, settings: list[str], repeats: int = REPEATS) -> list[Row]:
    """All rows of the case; ``row`` makes one.  ``settings``: KEY=VALUE, of the jobs."""
    workers = [WORKERS] if (ROOT / "plugins" / WORKERS).exists() else []
    found: list[Row] = []
    with World(config=only(*PLUGINS, *workers)) as world:
        bench.wait_until_ready(world.runtime)
        for distance in DISTANCES:
            for size in SIZES:
                # A shot alone needs a long program, or nothing but the beginnings of batches is measured.
                program = _program(world.home, {1: 200, 64: 40}.get(size, 10))
                with _peer(world, program, distance) as ask:
                    found += _compared(row, bench, world, program, distance, size, ask, settings, repeats)
    if workers:
        for line in found:
            line["workers"] = next((int(s.partition("=")[2]) for s in settings if s.startswith("workers=")), None)
    return found


def _compared(
    row: Callable[..., Row],
    bench: Any,
    world: World,
    program: Path,
    distance: int,
    size: int,
    ask: Callable[..., dict[str, Any]],
    settings: list[str],
    repeats: int,
) -> list[Row]:
    ask("frames", size, 1, 1)  # loads what is needed
    once = ask("frames", size, 1, 1)["seconds"]
    batches = max(2, min(MOST, round(SECONDS / once)))
    _system(bench, world, program, distance, size, 2, 1, settings)
    taken: dict[str, list[float]] = {how: [] for how in ("system", "frames", "sampler", "sinter")}
    rounds, sinter = 0, find_spec("sinter") is not None
    for seed in range(2, 2 + repeats):
        document = _system(bench, world, program, distance, size, batches, seed, settings)
        rounds = document["rounds"]
        bare = ask("frames", size, batches, seed)
        if bare["wrong"] != document["counts"].get("1", 0):
            sys.exit(f"throughput d={distance}, {size} shots, seed {seed}: {bare['wrong']} ones in the bare process, {document['counts']} from the system")  # fmt: skip
        taken["system"].append(document["seconds"]["execution"])
        taken["frames"].append(bare["seconds"])
        taken["sampler"].append(ask("sampler", size, batches, seed)["seconds"])
        if size == max(SIZES) and sinter:
            taken["sinter"].append(ask("sinter", size, batches, seed)["seconds"])
    work = size * batches * rounds
    rates = {how: work / statistics.median(seconds) for how, seconds in taken.items() if seconds}
    name = f"throughput d{distance} {size}"
    floors = {
        "frames": f"bare: same simulator, windows, counts; {batches} batches of {rounds} rounds",
        "sampler": "bare: stim's detector sampler, same windows",
        "sinter": "sinter, one worker, global decoding",
    }
    found = [row(name, rates["system"], "rounds/s", rates[how], what) for how, what in floors.items() if how in rates]
    if size == max(SIZES) and not sinter:
        found.append({"case": name, "value": None, "unit": "rounds/s", "floor": None, "ratio": None, "what": "not measured: sinter is not installed (pip install '.[bench]')"})  # fmt: skip
    return found


def _program(home: Path, idles: int) -> Path:
    path = home / f"memory-{idles}.qasm"
    path.write_text(
        'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\ncreg c[1];\n' + "id q;\n" * idles + "measure q -> c;\n"
    )
    return path


def _system(
    bench: Any, world: World, program: Path, distance: int, size: int, batches: int, seed: int, settings: list[str]
) -> dict[str, Any]:
    words = [
        "--distance",
        str(distance),
        "--noise",
        str(NOISE),
        "--decoder",
        DECODER,
        "--no-verify",
        "--seed",
        str(seed),
    ]
    words += ["--shots", str(size * batches), "--batch", str(size)]
    words += [word for setting in settings for word in ("--set", setting)]
    document: dict[str, Any] = bench.qcosctl(world.runtime, "run", str(program), *words)
    return document


@contextmanager
def _peer(world: World, program: Path, distance: int) -> Iterator[Callable[..., dict[str, Any]]]:
    """A function that lets the bare process do a job."""
    script = Path(__file__).with_name("bench_throughput_peer.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(program), str(distance), str(NOISE), DECODER],
        env=world.environment,  # the templates of the system are its
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    reading, writing = process.stdout, process.stdin

    def answer() -> dict[str, Any]:
        line = reading.readline()
        if not line:
            raise RuntimeError(f"the bare process ended with {process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(how: str, shots: int, batches: int, seed: int) -> dict[str, Any]:
        writing.write(json.dumps({"how": how, "shots": shots, "batches": batches, "seed": seed}) + "\n")
        writing.flush()
        return answer()

    try:
        answer()  # what it is
        yield ask
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
