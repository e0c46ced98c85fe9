# SPDX-License-Identifier: Apache-2.0
"""The brokers that the case `bus` of `tools/bench` puts beside qcosd, each with somebody who answers in a process of its own.

Only the bench needs them: `pip install '.[bench]'` and `apt-get install nats-server dbus-daemon`. What is not here says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

import zmq

PATIENCE = 30.0  # seconds

BARE = """
import sys, zmq
context = zmq.Context()
clients, plugins = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
clients.bind(f"ipc://{sys.argv[1]}/clients"), plugins.bind(f"ipc://{sys.argv[1]}/plugins")
echo, _ = plugins.recv_multipart()
print("ready", flush=True)
poller = zmq.Poller()
poller.register(clients, zmq.POLLIN), poller.register(plugins, zmq.POLLIN)
while True:
    for socket, _ in poller.poll():
        first, *frames = socket.recv_multipart()
        if socket is clients:
            asker = first
            plugins.send_multipart([echo, *frames]) if frames[0] else clients.send_multipart([asker, b"pong"])
        else:
            clients.send_multipart([asker, *frames])
"""
PROXY = """
import sys, zmq
context = zmq.Context()
clients, plugins = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
clients.bind(f"ipc://{sys.argv[1]}/clients"), plugins.bind(f"ipc://{sys.argv[1]}/plugins")
print("ready", flush=True)
zmq.proxy(clients, plugins)
"""
PROXY_ECHO = """
import sys, zmq
bus = zmq.Context().socket(zmq.DEALER)
bus.connect(f"ipc://{sys.argv[1]}/plugins")
while True:
    asker, question = bus.recv_multipart()
    count, size = map(int, question.split())
    for _ in range(count):
        bus.send_multipart([asker, bytes(size)])
"""
LOOP = """
import asyncio, sys, uvloop, zmq
from qcosd.shell.drain import Drain

async def main():
    context, loop, peers = zmq.Context(), asyncio.get_running_loop(), {}
    clients, plugins = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
    clients.bind(f"ipc://{sys.argv[1]}/clients"), plugins.bind(f"ipc://{sys.argv[1]}/plugins")
    def say(to, frames):
        to.send_multipart(frames, zmq.NOBLOCK)
        drains[to].look_again()
    def asked():
        if not clients.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            return False
        peers["asker"], question = clients.recv_multipart(zmq.NOBLOCK)
        say(plugins, [peers["echo"], question]) if question else say(clients, [peers["asker"], b"pong"])
        return True
    def answered():
        if not plugins.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            return False
        peers["echo"], answer = plugins.recv_multipart(zmq.NOBLOCK)
        say(clients, [peers["asker"], answer]) if answer else print("ready", flush=True)
        return True
    drains = {clients: Drain(loop, clients, asked, 64), plugins: Drain(loop, plugins, answered, 64)}
    await asyncio.Event().wait()
uvloop.run(main())
"""
BARE_ECHO = """
import sys, zmq
bus = zmq.Context().socket(zmq.DEALER)
bus.connect(f"ipc://{sys.argv[1]}/plugins")
bus.send(b"")
while True:
    count, size = map(int, bus.recv().split())
    for _ in range(count):
        bus.send(bytes(size))
"""
NATS = """
import asyncio, sys, nats, uvloop

async def main():
    bus = await nats.connect(sys.argv[1], token=sys.argv[2])
    async def answer(message):
        await message.respond(bytes(int(message.data)))
    async def burst(message):
        count, size = map(int, message.data.split())
        for _ in range(count):
            await bus.publish("event", bytes(size))
    await bus.subscribe("ask", cb=answer)
    await bus.subscribe("burst", cb=burst)
    await bus.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()
uvloop.run(main())
"""
DBUS = """
import asyncio, sys, uvloop
from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus

async def main():
    bus, tasks = await MessageBus(bus_address=sys.argv[1]).connect(), []
    async def burst(message):
        for _ in range(message.body[0]):  # awaited each: with many large ones under way dbus-fast was seen to stall
            await bus.send(Message(destination=message.sender, path="/", interface="b.Echo", member="Event", message_type=MessageType.SIGNAL, signature="ay", body=[bytes(message.body[1])]))
    def handle(message):
        if message.member == "Ask":
            return Message.new_method_return(message, "ay", [bytes(message.body[1])])
        if message.member == "Burst":
            tasks.append(asyncio.ensure_future(burst(message)))
            return Message.new_method_return(message)
    bus.add_message_handler(handle)
    await bus.request_name("b.Echo")
    print("ready", flush=True)
    await asyncio.Event().wait()
