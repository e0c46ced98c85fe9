# SPDX-License-Identifier: Apache-2.0
"""Does a plugin outlive its kernel?  The part of the examination in ``conformance`` that takes the kernel away."""

from __future__ import annotations

import hashlib
from typing import Any

from qcosd.protocol import Message, Type, error_table
from qcosd.sdk.lone_bus import Breach, LoneBus
from qcosd.sdk.testing import Manifest

ANSWER = 5.0
"""Seconds within which a plugin must answer what needs no work."""

Leases = list[dict[str, Any]]


def lease_body(
    manifest: Manifest,
    index: int,
    lease: int,
    epoch: int,
    data: bytes = b"no such artifact",
    stream: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The body of a LEASE of an operation, by its place in the manifest; all of its inputs have the same bytes."""
    operation = manifest.operations[index]
    sha = hashlib.sha256(data).hexdigest()
    return {
        "lease": lease, "epoch": epoch, "job": "1", "service": operation.service, "op": operation.op,
        "batch": 0 if operation.each == "batch" else None, "options": {}, "shots": 1, "seed": 1,
        "inputs": {kind: {"sha": sha, "size": len(data)} for kind in operation.consumes}, "stream": stream, "budget": 60.0,
    }  # fmt: skip


def fed_by_bus(manifest: Manifest) -> list[int]:
    """Operations that need inputs and no stream: they can be made to wait, or to fail."""
    return [
        index
        for index, operation in enumerate(manifest.operations)
        if operation.consumes and not operation.stream_in and not operation.stream_out
    ]


def next_boot(bus: LoneBus, *, dies: bool) -> Leases:
    """Another kernel, after a death or after this one has forgotten the plugin; the leases that HELLO lists to it."""
    if dies:
        bus.die()
        bus.rise()
    else:
        bus.boot += 1
        bus.say(Type.REHELLO, {"boot": bus.boot})

    def greets(message: Message) -> bool:
        if message.type is not Type.HELLO and message.boot != bus.boot:
            bus.say(Type.REHELLO, {"boot": bus.boot}, message.id)
        return message.type is Type.HELLO

    hello = bus.expect("HELLO to the kernel of the next boot", greets, ANSWER)
    if hello.body.get("boot") != bus.boot - 1:
        raise Breach(f"HELLO says that the last boot was {hello.body.get('boot')}; it was {bus.boot - 1}")
    bus.welcome(hello)
    listed = [{"stream": None, **row} for row in hello.body.get("leases", [])]
    known = ("lease", "epoch", "stream", "finished", "aides")
    return [{key: row[key] for key in known if key in row} for row in listed]


def _held(lease: int, epoch: int, finished: bool, stream: int | None = None) -> Leases:
    return [{"lease": lease, "epoch": epoch, "stream": stream, "finished": finished}]


def _expect_listed(listed: Leases, wanted: Leases) -> None:
    if listed != wanted:
        raise Breach(f"HELLO lists the leases {listed}; held are {wanted}")


def keeps_leases(bus: LoneBus, manifest: Manifest) -> None:
    """A lease that waits for an input goes on under the next kernels, and asks each of them for it."""
    for index in fed_by_bus(manifest):
        bus.say(Type.LEASE, lease_body(manifest, index, 9, index + 1))
        place = manifest.operations[index].name
        ask = bus.expect(f"question for an input of {place}, or its end", _asks_or_ends, ANSWER)
        for dies in (False, True):
            finished = ask.type is not Type.BLOB_GET
            _expect_listed(next_boot(bus, dies=dies), _held(9, index + 1, finished))
            again = bus.expect(f"repeat of the open {ask.type.name} of {place}", _asks_or_ends, ANSWER)
            if again.type is not ask.type:
                raise Breach(f"{place} ends in {again.type.name} because the kernel died over its {ask.type.name}")
            ask = again
        if ask.type is Type.BLOB_GET:
            bus.say(Type.ERROR, {"error": error_table("no_such_artifact")}, ask.id)
            ask = bus.expect(f"end of {place}", _ends_somehow(bus), 6 * ANSWER)
        bus.say(Type.ACK, id=ask.id)
        if (ask.body["lease"], ask.body["epoch"]) != (9, index + 1):
            raise Breach(f"{ask.type.name} of lease {ask.body['lease']}, epoch {ask.body['epoch']}")


def repeats_results(bus: LoneBus, manifest: Manifest) -> None:
    """What was reported and not acknowledged is listed as finished, reported again, and then forgotten."""
    index = next(iter(fed_by_bus(manifest)), None)
    if index is None:
        return
    bus.say(Type.LEASE, lease_body(manifest, index, 5, 1))
    what = f"end of {manifest.operations[index].name} with inputs that are not there"
    end = again = bus.expect(what, _ends_somehow(bus), 6 * ANSWER)
    for dies in (True, False):
        _expect_listed(next_boot(bus, dies=dies), _held(5, 1, True))
        again = bus.expect(f"repeat of {end.type.name}", lambda message: message.type is end.type, ANSWER)
        if again.body != end.body:
            raise Breach(f"the repeated {end.type.name} differs from the first one")
    bus.say(Type.ACK, id=again.id)
    id = bus.ping()
    bus.expect("PONG", lambda message: (message.type, message.id) == (Type.PONG, id), ANSWER)
    _expect_listed(next_boot(bus, dies=True), [])


def takes_grants(bus: LoneBus, manifest: Manifest) -> None:
    """A producer goes on with the stream of a later grant, or asks for the whole work again; a stranger's is revoked."""
    producers = [index for index, each in enumerate(manifest.operations) if each.stream_out and not each.stream_in]
    if not producers:
        return
    operation = manifest.operations[producers[0]]
    name = operation.stream_out or ""
    stray = {"lease": 77, "epoch": 1}
    bus.say(Type.GRANT, {**stray, "stream": _stream(name, 9)})
    refusal = (Type.REVOKED, stray)
    bus.expect("REVOKED for the GRANT of an unknown lease", lambda each: (each.type, each.body) == refusal, ANSWER)
    bus.say(Type.LEASE, lease_body(manifest, producers[0], 9, 1, stream=_stream(name, 1)))
    bus.expect(f"question for an input of {operation.name}, or its end", _asks_or_ends, ANSWER)
    bus.say(Type.GRANT, {"lease": 9, "epoch": 1, "stream": _stream(name, 2)})
    listed = next_boot(bus, dies=False)
    if not any(row["finished"] for row in listed):  # otherwise it rather starts anew
        _expect_listed(listed, _held(9, 1, False, 2))


def lists_aides(bus: LoneBus, manifest: Manifest) -> None:
    """Who gives work away lists the streams to its aides, those of LEASE and those of a later GRANT, in their last epochs."""
    hosts = [index for index, each in enumerate(manifest.operations) if each.pool]
    if not hosts:
        return
    operation = manifest.operations[hosts[0]]
    own, pool = operation.stream_in or operation.stream_out or "", operation.pool or ""
    body = lease_body(
        manifest, hosts[0], 9, 1, stream=_stream(own, 1, role="bind" if operation.stream_in else "connect")
    )
    bus.say(Type.LEASE, {**body, "aides": [_stream(pool, 1, 3), _stream(pool, 1, 4)]})
    for grant, epoch in ((3, 2), (5, 1), (4, 1)):  # a successor, a further one, and a repeat
        bus.say(Type.GRANT, {"lease": 9, "epoch": 1, "stream": _stream(pool, epoch, grant)})
    listed = next_boot(bus, dies=False)
    if not any(row["finished"] for row in listed):  # otherwise it rather ended
        named = {row["grant"]: row["epoch"] for row in listed[0].get("aides", ())} if listed else {}
        if named != {3: 2, 4: 1, 5: 1}:
            raise Breach(f"HELLO names the aides {named} (grant: epoch), not {{3: 2, 4: 1, 5: 1}}")


def _stream(name: str, epoch: int, grant: int = 2, role: str = "connect") -> dict[str, Any]:
    """The table of a stream where nobody listens yet, as its producer gets it."""
    return {
        "grant": grant, "epoch": epoch, "name": name, "role": role, "endpoint": f"ipc:///tmp/qcos-nobody-listens.{grant}.{epoch}",
        "secret": "0" * 64, "credit": 1,
    }  # fmt: skip


def _asks_or_ends(message: Message) -> bool:
    return message.type in (Type.BLOB_GET, Type.DONE, Type.FAILED)


def _ends_somehow(bus: LoneBus) -> Any:
    """Accept its end, without acknowledging it; there are no artifacts, and what it stores is stored."""

    def ends(message: Message) -> bool:
        if message.type is Type.BLOB_GET:
            bus.say(Type.ERROR, {"error": error_table("no_such_artifact")}, message.id)
        elif message.type is Type.BLOB_PUT:
            bus.say(Type.BLOB_STORED, {"sha": message.body["sha"], "size": message.body["size"]}, message.id)
        return message.type in (Type.DONE, Type.FAILED)

    return ends
