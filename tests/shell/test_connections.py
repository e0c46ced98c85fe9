# SPDX-License-Identifier: Apache-2.0
"""Connections that come and go faster than the event loop looks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import zmq

from qcosd.shell.connections import Connection, Connections

ATTEMPTS = 20
"""The descriptor of the connection before is nearly always free when the next one comes."""


def test_the_next_connection_with_the_same_descriptor_is_another_one(tmp_path: Path) -> None:
    """As when a client that has been welcomed anew renews its subscription while the loop is busy."""
    loop = asyncio.new_event_loop()  # never runs: nobody looks at the monitor but `of`
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    zap = context.socket(zmq.REP)
    zap.bind("inproc://zeromq.zap.01")
    server = context.socket(zmq.XPUB)
    server.setsockopt(zmq.PLAIN_SERVER, 1)
    server.setsockopt_string(zmq.ZAP_DOMAIN, "events")
    ended: list[Connection] = []
    connections = Connections(server, loop, lambda: None, ended.append)
    endpoint = f"ipc://{tmp_path}/events.sock"
    server.bind(endpoint)

    def subscribed() -> tuple[zmq.Socket[bytes], Connection]:
        reader = context.socket(zmq.SUB)
        reader.plain_username, reader.plain_password = b"client", b"token"
        reader.subscribe(b"job.1")
        reader.connect(endpoint)
        request = zap.recv_multipart()
        zap.send_multipart([b"1.0", request[1], b"200", b"OK", b"uid:0", b""])
        assert server.poll(30_000), "the subscription has arrived"
        frame = server.recv(copy=False)
        assert frame.bytes == b"\x01job.1"
        return reader, connections.of(frame)

    try:
        reader, last = subscribed()
        for _ in range(ATTEMPTS):
            reader.close(0)
            # Before that, a second subscription to the same topic would not be told at all.
            assert server.poll(30_000), "the server's side has noticed"
            assert server.recv() == b"\x00job.1"
            before = last
            reader, last = subscribed()
            if last.descriptor == before.descriptor:
                break
        else:
            pytest.fail("no descriptor was used again, which is the case that this is about")
        assert last is not before
    finally:
        connections.close()
        context.destroy(linger=0)
        loop.close()
