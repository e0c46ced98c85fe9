# SPDX-License-Identifier: Apache-2.0
"""The daemon as a process, from outside: how it starts, and how it ends."""

from __future__ import annotations

import signal
import socket
import stat
from pathlib import Path

import pytest
from qcosd_process import PATIENCE, Qcosd, wait_gone, wait_ready
from stubborn_plugin import stubborn

from qcosd.protocol import Type


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


def test_a_bug_in_the_kernel_ends_the_daemon_loudly(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from qcosd.core.events import Subscribe\nfrom qcosd.core.kernel import Kernel\nfrom qcosd.shell.main import main\n"
        "handle = Kernel.handle\n"
        "def broken(self, event, now):\n    if isinstance(event, Subscribe): raise LookupError('a bug')\n    return handle(self, event, now)\n"
        "Kernel.handle = broken\nmain()\n"
    )
    with Qcosd(program=(str(broken),)) as daemon:
        client = daemon.client()
        while (row := client.plugin("hello"))["state"] != "ready":
            pass  # no subscription yet: that is what breaks it
        pid = row["pid"]
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
