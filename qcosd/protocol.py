# SPDX-License-Identifier: Apache-2.0
"""The wire protocol of the bus, version 1. docs/PROTOCOL.md is generated from it.

This module is the one door to it. What the messages are is written in ``qcosd.messages``, the errors in ``qcosd.errors``.

A message is one msgpack header frame, one msgpack body frame, and payload frames that pass through untouched.
``encode`` and ``decode`` are the only ways in and out. ``decode`` checks every known field and ignores unknown ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from qcosd.errors import ERRORS, INTERRUPTS, error_table
from qcosd.messages import (
    AREAS,
    BOOT_MAP,
    ERROR_TABLE,
    HEADER,
    HELD_TABLE,
    INPUT_TABLE,
    SPECS,
    STREAM_TABLE,
    Side,
    Spec,
    Type,
)
from qcosd.schema import Violation, check_fields

__all__ = [
    "AREAS", "BOOT_MAP", "CHUNK", "ERRORS", "ERROR_TABLE", "EXIT_BUS_SILENT", "HEADER", "HEARTBEAT", "HELD_TABLE", "INPUT_TABLE", "INTERRUPTS", "MAX_DEPTH", "MAX_FRAME",
    "MAX_HEADER", "MAX_PAYLOADS", "SPECS", "STREAM_TABLE", "VERSION", "Message", "ProtocolError", "Side", "Spec", "Type", "Violation", "decode", "encode",
    "error_table",
]  # fmt: skip

VERSION = 1
MAX_FRAME = 1 << 20  # bytes that the kernel receives in one frame (MAXMSGSIZE); what it sends may be longer
MAX_HEADER = 4096  # bytes
CHUNK = 256 << 10  # bytes of an artifact in one payload frame
MAX_PAYLOADS = 4  # payload frames of one message
MAX_DEPTH = 16  # of maps and lists in each other
HEARTBEAT = 2.0  # seconds between signs of life of a plugin that has nothing else to say
EXIT_BUS_SILENT = 75  # exit status of a plugin that has lost the kernel (EX_TEMPFAIL of sysexits.h)
_NAMED = {str}
_TYPES = {int(kind): kind for kind in Type}  # asking this takes a fifth of asking the enum


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the bus. ``id`` 0: no reply is due. ``deadline`` in seconds from arrival."""

    type: Type
    body: dict[str, Any] = field(default_factory=dict)
    id: int = 0
    boot: int = 0
    deadline: float | None = None
    key: str | None = None
    payload: tuple[bytes, ...] = ()
    version: int = VERSION


class ProtocolError(Exception):
    """A received message that cannot be handled. ``name`` is in ERRORS; ``id`` is the correlation id, 0 if unreadable."""

    def __init__(self, name: str, message: str, id: int = 0) -> None:
        super().__init__(message)
        self.name = name
        self.id = id


def encode(message: Message) -> list[bytes]:
    """Frames of a message: header, body, payload. Raises Violation where the body breaks its table: a bug of the sender."""
    spec = SPECS[message.type]
    check_fields(spec.fields, message.body, message.type.name)
    if len(message.payload) != spec.payloads:
        raise Violation(f"{message.type.name} takes {spec.payloads} payload frames, not {len(message.payload)}")
    header: dict[str, Any] = {"v": message.version, "boot": message.boot, "type": int(message.type)}
    if message.id:
        header["id"] = message.id
    if message.deadline is not None:
        header["deadline"] = message.deadline
    if message.key is not None:
        header["key"] = message.key
    check_fields(HEADER, header, "header")
    return [msgpack.packb(header), msgpack.packb(message.body), *message.payload]


def decode(frames: Sequence[bytes], sender: Side) -> Message:
    """The message in the frames (without routing id or topic), which ``sender`` sent. Raises ProtocolError and nothing else."""
    if not 2 <= len(frames) <= 2 + MAX_PAYLOADS:
        raise ProtocolError("bad_message", f"{len(frames)} frames")
    if len(frames[0]) > MAX_HEADER or (sender is not Side.KERNEL and any(len(frame) > MAX_FRAME for frame in frames)):
        raise ProtocolError("bad_message", "a frame is too long")
    header = _unpack(frames[0], "header", 0)
    try:
        check_fields(HEADER, header, "header")
    except Violation as breach:
        raise ProtocolError("bad_message", str(breach)) from None
    id = header.get("id", 0)
    if header["v"] != VERSION:
        raise ProtocolError("unsupported_version", f"version {header['v']}; this side speaks {VERSION}", id)
    kind = _TYPES.get(header["type"])
    if kind is None:
        raise ProtocolError("unknown_type", f"message type {header['type']}", id)
    spec = SPECS[kind]
    if sender not in spec.senders:
        raise ProtocolError("not_allowed", f"{kind.name} is not sent by a {sender}", id)
    body = _unpack(frames[1], kind.name, id)
    try:
        check_fields(spec.fields, body, kind.name)
    except Violation as breach:
        raise ProtocolError("bad_message", str(breach), id) from None
    if len(frames) - 2 != spec.payloads:
        raise ProtocolError(
            "bad_message", f"{kind.name} takes {spec.payloads} payload frames, not {len(frames) - 2}", id
        )
    if spec.replies and not id:
        raise ProtocolError("bad_message", f"{kind.name} is a request and has no id")
    if spec.payloads and any(len(frame) > CHUNK for frame in frames[2:]):
        raise ProtocolError("bad_message", "a payload frame is longer than a chunk", id)
    return Message(
        kind, body, id, header["boot"], header.get("deadline"), header.get("key"), tuple(frames[2:]), header["v"]
    )


def _refuse_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"msgpack extension {code}")


def _unpack(frame: bytes, what: str, id: int) -> dict[str, Any]:
    try:
        value = msgpack.unpackb(frame, raw=False, strict_map_key=True, ext_hook=_refuse_extension)
    except (ValueError, msgpack.UnpackException, RecursionError):
        raise ProtocolError("bad_message", f"{what} is not msgpack", id) from None
    if type(value) is not dict or not set(map(type, value)) <= _NAMED:
        raise ProtocolError("bad_message", f"{what} is not a map of names", id)
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in (outer.values() if type(outer) is dict else outer) if type(inner) in (dict, list)]  # fmt: skip
        if not level:
            return value
    raise ProtocolError("bad_message", f"{what} is nested deeper than {MAX_DEPTH}", id)
