# SPDX-License-Identifier: Apache-2.0
"""Case `scaling` of `tools/bench`: what a round costs with more patches, larger ones, and CNOTs, and with decode workers; what the daemon
costs with more plugins.

Each floor is what the smallest would cost if everything were linear: in patches, in the detectors of a round (d^2 - 1), in hands as
far as there are cores, in plugins. Where the ratio leaves 1, that is where it stops being so. The first run of a program builds window templates and
stands by itself; the median of REPEATS later ones counts. More of the jobs
that wait is in `queue`.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from chaos_world import ROOT, World, only, until

from qcosd.sdk.client import BlockingClient

SHOTS, NOISE = 64, 1e-3
ROUNDS = 300  # of a program, about: what a batch costs once is then little
REPEATS = 2
PATCHES = (1, 2, 4, 8, 12, 16, 20)
LADDERS = (2, 4, 8)  # patches with a CNOT from each to the next, again and again
DISTANCES = (3, 5, 7, 9, 11, 13, 15)
WORKERS = (0, 1, 2, 3, 4)
WORKED = ((9, 64), (13, 256))  # distances and shots at which decoding takes most of the time
IDLE_SECONDS = 5.0
PATIENCE = 240.0

Row = dict[str, Any]


def rows(row: Callable[..., Row], bench: Any, plugins: int) -> list[Row]:
    """All rows of the case; ``row`` makes one. ``plugins``: idle ones at the most."""
    found: list[Row] = []
    with World() as world:
        bench.wait_until_ready(world.runtime)
        for name, sizes, program in (
            ("memory", [(n, 3) for n in PATCHES], _memory),
            ("ladder", [(n, 3) for n in LADDERS], _ladder),
            ("memory", [(1, d) for d in DISTANCES], _memory),
        ):
            linear = 0.0
            for patches, distance in sizes:
                case = f"{name} {patches} x d={distance}"
                path = world.home / "program.qasm"
                path.write_text(program(patches, distance))
                words = ["--distance", str(distance), "--shots", str(SHOTS), "--batch", str(SHOTS), "--noise", str(NOISE), "--no-verify"]  # fmt: skip
                runs = [
                    bench.qcosctl(world.runtime, "run", str(path), *words, "--seed", str(n)) for n in range(1 + REPEATS)
                ]
                first, *later = [1e6 * each["seconds"]["execution"] / each["rounds"] for each in runs]
                cost, size = statistics.median(later), patches * (distance**2 - 1)
                linear = linear or cost / size
                rounds = runs[0]["rounds"]
                what = f"linear in patches and detectors from the first; {rounds} rounds, {SHOTS} shots"
                found.append(row(case, cost, "us/round", linear * size, what))
                found.append(
                    row(
                        f"{case} first",
                        first * rounds / 1e6,
                        "s",
                        cost * rounds / 1e6,
                        "the same once its templates are there",
                    )
                )
        for distance, shots in WORKED:
            found += _workers(row, bench, world, distance, shots)
    return found + _plugins(row, bench, plugins)


def _workers(row: Callable[..., Row], bench: Any, world: World, distance: int, shots: int) -> list[Row]:
    """Parallel windows with more and more workers; all take turns."""
    path = world.home / "program.qasm"
    path.write_text(_memory(1, distance))
    words = ["--distance", str(distance), "--shots", str(4 * shots), "--batch", str(shots), "--noise", str(NOISE), "--no-verify", "--set", "windows=parallel"]  # fmt: skip

    def run(workers: int, seed: int) -> tuple[float, dict[str, int]]:
        done = bench.qcosctl(
            world.runtime, "run", str(path), *words, "--seed", str(seed), "--set", f"workers={workers}"
        )
        return 1e6 * done["seconds"]["execution"] / (4 * done["rounds"]), done["counts"]

    run(max(WORKERS), 0)  # templates are built, and as many workers started as will be
    taken: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for seed in range(1, 2 + REPEATS):
        outcomes = []
        for workers in WORKERS:
            cost, counts = run(workers, seed)
            taken[workers].append(cost)
            outcomes.append(counts)
        if any(counts != outcomes[0] for counts in outcomes):
            sys.exit(f"scaling: the counts of seed {seed} depend on the number of workers: {outcomes}")
    cores = len(os.sched_getaffinity(0))
    alone = statistics.median(taken[0])
    return [
        row(
            f"workers {workers}, d={distance}, {shots} shots",
            statistics.median(costs),
            "us/round",
            alone / min(1 + workers, cores),
            f"the tracker alone, shared by as many hands as there are, {cores} at most",
        )
        for workers, costs in taken.items()
    ]


def _memory(patches: int, distance: int) -> str:
    idle = "".join(f"id q[{n}];\n" for n in range(patches)) * max(2, round(ROUNDS / distance))
    return _program(patches, idle)


def _ladder(patches: int, distance: int) -> str:
    cnots = "".join(f"cx q[{n}], q[{n + 1}];\n" for n in range(patches - 1))
    fenced = cnots + "barrier q;\n"  # or the optimiser would take two of a kind away
    return _program(patches, fenced * max(1, round(ROUNDS / (2 * distance * (patches - 1)))))


def _program(patches: int, body: str) -> str:
    return f'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[{patches}];\ncreg c[{patches}];\n{body}measure q -> c;\n'


def _plugins(row: Callable[..., Row], bench: Any, most: int) -> list[Row]:
    """Share of a core and memory of the daemon with idle plugins."""
    found: list[Row] = []
    first: tuple[float, float, int] | None = None
    for count in sorted({n for n in (1, 50, 200) if n <= most} | {most}):
        with tempfile.TemporaryDirectory(prefix="qcos-b-", dir="/tmp") as place:
            shutil.copytree(ROOT / "plugins" / "hello", folder := Path(place) / "hello")
            manifest = folder / "plugin.toml"
            text = manifest.read_text().replace("readiness_timeout = 30.0", f"readiness_timeout = {PATIENCE}")
            manifest.write_text(f"replicas = {count}\n{text}")
            with World("--plugin-dir", place, config=only("hello")) as world:
                start = time.monotonic()
                with BlockingClient(world.runtime, connect_grace=PATIENCE) as client:
                    ready = until(partial(_all_ready, client, count), PATIENCE)
                if not ready:
                    found.append({"case": f"plugins {count}", "value": None, "unit": "", "floor": None, "ratio": None, "what": f"not measured: not ready within {PATIENCE:g} s"})  # fmt: skip
                    continue
                up = time.monotonic() - start
                pid = world.keeper.lives[-1].pid
                before, begun = bench.cpu_seconds(pid), time.monotonic()
                time.sleep(IDLE_SECONDS)
                share = 100 * (bench.cpu_seconds(pid) - before) / (time.monotonic() - begun)
                resident = bench.resident_mb(pid)
        first = first or (share, resident, count)
        linear = first[0] * count / first[2]
        found += [
            row(f"plugins {count} idle", share, "% of a core", linear, "the daemon, linear from the first"),
            row(f"plugins {count} resident", resident, "MB", first[1], f"the daemon with {first[2]}"),
            row(f"plugins {count} ready", up, "s", 0.0, "until all of them are"),
        ]
    return found


def _all_ready(client: BlockingClient, count: int) -> bool:
    return sum(each["state"] == "ready" for each in client.plugins()) == count
