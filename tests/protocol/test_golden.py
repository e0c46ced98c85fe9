# SPDX-License-Identifier: Apache-2.0
"""Golden frames: what version 1 looks like on the wire. A change here breaks every plugin that was not rebuilt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
import pytest

from qcosd.protocol import SPECS, Message, Side, Type, decode, encode

GOLDEN: list[dict[str, Any]] = json.loads((Path(__file__).parent / "golden.json").read_text())


def message(row: dict[str, Any]) -> Message:
    return Message(
        Type[row["type"]], row["body"], payload=tuple(part.encode() for part in row["payload"]), **row["header"]
    )


def test_every_type_has_golden_frames() -> None:
    assert list(dict.fromkeys(Type[row["type"]] for row in GOLDEN)) == list(Type)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["type"])
def test_encode(row: dict[str, Any]) -> None:
    assert [frame.hex() for frame in encode(message(row))] == row["frames"]


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["type"])
def test_decode_on_behalf_of_every_sender(row: dict[str, Any]) -> None:
    frames = [bytes.fromhex(frame) for frame in row["frames"]]
    for sender in SPECS[Type[row["type"]]].senders:
        assert decode(frames, sender) == message(row)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row["type"])
def test_unknown_fields_are_ignored(row: dict[str, Any]) -> None:
    header, body, *payload = [bytes.fromhex(frame) for frame in row["frames"]]
    header = msgpack.packb({**msgpack.unpackb(header), "later": 1})
    body = msgpack.packb({**msgpack.unpackb(body), "later": {"than": "this"}})
    decoded = decode([header, body, *payload], min(SPECS[Type[row["type"]]].senders))
    assert decoded.body["later"] == {"than": "this"}


def test_numbers_are_for_ever() -> None:
    """Types may be added; none may change its number."""
    assert {row["type"]: msgpack.unpackb(bytes.fromhex(row["frames"][0]))["type"] for row in GOLDEN} == {
        kind.name: kind.value for kind in Type
    }
    assert Type.HELLO == 1 and Type.LEASE == 200 and Type.JOB_SUBMIT == 300 and Type.STATUS == 500
    assert Side.PLUGIN == "plugin"
