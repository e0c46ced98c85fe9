# SPDX-License-Identifier: Apache-2.0
"""A daemon and its plugins: whoever of the two is killed or frozen, the other goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import zmq
import zmq.utils.monitor
from qcosd_process import PATIENCE, Qcosd, wait_gone, wait_ready

from qcosd.protocol import Type


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
    with Qcosd(config="[bus]\nheartbeat = 0.2\n") as daemon:
        row = wait_ready(daemon.client(), "hello")
        watcher = daemon.client(heartbeat=500)  # it has its answer, and gives up long after the daemon itself would
        silent = watcher.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        silent.rcvtimeo = PATIENCE
        daemon.process.send_signal(signal.SIGSTOP)
        zmq.utils.monitor.recv_monitor_message(silent)
        daemon.process.send_signal(signal.SIGCONT)
        watcher.socket.disable_monitor()
        silent.close(0)
        with_new_connection = daemon.client()
        while (again := with_new_connection.plugin("hello"))["state"] != "ready":
            pass  # without a subscription: its connection may be one of those that the daemon still has to cut off
        assert (again["pid"], again["incarnation"]) == (row["pid"], row["incarnation"])


def test_a_killed_plugin_comes_back() -> None:
    with Qcosd() as daemon:
        client = daemon.client()
        row = wait_ready(client, "hello")
        os.kill(int(str(row["pid"])), signal.SIGKILL)
        again = wait_ready(client, "hello", after=int(str(row["incarnation"])))
        assert again["pid"] != row["pid"] and again["restarts"] == 1
