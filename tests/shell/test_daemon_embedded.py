# SPDX-License-Identifier: Apache-2.0
"""A private daemon: it ends with its parent, and nothing is left of it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

from qcosd_process import Client, Qcosd, wait_gone, wait_ready
from stubborn_plugin import stubborn

from qcosd.protocol import Type


def test_killing_an_embedded_daemon_leaves_no_process(tmp_path: Path) -> None:
    with Qcosd(f"--plugin-dir={stubborn(tmp_path)}", embedded=True) as daemon:
        client = daemon.client()
        wait_ready(client, "hello")
        pids = [row["pid"] for row in client.ask(Type.PLUGIN_LIST).body["plugins"]]
        assert len(pids) == 2
        daemon.stop(signal.SIGKILL)
        assert all(wait_gone(pid) for pid in pids)


def test_an_embedded_daemon_removes_its_directories_at_the_end() -> None:
    with Qcosd(embedded=True) as daemon:
        place = daemon.runtime.parent
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        wait_ready(daemon.client(), "hello")
        assert daemon.stop()[0] == 0
        assert not place.exists()


PARENT = """
import subprocess, sys
daemon = subprocess.Popen(sys.argv[1:], pass_fds=[int(sys.argv[-1])], start_new_session=True)
daemon.wait()
"""


def test_an_embedded_daemon_ends_with_its_parent(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "qcosd.shell.main", "--embedded", "--ready-fd", str(writing)]
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, *command], pass_fds=[writing], env=os.environ | {"TMPDIR": "/tmp"}
    ) as parent:
        os.close(writing)
        with open(reading, "rb") as pipe:
            ready = json.loads(pipe.readline())
        client = Client(Path(ready["runtime_dir"]))
        client.ask(Type.HELLO, name="test", versions=[1, 1])
        pids = [row["pid"] for row in client.ask(Type.PLUGIN_LIST).body["plugins"]]
        client.close()
        parent.kill()
        assert all(wait_gone(pid) for pid in [ready["pid"], *filter(None, pids)])
        assert not Path(ready["runtime_dir"]).parent.exists()


def test_a_private_daemon_keeps_no_journal() -> None:
    with Qcosd(embedded=True) as daemon:
        assert daemon.ready is not None
        daemon.client().plugin("hello")
        assert sorted(path.name for path in Path(daemon.ready["state_dir"]).iterdir()) == [
            "artifacts",
            "logs",
            "qcosd.lock",
        ]
        assert daemon.stop()[0] == 0
