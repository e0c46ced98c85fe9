# SPDX-License-Identifier: Apache-2.0
"""A real `qcosd` process, and a client that speaks the bare protocol to it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import zmq

from qcosd import protocol
from qcosd.protocol import Message, Side, Type
from qcosd.shell.manifest import find_manifests

PATIENCE = 30_000  # ms until a test that waits for what never comes is a failure


class Qcosd:
    """The daemon with `hello` as its only shipped plugin, in a short private directory. `ready` is its ready line."""

    def __init__(
        self,
        *options: str,
        config: str = "",
        embedded: bool = False,
        environment: dict[str, str] | None = None,
        directory: Path | None = None,
        program: tuple[str, ...] = ("-m", "qcosd.shell.main"),
    ) -> None:
        self._own = tempfile.TemporaryDirectory(prefix="q", dir="/tmp")
        self.directory = directory or Path(self._own.name)
        others = [m.name for m in find_manifests([], []) if m.name != "hello"]
        config_file = Path(self._own.name) / "qcosd.toml"
        config_file.write_text(f"[plugins]\ndisable = {json.dumps(others)}\n{config}")
        where = (
            ["--embedded"]
            if embedded
            else [f"--runtime-dir={self.directory}/run", f"--state-dir={self.directory}/state"]
        )
        reading, writing = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, *program, f"--config={config_file}", *where, f"--ready-fd={writing}", *options],
            pass_fds=(writing,),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"TMPDIR": str(self.directory)} | (environment or {}),
        )
        os.close(writing)
        with open(reading, "rb") as pipe:
            line = pipe.read()
        self.ready: dict[str, Any] | None = json.loads(line) if line else None
        self._clients: list[Client] = []

    @property
    def runtime(self) -> Path:
        assert self.ready is not None
        return Path(self.ready["runtime_dir"])

    def client(self, hello: bool = True, heartbeat: int = 0) -> Client:
        """A connected client, by default one that has said HELLO. `heartbeat`: ms, see `Client`."""
        client = Client(self.runtime, heartbeat)
        self._clients.append(client)
        if hello:
            assert client.ask(Type.HELLO, name="test", versions=[1, 1]).type is Type.WELCOME
        return client

    def stop(self, signum: int = signal.SIGTERM) -> tuple[int, str]:
        """Signal it and wait: exit code and what it wrote to stderr."""
        self.process.send_signal(signum)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=PATIENCE / 1000)
        return self.process.returncode, errors

    def __enter__(self) -> Qcosd:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self._own.cleanup()


class Client:
    """One DEALER. It notices no end of its connection, and what it has sent over that one is lost. `heartbeat`: ms after which it
    asks whether the daemon is there, and as many to answer; 0: it does not ask."""

    def __init__(self, runtime: Path, heartbeat: int = 0) -> None:
        self.runtime = runtime
        self.heartbeat = heartbeat
        self.token = (runtime / "client.token").read_bytes().strip()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._socket(zmq.DEALER, "clients.sock")
        self._id = 0

    def _socket(self, kind: int, name: str) -> zmq.Socket[bytes]:
        socket = self.context.socket(kind)
        socket.linger = 0
        socket.heartbeat_ivl = socket.heartbeat_timeout = self.heartbeat
        socket.rcvtimeo = socket.sndtimeo = PATIENCE
        socket.plain_username, socket.plain_password = b"client", self.token
        socket.connect(f"ipc://{self.runtime}/{name}")
        return socket

    def subscriber(self, *topics: str) -> zmq.Socket[bytes]:
        socket = self._socket(zmq.SUB, "events.sock")
        for topic in topics:
            socket.subscribe(topic)
        return socket

    def send(self, type: Type, *payload: bytes, key: str | None = None, **body: Any) -> int:
        self._id += 1
        message = Message(type, body, id=self._id, key=key, payload=payload)
        self.socket.send_multipart(protocol.encode(message))
        return self._id

    def recv(self) -> Message:
        return protocol.decode(self.socket.recv_multipart(), Side.KERNEL)

    def ask(self, type: Type, *payload: bytes, key: str | None = None, **body: Any) -> Message:
        """Send a request and return its reply."""
        number = self.send(type, *payload, key=key, **body)
        while (reply := self.recv()).id != number:
            pass
        return reply

    def plugin(self, name: str) -> dict[str, Any]:
        """The row of a plugin. A daemon serves before its first record is on disk, and starts plugins after that."""
        while True:
            rows = self.ask(Type.PLUGIN_LIST).body["plugins"]
            row: dict[str, Any] = next(row for row in rows if row["name"] == name)
            if row["state"] != "spawning":
                return row

    def close(self) -> None:
        self.context.destroy(linger=0)


def wait_gone(pid: int) -> bool:
    """Wait for the end of a process that is not ours. False where it lives on."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], PATIENCE / 1000)[0])
    finally:
        os.close(descriptor)


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
