# SPDX-License-Identifier: Apache-2.0
"""The daemon as a process: its whole life, from outside."""

from __future__ import annotations

import hashlib
import json
import os
import re
import select
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import zmq
import zmq.utils.monitor
from journal_world import small_disk
from qcosd_process import PATIENCE, Client, Qcosd, wait_gone

from qcosd import protocol
from qcosd.core.records import RecordType
from qcosd.protocol import CHUNK, Side, Type

ROOT = Path(__file__).parents[2]


def wait_ready(client: Client, plugin: str, after: int = 0) -> dict[str, object]:
    """The plugin's row once an incarnation above `after` is ready."""
    events = client.subscriber(f"plugin.{plugin}")
    try:
        while True:
            # The first event is the grant itself, so that no change is missed between looking and listening.
            events.recv_multipart()
            row = client.plugin(plugin)
            if row["state"] == "ready" and row["incarnation"] > after:
                return row
    finally:
        events.close()


def test_a_life_from_ready_to_sigterm() -> None:
    with Qcosd() as daemon:
        assert daemon.ready is not None
        assert daemon.ready["pid"] == daemon.process.pid and daemon.ready["boot"] == 1
        assert (daemon.runtime / "qcosd.lock").read_text() == f"{daemon.process.pid}\n"
        for name in ("plugins.sock", "clients.sock", "events.sock"):
            assert stat.S_IMODE((daemon.runtime / name).stat().st_mode) == 0o660
        client = daemon.client()
        status = client.ask(Type.STATUS).body
        assert (status["pid"], status["boot"]) == (daemon.process.pid, 1)
        hello = wait_ready(client, "hello")
        assert "NoNewPrivs:\t1\n" in Path(f"/proc/{hello['pid']}/status").read_text()
        code, log = daemon.stop()
        assert code == 0, log
        assert client.recv().type is Type.GOODBYE
        assert wait_gone(int(str(hello["pid"])))
        assert not (daemon.runtime / "clients.sock").exists()
        assert "stopping reason=SIGTERM" in log and "Traceback" not in log


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_stop_it_in_order_too(signum: int) -> None:
    with Qcosd() as daemon:
        pid = daemon.client().plugin("hello")["pid"]
        code, log = daemon.stop(signum)
        assert code == 0, log
        assert wait_gone(pid)


STUBBORN = """
import os, signal
for signum in (signal.SIGTERM, signal.SIGINT): signal.signal(signum, signal.SIG_IGN)
open(int(os.environ["QCOS_BOOT_FD"]), "rb").read()
print("settled", flush=True)
while True: signal.pause()
"""


def stubborn(directory: Path) -> Path:
    """A plugin that says nothing and does not end by itself."""
    (directory / "stubborn").mkdir()
    (directory / "stubborn" / "main.py").write_text(STUBBORN)
    (directory / "stubborn" / "plugin.toml").write_text(
        'name = "stubborn"\nversion = "1"\nargv = ["{python}", "{folder}/main.py"]\n[stop]\nask = 1000\nterm = 1000\n'
    )
    return directory


def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    with Qcosd(f"--plugin-dir={stubborn(tmp_path)}") as daemon:
        client = daemon.client()
        pid = client.plugin("stubborn")["pid"]
        daemon.process.send_signal(signal.SIGTERM)
        while client.ask(Type.STATUS).body["state"] != "stopping":
            pass
        assert daemon.process.poll() is None
        code, _ = daemon.stop(signal.SIGTERM)
        assert code == 0
        assert wait_gone(pid)


def test_a_second_daemon_is_refused_and_told_the_pid() -> None:
    with Qcosd() as first, Qcosd(directory=first.directory) as second:
        code, log = second.wait()
        assert second.ready is None and code == 1
        assert f"in use by another qcosd (pid {first.process.pid})" in log
        assert first.client().ask(Type.PING).type is Type.PONG


def test_a_killed_daemon_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    with Qcosd() as first:
        token = (first.runtime / "client.token").read_bytes()
        first.stop(signal.SIGKILL)
        with Qcosd(directory=first.directory) as second:
            assert second.ready is not None and second.ready["boot"] == 2
            assert (second.runtime / "client.token").read_bytes() == token
            assert second.client().ask(Type.STATUS).body["boot"] == 2
            assert second.stop()[0] == 0


