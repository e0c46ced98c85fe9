# SPDX-License-Identifier: Apache-2.0
"""An operation that gives work away, with real workers: in one process on the bench, and in processes that are killed."""

from __future__ import annotations

import json
import os
import select
import signal
from pathlib import Path

import pooled_plugin
import pytest
from daemon_process import DaemonProcess

from qcosd.sdk import BlockingClient
from qcosd.sdk.testing import Bench, read_manifest

SUM = sum(value * value for value in range(pooled_plugin.COUNT))


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_on_the_bench(workers: int, tmp_path: Path) -> None:
    pooled_plugin.write(tmp_path)
    manifests = [read_manifest(tmp_path / name / "plugin.toml") for name in pooled_plugin.MANIFESTS]
    options = {"target": "summed", "shots": 2, "batch": 1, "set": {"workers": workers}}
    with Bench(*((pooled_plugin.plugin, manifest) for manifest in manifests)) as bench:
        outcome = bench.run({"greeting": b"go"}, **options)
    assert outcome.document["state"] == "done", outcome.document["error"]
    (row,) = [row for row in outcome.document["story"] if row["event"] == "helped"]
    assert (row["workers"], row["failures"], row["times"]) == (1, 0, 2), "one for each batch: there is one process"


def test_a_worker_is_killed_and_the_stream_goes_on_with_another() -> None:
    daemon = DaemonProcess()
    try:
        pooled_plugin.write(daemon.top / "plugins")
        os.mkfifo(daemon.marks / "first")
        reading = os.open(daemon.marks / "first", os.O_RDONLY | os.O_NONBLOCK)
        daemon.start()
        with BlockingClient(daemon.runtime) as client:
            options = {"target": "summed", "shots": 1, "set": {"workers": 1}}
            job = client.submit(options, {"greeting": client.put(b"go")})
            assert select.select([reading], [], [], 60.0)[0], "nobody was given anything"
            pid = int(os.read(reading, 100))
            (daemon.marks / "first").unlink()
            os.kill(pid, signal.SIGKILL)
            document = client.wait(job)
            summed = json.loads(client.get(document["outputs"][0]))
    finally:
        daemon.close()
    assert summed["sum"] == SUM and pid not in summed["by"] and len(summed["by"]) == 1
    assert (document["restarts"], document["shots_restarted"], document["degraded"]) == (0, 0, [])
    (row,) = [row for row in document["story"] if row["event"] == "helped"]
    assert (row["workers"], row["failures"]) == (1, 1)
