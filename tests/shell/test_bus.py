# SPDX-License-Identifier: Apache-2.0
"""The ROUTERs, with real sockets: one test for each thing that libzmq does not do by itself."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket as sockets
import sys
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import zmq
from shell_world import LIMITS, PLUGIN_TOKEN, Inbox, World, disconnected, run, until

from qcosd.protocol import MAX_FRAME
from qcosd.shell.bus import BusLimits, Sent
from qcosd.shell.connections import Connection
from qcosd.shell.zap import digest_of


def test_identity_is_what_authentication_says(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            inbox = Inbox()
            world.bus(inbox)
            peer = world.peer(routing=b"hello/1")  # a routing id is the peer's own choice and proves nothing
            await peer.send_multipart([b"one", b"two"])
            kind, connection, frames = await inbox.next()
            assert (kind, frames) == ("received", [b"one", b"two"])
            assert (connection.identity, connection.routing) == (f"uid:{os.getuid()}", b"hello/1")
            assert connection.peer.endswith(f":{os.getuid()}:{os.getgid()}:{os.getpid()}")

    run(test())


def test_a_send_that_swallows_the_edge_loses_no_wakeup(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            inbox = Inbox()
            bus = world.bus(inbox)
            peer = world.peer(asynchronous=False)
            peer.send(b"first")
            _, connection, _ = await inbox.next()
            peer.send(b"second")
            # The loop does not run here: wait until the edge is there, then let a send consume it.
            readable, _, _ = select.select([bus._socket.fileno()], [], [], 20)
            assert readable
            assert bus.send(connection.routing, [b"reply"]) is Sent.QUEUED
            assert not select.select([bus._socket.fileno()], [], [], 0)[0], "the send did not consume the edge"
            assert (await inbox.next())[2] == [b"second"]

    run(test())


def test_more_messages_than_the_budget_leave_turns_to_others(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            count = 500
            peer = world.peer(asynchronous=False)
            for number in range(count):
                peer.send(b"%d" % number)
            turns: list[int] = []
            seen: list[bytes] = []
            done = asyncio.Event()

            class Listener(Inbox):
                def received(self, connection: Connection, frames: list[bytes], /) -> None:
                    seen.append(frames[0])
                    if len(seen) == count:
                        done.set()

            world.bus(Listener(), limits=BusLimits(send_queue=1000, receive_queue=1000, budget=10, heartbeat=1.0))

            def turn() -> None:
                turns.append(len(seen))
                if not done.is_set():
                    world.loop.call_soon(turn)

            turn()
            await done.wait()
            assert seen == [b"%d" % number for number in range(count)]
            assert max(after - before for before, after in pairwise(turns)) <= 10

    run(test())


def test_absent_is_told_and_not_dropped(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            inbox = Inbox()
            bus = world.bus(inbox)
            assert bus.send(b"nobody", [b"x"]) is Sent.ABSENT
            peer = world.peer()
            await peer.send(b"here")
            _, connection, _ = await inbox.next()
            world.closed(peer)
            peer.close()
            assert (await inbox.next())[0] == "gone"
            # libzmq tells of the end a moment before it lets go of the queue, and has no event for that.
            await until(lambda: bus.send(connection.routing, [b"x"]) is Sent.ABSENT)

    run(test())


def test_high_water_counts_messages_whatever_their_size(tmp_path: Path) -> None:
    async def fill(size: int, directory: Path) -> int:
        async with World(directory) as world:
            inbox = Inbox()
            bus = world.bus(inbox)
            peer = world.peer(asynchronous=False, queue=1)
            peer.send(b"here")
            _, connection, _ = await inbox.next()
            # The peer never reads. What the system buffers is bytes, what libzmq counts is messages.
            for number in range(100_000):
                if bus.send(connection.routing, [bytes(size)]) is Sent.FULL:
                    return number
            raise AssertionError("never full")

    async def test() -> None:
        sent = await fill(100_000, tmp_path)
        assert sent >= LIMITS.send_queue, "a queue of megabytes is not full for libzmq"
        assert sent * 100_000 > 5_000_000
        assert await fill(1, tmp_path) >= LIMITS.send_queue

    run(test())


def test_a_full_peer_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            inbox = Inbox()
            bus = world.bus(inbox, limits=replace(LIMITS, heartbeat=600.0))  # which would cut it off in the end
            peer = world.peer(asynchronous=False, queue=1)
            peer.send(b"here")
            _, connection, _ = await inbox.next()
            while bus.send(connection.routing, [bytes(100_000)]) is Sent.QUEUED:
                pass
            world.end(bus)  # while the peer is there and does not read: without LINGER this would wait for ever
            world.serve()

    run(test())


def test_a_freed_routing_id_can_pass_to_another_peer(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            inbox = Inbox()
            world.bus(inbox, "plugins")
            first = world.plugin("hello/1", routing=b"same")
            await first.send(b"from the first")
            _, old, _ = await inbox.next()
            world.closed(first)
            first.close()
            assert await inbox.next() == ("gone", old)
            second = world.plugin("other/2", routing=b"same")
            await second.send(b"from the second")
            kind, new, frames = await inbox.next()
            assert (kind, frames) == ("received", [b"from the second"])
            assert (old.identity, new.identity) == ("hello/1", "other/2")
            assert old.routing == new.routing

    run(test())


def test_a_routing_id_in_use_cannot_be_taken(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            inbox = Inbox()
            bus = world.bus(inbox, "plugins")
            owner = world.plugin("hello/1", routing=b"same")
            await owner.send(b"mine")
            _, connection, _ = await inbox.next()
            thief = world.plugin("other/2", routing=b"same")
            connected = thief.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
            await connected.recv_multipart()
            world.keep(connected)
            bus.send(connection.routing, [b"for the owner"])
            assert await owner.recv() == b"for the owner"

    run(test())


def test_messages_queued_before_a_restart_arrive_with_their_identity(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            inbox = Inbox()
            bus = world.bus(inbox, "plugins")
            peer = world.plugin("hello/1")
            await peer.send(b"in the first life")
            assert (await inbox.next())[2] == [b"in the first life"]
            cut = disconnected(peer)
            world.end(bus)
            await cut
            await peer.send(b"while nobody was there")  # queued by the peer's libzmq, and delivered before any HELLO
            world.serve()
            world.authenticator.admit("hello/1", digest_of(PLUGIN_TOKEN))
            world.bus(inbox, "plugins")
            kind, connection, frames = await inbox.next()
            assert (kind, frames, connection.identity) == ("received", [b"while nobody was there"], "hello/1")

    run(test())


FROZEN_PEER = """
import sys, zmq
peer = zmq.Context().socket(zmq.DEALER)
peer.linger, peer.plain_username, peer.plain_password = 0, sys.argv[2].encode(), sys.argv[3].encode()
peer.reconnect_ivl = 20
peer.connect(sys.argv[1])
while True:
    peer.send(b"here")
    if peer.poll(20):
        peer.recv()