def test_plugins_outlive_the_daemon_again_and_again() -> None:
    with Qcosd() as first:
        row = wait_ready(first.client(), "hello")
        pid, incarnation = int(str(row["pid"])), int(str(row["incarnation"]))
        first.stop(signal.SIGKILL)
        os.kill(pid, 0)  # it holds no lock of the daemon: the next one starts beside it
        with Qcosd(directory=first.directory) as second:
            row = wait_ready(second.client(), "hello")
            assert (row["pid"], row["incarnation"]) == (pid, incarnation)
            second.stop(signal.SIGKILL)
            with Qcosd(directory=first.directory) as third:
                client = third.client()
                row = wait_ready(client, "hello")
                assert (row["pid"], row["incarnation"]) == (pid, incarnation)
                # It is not a child of this daemon, which sees it all the same: its end, and that it was stopped.
                os.kill(pid, signal.SIGSTOP)
                row = wait_ready(client, "hello", after=incarnation)
                assert wait_gone(pid) and row["pid"] != pid
                assert third.stop()[0] == 0
                assert wait_gone(int(str(row["pid"])))


def test_plugins_that_end_while_there_is_no_daemon_are_replaced() -> None:
    with Qcosd() as first:
        row = wait_ready(first.client(), "hello")
        first.stop(signal.SIGKILL)
        os.kill(int(str(row["pid"])), signal.SIGKILL)
        with Qcosd(directory=first.directory) as second:
            assert wait_ready(second.client(), "hello", after=int(str(row["incarnation"])))["pid"] != row["pid"]
            assert second.stop()[0] == 0


def test_a_daemon_that_was_frozen_keeps_its_plugins() -> None:
    with Qcosd(config="[bus]\nheartbeat = 0.05\n") as daemon:
        client = daemon.client()
        row = wait_ready(client, "hello")
        watcher = client._socket(zmq.DEALER, "clients.sock")
        silent = watcher.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        silent.rcvtimeo = PATIENCE
        watcher.disconnect(watcher.last_endpoint)
        watcher.heartbeat_ivl, watcher.heartbeat_timeout = 200, 200  # gives up long after the daemon itself would
        watcher.connect(f"ipc://{daemon.runtime}/clients.sock")
        while zmq.utils.monitor.recv_monitor_message(silent)["event"] != zmq.EVENT_HANDSHAKE_SUCCEEDED:
            pass
        daemon.process.send_signal(signal.SIGSTOP)
        while zmq.utils.monitor.recv_monitor_message(silent)["event"] != zmq.EVENT_DISCONNECTED:
            pass
        daemon.process.send_signal(signal.SIGCONT)
        watcher.disable_monitor()
        silent.close(0)
        watcher.close(0)
        with_new_connection = daemon.client()
        again = wait_ready(with_new_connection, "hello")
        assert (again["pid"], again["incarnation"]) == (row["pid"], row["incarnation"])


MALFORMED = [
    [b""],
    [b"x", b"y"],  # no msgpack
    [b"\x80", b"\x80"],  # a header without fields
    [b"\xc1" * 10] * 3,  # a reserved byte
    [b"\x80"] * 100,
    [bytes(protocol.MAX_HEADER + 1), b"\x80"],
]


def send_malformed(client: Client, frames: list[bytes]) -> None:
    """Send them, and wait for what must follow: a GOODBYE that says why, and the end of the connection."""
    ended = client.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    ended.rcvtimeo = PATIENCE
    client.socket.send_multipart(frames)
    farewell = client.recv()
    assert farewell.type is Type.GOODBYE and farewell.body["error"]["name"] == "bad_message"
    ended.recv_multipart()
    client.socket.disable_monitor()
    ended.close(0)


def test_malformed_frames_end_the_connection_and_nothing_else() -> None:
    with Qcosd() as daemon:
        observer, *clients = [daemon.client() for _ in range(len(MALFORMED) + 1)]
        for number, (client, frames) in enumerate(zip(clients, MALFORMED, strict=True), start=1):
            send_malformed(client, frames)
            assert observer.ask(Type.STATUS).body["counters"]["malformed"] == number
        assert daemon.stop()[0] == 0


def test_after_the_cool_down_the_connection_comes_back_by_itself() -> None:
    with Qcosd() as daemon:
        client = daemon.client()
        send_malformed(client, [b""])
        number = client.send(Type.STATUS)  # the daemon does not know this connection
        assert (reply := client.recv()).type is Type.REHELLO and reply.id == number
        assert client.ask(Type.HELLO, name="test", versions=[1, 1]).type is Type.WELCOME