uvloop.run(main())
"""
PYLECO = """
import sys, threading
from pyleco.utils.message_handler import MessageHandler

class Echo(MessageHandler):
    def __init__(self, **named):
        super().__init__(**named)
        self.register_binary_rpc_method(self.question, return_binary_output=True)
        self.register_rpc_method(self.burst)
    def question(self, size: int) -> tuple:
        return None, [bytes(size)]
    def burst(self, to: str, count: int, size: int) -> None:
        for _ in range(count):
            self.send(to, additional_payload=[bytes(size)])
echo = Echo(name="echo", host="127.0.0.1", port=int(sys.argv[1]))
echo.listen()
"""


class NotHere(Exception):
    """This machine does not have that one; how to get it."""


class Contender(Protocol):
    """A broker, somebody who answers, and the client's end in this process."""

    name: str
    how: str
    broker_answers: bool = True  # whether ``ping`` can be asked

    async def ask(self, size: int) -> None:
        """One question and its answer of ``size`` bytes."""

    async def burst(self, count: int, size: int) -> None:
        """So many events of ``size`` bytes, from the question until the last has come."""

    async def ping(self) -> None:
        """A question that the broker answers."""


@asynccontextmanager
async def bare_zeromq(broker: str = BARE, responder: str = BARE_ECHO) -> AsyncIterator[Contender]:
    with tempfile.TemporaryDirectory(prefix="qcos-b-") as place:
        echo = _running(sys.executable, "-c", responder, place, ready=False)
        with echo, _running(sys.executable, "-c", broker, place), zmq.Context() as context:
            bus = context.socket(zmq.DEALER)
            bus.linger = 0
            bus.connect(f"ipc://{place}/clients")
            yield Bare(bus, broker)
            bus.close()


class Bare(Contender):
    """What libzmq takes for the same ways, without authentication, protocol or kernel: the floor of whatever is built on its threads."""

    def __init__(self, bus: zmq.Socket[bytes], broker: str) -> None:
        self._bus = bus
        self.name, brokers = {
            BARE: ("bare ZeroMQ", "two ROUTERs that hand on what they get, read by a Poller"),
            LOOP: ("bare ZeroMQ, loop", "two ROUTERs that hand on what they get, read in uvloop as the daemon reads its own"),
            PROXY: ("bare ZeroMQ, zmq_proxy", "zmq_proxy between a ROUTER and a DEALER: no Python in the broker"),
        }[broker]  # fmt: skip
        self.how = f"no security over ipc, plain pyzmq at both ends, {brokers}"
        self.broker_answers = broker != PROXY

    async def ask(self, size: int) -> None:
        await self.burst(1, size)

    async def burst(self, count: int, size: int) -> None:
        self._bus.send(b"%d %d" % (count, size))
        for _ in range(count):
            self._bus.recv()

    async def ping(self) -> None:
        self._bus.send(b"")
        self._bus.recv()


