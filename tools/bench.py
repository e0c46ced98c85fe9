# SPDX-License-Identifier: Apache-2.0
"""Measure qcosd beside what this machine cannot do without: `tools/bench NAME [--json]`.

NAME is a case, or `speed` for what takes a minute in all (the cases marked *):
  cold    GHZ-4, d = 5, p = 1e-3, 1000 shots, from nothing: `qcosctl run` with its private daemon
  warm    the same on a running daemon: the first job of its life, and a later one
  status  `qcosctl status`, start of the interpreter included
  ready   the daemon: start until it serves, until every plugin is ready, and its resident memory
  idle    share of one core that an idle daemon takes, its plugins not counted
  templates  the windows of a program: built, found on disk, found in memory; beside stim's part of building them
  reweight  new error rates for the windows of a program, and their checks, beside building them
  journal  appends to the journal: how long each takes, and how many a second when many wait
  decoders  each decoder that is admitted, beside plain matching
  tracker  from packed raw bits to committed frames: memory and GHZ-3, d = 3, 5, 9, 1 to 1024 shots, beside bare decoding
  adapter  a round of the simulated machine beside bare stim, a block on the stream to the tracker beside bare pyzmq
  flood   round trip of a plugin's PING while a client floods the daemon, beside the same without it
  recovery  kill -9 until ready again: a plugin, one with a warm spare, the daemon; beside bare asyncio, runit, systemd
  dead-time  between the end of a job and the beginning of the next one on the same component, both waiting
  queue     1 to 10,000 queued jobs: rate of submission, memory, restart, and whether all are there after it
  bus       a question through the broker to another process and back, 64 B to 64 KiB, and events; beside NATS, D-Bus, pyleco, bare ZeroMQ
  scaling   cost of a round with 1 to 20 patches and d = 3 to 15; the daemon with 1 to 200 idle plugins; jobs that wait: see queue
  throughput  shot-rounds a second through the system, d = 3 to 13, beside one bare process and sinter; --set workers=2
  reaction  the last block before a decision sent, until the decision is there, d = 3 to 9, beside two bare processes
  universal  programs with T gates: shots a second, d = 3, 5, beside the same machine and tracker in one process; growth
  soak      memory, latency and logical errors over --rounds rounds (10 million) of a d = 5 memory, one shot at a time
A row is {case, value, unit, floor, ratio, what}. The floor is measured here and now, by the bare libraries doing the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

QCOSCTL = str(Path(sys.executable).parent / "qcosctl")
SHOTS, DISTANCE, NOISE = 1000, 5, 1e-3
GHZ4 = """OPENQASM 2.0;
include "qelib1.inc";
qreg q[4];
creg c[4];
h q[0];
cx q[0], q[1];
cx q[1], q[2];
cx q[2], q[3];
measure q -> c;
"""
CLIENT_LIBRARIES = "import click, zmq, msgpack"
DAEMON_LIBRARIES = "import asyncio, click, zmq, msgpack, uvloop"
PLUGIN_LIBRARIES = "import numpy, stim, pymatching, pytket.qasm, pytket.passes, networkx, zmq, msgpack, asyncio"
IDLE_SECONDS = 10.0
BARE_LOOP = f"""
{DAEMON_LIBRARIES}
async def main():
    context = zmq.Context()
    for _ in range(3):
        context.socket(zmq.ROUTER).bind_to_random_port("tcp://127.0.0.1")
    print("ready", flush=True)
    await asyncio.Event().wait()
uvloop.run(main())
"""

Row = dict[str, Any]
options = argparse.Namespace()  # of the command line, for the cases that take any


def row(case: str, value: float, unit: str, floor: float, what: str) -> Row:
    """One line of the result; `what` says what the floor is."""
    ratio = round(value / floor, 2) if floor > 0 else None
    return {
        "case": case,
        "value": round(value, 3),
        "unit": unit,
        "floor": round(floor, 3),
        "ratio": ratio,
        "what": what,
    }


def timed(action: Callable[[], Any], repeats: int = 1) -> float:
    """Median of the seconds that `action` takes."""
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def python(code: str) -> Callable[[], Any]:
    return lambda: subprocess.run([sys.executable, "-c", code], check=True)


def qcosctl(runtime_dir: Path, *words: str) -> dict[str, Any]:
    """The JSON document of one command."""
    command = [QCOSCTL, "--runtime-dir", str(runtime_dir), *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@contextmanager
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qcos-bench-", dir="/tmp") as name:
        os.environ["CACHE_DIRECTORY"] = f"{name}/cache"  # what earlier runs have left is no part of a measurement
        yield Path(name)


@contextmanager
def running_daemon(place: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A daemon in `place`/run, and the seconds from its start until it served."""
    reading, writing = os.pipe()
    start = time.perf_counter()
    with (place / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "qcosd.shell.main", "--ready-fd", str(writing)]
            + ["--runtime-dir", str(place / "run"), "--state-dir", str(place / "state"), *options],
            pass_fds=(writing,),
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
    os.close(writing)
    try:
        with open(reading, "rb") as ready:
            if not ready.readline():
                sys.exit("the daemon did not start:\n" + (place / "daemon.log").read_text())
        yield process, time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(runtime_dir: Path) -> None:
    """Until every plugin takes work."""
    from qcosd.sdk.client import BlockingClient

    with BlockingClient(runtime_dir) as client:
        for event in client.events(["kernel"]):
            if event.state["state"] == "ready":
                return


