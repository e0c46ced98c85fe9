# SPDX-License-Identifier: Apache-2.0
"""A private daemon for one `qcosctl run`, when no daemon is there.

The daemon makes its own private directories and removes them when it stops. Should this process be killed, the daemon
gets a parent-death signal and does the same. Should the daemon be killed, its plugins get one, and this process removes
what is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType, TracebackType

from qcosd.ctl import failure
from qcosd.ctl.failure import Failure
from qcosd.ctl.interrupt import Interrupts

READY_GRACE = 30.0
"""Seconds that the daemon may take until it serves."""

STOP_GRACE = 15.0
"""Seconds that the daemon may take to stop in order, its plugins included, before it is killed."""

MAX_BASE = 40
"""Longest directory, in bytes, in which a private directory is made: the path of a Unix socket ends at 107 bytes."""

_QUOTED_LOG_BYTES = 4096
_OWN_VARIABLES = ("QCOS_RUNTIME_DIR", "QCOS_STATE_DIR")  # they name a daemon that is not there; ours is private


class PrivateDaemon:
    """The daemon's process. Use as a context manager, from the main thread.

    While it is open, the daemon's death raises `Failure` in the main thread, whatever that waits for: nobody restarts
    a private daemon, so its client would wait for ever.
    """

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self._process: subprocess.Popen[bytes] | None = None
        self._directories: list[Path] = []
        self._log = -1
        self._before: signal.Handlers | object = signal.SIG_DFL

    @property
    def runtime_dir(self) -> Path:
        """Where clients find it, while it is open."""
        return self._directories[0]

    def __enter__(self) -> PrivateDaemon:
        self._log = os.memfd_create("qcosd.log")
        self._before = signal.signal(signal.SIGCHLD, self._child_changed)
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def kill(self) -> None:
        """At once: SIGKILL to the daemon (its plugins follow by parent-death signal), and its directories removed."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # this death is no surprise
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        self._remove()

    def _start(self) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        with open(reading, "rb") as ready:
            try:
                with self._interrupts.deferred():  # either no process, or one that is known and can be stopped
                    self._process = subprocess.Popen(
                        # -P: the directory that the user happens to stand in is no place to import from.
                        [sys.executable, "-P", "-m", "qcosd.shell.main", "--embedded", "--ready-fd", str(writing)],
                        stdin=subprocess.DEVNULL,
                        stdout=self._log,
                        stderr=self._log,
                        env=_environment(),
                        pass_fds=(writing,),
                        start_new_session=True,  # a Ctrl-C of the terminal is for us: we tell the daemon what to do
                    )
            finally:
                os.close(writing)
            self._check_alive()  # it may have died before its death could be noticed
            self._await_ready(ready.fileno())

    def _await_ready(self, descriptor: int) -> None:
        """Read the one line that the daemon writes when it serves; end of file instead means that it will not."""
        deadline = time.monotonic() + READY_GRACE
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise self._failure(f"the private daemon was not ready within {READY_GRACE:.0f} s")
            data = os.read(descriptor, 4096)
            if not data:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    if self._process is not None:
                        self._process.wait(1.0)
                self._check_alive()
                raise self._failure("the private daemon did not start")
            line += data
        where = json.loads(line)
        self._directories = [Path(where["runtime_dir"]), Path(where["state_dir"])]

    def _child_changed(self, signum: int, frame: FrameType | None) -> None:
        self._check_alive()

    def _check_alive(self) -> None:
        process = self._process
        if process is not None and process.poll() is not None:
            raise self._failure(f"the private daemon ended unexpectedly ({_status(process.returncode)})")

    def _failure(self, message: str) -> Failure:
        said = self._last_words()
        return Failure(failure.NO_DAEMON, message, name="no_daemon", hint=f"its last words: {said}" if said else "")

    def _last_words(self) -> str:
        size = os.fstat(self._log).st_size
        tail = os.pread(self._log, _QUOTED_LOG_BYTES, max(0, size - _QUOTED_LOG_BYTES))
        lines = tail.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def _stop(self) -> None:
        signal.signal(signal.SIGCHLD, self._before)  # type: ignore[arg-type]  # what signal.signal returned
        process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._remove()
        os.close(self._log)

    def _remove(self) -> None:
        """Remove what a daemon that was killed could not remove itself."""
        for directory in self._directories:
            shutil.rmtree(directory, ignore_errors=True)
            with contextlib.suppress(OSError):
                directory.parent.rmdir()  # the private directory around both, when it is empty


def _environment() -> dict[str, str]:
    """Ours, with a temporary directory whose path leaves room for the names of sockets."""
    environment = {name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES}
    if len(os.fsencode(tempfile.gettempdir())) > MAX_BASE:
        environment["TMPDIR"] = "/tmp"
    return environment


def _status(returncode: int) -> str:
    return f"signal {signal.Signals(-returncode).name}" if returncode < 0 else f"exit code {returncode}"