@contextmanager
def _running(*command: str, ready: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """A process that says a line on stdout when it is there; it ends with this."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        if ready and not process.stdout.readline():
            raise NotHere(f"{command[0]} does not start")
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _need(module: str, package: str, program: str = "", debian: str = "") -> None:
    if importlib.util.find_spec(module) is None:
        raise NotHere(f"pip install '.[bench]' brings {package}")
    if program and shutil.which(program) is None:
        raise NotHere(f"apt-get install {debian} brings {program}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _await_port(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise NotHere("nobody listens")


@asynccontextmanager
async def nats() -> AsyncIterator[Contender]:
    _need("nats", "nats-py", "nats-server", "nats-server")
    import nats

    port, token = _free_port(), os.urandom(16).hex()
    url = f"nats://127.0.0.1:{port}"
    with _running("nats-server", "-a", "127.0.0.1", "-p", str(port), "--auth", token, ready=False):
        _await_port(port)
        with _running(sys.executable, "-c", NATS, url, token):
            bus = await nats.connect(url, token=token)
            yield Nats(bus, await bus.subscribe("event"))
            await bus.close()


class Nats(Contender):
    """nats-py on both ends."""

    name = "NATS"
    how = "NATS: token over tcp without TLS, nats-py"

    def __init__(self, bus: Any, events: Any) -> None:
        self._bus, self._events = bus, events

    async def ask(self, size: int) -> None:
        assert len((await self._bus.request("ask", b"%d" % size, timeout=PATIENCE)).data) == size

    async def burst(self, count: int, size: int) -> None:
        await self._bus.publish("burst", b"%d %d" % (count, size))
        for _ in range(count):
            await self._events.next_msg(timeout=PATIENCE)

    async def ping(self) -> None:
        await self._bus.flush()


@asynccontextmanager
async def dbus() -> AsyncIterator[Contender]:
    _need("dbus_fast", "dbus-fast", "dbus-daemon", "dbus-daemon")
    from dbus_fast.aio import MessageBus

    with tempfile.TemporaryDirectory(prefix="qcos-b-") as place:
        address = f"unix:path={place}/bus"
        with _running("dbus-daemon", "--session", "--nofork", "--print-address", f"--address={address}"):  # noqa: SIM117
            with _running(sys.executable, "-c", DBUS, address):
                bus = await MessageBus(bus_address=address).connect()
                yield DBus(bus)
                bus.disconnect()


class DBus(Contender):
    """dbus-fast on both ends."""

    name = "D-Bus"
    how = "EXTERNAL over a unix socket, dbus-daemon, dbus-fast"

    def __init__(self, bus: Any) -> None:
        from dbus_fast import Message

        self._bus, self._message = bus, Message
        self._events: asyncio.Queue[None] = asyncio.Queue()
        bus.add_message_handler(lambda m: self._events.put_nowait(None) if m.member == "Event" else None)

    async def _call(self, member: str, count: int, size: int) -> Any:
        call = self._message(destination="b.Echo", path="/", interface="b.Echo", member=member, signature="uu", body=[count, size])  # fmt: skip
        return await self._bus.call(call)

    async def ask(self, size: int) -> None:
        assert len((await self._call("Ask", 1, size)).body[0]) == size

    async def burst(self, count: int, size: int) -> None:
        await self._call("Burst", count, size)
        for _ in range(count):
            await self._events.get()

    async def ping(self) -> None:
        await self._bus.call(self._message(destination="org.freedesktop.DBus", path="/org/freedesktop/DBus", interface="org.freedesktop.DBus.Peer", member="Ping"))  # fmt: skip


@asynccontextmanager
async def pyleco() -> AsyncIterator[Contender]:
    _need("pyleco", "pyleco")
    from pyleco.utils.communicator import Communicator

    port = _free_port()
    with _running(sys.executable, "-m", "pyleco.coordinators.coordinator", "-p", str(port), "--namespace", "b", ready=False):  # noqa: SIM117  # fmt: skip
        with _running(sys.executable, "-c", PYLECO, str(port), ready=False):
            _await_port(port)
            with Communicator("client", host="127.0.0.1", port=port, timeout=PATIENCE) as bus:
                deadline = time.monotonic() + PATIENCE
                while "echo" not in bus.ask_rpc("COORDINATOR", "send_local_components"):
                    if time.monotonic() > deadline:
                        raise NotHere("pyleco's MessageHandler does not sign in")
                    await asyncio.sleep(0.05)
                yield Pyleco(bus)


class Pyleco(Contender):
    """pyleco's Communicator and MessageHandler."""

    name = "pyleco"
    how = "nothing over tcp, pyleco's coordinator, Communicator and MessageHandler"

    def __init__(self, bus: Any) -> None:
        self._bus = bus

    async def ask(self, size: int) -> None:
        answer = self._bus.ask_rpc("echo", "question", size=size, extract_additional_payload=True)
        assert len(answer[1][0]) == size

    async def burst(self, count: int, size: int) -> None:
        self._bus.ask_rpc("echo", "burst", to=self._bus.full_name, count=count, size=size)
        for _ in range(count):
            self._bus.read_message(timeout=PATIENCE)

    async def ping(self) -> None:
        self._bus.ask_rpc("COORDINATOR", "pong")