"""


def test_a_frozen_peer_is_cut_off_and_comes_back_by_itself(tmp_path: Path) -> None:
    """The same identity at a new address: whoever it is has not ended, and nothing of it has to be let in anew."""

    async def test() -> None:
        async with World(tmp_path) as world:
            inbox = Inbox()
            world.bus(inbox, "plugins", replace(LIMITS, heartbeat=0.05))
            world.authenticator.admit("hello/1", digest_of(PLUGIN_TOKEN))
            words = [sys.executable, "-c", FROZEN_PEER, world.endpoint("plugins"), "hello/1", PLUGIN_TOKEN.decode()]
            peer = await asyncio.create_subprocess_exec(*words)
            _, old, _ = await inbox.next()
            peer.send_signal(signal.SIGSTOP)
            while (report := await inbox.next())[0] != "gone":
                assert report[1] == old
            assert report == ("gone", old)
            peer.send_signal(signal.SIGCONT)
            kind, new, _ = await inbox.next()
            assert (kind, new.identity) == ("received", old.identity)
            assert new.routing != old.routing
            peer.kill()
            await peer.wait()

    run(test())


def test_last_messages_come_before_the_news_of_the_end(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            inbox = Inbox()
            world.bus(inbox)
            peer = world.peer(asynchronous=False)
            peer.linger = 5000
            for number in range(50):
                peer.send(b"%d" % number)
            world.closed(peer)
            peer.close()
            for number in range(50):
                assert (await inbox.next())[2] == [b"%d" % number]
            assert (await inbox.next())[0] == "gone"

    run(test())


def test_a_frame_above_the_limit_ends_the_connection(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            inbox = Inbox()
            world.bus(inbox)
            peer = world.peer()
            await peer.send(bytes(MAX_FRAME))
            assert len((await inbox.next())[2][0]) == MAX_FRAME
            await peer.send(bytes(MAX_FRAME + 1))
            assert (await inbox.next())[0] == "gone"

    run(test())


def test_a_disconnected_peer_gets_its_last_message_and_is_heard_no_more(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            inbox = Inbox()
            bus = world.bus(inbox)
            peer = world.peer()
            await peer.send(b"malformed")
            _, connection, _ = await inbox.next()
            ended = disconnected(peer)
            bus.send(connection.routing, [b"goodbye"])
            assert bus.disconnect(connection.routing) == connection
            world.authenticator.refuse(connection.peer, 1.0)
            refusal = world.next_look_at_the_clock()
            await peer.send(b"more of it")
            assert await peer.recv() == b"goodbye"
            await ended
            assert await inbox.next() == ("gone", connection)
            # It reconnects by itself and is refused, until the cool-down is over.
            await refusal.wait()
            world.now = 1.0
            await peer.send(b"better now")
            while (report := await inbox.next())[2] != [b"better now"]:
                assert report[2] == [b"more of it"]

    run(test())


def test_the_successor_of_a_descriptor_is_not_shut_down() -> None:
    ours, theirs = sockets.socketpair()
    with ours, theirs:
        inode = os.fstat(ours.fileno()).st_ino
        Connection(b"", "uid:0", "", ours.fileno(), inode + 1).shut_down()
        theirs.send(b"still open")
        assert ours.recv(100) == b"still open"
        Connection(b"", "uid:0", "", ours.fileno(), inode).shut_down()
        assert theirs.recv(100) == b""


def test_a_plugin_does_not_wait_behind_clients(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            inbox = Inbox()
            plugins = world.bus(inbox, "plugins")
            clients = world.bus(inbox, ahead=plugins.drain_now)
            plugin, client = world.plugin(asynchronous=False), world.peer(asynchronous=False)
            for peer in (plugin, client):
                peer.send(b"hello")
                await inbox.next()
            # All of them have arrived before the loop takes its next turn.
            for _ in range(LIMITS.budget):
                client.send(b"flood")
            assert clients._socket.poll(20_000)
            plugin.send(b"word")
            assert plugins._socket.poll(20_000)
            for bus in (clients, plugins):  # polling may have swallowed the edge
                bus._drain.look_again()
            assert (await inbox.next())[2] == [b"word"]

    run(test())


def test_a_flood_from_clients_does_not_delay_plugins(tmp_path: Path) -> None:
    async def test() -> None:
        async with World(tmp_path) as world:
            flood = 0
            flooding = asyncio.Event()

            class Clients(Inbox):
                def received(self, connection: Connection, frames: list[bytes], /) -> None:
                    nonlocal flood
                    flood += 1
                    if flood == 1000:
                        flooding.set()

            inbox = Inbox()
            world.bus(Clients(), limits=BusLimits(send_queue=128, receive_queue=128, budget=16, heartbeat=1.0))
            plugins = world.bus(inbox, "plugins")
            plugin = world.plugin()
            stop = threading.Event()

            def pour() -> None:
                with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
                    socket.linger = 0
                    socket.sndtimeo = 100
                    socket.plain_username, socket.plain_password = b"client", b"c" * 64
                    socket.connect(world.endpoint())
                    while not stop.is_set():
                        try:
                            socket.send(bytes(1000))
                        except zmq.Again:
                            continue

            thread = threading.Thread(target=pour)
            thread.start()
            try:
                await flooding.wait()
                shares = []
                for number in range(100):
                    before = flood
                    await plugin.send(b"%d" % number)
                    _, connection, frames = await inbox.next()
                    plugins.send(connection.routing, frames)
                    assert await plugin.recv() == b"%d" % number
                    shares.append(flood - before)
                assert sum(shares) > 0, "the flood had stopped"
                # A round trip of the plugin waits for a few budgets of client messages, not for the flood.
                assert sorted(shares)[50] <= 50 * 16
            finally:
                stop.set()
                thread.join()

    run(test())
