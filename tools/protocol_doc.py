# SPDX-License-Identifier: Apache-2.0
"""Write docs/PROTOCOL.md: the prose of protocol_doc.md, with the tables that `qcosd.protocol` has in their places.

`tools/protocol-doc` writes the file; with `--check` it writes nothing and fails if the file is not up to date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from qcosd import protocol
from qcosd.core.events import Limits
from qcosd.core.jobs import JobState
from qcosd.core.lifecycle import TABLE, State, Trigger
from qcosd.protocol import AREAS, ERRORS, HEADER, SPECS, Message, Side, Spec, Type, encode
from qcosd.schema import Field

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE / "protocol_doc.md"
TARGET = HERE.parent / "docs" / "PROTOCOL.md"
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

EXAMPLE = [
    ("plugin", Message(Type.HELLO, {"name": "hello", "versions": [1, 1], "incarnation": 4, "services": ["hello.greet"]}, 1)),
    ("kernel", Message(Type.WELCOME, {"version": 1, "boot": 7, "incarnation": 4, "heartbeat": 1.0, "limits": {"chunk": protocol.CHUNK}}, 1, 7)),
    ("kernel", Message(Type.LEASE, {
        "lease": 9, "epoch": 1, "job": "12", "service": "hello", "op": "greet", "batch": None, "options": {}, "shots": 1,
        "seed": 5, "inputs": {"greeting": {"sha": SHA, "size": 4}}, "stream": None, "budget": 3600.0}, boot=7)),
    ("plugin", Message(Type.BLOB_GET, {"sha": SHA, "offset": 0}, 2, 7)),
    ("kernel", Message(Type.BLOB_DATA, {"sha": SHA, "offset": 0, "size": 4}, 2, 7, payload=(b"test",))),
    ("plugin", Message(Type.BLOB_PUT, {"sha": SHA, "size": 4}, 3, 7, payload=(b"test",))),
    ("kernel", Message(Type.BLOB_STORED, {"sha": SHA, "size": 4}, 3, 7)),
    ("plugin", Message(Type.DONE, {"lease": 9, "epoch": 1, "outputs": {"greeted": SHA}}, 4, 7)),
    ("kernel", Message(Type.ACK, {}, 4, 7)),
]  # fmt: skip


def fields(rows: tuple[Field, ...]) -> str:
    """A table of fields."""
    lines = ["| field | kind | | meaning |", "|---|---|---|---|"]
    lines += [f"| `{f.name}` | {f.kind.name} | {'' if f.required else 'optional'} | {f.doc} |" for f in rows]
    return "\n".join(lines)


def overview() -> str:
    """One row for each message type."""
    lines = ["| number | name | sent by | reply | key | payload frames |", "|---|---|---|---|---|---|"]
    for kind, spec in SPECS.items():
        replies = ", ".join(f"{reply.name}" for reply in spec.replies)
        lines.append(f"| {kind.value} | [{kind.name}](#{kind.name.lower()}) | {senders(spec)} | {replies} | {'yes' if spec.keyed else ''} | {spec.payloads or ''} |")  # fmt: skip
    return "\n".join(lines)


def senders(spec: Spec) -> str:
    """Who may send it, in the order of Side."""
    return ", ".join(str(side) for side in Side if side in spec.senders)


def messages() -> str:
    """A section for each message type, by area."""
    parts: list[str] = []
    area = -1
    for kind, spec in SPECS.items():
        if kind // 100 != area:
            area = kind // 100
            parts.append(f"### {area * 100}-{area * 100 + 99}: {AREAS[area]}")
        parts += [f"#### {kind.name}", f"Number {kind.value}, sent by: {senders(spec)}. {spec.doc}"]
        if spec.replies:
            key = " It SHOULD carry a `key`." if spec.keyed else ""
            parts.append(
                f"A request; answered by {' or '.join(reply.name for reply in spec.replies)}, or by ERROR.{key}"
            )
        if spec.fields:
            parts.append(fields(spec.fields))
        else:
            parts.append("The body is an empty map.")
        if spec.payloads:
            parts.append("One payload frame follows the body.")
    return "\n\n".join(parts)


def errors() -> str:
    """The error table."""
    lines = ["| code | name | retryable | meaning |", "|---|---|---|---|"]
    lines += [f"| {e.code} | `{name}` | {'yes' if e.retryable else 'no'} | {e.text} |" for name, e in ERRORS.items()]
    return "\n".join(lines)


def limits() -> str:
    """Bounds that a peer meets."""
    bounds = Limits()
    rows = [
        ("a frame that the kernel receives", f"{protocol.MAX_FRAME} bytes"),
        ("a header frame", f"{protocol.MAX_HEADER} bytes"),
        ("a payload frame", f"{protocol.CHUNK} bytes (a *chunk*)"),
        ("maps and lists in each other", f"{protocol.MAX_DEPTH} deep"),
        ("unanswered requests of a peer", str(bounds.requests)),
        ("unanswered chunks of a peer", f"{bounds.blob_window} (`blob_window`)"),
        ("bytes of unfinished artifacts of a peer", str(bounds.blob_bytes)),
        ("subscriptions of a client identity", str(bounds.subscriptions)),
        (
            "deadline of a request that names none",
            f"{bounds.request_deadline:g} s; JOB_WAIT {bounds.longest_deadline:g} s",
        ),
        ("longest deadline", f"{bounds.longest_deadline:g} s"),
        ("from REVOKE to SIGKILL without REVOKED", f"{bounds.revoke_grace:g} s"),
        ("time between signs of life of a plugin", f"{protocol.HEARTBEAT:g} s (WELCOME says)"),
    ]
    return "\n".join(["| what | bound |", "|---|---|", *(f"| {what} | {bound} |" for what, bound in rows)])


def example() -> str:
    """A whole conversation, byte by byte."""
    parts: list[str] = []
    for sender, message in EXAMPLE:
        parts.append(f"{sender}: {message.type.name}")
        for number, frame in enumerate(encode(message)):
            digits = frame.hex()
            rows = [digits[i : i + 96] for i in range(0, len(digits), 96)] or ["(empty)"]
            parts += [f"    frame {number}: {rows[0]}", *(f"             {row}" for row in rows[1:])]
    return "```\n" + "\n".join(parts) + "\n```"


def lifecycle() -> str:
    """The states of a component and what moves it between them."""
    lines = ["| state | " + " | ".join(trigger.value for trigger in Trigger) + " |", "|---" * (len(Trigger) + 1) + "|"]
    for state in State:
        cells = []
        for trigger in Trigger:
            after, actions = TABLE[state][trigger]
            does = "; ".join(action.value for action in actions)
            cells.append("" if after is state and not does else f"{after}" + (f" ({does})" if does else ""))
        lines.append(f"| **{state}** | " + " | ".join(cells) + " |")
    return "\n".join(lines)


PARTS = {
    "version": lambda: str(protocol.VERSION),
    "header": lambda: fields(HEADER),
    "boot_map": lambda: fields(protocol.BOOT_MAP),
    "overview": overview,
    "messages": messages,
    "errors": errors,
    "error_table": lambda: fields(protocol.ERROR_TABLE),
    "stream_table": lambda: fields(protocol.STREAM_TABLE),
    "input_table": lambda: fields(protocol.INPUT_TABLE),
    "held_table": lambda: fields(protocol.HELD_TABLE),
    "limits": limits,
    "example": example,
    "lifecycle": lifecycle,
    "job_states": lambda: ", ".join(f"`{state}`" for state in JobState),
}


def document() -> str:
    """The whole document. Each part of PARTS must have its place in the prose."""
    used: set[str] = set()

    def insert(place: re.Match[str]) -> str:
        used.add(place[1])
        return PARTS[place[1]]()

    text = re.sub(r"@@(\w+)@@", insert, TEMPLATE.read_text())
    if used != PARTS.keys():
        raise SystemExit(f"{TEMPLATE.name} has no place for {', '.join(sorted(PARTS.keys() - used))}")
    return text


def main() -> int:
    """Write or check the file."""
    text = document()
    if sys.argv[1:] == ["--check"]:
        if TARGET.is_file() and TARGET.read_text() == text:
            return 0
        print("docs/PROTOCOL.md is not what the code says; run tools/protocol-doc", file=sys.stderr)
        return 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