def run_ghz(place: Path, seed: int) -> dict[str, Any]:
    program = place / "ghz4.qasm"
    program.write_text(GHZ4)
    size = ["--shots", str(SHOTS), "--distance", str(DISTANCE), "--noise", str(NOISE), "--seed", str(seed)]
    return qcosctl(place / "run", "run", str(program), *size)


def decode_as_much(detectors: int) -> None:
    """Sample and decode, in this process and in one go, shots of a surface code with as many detectors as the job had."""
    import pymatching
    import stim

    per_round = DISTANCE**2 - 1
    circuit = stim.Circuit.generated(
        "surface_code:rotated_memory_z",
        distance=DISTANCE,
        rounds=max(1, round(detectors / per_round)),
        after_clifford_depolarization=NOISE,
        before_round_data_depolarization=NOISE,
        before_measure_flip_probability=NOISE,
        after_reset_flip_probability=NOISE,
    )
    model = circuit.detector_error_model(decompose_errors=True)
    matching = pymatching.Matching.from_detector_error_model(model, enable_correlations=True)
    bits = circuit.compile_detector_sampler(seed=1).sample(SHOTS)[0:SHOTS]
    matching.decode_batch(bits, enable_correlations=True)


def bench_cold() -> list[Row]:
    with directory() as place:
        documents: list[dict[str, Any]] = []
        seconds = timed(lambda: documents.append(run_ghz(place, 1)))
    floor = timed(python(PLUGIN_LIBRARIES), 3) + timed(lambda: decode_as_much(documents[0]["detectors"]), 3)
    return [
        row(
            "cold", seconds, "s", floor, "import of the plugins' libraries; stim + pymatching, same shots and detectors"
        )
    ]


def bench_warm() -> list[Row]:
    documents: list[dict[str, Any]] = []
    with directory() as place, running_daemon(place):
        wait_until_ready(place / "run")
        first = timed(lambda: documents.append(run_ghz(place, 1)))
        later = timed(lambda: documents.append(run_ghz(place, len(documents) + 1)), 3)
    floor = timed(python(CLIENT_LIBRARIES), 3) + timed(lambda: decode_as_much(documents[0]["detectors"]), 3)
    what = "start of a client; stim + pymatching, same shots and detectors"
    return [row("warm", first, "s", floor, what), row("warm again", later, "s", floor, what)]


def bench_status() -> list[Row]:
    with directory() as place, running_daemon(place):
        wait_until_ready(place / "run")
        seconds = timed(lambda: qcosctl(place / "run", "status"), 21)
    floor = timed(python(CLIENT_LIBRARIES), 21)
    return [row("status", 1e3 * seconds, "ms", 1e3 * floor, "start of Python with click, zmq and msgpack")]


def bench_ready() -> list[Row]:
    serves, complete, resident = [], [], []
    for _ in range(3):
        start = time.perf_counter()
        with directory() as place, running_daemon(place) as (process, seconds):
            serves.append(seconds)
            wait_until_ready(place / "run")
            complete.append(time.perf_counter() - start)
            resident.append(resident_mb(process.pid))
    libraries = timed(python(DAEMON_LIBRARIES), 5)
    plugins = timed(python(PLUGIN_LIBRARIES), 3)
    with bare_loop() as bare:
        floor_mb = resident_mb(bare)
    return [
        row("ready serves", statistics.median(serves), "s", libraries, "start of Python with the daemon's libraries"),
        row("ready plugins", statistics.median(complete), "s", plugins, "start of Python with all plugins' libraries"),
        row("ready resident", statistics.median(resident), "MB", floor_mb, "an empty uvloop with three ROUTERs"),
    ]


