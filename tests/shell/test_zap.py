# SPDX-License-Identifier: Apache-2.0
"""Who may connect, with real handshakes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import zmq
from shell_world import CLIENT_TOKEN, PLUGIN_TOKEN, Inbox, World, run
from zmq.utils.monitor import parse_monitor_message

from qcosd.shell.zap import digest_of, uid_of

OUTCOMES = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH


async def handshake(world: World, peer: Any) -> bool:
    """Whether the peer's handshake succeeds."""
    monitor = world.keep(peer.get_monitor_socket(OUTCOMES))
    return bool(parse_monitor_message(await monitor.recv_multipart())["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED)


@pytest.mark.parametrize(
    "name, user, token, admitted",
    [
        ("clients", b"client", CLIENT_TOKEN, True),
        ("clients", b"client", b"x" * 64, False),
        ("clients", b"root", CLIENT_TOKEN, False),
        ("clients", b"hello/1", PLUGIN_TOKEN, False),
        ("plugins", b"hello/1", PLUGIN_TOKEN, True),
        ("plugins", b"hello/1", CLIENT_TOKEN, False),
        ("plugins", b"hello/1", digest_of(PLUGIN_TOKEN).encode(), False),  # what the journal has
        ("plugins", b"client", CLIENT_TOKEN, False),
        ("plugins", b"hello/2", PLUGIN_TOKEN, False),
        ("plugins", b"\xff\xfe", PLUGIN_TOKEN, False),
    ],
)
def test_tokens(tmp_path: Path, name: str, user: bytes, token: bytes, admitted: bool) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            world.authenticator.admit("hello/1", digest_of(PLUGIN_TOKEN))
            world.bus(Inbox(), name)
            peer = world.peer(name=name, user=user, token=token)
            assert await handshake(world, peer) is admitted
            assert (world.authenticator.refused > 0) is not admitted

    run(test())


def test_a_revoked_token_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            world.bus(Inbox(), "plugins")
            assert await handshake(world, world.plugin("hello/1"))
            world.authenticator.revoke("hello/1")
            peer = world.peer(name="plugins", user=b"hello/1", token=PLUGIN_TOKEN)
            assert not await handshake(world, peer)

    run(test())


def test_without_a_mechanism_nobody_is_heard(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            inbox = Inbox()
            world.bus(inbox)
            stranger = world.peer(user=b"")
            await stranger.send(b"hello?")
            await world.peer().send(b"hello")
            assert (await inbox.next())[2] == [b"hello"]
            assert inbox.reports.empty()

    run(test())


def test_the_uid_is_what_the_system_says(tmp_path: Path) -> None:
    assert uid_of("localhost:1000:100:4711") == "1000"
    assert uid_of("127.0.0.1") == "?"
    assert uid_of("") == "?"

    async def test() -> None:
        async with World(tmp_path) as world:
            inbox = Inbox()
            world.bus(inbox)
            await world.peer().send(b"hello")
            assert (await inbox.next())[1].identity == f"uid:{os.getuid()}"

    run(test())
