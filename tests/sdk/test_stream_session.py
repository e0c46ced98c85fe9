# SPDX-License-Identifier: Apache-2.0
"""The rules of a stream, without sockets."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import numpy as np
import pytest

from qcosd.sdk.errors import StreamFault
from qcosd.sdk.stream_session import INBOX_LIMIT, ConsumerSession, Grant, ProducerSession, data_frames

GRANT = Grant(grant=3, epoch=2, name="rounds", role="bind", endpoint="ipc:///nowhere", secret="s" * 64, credit=2)
PEER = b"first"


def producer(**changes: object) -> ProducerSession:
    return ProducerSession(replace(GRANT, role="connect", **changes))


def control(**header: object) -> list[bytes]:
    return [msgpack.packb(header)]


def opened() -> tuple[ProducerSession, ConsumerSession]:
    writer, reader = producer(), ConsumerSession(GRANT)
    reply = reader.feed(PEER, writer.opening())
    assert reply is not None
    writer.feed(reply)
    return writer, reader


def test_messages_and_acknowledgements_carry_numbers() -> None:
    writer, reader = opened()
    for number in (1, 2):
        assert writer.may_send
        assert reader.feed(PEER, writer.send({"n": number}, (b"bits",))) is None
    assert not writer.may_send
    first = reader.take()
    assert (first.header, first.payload, first.number) == ({"n": 1}, [b"bits"], 1)
    ack = reader.ack(None, b"checkpoint")
    assert ack is not None
    writer.feed(ack)
    assert (writer.acked, writer.checkpoint, writer.may_send) == (1, b"checkpoint", True)
    assert reader.ack(None, b"") is None


def test_credit_is_the_smaller_of_both_sides() -> None:
    writer = producer(credit=8)
    writer.feed(control(stream="opened", credit=1))
    writer.send({}, ())
    assert not writer.may_send
    with pytest.raises(StreamFault, match="no credit"):
        writer.send({}, ())


def test_more_than_the_credit_is_a_fault_of_the_producer() -> None:
    _, reader = opened()
    for _ in range(2):
        reader.feed(PEER, data_frames({}, ()))
    with pytest.raises(StreamFault, match="credit of 2"):
        reader.feed(PEER, data_frames({}, ()))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"secret": "x" * 64}, "wrong secret"),
        ({"epoch": 1}, "epoch 2"),
        ({"epoch": 3}, "epoch 2"),
        ({"grant": 4}, "grant 3"),
    ],
)
def test_a_wrong_proof_is_refused_and_does_not_keep_out_the_right_one(changes: dict[str, object], reason: str) -> None:
    reader = ConsumerSession(GRANT)
    stranger = producer(**changes)
    reply = reader.feed(b"stranger", stranger.opening())
    assert reply is not None
    with pytest.raises(StreamFault, match=reason):
        stranger.feed(reply)
    assert reader.refused == 1
    reader.feed(PEER, producer().opening())
    assert reader.peer == PEER


@pytest.mark.parametrize(
    "frames", [data_frames({"n": 1}, ()), [b"\xc1"], [b""], control(stream="close"), [msgpack.packb([1])]]
)
def test_frames_without_proof_never_reach_the_reader(frames: list[bytes]) -> None:
    writer, reader = opened()
    reply = reader.feed(b"stranger", frames)
    assert reply is not None and b"not opened" in reply[0]
    assert not reader.inbox and not reader.ended and reader.refused == 1
    reader.feed(PEER, writer.send({}, ()))
    assert len(reader.inbox) == 1


def test_the_secret_opens_one_connection_only() -> None:
    _, reader = opened()
    reply = reader.feed(b"second", producer().opening())
    assert reply is not None and b"already open" in reply[0]
    assert reader.peer == PEER


@pytest.mark.parametrize("upto", [-1, 3, "1", None])
def test_an_impossible_acknowledgement_is_a_fault(upto: object) -> None:
    writer, _ = opened()
    writer.send({}, ())
    with pytest.raises(StreamFault):
        writer.feed(control(stream="ack", upto=upto))


def test_the_inbox_of_the_producer_is_bounded() -> None:
    writer, _ = opened()
    for _ in range(INBOX_LIMIT):
        writer.feed(data_frames({}, ()))
    with pytest.raises(StreamFault, match="unread"):
        writer.feed(data_frames({}, ()))


def test_what_is_not_received_cannot_be_acknowledged() -> None:
    writer, reader = opened()
    reader.feed(PEER, writer.send({}, ()))
    with pytest.raises(ValueError, match="not been received"):
        reader.ack(1, b"")


def test_the_control_key_is_reserved() -> None:
    with pytest.raises(ValueError, match="reserved"):
        data_frames({"stream": "mine"}, ())


@pytest.mark.parametrize("missing", ["grant", "epoch", "name", "role", "endpoint", "secret"])
def test_a_grant_lacking_a_field_is_refused(missing: str) -> None:
    body = {"grant": 1, "epoch": 1, "name": "rounds", "role": "bind", "endpoint": "ipc://x", "secret": "s", "new": 1}
    assert Grant.from_map(body).credit == 8
    del body[missing]
    with pytest.raises(ValueError, match="not a stream grant"):
        Grant.from_map(body)


def test_a_buffer_travels_in_c_order_whatever_its_order_in_memory() -> None:
    rows = np.arange(16, dtype=np.uint8).reshape(2, 8)
    _, turned, every_second = data_frames({}, (np.asfortranarray(rows), rows[:, ::2]))
    assert turned == bytes(range(16))
    assert every_second == bytes(range(0, 16, 2))
