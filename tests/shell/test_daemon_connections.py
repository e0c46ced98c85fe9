# SPDX-License-Identifier: Apache-2.0
"""Connections to a daemon: malformed frames, clients that do not read, artifacts in chunks, events."""

from __future__ import annotations

import hashlib
import os
import select
import signal

import zmq
import zmq.utils.monitor
from qcosd_process import PATIENCE, Client, Qcosd

from qcosd import protocol
from qcosd.protocol import CHUNK, Side, Type

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
