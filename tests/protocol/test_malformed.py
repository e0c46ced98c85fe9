# SPDX-License-Identifier: Apache-2.0
"""Frames that are no message: each is refused with the right error, and with nothing but a ProtocolError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcosd.errors import MAX_TEXT
from qcosd.protocol import (
    CHUNK,
    ERRORS,
    MAX_DEPTH,
    MAX_FRAME,
    MAX_HEADER,
    SPECS,
    Message,
    ProtocolError,
    Side,
    Type,
    Violation,
    decode,
    encode,
    error_table,
)

GOLDEN = [
    [bytes.fromhex(f) for f in row["frames"]] for row in json.loads((Path(__file__).parent / "golden.json").read_text())
]
PACK = msgpack.packb
SHA = "0" * 64


def frames(body: Any = None, payload: tuple[bytes, ...] = (), **header: Any) -> list[bytes]:
    return [PACK({"v": 1, "boot": 0, "id": 1, **header}), PACK({} if body is None else body), *payload]


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"x": value}
    return value


PING, PUT, SUBMIT, PROGRESS = Type.PING, Type.BLOB_PUT, Type.JOB_SUBMIT, Type.PROGRESS
LEASE = {"lease": 1, "epoch": 1}
CORPUS: dict[str, tuple[list[bytes], str]] = {
    "no frame": ([], "bad_message"),
    "one frame": (frames(type=PING)[:1], "bad_message"),
    "too many frames": (frames(payload=(b"",) * 5, type=PING), "bad_message"),
    "empty frames": ([b"", b""], "bad_message"),
    "header is noise": ([b"\xc1", PACK({})], "bad_message"),
    "header is a list": ([PACK([1, 2]), PACK({})], "bad_message"),
    "header is cut": ([frames(type=PING)[0][:-1], PACK({})], "bad_message"),
    "header has a tail": ([frames(type=PING)[0] + b"\x00", PACK({})], "bad_message"),
    "header is too long": (frames(type=PING, x="y" * MAX_HEADER), "bad_message"),
    "header without version": ([PACK({"boot": 0, "type": 4, "id": 1}), PACK({})], "bad_message"),
    "header without boot": ([PACK({"v": 1, "type": 4, "id": 1}), PACK({})], "bad_message"),
    "header without type": (frames(), "bad_message"),
    "version is a text": (frames(v="1", type=PING), "bad_message"),
    "version of the future": (frames(v=2, type=PING), "unsupported_version"),
    "boot is negative": (frames(boot=-1, type=PING), "bad_message"),
    "type is unknown": (frames(type=299), "unknown_type"),
    "type is true": (frames(type=True), "bad_message"),
    "type is huge": (frames(type=2**64 - 1), "bad_message"),
    "id is a float": (frames(id=1.0, type=PING), "bad_message"),
    "request without id": (frames(id=0, type=PING), "bad_message"),
    "deadline is negative": (frames(deadline=-1, type=PING), "bad_message"),
    "deadline is not finite": (frames(deadline=float("inf"), type=PING), "bad_message"),
    "deadline is no number": (frames(deadline="1", type=PING), "bad_message"),
    "key is empty": (frames(key="", type=PING), "bad_message"),
    "key is long": (frames(key="k" * 129, type=PING), "bad_message"),
    "wrong direction": (frames({"error": error_table("late")}, type=Type.WELCOME), "not_allowed"),
    "body is noise": ([frames(type=PING)[0], b"\xc1"], "bad_message"),
    "body is a number": (frames(5, type=PING), "bad_message"),
    "body has a number as a name": ([frames(type=PING)[0], PACK({1: 2})], "bad_message"),
    "body has bytes as a name": ([frames(type=PING)[0], PACK({b"a": 2})], "bad_message"),
    "body is not utf-8": ([frames(type=PING)[0], b"\x81\xa1a\xa1\xff"], "bad_message"),
    "body is too long": (frames({"x": b"0" * MAX_FRAME}, type=PING), "bad_message"),
    "body is too deep": (frames({"x": nested(MAX_DEPTH)}, type=PING), "bad_message"),
    "body is very deep": ([frames(type=PING)[0], b"\x81\xa1x" * 2000 + b"\x80"], "bad_message"),
    "body announces more than it has": ([frames(type=PING)[0], b"\xdf\xff\xff\xff\xff"], "bad_message"),
    "body has an extension": ([frames(type=PING)[0], PACK({"x": msgpack.ExtType(5, b"")})], "bad_message"),
    "field is missing": (frames({"inputs": {}}, type=SUBMIT), "bad_message"),
    "field is of the wrong kind": (frames({"inputs": [], "options": {}}, type=SUBMIT), "bad_message"),
    "digest is short": (frames({"inputs": {"source": "00"}, "options": {}}, type=SUBMIT), "bad_message"),
    "digest is upper case": (frames({"inputs": {"source": "A" * 64}, "options": {}}, type=SUBMIT), "bad_message"),
    "fraction above one": (frames({**LEASE, "fraction": 1.5, "text": ""}, type=PROGRESS), "bad_message"),
    "fraction is nan": (frames({**LEASE, "fraction": float("nan"), "text": ""}, type=PROGRESS), "bad_message"),
    "text is long": (frames({**LEASE, "fraction": 1, "text": "x" * 65537}, type=PROGRESS), "bad_message"),
    "name is a path": (frames({"plugin": "../x", "kind": "crash"}, type=Type.PLUGIN_FAULT), "bad_message"),
    "word is unknown": (frames({"plugin": "x", "kind": "melt"}, type=Type.PLUGIN_FAULT), "bad_message"),
    "error table is incomplete": (frames({**LEASE, "error": {"code": 1}}, type=Type.FAILED), "bad_message"),
    "payload is missing": (frames({"sha": SHA, "size": 3}, type=PUT), "bad_message"),
    "payload where none belongs": (frames(payload=(b"x",), type=PING), "bad_message"),
    "payload is longer than a chunk": (
        frames({"sha": SHA, "size": CHUNK + 1}, (bytes(CHUNK + 1),), type=PUT),
        "bad_message",
    ),
}


def refusal(parts: list[bytes]) -> ProtocolError:
    """The error of the side that may send such a thing, or else of a plugin."""
    error = None
    for side in (Side.CLIENT, Side.PLUGIN):
        with pytest.raises(ProtocolError) as caught:
            decode(parts, side)
        if error is None or caught.value.name != "not_allowed":
            error = caught.value
    assert error is not None
    return error


@pytest.mark.parametrize("case", CORPUS)
def test_corpus(case: str) -> None:
    parts, name = CORPUS[case]
    assert refusal(parts).name == name


def test_an_unknown_type_keeps_its_id_so_that_it_can_be_answered() -> None:
    assert refusal(frames(type=299, id=77)).id == 77


def test_a_body_may_be_as_deep_as_the_limit() -> None:
    body = {"x": nested(MAX_DEPTH - 1)}
    assert decode(frames(body, type=PING), Side.CLIENT).body == body


def test_the_kernel_may_send_long_bodies() -> None:
    long = Message(Type.JOB_DOCUMENT, {"document": {"x": "y" * MAX_FRAME}}, id=1)
    assert decode(encode(long), Side.KERNEL) == long


@given(st.lists(st.binary(max_size=40), max_size=4), st.sampled_from(Side))
def test_noise(parts: list[bytes], side: Side) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(parts, side)
    assert caught.value.name in ERRORS


@given(st.data())
def test_damaged_messages_are_refused_or_are_other_messages(data: st.DataObject) -> None:
    parts = list(data.draw(st.sampled_from(GOLDEN)))
    which = data.draw(st.integers(0, len(parts) - 1))
    frame = bytearray(parts[which])
    for _ in range(data.draw(st.integers(1, 3))):
        if frame:
            frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    parts[which] = bytes(frame)
    side = data.draw(st.sampled_from(Side))
    try:
        message = decode(parts, side)
    except ProtocolError as error:
        assert error.name in ERRORS
    else:
        assert decode(encode(message), side) == message


def test_a_bug_of_the_sender_is_found_at_home() -> None:
    with pytest.raises(Violation, match=r"JOB_WAIT\.job is missing"):
        encode(Message(Type.JOB_WAIT, {}, id=1))
    with pytest.raises(Violation, match="takes 1 payload"):
        encode(Message(Type.BLOB_PUT, {"sha": SHA, "size": 0}, id=1))


def test_the_tables_fit_together() -> None:
    assert set(SPECS) == set(Type)
    assert len({spec.code for spec in ERRORS.values()}) == len(ERRORS)
    for kind, spec in SPECS.items():
        assert spec.doc.endswith("."), kind
        for reply in spec.replies:
            assert SPECS[reply].payloads == 0 or reply is Type.BLOB_DATA
            assert not SPECS[reply].replies
        assert not spec.keyed or spec.replies


def test_error_texts_are_cut() -> None:
    assert len(error_table("internal", "x" * 100_000)["message"]) == MAX_TEXT
    assert error_table("late")["message"] == ERRORS["late"].text
