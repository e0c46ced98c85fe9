# SPDX-License-Identifier: Apache-2.0
"""Finding the daemon, and telling absent from silent."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qcosd.sdk import runtime
from qcosd.sdk.client import BlockingClient
from qcosd.sdk.errors import DaemonAbsent, DaemonSilent


@pytest.fixture(autouse=True)
def no_daemon_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runtime, "SERVICE_DIR", tmp_path / "service")
    monkeypatch.delenv("QCOS_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


def held(directory: Path, pid: int) -> int:
    """Hold the lock of a directory as a daemon does; returns the descriptor."""
    directory.mkdir(exist_ok=True)
    descriptor = os.open(directory / runtime.LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.write(descriptor, b"%d\n" % pid)
    return descriptor


def test_the_environment_decides_before_every_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QCOS_RUNTIME_DIR", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime.find_runtime_dir() == tmp_path / "mine"
    assert runtime.find_runtime_dir("other") == Path("other")


def test_a_place_with_a_daemon_is_preferred(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime.find_runtime_dir() == tmp_path / "qcos"
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / runtime.CLIENTS_SOCKET).touch()
    assert runtime.find_runtime_dir() == tmp_path / "service"


def test_nothing_there_is_absent(tmp_path: Path) -> None:
    assert runtime.probe(tmp_path / "no").absent
    assert runtime.probe(tmp_path).absent
    (tmp_path / runtime.LOCK_FILE).write_text("1\n")
    assert runtime.probe(tmp_path).absent, "a lock file that nobody holds"
    with pytest.raises(DaemonAbsent, match=str(tmp_path)):
        BlockingClient(tmp_path).connect()


def test_a_held_lock_is_a_daemon(tmp_path: Path) -> None:
    descriptor = held(tmp_path, os.getpid())
    presence = runtime.probe(tmp_path)
    assert (presence.absent, presence.pid, presence.state) == (False, os.getpid(), "running")
    with pytest.raises(DaemonSilent) as caught:
        BlockingClient(tmp_path, connect_grace=0.1).connect()
    assert (caught.value.pid, caught.value.state) == (os.getpid(), "running")
    os.close(descriptor)
    assert runtime.probe(tmp_path).absent


def test_a_socket_left_behind_is_no_absence(tmp_path: Path) -> None:
    (tmp_path / runtime.CLIENTS_SOCKET).touch()
    (tmp_path / runtime.LOCK_FILE).write_text("4000000\n")
    presence = runtime.probe(tmp_path)
    assert (presence.absent, presence.pid) == (False, 4000000) and "not running" in presence.state
    with pytest.raises(DaemonSilent):
        BlockingClient(tmp_path, connect_grace=0.1).connect()


def test_a_stopped_process_is_named_so() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"])
    try:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert runtime.process_state(process.pid) == "stopped"
    finally:
        process.kill()
        process.wait()
    assert runtime.process_state(process.pid) == "not running"


def test_a_client_that_only_asks_loads_nothing_heavy() -> None:
    code = (
        "import sys; from qcosd.sdk.client import BlockingClient;"
        "print([m for m in ('asyncio', 'numpy', 'uvloop', 'concurrent.futures', 'click') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_every_public_name_can_be_had() -> None:
    import qcosd.sdk

    assert {name for name in qcosd.sdk.__all__ if getattr(qcosd.sdk, name).__name__ != name} == set()
    with pytest.raises(AttributeError):
        _ = qcosd.sdk.nothing
