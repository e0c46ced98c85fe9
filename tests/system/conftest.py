# SPDX-License-Identifier: Apache-2.0
"""The real command, the real daemon, the real plugins: each test gets a world of its own, and none may leave a trace."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from system_world import DaemonWorld, World


@pytest.fixture
def world() -> Iterator[World]:
    """A world without a daemon. At the end of the test it must be empty."""
    home = Path(tempfile.mkdtemp(prefix="qcos-t-", dir="/tmp"))  # short: it will hold sockets
    world = World(home)
    for directory in (world.temporary, home / "h"):
        directory.mkdir()
    try:
        yield world
        world.assert_empty()
    finally:
        for pid in world.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def daemon(world: World) -> Iterator[DaemonWorld]:
    """A world with a running daemon, which stops in order at the end and takes its plugins with it."""
    daemon = DaemonWorld(world.home, world.mark)
    daemon.start()
    try:
        yield daemon
        assert daemon.process is not None
        if daemon.process.poll() is None:
            assert daemon.stop() == 0, daemon.log()
        assert world.processes() == {}
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


@pytest.fixture
def greeting(world: World) -> Path:
    """A file for the plugin `hello`, which turns a greeting into a `greeted`."""
    return world.file("greeting.txt", "qubits\n")
