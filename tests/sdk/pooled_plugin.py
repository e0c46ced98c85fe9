# SPDX-License-Identifier: Apache-2.0
"""A producer, a consumer that gives work away, and workers: plugins for tests, as they are started by a daemon or by the bench.

The consumer adds up squares, and has each of them worked out by whoever is in its pool: nobody else can. A worker that finds a pipe
named ``first`` when it gets a number writes its process id there, takes what it is given and answers nothing.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from qcosd.sdk import Lease, Plugin, Result, wait

COUNT = 40
"""Numbers of a batch: more than a producer keeps without checkpoints."""

STREAM = 'each = "batch"\nconsumes = ["greeting"]\n'
MANIFESTS = {
    "feeder": f'[[operation]]\nservice = "feed"\nop = "run"\n{STREAM}stream_out = "numbers"\nresumes = true\n',
    "folder": f'[[operation]]\nservice = "fold"\nop = "run"\n{STREAM}stream_in = "numbers"\nproduces = ["summed"]\npool = "squares"\n',
    "squarer": f'[[operation]]\nservice = "square"\nop = "work"\n{STREAM}stream_in = "squares"\n',
}
HEAD = 'version = "1"\nprotocol = 1\nargv = ["{python}", "{folder}/main.py"]\n[restart]\nmax_deaths = 100\n'

plugin = Plugin()


def write(folder: pathlib.Path) -> None:
    """The three as folders in a plugin directory."""
    for name, operation in MANIFESTS.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "main.py").write_text(pathlib.Path(__file__).read_text())
        (folder / name / "plugin.toml").write_text(f'name = "{name}"\n{HEAD}{operation}')


@plugin.operation("feed", "run")
def feed(lease: Lease) -> None:
    for value in range(COUNT):
        lease.stream.send({"value": value})
    lease.stream.drain()


@plugin.operation("fold", "run")
def fold(lease: Lease) -> Result:
    numbers, waiting = lease.stream, []
    squares: dict[int, int] = {}
    by = set()
    while True:  # whoever is new is given something before anything is waited for
        workers = lease.pool.streams()
        while (message := numbers.poll()) is not None:
            waiting.append(message.header["value"])
        numbers.ack()
        for worker in workers:
            while (answer := worker.poll()) is not None:
                squares[answer.header["value"]] = answer.header["square"]
                by.add(answer.header["by"])
        for number, value in enumerate(waiting if workers else ()):
            workers[number % len(workers)].send({"value": value})
        waiting = [] if workers else waiting
        if len(squares) == COUNT:
            break
        wait([numbers, *workers])
        lease.progress(len(squares) / COUNT, "adding up")
    summed: dict[str, Any] = {"sum": sum(squares.values()), "by": sorted(by)}
    return lease.result({"summed": json.dumps(summed).encode()})


@plugin.operation("square", "work")
def work(lease: Lease) -> None:
    marks = os.environ.get("TEST_MARKS")
    for message in lease.stream:
        pipe = pathlib.Path(marks) / "first" if marks else None
        if pipe is not None and pipe.exists():
            pipe.write_text(f"{os.getpid()}\n")
            lease.cancelled.wait()
            lease.check()
        value = message.header["value"]
        lease.stream.send({"value": value, "square": value * value, "by": os.getpid()})
        lease.stream.ack(checkpoint=b"-")


if __name__ == "__main__":
    plugin.main()
