# SPDX-License-Identifier: Apache-2.0
"""Transfers of artifacts: chunks, windows, digests, who may read what."""

from __future__ import annotations

import hashlib

from kernel_rig import HELLO, Rig, plugin

from qcosd.core.effects import BlobDrop, BlobRead, BlobWrite
from qcosd.core.events import BlobData, BlobWritten, Channel, Limits, PeerGone
from qcosd.protocol import CHUNK, Type


def test_an_artifact_in_chunks() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    data = bytes(range(256)) * 2048 + b"tail"
    sha = hashlib.sha256(data).hexdigest()
    more = rig.ask(client, Type.BLOB_PUT, {"sha": sha, "size": len(data)}, payload=(data[:CHUNK],))
    assert (more.type, more.body["offset"]) == (Type.BLOB_MORE, CHUNK)
    ticket = more.body["ticket"]
    assert rig.refusal(client, Type.BLOB_CHUNK, {"ticket": ticket, "offset": 0}, payload=(b"x",)) == "bad_input"
    rig.ask(client, Type.BLOB_CHUNK, {"ticket": ticket, "offset": CHUNK}, payload=(data[CHUNK : 2 * CHUNK],))
    last = rig.ask(client, Type.BLOB_CHUNK, {"ticket": ticket, "offset": 2 * CHUNK}, payload=(data[2 * CHUNK :],))
    assert (last.type, last.body) == (Type.BLOB_STORED, {"sha": sha, "size": len(data)})
    again = rig.ask(client, Type.BLOB_PUT, {"sha": sha, "size": len(data)}, payload=(data[:1],))
    assert again.type is Type.BLOB_STORED
    chunks = [rig.ask(client, Type.BLOB_GET, {"sha": sha, "offset": i}).payload[0] for i in range(0, len(data), CHUNK)]
    assert b"".join(chunks) == data
    assert rig.refusal(client, Type.BLOB_GET, {"sha": sha, "offset": len(data)}) == "bad_input"
    assert rig.refusal(client, Type.BLOB_GET, {"sha": "0" * 64, "offset": 0}) == "no_such_artifact"
    assert (len(rig.kernel.quota), len(rig.kernel.blobs)) == (0, 0)


def test_an_empty_artifact() -> None:
    rig = Rig()
    client = rig.client()
    sha = rig.put(client, b"")
    assert rig.ask(client, Type.BLOB_GET, {"sha": sha, "offset": 0}).payload == (b"",)
    assert len(rig.kernel.quota) == 0


def test_a_wrong_digest_is_refused() -> None:
    rig = Rig()
    client = rig.client()
    assert rig.refusal(client, Type.BLOB_PUT, {"sha": "0" * 64, "size": 3}, payload=(b"abc",)) == "wrong_digest"
    assert (len(rig.kernel.quota), len(rig.kernel.blobs)) == (0, 0)


def test_the_window_of_chunks_is_bounded() -> None:
    rig = Rig(limits=Limits(blob_window=2))
    rig.hold_blobs = True
    client = rig.client()
    size = 10
    number = rig.request(client, Type.BLOB_PUT, {"sha": "1" * 64, "size": size}, payload=(b"a",))
    ticket = next(effect.ticket for effect in rig.of(BlobWrite))
    rig.request(client, Type.BLOB_CHUNK, {"ticket": ticket, "offset": 1}, payload=(b"b",))
    assert rig.refusal(client, Type.BLOB_CHUNK, {"ticket": ticket, "offset": 2}, payload=(b"c",)) == "over_quota"
    rig.feed(BlobWritten(ticket, 0))
    assert rig.answers(client, number)[0].type is Type.BLOB_MORE
    rig.request(client, Type.BLOB_CHUNK, {"ticket": ticket, "offset": 2}, payload=(b"c",))
    rig.feed(PeerGone(Channel.CLIENTS, client, "left"))
    assert [effect.ticket for effect in rig.of(BlobDrop)] == [ticket]
    rig.feed(BlobWritten(ticket, 1))
    assert (len(rig.kernel.quota), len(rig.kernel.blobs), len(rig.kernel.requests)) == (0, 0, 0)


