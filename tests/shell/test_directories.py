# SPDX-License-Identifier: Apache-2.0
"""Directories, locks, the order of effects, and the service manager's socket."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qcosd.core.effects import BlobDelete, BlobDrop, BlobRead, BlobWrite, Send
from qcosd.core.events import Address, Channel
from qcosd.protocol import Message, Type
from qcosd.shell.gate import Gate, destination_of
from qcosd.shell.lock import DirectoryLock, LockHeld
from qcosd.shell.notify import ServiceManager
from qcosd.shell.runtime import LONGEST_RUNTIME_PATH, Directories, DirectoryError, remove_stale_private


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path is short enough for sockets, which pytest's own are not."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="q") as name:
        yield Path(name)


def test_a_lock_has_one_holder_and_names_it(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    with pytest.raises(LockHeld, match=f"pid {os.getpid()}") as refusal:
        DirectoryLock(tmp_path)
    assert refusal.value.pid == os.getpid()
    lock.release()
    lock.release()
    DirectoryLock(tmp_path).release()


def test_a_lock_dies_with_its_holder(tmp_path: Path) -> None:
    program = "import sys, pathlib, qcosd.shell.lock as l; x = l.DirectoryLock(pathlib.Path(sys.argv[1])); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(LockHeld, match=f"pid {holder.pid}"):
            DirectoryLock(tmp_path)
        holder.kill()
        holder.wait()
        DirectoryLock(tmp_path).release()


def test_directories_are_made_for_the_group_only(short: Path) -> None:
    runtime, state = short / "deep" / "run", short / "state"
    directories = Directories(runtime, state, embedded=False)
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o750
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((runtime / "qcosd.lock").stat().st_mode) == 0o640
    token = directories.client_token()
    assert len(token) == 64 and (runtime / "client.token").read_bytes() == token + b"\n"
    assert stat.S_IMODE((runtime / "client.token").stat().st_mode) == 0o640
    with pytest.raises(LockHeld):
        Directories(runtime, short / "other", embedded=False)
    with pytest.raises(LockHeld):
        Directories(short / "other", state, embedded=False)
    directories.close()
    again = Directories(runtime, state, embedded=False)
    assert again.client_token() == token, "clients reconnect to the next daemon with the token they have"
    again.close()


def test_streams_that_are_in_use_outlive_the_daemon(short: Path) -> None:
    directories = Directories(short / "run", short / "state", embedded=False)
    living, waiting, dead = (socket.socket(socket.AF_UNIX) for _ in range(3))
    with living, waiting, dead:
        for name, end in (("1.1", living), ("2.1", waiting), ("3.1", dead)):
            end.bind(str(directories.streams / name))
            end.listen(0)
        with socket.socket(socket.AF_UNIX) as guest:
            guest.connect(str(directories.streams / "2.1"))  # its owner is frozen: the queue stays full
            (directories.streams / "left").touch()
            dead.close()
            directories.clear_streams()
            assert sorted(path.name for path in directories.streams.iterdir()) == ["1.1", "2.1"]
            living.accept()[0].close()  # it has been knocked at
        (directories.streams / "left again").touch()
        directories.close()
        assert sorted(path.name for path in directories.streams.iterdir()) == ["1.1", "2.1"], "nothing stays behind"


def test_a_damaged_token_is_replaced(short: Path) -> None:
    directories = Directories(short / "run", short / "state", embedded=False)
    (short / "run" / "client.token").write_bytes(b"short\n")
    assert len(directories.client_token()) == 64
    directories.close()


def test_private_directories_disappear(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    directories = Directories(None, None, embedded=True)
    assert directories.runtime.parent.parent == short
    assert stat.S_IMODE(directories.runtime.stat().st_mode) == 0o700
    directories.client_token()
    directories.close()
    assert list(short.iterdir()) == []


def test_a_deep_temporary_directory_is_not_used(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = short / ("x" * 80)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    directories = Directories(None, None, embedded=True)
    assert directories.runtime.parent.parent == Path("/tmp")
    directories.close()
    assert not directories.runtime.parent.exists()


def test_given_directories_stay(short: Path) -> None:
    (short / "run").mkdir()
    directories = Directories(short / "run", short / "state", embedded=True)
    directories.close()
    assert (short / "run").is_dir() and not (short / "state").exists()


def test_what_a_killed_embedded_daemon_left_is_swept(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    for name in ("qcosd-dead", "qcosd-young", "qcosd-alive", "other-dead"):
        (short / name / "run").mkdir(parents=True)
        (short / name / "run" / "qcosd.lock").touch()
        if name != "qcosd-young":
            os.utime(short / name / "run" / "qcosd.lock", (0, 0))
    alive = DirectoryLock(short / "qcosd-alive" / "run")
    os.utime(alive.path, (0, 0))
    remove_stale_private()
    assert sorted(path.name for path in short.iterdir()) == ["other-dead", "qcosd-alive", "qcosd-young"]
    alive.release()


def test_directories_that_cannot_be_used(short: Path) -> None:
    with pytest.raises(DirectoryError, match=f"at most {LONGEST_RUNTIME_PATH} bytes"):
        Directories(short / ("x" * 100), short / "state", embedded=False)
    (short / "file").touch()
    with pytest.raises(DirectoryError, match="not a directory"):
        Directories(short / "file", short / "state", embedded=False)
    with pytest.raises(DirectoryError, match="file"):
        Directories(short / "file" / "below", short / "state", embedded=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to give a directory away")
def test_a_directory_of_somebody_else_is_refused(short: Path) -> None:
    (short / "run").mkdir()
    os.chown(short / "run", 12345, 12345)
    with pytest.raises(DirectoryError, match="belongs to uid 12345"):
        Directories(short / "run", short / "state", embedded=False)


def test_the_gate_waits_for_positions_and_keeps_the_order_of_a_destination() -> None:
    done: list[str] = []
    gate = Gate()
    gate.submit("a", 0, lambda: done.append("a0"))
    gate.submit("a", 2, lambda: done.append("a2"))
    gate.submit("a", 0, lambda: done.append("a behind a2"))
    gate.submit("b", 0, lambda: done.append("b0"))
    gate.submit("b", 3, lambda: done.append("b3"))
    assert done == ["a0", "b0"]
    gate.durable(1)
    assert done == ["a0", "b0"]
    gate.durable(2)
    assert done == ["a0", "b0", "a2", "a behind a2"]
    gate.submit("a", 1, lambda: done.append("a1"))
    gate.durable(3)
    assert done[4:] == ["a1", "b3"]


def test_an_answer_waits_for_its_own_position_alone_and_overtakes_what_waits_for_more() -> None:
    done: list[object] = []
    gate, address = Gate(), Address("hello/1", b"r")

    def send(kind: Type, body: dict[str, Any], id: int, after: int) -> None:
        effect = Send(Channel.PLUGINS, address, Message(kind, body, id, 1), after)
        gate.submit(destination_of(effect), effect.after, partial(done.append, kind))

    send(Type.STOP, {"seconds": 1.0}, 0, 3)
    send(Type.ACK, {}, 7, 2)
    send(Type.PONG, {}, 8, 0)
    send(Type.REVOKE, {"lease": 1, "epoch": 1}, 0, 0)
    assert done == [Type.PONG]
    gate.durable(2)
    assert done == [Type.PONG, Type.ACK]
    gate.durable(3)
    assert done[2:] == [Type.STOP, Type.REVOKE], "what is told keeps its order"


def test_what_may_go_together_goes_in_the_order_of_its_submission() -> None:
    done: list[str] = []
    gate = Gate()
    for destination, after, name in (("a", 1, "first"), ("b", 2, "second"), ("a", 2, "third"), ("c", 2, "fourth")):
        gate.submit(destination, after, partial(done.append, name))
    gate.health("full")
    gate.durable(2)
    assert done == ["first", "second", "third", "fourth"]


def test_while_the_journal_has_a_fault_something_else_is_done_where_there_is_something() -> None:
    done: list[str] = []
    gate = Gate()

    def instead(fault: str) -> Callable[[], None]:
        return lambda: done.append(fault)

    gate.submit("a", 1, partial(done.append, "a"), instead)
    gate.submit("b", 1, partial(done.append, "b"), lambda fault: None)
    gate.submit("c", 1, partial(done.append, "c"))
    assert done == []
    gate.health("full")
    gate.submit("d", 2, partial(done.append, "d"), instead)
    assert done == ["full", "full"]
    gate.health("")
    gate.submit("e", 2, partial(done.append, "e"), instead)
    gate.durable(2)
    assert done[2:] == ["b", "c", "e"]


def test_the_gate_begins_where_the_journal_ends() -> None:
    done: list[int] = []
    gate = Gate(7)
    gate.submit("a", 7, lambda: done.append(7))
    gate.submit("a", 8, lambda: done.append(8))
    assert done == [7]


def test_the_gate_forgets_what_is_given_up() -> None:
    done: list[str] = []
    gate = Gate()
    gate.submit("a", 1, lambda: done.append("a"))
    gate.submit("b", 1, lambda: done.append("b"))
    gate.abandon("a")
    gate.abandon("nothing is held for it")
    gate.durable(1)
    assert done == ["b"]


def test_the_gate_keeps_the_order_of_all_that_is_done_to_artifacts() -> None:
    done: list[object] = []
    gate = Gate()
    for effect in (
        BlobDelete(("a",), after=3),
        BlobWrite(1, "a", 1, 0, b"x", True),
        BlobRead(2, "a", 0, 1),
        BlobDrop(1),
    ):
        gate.submit(destination_of(effect), effect.after, partial(done.append, type(effect)))
    assert done == []
    gate.durable(3)
    assert done == [BlobDelete, BlobWrite, BlobRead, BlobDrop]


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    address = f"@qcosd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0"))
        environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
        notifier = ServiceManager(environment)
        assert environment == {}, "plugins must not speak for the daemon"
        assert notifier.watchdog_interval == 1.0
        notifier.tell({"READY": "1", "STATUS": "serving"})
        assert manager.recv(1000) == b"READY=1\nSTATUS=serving"
        notifier.alive()
        assert manager.recv(1000) == b"WATCHDOG=1"
        notifier.close()
        notifier.alive()


def test_without_a_service_manager_nothing_happens() -> None:
    notifier = ServiceManager({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"})
    assert notifier.watchdog_interval is None
    notifier.tell({"READY": "1"})
    notifier.close()
    missing = ServiceManager({"NOTIFY_SOCKET": "/nowhere/at/all"})
    missing.tell({"READY": "1"})
    missing.close()
