# SPDX-License-Identifier: Apache-2.0
"""Does a plugin keep the protocol?  For plugins in any language; it is started as the daemon would start it.

    python -m qcosd.sdk.conformance FOLDER          the folder has the plugin.toml
    findings = examine("FOLDER")                    the same for a test: assert not [f for f in findings if f.fault]

Operations are only asked to refuse or survive what cannot be done (inputs that are not there); whether they compute the
right thing is for their own tests.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgpack

from qcosd.protocol import ERRORS, VERSION, Message, Type, encode, error_table
from qcosd.sdk import kernel_deaths
from qcosd.sdk.kernel_deaths import ANSWER, fed_by_bus, lease_body
from qcosd.sdk.lone_bus import HEARTBEAT, INCARNATION, Breach, LoneBus
from qcosd.sdk.testing import Manifest, read_manifest

RUBBISH = bytes(range(256))
"""An input that is of no kind."""


Check = Callable[[LoneBus, Manifest], None]


@dataclass(frozen=True)
class Finding:
    """What was found about one rule; ``fault`` is empty where it is kept."""

    rule: str
    fault: str = ""


def command_of(manifest: Manifest) -> list[str]:
    """The command of a plugin, as the daemon makes it."""
    words = [word.replace("{python}", sys.executable).replace("{folder}", manifest.folder) for word in manifest.argv]
    if "/" in words[0] and not words[0].startswith("/"):
        words[0] = str(Path(manifest.folder) / words[0])
    return words


def examine(folder: str | Path, only: str = "") -> list[Finding]:
    """Every rule (whose text contains ``only``), in order.  Raises ManifestError where plugin.toml itself is wrong."""
    manifest = read_manifest(Path(folder) / "plugin.toml")
    findings = []
    for rule, check in RULES:
        if only not in rule:
            continue
        with LoneBus(manifest.name, command_of(manifest)) as bus:
            try:
                check(bus, manifest)
            except Breach as breach:
                findings.append(Finding(rule, str(breach)))
            else:
                findings.append(Finding(rule))
    return findings


def _greet(bus: LoneBus, manifest: Manifest) -> Message:
    """Start it and let it become ready."""
    bus.start()
    hello = bus.expect("HELLO", lambda message: True, manifest.readiness_timeout)
    if hello.type is not Type.HELLO:
        raise Breach(f"its first message is {hello.type.name}")
    bus.welcome(hello)
    if hello.body.get("ready") is False:
        bus.expect("READY", lambda message: message.type is Type.READY, manifest.readiness_timeout)
    return hello


def _alive(bus: LoneBus) -> None:
    id = bus.ping()
    bus.expect("PONG", lambda message: message.type is Type.PONG and message.id == id, ANSWER)


def _leave_unborn(bus: LoneBus, manifest: Manifest) -> None:
    bus.start(hand_over=False)
    bus.ended(manifest.readiness_timeout)


def _hello(bus: LoneBus, manifest: Manifest) -> None:
    hello = _greet(bus, manifest)
    body = hello.body
    if hello.boot != 0:
        raise Breach(f"HELLO claims boot {hello.boot}; it has had no WELCOME yet")
    if body["name"] != manifest.name or body.get("incarnation") != INCARNATION:
        raise Breach(f"HELLO is of {body['name']}/{body.get('incarnation')}, not {manifest.name}/{INCARNATION}")
    low, high = body["versions"]
    if not low <= VERSION <= high:
        raise Breach(f"it speaks versions {low} to {high}, not {VERSION}")
    missing = {operation.name for operation in manifest.operations} - set(body.get("services", []))
    if missing:
        raise Breach(f"the manifest promises {', '.join(sorted(missing))}, HELLO does not")


def _ping(bus: LoneBus, manifest: Manifest) -> None:
    _greet(bus, manifest)
    sent = [bus.ping() for _ in range(5)]
    got = [bus.expect("PONG", lambda message: message.type is Type.PONG, ANSWER).id for _ in sent]
    if got != sent:
        raise Breach(f"pings {sent} were answered in the order {got}")


def _life(bus: LoneBus, manifest: Manifest) -> None:
    _greet(bus, manifest)
    for _ in range(4):
        bus.expect("sign of life of an idle plugin", lambda message: True, 2 * HEARTBEAT)


def _unknown(bus: LoneBus, manifest: Manifest) -> None:
    _greet(bus, manifest)
    bus.say_frames([msgpack.packb({"v": 1, "boot": bus.boot, "type": 9999, "new": 1}), msgpack.packb({"new": 2})])
    header = {"v": 1, "boot": bus.boot, "type": int(Type.PING), "id": 77, "new": [1]}
    bus.say_frames([msgpack.packb(header), msgpack.packb({"new": {"a": 1}})])
    bus.expect(
        "PONG to a PING with unknown fields", lambda message: (message.type, message.id) == (Type.PONG, 77), ANSWER
    )


def _rehello(bus: LoneBus, manifest: Manifest) -> None:
    _greet(bus, manifest)
    bus.boot += 1
    bus.say(Type.REHELLO, {"boot": bus.boot})
    bus.welcome(bus.expect("HELLO after REHELLO", lambda message: message.type is Type.HELLO, ANSWER))
    _alive(bus)
    late = [message.type.name for message in bus.heard[-1:] if message.boot != bus.boot]
    if late:
        raise Breach(f"{late[0]} still has the old boot number after WELCOME")


def _revoke_unknown(bus: LoneBus, manifest: Manifest) -> None:
    _greet(bus, manifest)
    _revoke(bus, 99, 3)


def _revoke(bus: LoneBus, lease: int, epoch: int) -> None:
    body = {"lease": lease, "epoch": epoch}
    bus.say(Type.REVOKE, body)
    name = f"REVOKED for lease {lease}"
    bus.expect(name, lambda message: message.type is Type.REVOKED and message.body == body, 2 * ANSWER)


def _answer_work(bus: LoneBus, message: Message) -> bool:
    """Do the kernel's part for one message; True when it ends a lease."""
    if message.type is Type.BLOB_GET:
        bus.say(Type.ERROR, {"error": error_table("no_such_artifact")}, message.id)
    elif message.type is Type.BLOB_PUT:
        bus.say(Type.BLOB_STORED, {"sha": message.body["sha"], "size": message.body["size"]}, message.id)
    elif message.type in (Type.DONE, Type.FAILED):
        bus.say(Type.ACK, id=message.id)
        return True
    return False


