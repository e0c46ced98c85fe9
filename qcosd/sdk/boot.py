# SPDX-License-Identifier: Apache-2.0
"""The first thing that a plugin learns: who it is and where the bus is, from a descriptor that it inherits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import msgpack

BOOT_VARIABLE = "QCOS_BOOT_FD"
_MAX_BYTES = 65536


class NotStartedByKernel(Exception):
    """There is no boot descriptor, or it was closed unwritten: the daemon died in between.  The plugin exits."""


@dataclass(frozen=True, slots=True)
class BootMap:
    """What the daemon wrote.  ``identity`` and ``token``: PLAIN user name and password on ``endpoint``."""

    component: str
    incarnation: int
    identity: str
    token: str
    endpoint: str

    @classmethod
    def parse(cls, data: bytes) -> BootMap:
        """Unknown fields are ignored; raises NotStartedByKernel for anything that is no boot map."""
        try:
            body = msgpack.unpackb(data, raw=False)
            return cls(
                component=str(body["component"]),
                incarnation=int(body["incarnation"]),
                identity=str(body["identity"]),
                token=str(body["token"]),
                endpoint=str(body["endpoint"]),
            )
        except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
            raise NotStartedByKernel(f"no boot map came from the daemon: {error!r}") from error


def read_boot_map(environment: Mapping[str, str] | None = None) -> BootMap:
    """Read the descriptor to its end and close it.  Blocks until the daemon has written."""
    number = (os.environ if environment is None else environment).get(BOOT_VARIABLE, "")
    if not number.isdigit():
        raise NotStartedByKernel(f"{BOOT_VARIABLE} is not set: a plugin is started by qcosd")
    data = b""
    try:
        with open(int(number), "rb", buffering=0) as source:
            while len(data) <= _MAX_BYTES and (more := source.read(4096)):
                data += more
    except OSError as error:
        raise NotStartedByKernel(f"cannot read descriptor {number}: {error}") from error
    if not data:
        raise NotStartedByKernel("the daemon went away before it had said who this is")
    return BootMap.parse(data)
