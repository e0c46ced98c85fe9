# SPDX-License-Identifier: Apache-2.0
"""A real daemon with the hello plugin, for the tests that need processes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from qcosd.shell.manifest import find_manifests

SLOW_PLUGIN = '''
import os, pathlib
from qcosd.sdk import Plugin

plugin = Plugin()
MARKS = pathlib.Path(os.environ["TEST_MARKS"])


@plugin.operation("slow", "work")
def work(lease):
    """Waits in its first life for whatever ends it."""
    first = not (MARKS / "first").exists()
    (MARKS / "first").touch()
    if first:
        lease.progress(0.1, "in its first life")
        lease.cancelled.wait()
        lease.check()
    return lease.result({"worked": b"%d" % lease.epoch})


@plugin.operation("slow", "stuck")
def stuck(lease):
    """Does not look whether it is still wanted."""
    lease.progress(0.1, "for ever")
    while True:
        pass


if __name__ == "__main__":
    plugin.main()
'''

SLOW_MANIFEST = """
name = "slow"
version = "1"
protocol = 1
argv = ["{python}", "{folder}/main.py"]
[restart]
policy = "always"
max_deaths = 100
[[operation]]
service = "slow"
op = "work"
consumes = ["work"]
produces = ["worked"]
[[operation]]
service = "slow"
op = "stuck"
consumes = ["work"]
produces = ["stuck"]
"""


class DaemonProcess:
    """Starts, kills and starts again a daemon in directories of its own."""

    def __init__(self) -> None:
        # Not pytest's own directory: the path of a Unix socket ends at 107 bytes.
        self.top = Path(tempfile.mkdtemp(prefix="qcos-sdk-"))
        self.runtime = self.top / "r"
        self.marks = self.top / "marks"
        self.marks.mkdir()
        for name, text in (("main.py", SLOW_PLUGIN), ("plugin.toml", SLOW_MANIFEST)):
            (self.top / "plugins" / "slow").mkdir(parents=True, exist_ok=True)
            (self.top / "plugins" / "slow" / name).write_text(text)
        others = [manifest.name for manifest in find_manifests([], []) if manifest.name != "hello"]
        (self.top / "qcosd.toml").write_text(f"[plugins]\ndisable = {json.dumps(others)}\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> DaemonProcess:
        """Returns when it serves."""
        reading, writing = os.pipe()
        with open(self.top / "log", "ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "qcosd.shell.main", "--config", str(self.top / "qcosd.toml"),
                    "--runtime-dir", str(self.runtime), "--state-dir", str(self.top / "s"),
                    "--plugin-dir", str(self.top / "plugins"), "--ready-fd", str(writing),
                ],
                pass_fds=(writing,), stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "TEST_MARKS": str(self.marks)},
            )  # fmt: skip
        os.close(writing)
        with open(reading, "rb") as ready:
            assert ready.readline(), (self.top / "log").read_text()
        return self

    def signal(self, signum: int) -> None:
        assert self.process is not None
        self.process.send_signal(signum)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def log_of(self, component: str) -> str:
        return (self.top / "s" / "logs" / f"{component}.log").read_text()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.top)