def _lease(bus: LoneBus, manifest: Manifest) -> None:
    _greet(bus, manifest)
    for index in fed_by_bus(manifest):
        operation, lease = manifest.operations[index], index + 1
        for _ in range(2):  # a repeat has no further effect
            bus.say(Type.LEASE, lease_body(manifest, index, lease, 1))
        what = f"end of {operation.name} with inputs that are not there"
        end = bus.expect(what, lambda message: _answer_work(bus, message), 6 * ANSWER)
        if (end.body["lease"], end.body["epoch"]) != (lease, 1):
            raise Breach(
                f"{end.type.name} of lease {end.body['lease']}, epoch {end.body['epoch']}; given was {lease}, 1"
            )
        _check_error(manifest, index, end)
        _alive(bus)
        ends = [
            message
            for message in bus.heard
            if message.type in (Type.DONE, Type.FAILED) and message.body["lease"] == lease
        ]
        if len(ends) > 1:
            raise Breach(f"{operation.name} was done twice for a lease that was repeated")


def _check_error(manifest: Manifest, index: int, end: Message) -> None:
    """A failure has a name of the table; an input that is said to be wrong is one that was given."""
    operation = manifest.operations[index]
    if end.type is not Type.FAILED:
        return
    error = end.body["error"]
    if error["name"] not in ERRORS:
        raise Breach(f"{operation.name} fails with {error['name']!r}, which is not in the error table")
    accused = (error.get("details") or {}).get("kind")
    if error["name"] == "wrong_input" and accused not in operation.consumes:
        raise Breach(f"{operation.name} fails with wrong_input of {accused!r}, which is none of what it consumes")


