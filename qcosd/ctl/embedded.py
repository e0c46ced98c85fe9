# SPDX-License-Identifier: Apache-2.0
"""A private daemon for one `qcosctl run`, when no daemon is there.

Its directories are private and temporary, and nothing of it is left afterwards: it is stopped in order, then its
directories are removed. Should this process be killed, the daemon gets a parent-death signal, stops its plugins and
removes its directories itself.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType, TracebackType

from qcosd.ctl import failure
from qcosd.ctl.failure import Failure

READY_GRACE = 30.0
"""Seconds that the daemon may take to say READY=1."""

STOP_GRACE = 15.0
"""Seconds that the daemon may take to stop in order, its plugins included, before it is killed."""

MAX_BASE = 48
"""Longest directory, in bytes, in which sockets are placed: the path of a Unix socket ends at 107 bytes."""

_QUOTED_LOG_BYTES = 4096


class PrivateDaemon:
    """The daemon's process and its directory. Use as a context manager, from the main thread.

    While it is open, the daemon's death raises `Failure` in the main thread, whatever that waits for: nobody restarts
    a private daemon, so its client would wait for ever.
    """

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._before: signal.Handlers | object = signal.SIG_DFL

    @property
    def directory(self) -> Path:
        """Its runtime directory, where clients find it; everything of the daemon is in there."""
        assert self._directory is not None, "only while it is open"
        return self._directory

    def __enter__(self) -> PrivateDaemon:
        self._directory = Path(tempfile.mkdtemp(prefix="qcos-", dir=socket_base()))
        try:
            self._start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._remove()

    def kill(self) -> None:
        """At once: SIGKILL to the daemon (its plugins follow by parent-death signal), directories removed."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        self._remove()

    def _start(self) -> None:
        notices = self.directory / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver, self._log().open("wb") as log:
            receiver.bind(os.fspath(notices))
            self._before = signal.signal(signal.SIGCHLD, self._child_changed)
            self._process = subprocess.Popen(
                self._argv(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": os.fspath(notices)},
                start_new_session=True,  # a Ctrl-C of the terminal is for us: we tell the daemon what to do
            )
            try:
                self._check_alive()
                self._await_ready(receiver)
            except BaseException:
                self._stop()
                raise
        notices.unlink()

    def _argv(self) -> list[str]:
        # -P: the directory that the user happens to stand in is no place to import from.
        return [
            *(sys.executable, "-P", "-m", "qcosd.shell.main", "--embedded"),
            *("--runtime-dir", os.fspath(self.directory), "--state-dir", os.fspath(self.directory / "state")),
        ]

    def _await_ready(self, receiver: socket.socket) -> None:
        """Until the daemon says READY=1. Its death raises from `_child_changed`."""
        deadline = time.monotonic() + READY_GRACE
        while True:
            readable, _, _ = select.select([receiver], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise self._failure(f"the private daemon was not ready within {READY_GRACE:.0f} s")
            if b"READY=1" in receiver.recv(4096).split(b"\n"):
                return

    def _child_changed(self, signum: int, frame: FrameType | None) -> None:
        self._check_alive()

    def _check_alive(self) -> None:
        process = self._process
        if process is not None and process.poll() is not None:
            raise self._failure(f"the private daemon ended unexpectedly ({_status(process.returncode)})")

    def _failure(self, message: str) -> Failure:
        said = self._last_words()
        return Failure(failure.NO_DAEMON, message, name="no_daemon", hint=f"its last words: {said}" if said else "")

    def _log(self) -> Path:
        return self.directory / "daemon.log"

    def _last_words(self) -> str:
        try:
            lines = self._log().read_bytes()[-_QUOTED_LOG_BYTES:].decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""

    def _stop(self) -> None:
        signal.signal(signal.SIGCHLD, self._before)  # type: ignore[arg-type]  # what signal.signal returned
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _remove(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)  # the daemon may be removing the same files


def socket_base() -> str | None:
    """A directory whose path leaves room for sockets: the user's runtime directory, else the temporary one, else /tmp."""
    for place in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):
        if (
            place
            and len(os.fsencode(place)) <= MAX_BASE
            and os.path.isdir(place)
            and os.access(place, os.W_OK | os.X_OK)
        ):
            return place
    return None


def _status(returncode: int) -> str:
    return f"signal {signal.Signals(-returncode).name}" if returncode < 0 else f"exit code {returncode}"
