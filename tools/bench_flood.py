# SPDX-License-Identifier: Apache-2.0
"""What a client that floods the daemon does to a plugin: round trips of a plugin's PING, with the flood and without it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 2.0  # of each measurement
ROUNDS = 4  # of measurements with and without, in turn: what else the machine does meets both
PLUGIN = """
import sys, time, zmq
from qcosd import protocol
from qcosd.protocol import Message, Side, Type
from qcosd.sdk.boot import read_boot_map

boot = read_boot_map()
bus = zmq.Context().socket(zmq.DEALER)
bus.linger, bus.plain_username, bus.plain_password = 0, boot.identity.encode(), boot.token.encode()
bus.connect(boot.endpoint)

def ask(number, kind, body):
    bus.send_multipart(protocol.encode(Message(kind, body, id=number)))
    while (reply := protocol.decode(bus.recv_multipart(), Side.KERNEL)).id != number:
        if reply.type is Type.STOP:
            sys.exit()

ask(1, Type.HELLO, {"name": "flooded", "versions": [1, 1], "ready": True})
with open(sys.argv[1], "w") as file:
    number = 1
    while True:
        number += 1
        start = time.monotonic()
        ask(number, Type.PING, {})
        file.write(f"{start} {time.monotonic() - start}\\n")
        file.flush()
        time.sleep(0.002)
"""
CLIENT = """
import sys, zmq
from pathlib import Path
from qcosd import protocol
from qcosd.protocol import Message, Type

runtime, kind = Path(sys.argv[1]), Type[sys.argv[2]]
bus = zmq.Context().socket(zmq.DEALER)
bus.linger, bus.plain_username, bus.plain_password = 0, b"client", (runtime / "client.token").read_bytes().strip()
bus.connect(f"ipc://{runtime}/clients.sock")
bus.send_multipart(protocol.encode(Message(Type.HELLO, {"name": "flood", "versions": [1, 1]}, id=1)))
number = answers = 1
while True:
    try:
        bus.send_multipart(protocol.encode(Message(kind, {}, id=(number := number + 1))), zmq.NOBLOCK)
    except zmq.Again:
        bus.poll(1000)
    while bus.poll(0):
        bus.recv_multipart()
        answers += 1
        if answers == 1000:
            print("flooding", flush=True)
"""


def rows(row: Callable[..., dict[str, Any]], bench: Any) -> list[dict[str, Any]]:
    """p50 and p99 of the round trip under floods of cheap and of dear requests, beside those without, and beside those of the
    same flood on another daemon, which takes as much of the machine and nothing of this one."""
    lines = []
    with bench.directory() as place, bench.directory() as elsewhere:
        measured = place / "round-trips"
        config = plugin_only(place, measured)
        mine = bench.running_daemon(place, f"--config={config}", f"--plugin-dir={place / 'plugins'}")
        with mine, bench.running_daemon(elsewhere, f"--config={config}"):
            while not measured.exists() or measured.stat().st_size == 0:
                time.sleep(0.01)
            for kind in ("PING", "STATUS"):
                quiet, aside, flooded = [], [], []
                for _ in range(ROUNDS):
                    quiet += round_trips(measured)
                    with flood(elsewhere / "run", kind):
                        aside += round_trips(measured)
                    with flood(place / "run", kind):
                        flooded += round_trips(measured)
                for name, share in (("p50", 49), ("p99", 98)):
                    value, *floors = (
                        1e6 * statistics.quantiles(times, n=100)[share] for times in (flooded, quiet, aside)
                    )
                    case = f"flood {kind} {name}"
                    for floor, what in zip(
                        floors, ("without a flood", "the same flood on another daemon"), strict=True
                    ):
                        lines.append(row(case, value, "us", floor, f"a plugin's PING, {what}"))
    return lines


def plugin_only(place: Path, measured: Path) -> Path:
    """Lay out a plugin that measures, and a configuration without any other."""
    from qcosd.shell.manifest import find_manifests

    folder = place / "plugins" / "flooded"
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(PLUGIN)
    (folder / "plugin.toml").write_text(
        f'name = "flooded"\nversion = "1"\nargv = ["{{python}}", "{{folder}}/main.py", "{measured}"]\n'
    )
    config = place / "qcosd.toml"
    others = [manifest.name for manifest in find_manifests([], [])]
    config.write_text(f"[plugins]\ndisable = {others}\n")
    return config


def round_trips(measured: Path) -> list[float]:
    """Seconds of each round trip that begins and ends within the next SECONDS."""
    start = time.monotonic()
    time.sleep(SECONDS)
    end = time.monotonic()
    pairs = (tuple(map(float, line.split())) for line in measured.read_text().splitlines()[:-1])
    return [seconds for began, seconds in pairs if start <= began and began + seconds <= end]


@contextmanager
def flood(runtime_dir: Path, kind: str) -> Iterator[None]:
    """A client that sends as fast as it can and reads what it gets."""
    client = subprocess.Popen([sys.executable, "-c", CLIENT, str(runtime_dir), kind], stdout=subprocess.PIPE)
    assert client.stdout is not None
    try:
        if client.stdout.readline() != b"flooding\n":
            sys.exit("the flood did not begin")
        yield
    finally:
        client.kill()
        client.wait()
        client.stdout.close()
