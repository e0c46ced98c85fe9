# SPDX-License-Identifier: Apache-2.0
"""A kernel for clients that dies when a test says so: real sockets, the answers of the test, a boot number a life."""

from __future__ import annotations

import fcntl
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

from qcosd.protocol import Message, Side, Type, decode, encode
from qcosd.sdk.runtime import CLIENTS_SOCKET, EVENTS_SOCKET, LOCK_FILE, TOKEN_FILE

TOKEN = "0" * 64
LIMITS = {"chunk": 1000, "blob_window": 2, "requests": 16}
PATIENCE = 60.0

Reply = tuple[Type, dict[str, Any]] | Type | None
Answers = Callable[["Life", Message], Reply]
"""What to answer a request with; None: nothing.  ``Type.SHUTDOWN`` stands for dying on the spot, without an answer."""


class Life(threading.Thread):
    """One boot.  ``heard``: what clients have said, HELLO and PING left out."""

    def __init__(self, runtime: Path, boot: int, answers: Answers, heard: queue.Queue[Message]) -> None:
        super().__init__(name=f"boot {boot}")
        self.boot = boot
        self.dead = threading.Event()
        self._runtime = runtime
        self._answers = answers
        self._heard = heard
        self._welcomed: set[bytes] = set()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._end = self._context.socket(zmq.PAIR)
        self._end.bind("inproc://end")
        self.kill_switch = self._context.socket(zmq.PAIR)
        self.kill_switch.connect("inproc://end")
        self._zap = self._context.socket(zmq.REP)
        self._zap.bind("inproc://zeromq.zap.01")
        self._router = self._bound(zmq.ROUTER, CLIENTS_SOCKET)
        self._events = self._bound(zmq.XPUB, EVENTS_SOCKET)
        self._lock = os.open(runtime / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(self._lock, 0)
        os.write(self._lock, b"%d\n" % os.getpid())

    def _bound(self, kind: int, name: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.PLAIN_SERVER, 1)
        socket.setsockopt_string(zmq.ZAP_DOMAIN, "clients")
        socket.bind(f"ipc://{self._runtime / name}")
        return socket

    def run(self) -> None:
        poller = zmq.Poller()
        for socket in (self._end, self._zap, self._router, self._events):
            poller.register(socket, zmq.POLLIN)
        alive = True
        while alive:
            ready = dict(poller.poll())
            if self._zap in ready:
                _, request, *_ = self._zap.recv_multipart()
                self._zap.send_multipart([b"1.0", request, b"200", b"OK", b"client", b""])
            if self._events in ready:
                topic = self._events.recv()
                if topic[:1] == b"\x01":
                    body = {"topic": topic[1:].decode(), "seq": 0, "state": {}}
                    self._events.send_multipart([topic[1:], *encode(Message(Type.EVENT, body, boot=self.boot))])
            if self._router in ready:
                alive = self._take(*self._router.recv_multipart())
            alive = alive and self._end not in ready
        os.close(self._lock)
        self._context.destroy(linger=0)
        self.dead.set()

    def _take(self, routing: bytes, *frames: bytes) -> bool:
        message = decode(frames, Side.CLIENT)
        if message.type is Type.HELLO:
            self._welcomed.add(routing)
            body = {"version": 1, "boot": self.boot, "heartbeat": 1.0, "limits": LIMITS}
            return self._say(routing, Type.WELCOME, body, message.id)
        if routing not in self._welcomed or message.boot not in (0, self.boot):
            return self._say(routing, Type.REHELLO, {"boot": self.boot}, message.id)
        if message.type is Type.PING:
            return self._say(routing, Type.PONG, {}, message.id)
        if message.type is Type.SNAPSHOT:
            topics = {"kernel": {"seq": 1, "state": {"boot": self.boot}}}
            return self._say(routing, Type.SNAPSHOT_REPLY, {"topics": topics}, message.id)
        self._heard.put(message)
        reply = self._answers(self, message)
        if reply is Type.SHUTDOWN:
            return False
        if reply is not None and not isinstance(reply, Type):
            self._say(routing, *reply, message.id)
        return True

    def _say(self, routing: bytes, type: Type, body: dict[str, Any], id: int) -> bool:
        self._router.send_multipart([routing, *encode(Message(type, body, id, self.boot))])
        return True


class KernelLives:
    """Lives of a kernel in one runtime directory, one after the other."""

    def __init__(self) -> None:
        self.runtime = Path(tempfile.mkdtemp(prefix="qcos-lives-"))
        (self.runtime / TOKEN_FILE).write_text(TOKEN)
        self.heard: queue.Queue[Message] = queue.Queue()
        self.life: Life | None = None
        self._boot = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.die()
        shutil.rmtree(self.runtime)

    def rise(self, answers: Answers) -> None:
        """The next boot."""
        self._boot += 1
        self.life = Life(self.runtime, self._boot, answers, self.heard)
        self.life.start()

    def die(self) -> None:
        """Now, if it has not died by itself; the file of its socket is left behind, nobody holds the lock."""
        if self.life is not None:
            if not self.life.dead.is_set():
                self.life.kill_switch.send(b"")
            self.await_death()

    def await_death(self) -> None:
        """Until the present life has ended."""
        assert self.life is not None
        assert self.life.dead.wait(PATIENCE)
        self.life.join()
        self.life = None

    def next_heard(self, type: Type) -> Message:
        """The next message of this type."""
        while True:
            message = self.heard.get(timeout=PATIENCE)
            if message.type is type:
                return message