def test_reads_under_way_are_bounded_and_given_up_with_their_peer() -> None:
    rig = Rig(limits=Limits(blob_window=2))
    client = rig.client()
    sha = rig.put(client, b"program")
    rig.hold_blobs = True
    get = {"sha": sha, "offset": 0}
    numbers = [rig.request(client, Type.BLOB_GET, get) for _ in range(2)]
    assert rig.refusal(client, Type.BLOB_GET, get) == "over_quota"
    assert rig.refusal(client, Type.BLOB_PUT, {"sha": "1" * 64, "size": 1}, payload=(b"x",)) == "over_quota"
    tickets = [effect.ticket for effect in rig.of(BlobRead)]
    rig.feed(BlobData(tickets[0], None))
    assert rig.answers(client, numbers[0])[0].body["error"]["name"] == "no_such_artifact"
    rig.feed(PeerGone(Channel.CLIENTS, client, "left"))
    rig.feed(BlobData(tickets[1], b"program"))
    assert (len(rig.kernel.quota), len(rig.kernel.blobs)) == (0, 0)


def test_a_write_that_fails_ends_the_transfer_for_all_its_chunks() -> None:
    rig = Rig()
    rig.hold_blobs = True
    client = rig.client()
    first = rig.request(client, Type.BLOB_PUT, {"sha": "1" * 64, "size": 3}, payload=(b"a",))
    ticket = rig.of(BlobWrite)[0].ticket
    second = rig.request(client, Type.BLOB_CHUNK, {"ticket": ticket, "offset": 1}, payload=(b"b",))
    rig.feed(BlobWritten(ticket, 0, "no_space"))
    assert rig.answers(client, first)[0].body["error"]["name"] == "no_space"
    assert rig.answers(client, second)[0].body["error"]["name"] == "no_space", "whoever sees this one first, too"
    assert rig.refusal(client, Type.BLOB_CHUNK, {"ticket": ticket, "offset": 2}, payload=(b"c",)) == "bad_input"
    assert rig.refusal(client, Type.BLOB_PUT, {"sha": "1" * 64, "size": 1}, payload=(b"ab",)) == "bad_input"
    assert rig.refusal(client, Type.BLOB_PUT, {"sha": "1" * 64, "size": 1}, payload=(b"",)) == "bad_input"
    assert (len(rig.kernel.quota), len(rig.kernel.blobs)) == (0, 0)


def test_a_transfer_belongs_to_its_peer() -> None:
    rig = Rig()
    rig.hold_blobs = True
    client, other = rig.client("c1"), rig.client("c2")
    rig.request(client, Type.BLOB_PUT, {"sha": "1" * 64, "size": 3}, payload=(b"a",))
    chunk = {"ticket": rig.of(BlobWrite)[0].ticket, "offset": 1}
    assert rig.refusal(other, Type.BLOB_CHUNK, chunk, payload=(b"b",)) == "bad_input"


def test_bytes_under_way_are_bounded() -> None:
    rig = Rig(limits=Limits(blob_bytes=100))
    client = rig.client()
    assert rig.refusal(client, Type.BLOB_PUT, {"sha": "0" * 64, "size": 101}, payload=(b"abc",)) == "over_quota"
    assert len(rig.kernel.quota) == 0


def test_a_plugin_gets_the_inputs_of_its_leases_and_no_more() -> None:
    rig = Rig(HELLO)
    client = rig.client()
    other = rig.put(client, b"another program")
    rig.submit(client, "greeting", target="greeted")
    lease = rig.lease("hello")
    sha = lease["inputs"]["greeting"]["sha"]
    assert rig.ask(plugin("hello", 1), Type.BLOB_GET, {"sha": sha, "offset": 0}).payload == (b"program",)
    assert rig.refusal(plugin("hello", 1), Type.BLOB_GET, {"sha": other, "offset": 0}) == "not_allowed"
    rig.done("hello", lease)
    assert rig.refusal(plugin("hello", 1), Type.BLOB_GET, {"sha": sha, "offset": 0}) == "not_allowed"
