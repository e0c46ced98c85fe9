# SPDX-License-Identifier: Apache-2.0
"""The demo: one program, two code distances, with and without decoding. Started by tools/demo.

Every run is the installed command `qcosctl run --json` in a process of its own, with no daemon there, so each one starts
a private daemon and its plugins, and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "etc" / "examples" / "ghz.qasm"
QCOSCTL = Path(sys.executable).parent / "qcosctl"


def run(distance: int, noise: float, shots: int, seed: int) -> dict[str, Any]:
    """The result document of one run. Ends the demo where the run fails."""
    options = {"--distance": distance, "--noise": noise, "--shots": shots, "--seed": seed}
    words = [str(word) for option in options.items() for word in option]
    print(f"$ qcosctl run {PROGRAM.relative_to(ROOT)} {' '.join(words)} --json", flush=True)
    with tempfile.TemporaryDirectory(prefix="demo-") as nowhere:
        done = subprocess.run(
            [QCOSCTL, "run", PROGRAM, *words, "--json"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "QCOS_RUNTIME_DIR": nowhere},  # whatever daemon the user has is not the demo's
        )
    if done.returncode != 0:
        sys.exit(done.returncode)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def forbidden(counts: Mapping[str, int]) -> float:
    """The share of shots whose bits differ from one another: a GHZ state never gives them."""
    wrong = sum(n for outcome, n in counts.items() if len(set(outcome)) > 1)
    return wrong / sum(counts.values())


def show(document: Mapping[str, Any]) -> None:
    counts, raw = document["counts"], document["counts_undecoded"]
    shots = sum(counts.values())
    print(f"\n  distance {document['distance']}, noise {document['noise']:g}, {shots} shots, "
          f"{document['rounds']} rounds, {document['detection_events']} detection events")  # fmt: skip
    print(f"    {'outcome':<10}{'decoded':>10}{'undecoded':>12}")
    for outcome in sorted(set(counts) | set(raw)):
        mark = "" if len(set(outcome)) == 1 else "   forbidden"
        print(f"    {outcome:<10}{counts.get(outcome, 0):>10}{raw.get(outcome, 0):>12}{mark}")
    seconds, latency = document["seconds"], document["latency_us"]
    print(
        f"    logical error rate (forbidden outcomes): {forbidden(raw):.3%} undecoded, {forbidden(counts):.3%} decoded"
    )
    print(f"    decoder {document['decoder']}, window commit {document['window']['commit']} buffer {document['window']['buffer']}"
          + (f", reaction p50 {latency['p50']} us p99 {latency['p99']} us" if latency else ""))  # fmt: skip
    print(
        f"    time {seconds['total']:.2f} s: boot {seconds['boot']:.2f} s, execution {seconds['execution']:.2f} s\n",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/demo", description=__doc__.splitlines()[0])
    parser.add_argument("--noise", type=float, default=1e-3, help="physical error rate (default %(default)s)")
    parser.add_argument("--shots", type=int, default=2000, help="shots of each run (default %(default)s)")
    parser.add_argument("--seed", type=int, default=2026, help="seed (default %(default)s)")
    arguments = parser.parse_args()
    print(PROGRAM.read_text())
    documents = [run(distance, arguments.noise, arguments.shots, arguments.seed) for distance in (3, 5)]
    for document in documents:
        show(document)
    # What is shown must be true: decoding never makes it worse.
    return int(any(forbidden(d["counts"]) > forbidden(d["counts_undecoded"]) for d in documents))


if __name__ == "__main__":
    sys.exit(main())
