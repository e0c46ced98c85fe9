# SPDX-License-Identifier: Apache-2.0
"""A bus with one plugin on it, held by whoever examines the plugin: it says exactly what it is told to."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgpack
import zmq

from qcosd.protocol import Message, Side, Type, decode, encode
from qcosd.sdk.boot import BOOT_VARIABLE

INCARNATION = 7
HEARTBEAT = 0.5


class Breach(Exception):
    """The plugin did not do what the protocol asks of it."""


class LoneBus:
    """Starts the command with a boot descriptor and listens on a ROUTER with PLAIN, as the kernel does.

    ``boot`` is the boot number that it claims; ``heard`` keeps every message of the plugin.
    """

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.boot = 1
        self.heard: list[Message] = []
        self._identity = f"{name}/{INCARNATION}"
        self._token = os.urandom(32).hex()
        self._directory = tempfile.TemporaryDirectory(prefix="qcos-")
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._zap = self._context.socket(zmq.REP)
        self._zap.bind("inproc://zeromq.zap.01")
        self._endpoint = f"ipc://{Path(self._directory.name) / 'bus.sock'}"
        self._router: zmq.Socket[bytes] = self._bind()
        self._routing = b""
        self._last_id = 0
        self._command = command
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._router.close(linger=0)
        self._zap.close(linger=0)
        self._context.term()
        self._directory.cleanup()

    def die(self) -> None:
        """As a kernel that is killed: every connection ends, nobody listens."""
        self._router.close(linger=0)
        self._routing = b""

    def rise(self) -> None:
        """As the kernel of the next boot: it listens again, and knows nobody."""
        self.boot += 1
        self._router = self._bind()

    def _bind(self) -> zmq.Socket[bytes]:
        router = self._context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.PLAIN_SERVER, 1)
        router.setsockopt_string(zmq.ZAP_DOMAIN, "plugins")
        router.bind(self._endpoint)
        return router

    def start(self, hand_over: bool = True) -> None:
        """Start the process; without ``hand_over`` its boot descriptor ends unwritten."""
        reading, writing = os.pipe()
        environment = {**os.environ, BOOT_VARIABLE: str(reading), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            self._command,
            env=environment,
            pass_fds=(reading,),
            cwd="/",
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(reading)
        with open(writing, "wb") as descriptor:
            if hand_over:
                descriptor.write(self.boot_map())

    def boot_map(self) -> bytes:
        """What the plugin reads from its boot descriptor, for whoever starts it instead."""
        boot = {
            "protocol": 1, "boot": self.boot, "endpoint": self._endpoint, "heartbeat": HEARTBEAT, "embedded": True,
            "component": self.name, "incarnation": INCARNATION, "identity": self._identity, "token": self._token,
        }  # fmt: skip
        packed: bytes = msgpack.packb(boot)
        return packed

    def say(self, type: Type, body: dict[str, Any] | None = None, id: int = 0) -> None:
        """Send a message."""
        self.say_frames(encode(Message(type, body or {}, id, self.boot)))

    def say_frames(self, frames: list[bytes]) -> None:
        """Send whatever frames."""
        self._router.send_multipart([self._routing, *frames])

    def ping(self) -> int:
        """Send a PING; returns its id."""
        self._last_id += 1
        self.say(Type.PING, id=self._last_id)
        return self._last_id

    def welcome(self, hello: Message) -> None:
        """Answer a HELLO."""
        limits = {"chunk": 1 << 18, "blob_window": 4, "requests": 16, "frame": 1 << 20}
        body = {"version": 1, "boot": self.boot, "incarnation": INCARNATION, "heartbeat": HEARTBEAT, "limits": limits}
        self.say(Type.WELCOME, body, hello.id)

    def expect(self, what: str, wanted: Callable[[Message], bool], seconds: float) -> Message:
        """The next message that is ``wanted``; pings of the plugin are answered, its other messages passed over.

        Raises Breach after ``seconds``, or when the plugin ends or breaks the protocol.
        """
        deadline = time.monotonic() + seconds
        while True:
            message = self.hear(deadline - time.monotonic())
            if message is None:
                raise Breach(f"no {what} within {seconds:g} s")
            if wanted(message):
                return message

    def hear(self, seconds: float) -> Message | None:
        """The next message of the plugin; None after ``seconds``.  Raises Breach when it ends or breaks the protocol."""
        deadline = time.monotonic() + seconds
        poller = zmq.Poller()
        poller.register(self._zap, zmq.POLLIN)
        poller.register(self._router, zmq.POLLIN)
        while True:
            left = deadline - time.monotonic()
            ready = dict(poller.poll(max(0, min(100, round(left * 1000)))))
            if self._zap in ready:
                self._admit()
            if self._router in ready:
                return self._take()
            if left <= 0:
                return None
            if self.process is not None and self.process.poll() is not None:
                raise Breach(f"the plugin ended with status {self.process.returncode}")

    def ended(self, seconds: float) -> int:
        """Its exit status.  Raises Breach if it has not ended after ``seconds``."""
        if self.process is None:
            raise ValueError("it was not started")
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() >= deadline:
                raise Breach(f"it has not ended within {seconds:g} s")
            try:
                self.hear(0.05)
            except Breach:
                if self.process.poll() is None:
                    raise
        return self.process.wait()

    def _take(self) -> Message:
        routing, *frames = self._router.recv_multipart()
        self._routing = routing
        try:
            message = decode(frames, Side.PLUGIN)
        except Exception as error:
            raise Breach(f"it sent a message that breaks the protocol: {error}") from error
        self.heard.append(message)
        if message.type is Type.PING:
            self.say(Type.PONG, id=message.id)
        return message

    def _admit(self) -> None:
        # version, request id, domain, address, routing id, mechanism, credentials (RFC 27)
        _, request, _, _, _, mechanism, *credentials = self._zap.recv_multipart()
        good = mechanism == b"PLAIN" and credentials == [self._identity.encode(), self._token.encode()]
        status = [b"200", b"OK", self._identity.encode()] if good else [b"400", b"refused", b""]
        self._zap.send_multipart([b"1.0", request, *status, b""])