def test_a_client_that_does_not_read_is_disconnected() -> None:
    with Qcosd(config="[bus]\nclient_send_queue = 100\n[limits]\nrequests = 10\n") as daemon:
        lazy, other = daemon.client(), daemon.client()
        ended = lazy.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        data = os.urandom(CHUNK)
        sha = hashlib.sha256(data).hexdigest()
        assert other.ask(Type.BLOB_PUT, data, sha=sha, size=CHUNK).type is Type.BLOB_STORED
        lazy.socket.sndtimeo = 0
        asked, said = 0, b""
        assert daemon.process.stderr is not None
        errors = daemon.process.stderr.fileno()
        while b"disconnecting a peer that does not read channel=clients" not in said:
            try:
                lazy.send(Type.BLOB_GET, sha=sha, offset=0)
                asked += 1
            except zmq.Again:
                assert other.ask(Type.PING).type is Type.PONG
            if select.select([errors], [], [], 0)[0]:
                said += os.read(errors, 1 << 16)
        assert asked > 10
        assert other.ask(Type.PING).type is Type.PONG
        # Its own libzmq has stopped reading at its limit, and does not see the end before it reads on.
        poller = zmq.Poller()
        for watched in (lazy.socket, ended):
            poller.register(watched, zmq.POLLIN)
        while ended not in (events := dict(poller.poll(PATIENCE))):
            assert lazy.socket in events, "the connection was not ended"
            lazy.socket.recv_multipart()
        lazy.socket.disable_monitor()
        ended.close(0)
        assert daemon.stop()[0] == 0


def test_a_client_that_uses_its_quota_of_requests_is_not_taken_for_one() -> None:
    with Qcosd() as daemon:
        client = daemon.client()
        quota = client.ask(Type.HELLO, name="test", versions=[1, 1]).body["limits"]["requests"]
        sent = [client.send(Type.PING) for _ in range(quota)]
        for number in range(20 * quota):
            assert client.recv().id == sent[number]
            if len(sent) < 20 * quota:
                sent.append(client.send(Type.PING))


def test_a_killed_plugin_comes_back() -> None:
    with Qcosd() as daemon:
        client = daemon.client()
        row = wait_ready(client, "hello")
        os.kill(int(str(row["pid"])), signal.SIGKILL)
        again = wait_ready(client, "hello", after=int(str(row["incarnation"])))
        assert again["pid"] != row["pid"] and again["restarts"] == 1


def test_artifacts_in_chunks() -> None:
    with Qcosd() as daemon:
        client = daemon.client()
        data = os.urandom(2 * CHUNK + 1000)
        sha = hashlib.sha256(data).hexdigest()
        more = client.ask(Type.BLOB_PUT, data[:CHUNK], sha=sha, size=len(data))
        assert more.type is Type.BLOB_MORE and more.body["offset"] == CHUNK
        for offset in (CHUNK, 2 * CHUNK):
            chunk = data[offset : offset + CHUNK]
            reply = client.ask(Type.BLOB_CHUNK, chunk, ticket=more.body["ticket"], offset=offset)
        assert reply.type is Type.BLOB_STORED
        parts = [client.ask(Type.BLOB_GET, sha=sha, offset=offset).payload[0] for offset in range(0, len(data), CHUNK)]
        assert b"".join(parts) == data
        wrong = client.ask(Type.BLOB_PUT, b"data", sha="0" * 64, size=4)
        assert wrong.type is Type.ERROR and wrong.body["error"]["name"] == "wrong_digest"


def test_events_begin_with_the_grant() -> None:
    with Qcosd() as daemon:
        client = daemon.client()
        events = client.subscriber("kernel")
        topic, *frames = events.recv_multipart()
        event = protocol.decode(frames, Side.KERNEL)
        assert topic == b"kernel" and event.type is Type.EVENT and event.body["seq"] == 0
        daemon.process.send_signal(signal.SIGTERM)
        while event.body["state"].get("state") != "stopping":
            event = protocol.decode(events.recv_multipart()[1:], Side.KERNEL)
        events.close()


def test_the_service_manager_hears_of_the_whole_life(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(PATIENCE / 1000)
        manager.bind(str(tmp_path / "notify"))
        # WATCHDOG_PID is left out: the pid is not known before the start.
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "300000"}
        with Qcosd(environment=environment) as daemon:
            said = ""
            while "READY=1" not in said:
                said = manager.recv(4096).decode()
            while said != "WATCHDOG=1":
                said = manager.recv(4096).decode()
            daemon.process.send_signal(signal.SIGTERM)
            while "STOPPING=1" not in said:
                said = manager.recv(4096).decode()
            assert daemon.wait()[0] == 0


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


def test_a_bug_in_the_kernel_ends_the_daemon_loudly(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from qcosd.core.events import Subscribe\nfrom qcosd.core.kernel import Kernel\nfrom qcosd.shell.main import main\n"
        "handle = Kernel.handle\n"
        "def broken(self, event, now):\n    if isinstance(event, Subscribe): raise LookupError('a bug')\n    return handle(self, event, now)\n"
        "Kernel.handle = broken\nmain()\n"
    )
    with Qcosd(program=(str(broken),)) as daemon:
        pid = daemon.client().plugin("hello")["pid"]
        events = daemon.client().subscriber("kernel")
        code, log = daemon.wait()
        events.close()
        assert code == 70
        assert "internal fault" in log and "LookupError: a bug" in log
        with Qcosd(directory=daemon.directory) as another:
            assert wait_ready(another.client(), "hello")["pid"] == pid, "the plugins are in order"
            assert another.stop()[0] == 0