def _rubbish(bus: LoneBus, manifest: Manifest) -> None:
    checks = [index for index, operation in enumerate(manifest.operations) if operation.checks]
    if checks:
        _greet(bus, manifest)

    def answer(message: Message) -> bool:
        if message.type is not Type.BLOB_GET:
            return _answer_work(bus, message)
        body = {"sha": message.body["sha"], "offset": 0, "size": len(RUBBISH)}
        bus.say_frames(encode(Message(Type.BLOB_DATA, body, message.id, bus.boot, payload=(RUBBISH,))))
        return False

    for index in checks:
        bus.say(Type.LEASE, lease_body(manifest, index, index + 1, 1, RUBBISH))
        name = manifest.operations[index].name
        end = bus.expect(f"end of {name} with inputs that are rubbish", answer, 6 * ANSWER)
        if end.type is Type.DONE:
            raise Breach(f"{name} finds nothing wrong with rubbish")
        _check_error(manifest, index, end)


def _revoke_running(bus: LoneBus, manifest: Manifest) -> None:
    _greet(bus, manifest)
    for index, operation in enumerate(manifest.operations):
        if operation.stream_in or operation.stream_out:
            continue
        bus.say(Type.LEASE, lease_body(manifest, index, 50 + index, 2))
        _revoke(bus, 50 + index, 2)
        _alive(bus)


def _after_greeting(check: Check) -> Check:
    def examine(bus: LoneBus, manifest: Manifest) -> None:
        _greet(bus, manifest)
        check(bus, manifest)

    return examine


def _stop(bus: LoneBus, manifest: Manifest) -> None:
    _greet(bus, manifest)
    seconds = manifest.stop.ask
    bus.say(Type.STOP, {"seconds": seconds, "reason": "the examination is over"})
    status = bus.ended(seconds)
    if status != 0:
        raise Breach(f"it ended with status {status}, not 0")
    if bus.heard[-1].type is not Type.GOODBYE:
        raise Breach(f"its last message is {bus.heard[-1].type.name}, not GOODBYE")


def _terminate(bus: LoneBus, manifest: Manifest) -> None:
    _greet(bus, manifest)
    if bus.process is not None:
        bus.process.send_signal(signal.SIGTERM)
    bus.ended(manifest.stop.term)


RULES: tuple[tuple[str, Check], ...] = (
    ("exits when its boot descriptor ends unwritten", _leave_unborn),
    ("says HELLO with what its manifest promises, and becomes ready in time", _hello),
    ("answers PING in order", _ping),
    ("gives signs of life while idle", _life),
    ("ignores unknown message types and fields", _unknown),
    ("says HELLO again after REHELLO", _rehello),
    ("answers REVOKE of an unknown lease with REVOKED", _revoke_unknown),
    ("ends each lease once, and names its errors as the table does", _lease),
    ("lets no rubbish pass where it checks", _rubbish),
    ("gives up a lease that is revoked", _revoke_running),
    ("keeps its leases while the kernel is away, and lists them", _after_greeting(kernel_deaths.keeps_leases)),
    ("repeats a result to the next kernel until it is acknowledged", _after_greeting(kernel_deaths.repeats_results)),
    ("goes on with the stream of a later grant", _after_greeting(kernel_deaths.takes_grants)),
    ("lists the streams to its aides", _after_greeting(kernel_deaths.lists_aides)),
    ("leaves on STOP with GOODBYE and status 0", _stop),
    ("leaves on SIGTERM", _terminate),
)


def main(arguments: list[str] | None = None) -> int:
    """Print the findings; 0 if there is no fault, 1 if there is one, 2 for wrong usage."""
    words = sys.argv[1:] if arguments is None else arguments
    if len(words) != 1:
        sys.stderr.write("usage: python -m qcosd.sdk.conformance FOLDER\n")
        return 2
    try:
        findings = examine(words[0])
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for finding in findings:
        sys.stdout.write(
            f"{'FAULT' if finding.fault else 'ok   '} {finding.rule}{': ' * bool(finding.fault)}{finding.fault}\n"
        )
    return 1 if any(finding.fault for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