def bench_idle() -> list[Row]:
    with directory() as place, running_daemon(place) as (process, _), bare_loop() as bare:
        wait_until_ready(place / "run")
        before = [cpu_seconds(pid) for pid in (process.pid, bare)]
        start = time.perf_counter()
        time.sleep(IDLE_SECONDS)
        elapsed = time.perf_counter() - start
        used = [cpu_seconds(pid) - earlier for pid, earlier in zip((process.pid, bare), before, strict=True)]
    return [
        row(
            "idle",
            100 * used[0] / elapsed,
            "% of a core",
            100 * used[1] / elapsed,
            "an empty uvloop with three ROUTERs",
        )
    ]


@contextmanager
def bare_loop() -> Iterator[int]:
    """The pid of a process that only has what any such daemon must have."""
    process = subprocess.Popen([sys.executable, "-c", BARE_LOOP], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def cpu_seconds(pid: int) -> float:
    """Time on a core, of all threads, from the scheduler's own count in nanoseconds."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def beside(name: str) -> list[Row]:
    """The rows of a case that has a file beside this one."""
    found: list[Row] = import_module(name).rows(row)
    return found


def bench_decoders(case: str) -> list[Row]:
    import bench_decoders as cases  # beside this file; loads the decoders

    return cases.rows(row, case)


def bench_journal() -> list[Row]:
    import bench_journal  # beside this file

    with directory() as place:
        return bench_journal.rows(row, place)


def bench_flood() -> list[Row]:
    import bench_flood  # beside this file

    return bench_flood.rows(row, sys.modules[__name__])


def bench_soak() -> list[Row]:
    import bench_soak as case  # beside this file

    return case.rows(row, sys.modules[__name__], options.rounds)


def bench_throughput() -> list[Row]:
    import bench_throughput as case  # beside this file

    return case.rows(row, sys.modules[__name__], options.set)


def bench_reaction() -> list[Row]:
    import bench_reaction as case  # beside this file

    return case.rows(row, sys.modules[__name__])


def bench_universal() -> list[Row]:
    import bench_universal as case  # beside this file

    return case.rows(row, sys.modules[__name__])


def bench_scaling() -> list[Row]:
    import bench_scaling as case  # beside this file

    return case.rows(row, sys.modules[__name__], options.plugins)


CASES: dict[str, Callable[[], list[Row]]] = {
    "cold": bench_cold,
    "warm": bench_warm,
    "status": bench_status,
    "ready": bench_ready,
    "idle": bench_idle,
    "journal": bench_journal,
    "templates": partial(bench_decoders, "templates"),
    "reweight": partial(bench_decoders, "reweight"),
    "decoders": partial(bench_decoders, "decoders"),
    "tracker": partial(beside, "bench_tracker"),
    "adapter": partial(beside, "bench_adapter"),
    "flood": bench_flood,
    "recovery": partial(beside, "bench_recovery"),
    "dead-time": partial(beside, "bench_dead_time"),
    "queue": partial(beside, "bench_queue"),
    "bus": partial(beside, "bench_bus"),
    "soak": bench_soak,
    "scaling": bench_scaling,
    "throughput": bench_throughput,
    "reaction": bench_reaction,
    "universal": bench_universal,
}
SPEED = ("cold", "warm", "status", "ready", "idle", "reweight", "decoders")  # what `speed` stands for: about a minute


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="tools/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=[*CASES, "speed"], metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout")
    parser.add_argument("--rounds", type=int, default=10_000_000, help="of soak; 100000 are a check")
    parser.add_argument("--plugins", type=int, default=200, help="of scaling: idle ones at the most, 30 MB each")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of throughput: of its jobs")
    arguments = parser.parse_args(namespace=options)
    names = list(SPEED) if arguments.name == "speed" else [arguments.name]
    rows = [line for name in names for line in CASES[name]()]
    if arguments.json:
        print(json.dumps({"name": arguments.name, "rows": rows}, indent=2))
        return
    print(f"{'case':<28}{'value':>12}  {'unit':<14}{'floor':>12}{'ratio':>8}  floor is")
    for line in rows:
        value, floor = (number(line[key], 3) for key in ("value", "floor"))
        print(
            f"{line['case']:<28}{value:>12}  {line['unit']:<14}{floor:>12}{number(line['ratio'], 2):>8}  {line['what']}"
        )


def number(value: float | None, digits: int) -> str:
    """For people; what could not be measured is a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
