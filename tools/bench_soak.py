# SPDX-License-Identifier: Apache-2.0
"""Case `soak` of `tools/bench`: memory of a long life. One qubit of distance 5 idles, one shot at a time, for `--rounds` rounds through the
running system. Does any process grow, does it get slower, and does it decode as well at the end as it should?

Jobs of SHOTS shots follow one another on one daemon, each shot a batch of its own. What is expected of the outcomes comes from stim and
pymatching alone: the circuit of a shorter memory that the same system has recorded is sampled and decoded globally, with the system's
idea of its errors, and its error rate is taken to the length of a shot: errors of blocks of rounds that follow one another flip independently.

The daemon has bounded stores that fill during the first jobs of its life: pages of the journal's database, ends of leases, what the
collector of reference cycles has not looked at yet. FILL jobs of a few rounds and as many records fill them before the rounds are counted.
What grows from then on is a leak: the last quarter of the jobs is compared with the one before.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos_world import World

from qcosd.ctl.options import JobOptions
from qcosd.sdk.client import BlockingClient

DISTANCE, NOISE, DECODER = 5, 2e-3, "pymatching-tempered"
IDLES = 200  # of d rounds each, in a shot
SHOTS = 20  # of a job
# Remembering is no growth, and a thousand jobs and an hour of artifacts would hide what is.
FORGETFUL = "[limits]\njobs_kept = 4\nartifact_grace = 1.0\ncollect_every = 5.0\n"
REFERENCE_IDLES, REFERENCE_SHOTS = 20, 50_000
FILL = 200  # jobs; from the 150th on a daemon that was watched for 800 of them grew by 0.3 kB a job
GROWTH, GROWTH_MB = (
    0.01,
    0.5,
)  # from one quarter to the next, above which a process is said to grow: the larger of the two
DRIFT = 1.1  # times as long in the last tenth as in the first, above which it is said to get slower
SIGMAS = 3.0  # between the shots that are wrong and those that should be
ROUNDS = 10_000_000

Row = dict[str, Any]


def rows(row: Callable[..., Row], bench: Any, rounds: int) -> list[Row]:
    """All rows of the case; ``row`` makes one. ``rounds``: how many in all, rounded up to whole jobs."""
    jobs = max(2, math.ceil(rounds / (IDLES * DISTANCE * SHOTS)))
    with World(config=FORGETFUL) as world:
        program = _program(world.home, IDLES)
        expected, uncertain, bare = _expected(world, bench)
        _run(world, bench, program, 1, shots=2)  # templates are built, libraries loaded
        _fill(world)
        resident: list[dict[str, float]] = []
        seconds: list[float] = []
        medians: list[float] = []
        controls: list[float] = []  # the same bare work beside each job: how fast the machine is just then
        wrong = done = 0
        spent = _per_process(world, _processor_seconds)
        begun = time.monotonic()
        for number in range(jobs):
            controls.append(bench.timed(bare))
            document = _run(world, bench, program, number + 2)
            seconds.append(document["seconds"]["execution"] / done_rounds(document))
            medians.append(document["latency_us"]["p50"])
            done += done_rounds(document)
            wrong += document["counts"].get("1", 0)
            resident.append(_per_process(world, bench.resident_mb))
            if sys.stderr.isatty() or number % max(1, jobs // 20) == 0:
                rate = done / (time.monotonic() - begun)
                print(f"{done:>10} rounds, {rate:.0f}/s, {wrong} of {(number + 1) * SHOTS} wrong, {sum(resident[-1].values()):.0f} MB", file=sys.stderr)  # fmt: skip
        elapsed = time.monotonic() - begun
        spent = {name: s - spent.get(name, 0.0) for name, s in _per_process(world, _processor_seconds).items()}
    tenth = max(1, jobs // 10)
    first, last = statistics.median(seconds[:tenth]), statistics.median(seconds[-tenth:])
    paced = [one / other for one, other in zip(seconds, controls, strict=True)]
    drift = statistics.median(paced[-tenth:]) / statistics.median(paced[:tenth])
    shots = jobs * SHOTS
    sigma = math.sqrt(expected * (1 - expected) / shots + uncertain**2)
    found = [
        row("soak rate", done / elapsed, "rounds/s", 1 / first, "rounds a second of execution alone, in the first tenth"),
        row("soak round", 1e6 * last, "us", 1e6 * first, "a round in the last tenth of the jobs; in the first"),
        row("soak drift", drift, "", 1.0, "the same, each as a multiple of bare decoding done just before"),
        row("soak latency", statistics.median(medians[-tenth:]), "us", statistics.median(medians[:tenth]), "p50 of windows in the first tenth (bins of 1, 2, 5)"),
        row("soak wrong", wrong / shots, "a shot", expected, f"stim + pymatching, global; {shots} shots, one sigma of the difference {sigma:.4f}"),
    ]  # fmt: skip
    found += _verdicts(row, resident, (last / first, drift), (wrong / shots, expected, sigma))
    for name, used in sorted(spent.items()):
        if used > 0.01 * elapsed:
            found.append(
                row(f"soak {name} CPU", 1e6 * used / done, "us/round", 1e6 * elapsed / done, "time that passed")
            )
    for name in sorted(resident[-1]):
        found.append(row(f"soak {name}", resident[-1][name], "MB", resident[0].get(name, 0.0), f"after the first of {jobs} jobs"))  # fmt: skip
    return found


def _verdicts(
    row: Callable[..., Row], resident: list[dict[str, float]], drifts: tuple[float, float], errors: tuple[float, float, float]
) -> list[Row]:  # fmt: skip
    """The three things that the case is for. ``drifts``: last to first tenth, as it is and beside bare decoding: a machine that gets
    busier raises the first, one that gets quieter the second, and a system that gets slower both. ``errors``: found, expected, sigma."""
    quarter = max(1, len(resident) // 4)
    grown, allowed, name = 0.0, GROWTH_MB, "nobody"
    for each in resident[-1]:
        before, after = (
            statistics.median(sizes.get(each, 0.0) for sizes in part)
            for part in (resident[-2 * quarter : -quarter], resident[-quarter:])
        )
        bound = max(GROWTH_MB, GROWTH * before)
        if (after - before) / bound > grown / allowed:
            grown, allowed, name = after - before, bound, each
    drift = min(drifts)
    share, expected, sigma = errors
    away = abs(share - expected) / sigma if sigma else math.inf
    flat = "flat" if grown <= allowed else "NOT FLAT"
    return [
        row("soak memory: verdict", grown, "MB", allowed, f"{flat}: what {name}, the worst, grew by from the third quarter of the jobs to the last; what is allowed"),
        row("soak latency: verdict", drift, "", DRIFT, f"{'no drift' if drift <= DRIFT else 'DRIFTS'}: last to first tenth, the lower of as it is and beside bare decoding; what is allowed"),
        row("soak errors: verdict", away, "sigma", SIGMAS, f"{'as expected' if away <= SIGMAS else 'NOT AS EXPECTED'}: how far the share of wrong shots is from what it should be; what is allowed"),
    ]  # fmt: skip


def done_rounds(document: dict[str, Any]) -> int:
    """Rounds of all shots of a job."""
    return int(document["rounds"]) * int(document["shots"])


def _program(home: Path, idles: int) -> Path:
    path = home / f"memory-{idles}.qasm"
    path.write_text(
        'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\ncreg c[1];\n' + "id q;\n" * idles + "measure q -> c;\n"
    )
    return path


def _run(world: World, bench: Any, program: Path, seed: int, *words: str, shots: int = SHOTS) -> dict[str, Any]:
    options = ["--distance", str(DISTANCE), "--noise", str(NOISE), "--batch", "1", "--decoder", DECODER, "--no-verify"]
    document: dict[str, Any] = bench.qcosctl(
        world.runtime, "run", str(program), "--shots", str(shots), "--seed", str(seed), *options, *words
    )
    return document


def _fill(world: World) -> None:
    """What is bounded and grows with jobs is full after these."""
    options = JobOptions(shots=SHOTS, distance=3, noise=NOISE, batch=1, seed=1, decoder=DECODER)
    text = _program(world.home, 1).read_bytes()
    for number in range(FILL):
        with BlockingClient(world.runtime) as client:
            job = client.submit(options.validated("fill.qasm", f"fill-{number}"), {"source": client.put(text)})
            if (state := client.wait(job)["state"]) != "done":
                sys.exit(f"soak: job {job} is {state}")


def _expected(world: World, bench: Any) -> tuple[float, float, Callable[[], Any]]:
    """Share of shots that global decoding gets wrong, and its standard deviation; and a piece of bare decoding that takes a moment."""
    import numpy as np
    import pymatching
    import stim
    from qcos_plugins.matching_tracker.model import matching_model

    records = world.home / "records"
    document = _run(world, bench, _program(world.home, REFERENCE_IDLES), 1, "--records", str(records), shots=2)
    (path,) = (records / "paths").iterdir()
    circuit = stim.Circuit.from_file(path / "circuit.stim")  # not the model: that is the decoder's idea of it
    sampler = circuit.compile_detector_sampler(seed=1)
    events, flips = sampler.sample(REFERENCE_SHOTS, separate_observables=True)
    seen = matching_model(stim.DetectorErrorModel.from_file(path / "model.dem"), DECODER)
    matching = pymatching.Matching.from_detector_error_model(seen, enable_correlations=True)
    decoded = matching.decode_batch(events, enable_correlations=True)
    share = float(np.mean(np.any(decoded != flips, axis=1)))
    length = IDLES * DISTANCE / int(document["rounds"])
    wrong = (1 - (1 - 2 * share) ** length) / 2
    uncertain = length * math.sqrt(share / REFERENCE_SHOTS) * (1 - 2 * share) ** (length - 1)
    return wrong, uncertain, lambda: matching.decode_batch(events[:1000], enable_correlations=True)


def _processor_seconds(pid: int) -> float:
    """Of all threads, also of those that have ended, which are a process's own for each batch."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _per_process(world: World, measure: Callable[[int], float]) -> dict[str, float]:
    """The sum of what is measured of the processes of the world, by what they are."""
    found: defaultdict[str, float] = defaultdict(float)
    for pid, command in world.processes().items():
        name = command.split("qcos_plugins.")[1].split(".")[0] if "qcos_plugins." in command else "qcosd"
        with contextlib.suppress(OSError, IndexError):  # it has ended
            found[name] += measure(pid)
    return dict(found)