@pytest.mark.parametrize(
    "options, config, complaint",
    [
        ((), "colour = 1\n", "unknown key 'plugins.colour'"),
        ((), "[plugin.nobody]\n", "unknown key 'plugin.nobody'"),
        (("--plugin-dir=/nowhere",), "", "/nowhere: no such plugin directory"),
        (("--colour",), "", "No such option"),
    ],
)
def test_bad_input_is_exit_2_with_one_message(options: tuple[str, ...], config: str, complaint: str) -> None:
    with Qcosd(*options, config=config) as daemon:
        code, log = daemon.wait()
        assert daemon.ready is None and code == 2
        assert complaint in log and "Traceback" not in log


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_is_valid() -> None:
    unit = ROOT / "systemd" / "qcosd.service"
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    security = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    assert subprocess.run(security, capture_output=True).returncode == 0


def test_the_unit_lets_the_daemon_tell_users_apart() -> None:
    unit = (ROOT / "systemd" / "qcosd.service").read_text()
    assert not re.search(r"^PrivateUsers=", unit, re.MULTILINE), "SO_PEERCRED would give the same uid for all"


def test_the_unit_leaves_plugins_alive() -> None:
    unit = (ROOT / "systemd" / "qcosd.service").read_text().splitlines()
    for line in ("Type=notify", "KillMode=process", "RestartSec=0", "RuntimeDirectoryPreserve=restart"):
        assert line in unit


def journal_of(daemon: Qcosd) -> list[tuple[int, int]]:
    """Position and type of the records of a daemon that has stopped."""
    with closing(sqlite3.connect(daemon.directory / "state" / "journal.db")) as db:
        return list(db.execute("SELECT position, type FROM records ORDER BY position"))


def test_what_a_daemon_appended_is_in_its_journal_when_it_has_stopped() -> None:
    with Qcosd() as first:
        first.client().plugin("hello")
        assert first.stop()[0] == 0
        before = journal_of(first)
        assert not (first.directory / "state" / "journal.db-wal").exists(), "closed in order"
        with Qcosd(directory=first.directory) as second:
            second.client()
            assert second.stop()[0] == 0
        after = journal_of(first)
    assert before[0] == (1, RecordType.BOOT) and after[: len(before)] == before
    assert after[len(before)] == (len(before) + 1, RecordType.BOOT)
    assert [position for position, _ in after] == list(range(1, len(after) + 1))


def test_a_damaged_journal_stops_the_daemon_with_a_remedy() -> None:
    with Qcosd() as first:
        assert first.stop()[0] == 0
        os.truncate(first.directory / "state" / "journal.db", 5000)
        with Qcosd(directory=first.directory) as second:
            code, log = second.wait()
            assert second.ready is None and code == 1
            assert "journal.db: is damaged" in log and "qcosctl doctor --accept" in log and "Traceback" not in log


def test_a_journal_that_has_lost_something_takes_no_new_work() -> None:
    with Qcosd() as first:
        first.client().plugin("hello")
        first.stop(signal.SIGKILL)
        os.truncate(first.directory / "state" / "journal.db-wal", 0)
        with Qcosd(directory=first.directory) as second:
            assert second.ready is not None and second.ready["boot"] == 2
            sha = hashlib.sha256(b"program").hexdigest()
            client = second.client()
            assert client.ask(Type.BLOB_PUT, b"program", sha=sha, size=7).type is Type.BLOB_STORED
            refusal = client.ask(Type.JOB_SUBMIT, key="k", inputs={"greeting": sha}, options={})
            assert refusal.type is Type.ERROR and refusal.body["error"]["name"] == "rolled_back"
            for words in ("journal.db: ends at position 0 of boot 0", "of boot 1", "qcosctl doctor --accept"):
                assert words in refusal.body["error"]["message"]
            assert second.stop()[0] == 0


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


def test_a_daemon_whose_disk_is_full_serves_and_can_be_stopped(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, Qcosd(f"--state-dir={disk}") as daemon:
        client = daemon.client()
        pid = client.plugin("hello")["pid"]
        with (disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while file.write(bytes(4096)):
                pass
        os.kill(pid, signal.SIGKILL)
        assert wait_gone(pid)
        assert client.ask(Type.PING).type is Type.PONG
        while not (status := client.ask(Type.STATUS).body)["journal"]["fault"]:
            pass  # the first record that does not fit is on its way
        assert status["space"]["free"] < 4096, "as it is, and not as it was a while ago"
        code, log = daemon.stop()
        assert code == 0 and "Traceback" not in log
        assert re.search(r"journal cannot be written .*journal.db.* make room", log)
        assert "the journal ends without its last" in log
