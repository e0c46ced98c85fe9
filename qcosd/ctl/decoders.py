# SPDX-License-Identifier: Apache-2.0
"""`qcosctl decoders`: which decoders there are, which are admitted, and why the others are not."""

from __future__ import annotations

from typing import Any

import click
import msgpack

from qcosd.ctl import failure, output
from qcosd.ctl.connection import daemon_options, translated
from qcosd.ctl.failure import Failure
from qcosd.ctl.interrupt import Interrupted, Interrupts
from qcosd.ctl.run import some_daemon

TARGET = "decoders"


@click.command()
@daemon_options
def decoders(as_json: bool, runtime_dir: str | None) -> int:
    """Show the decoders that `run --decoder` takes, and their speed.

    Each is tried once in the life of the tracker; the first time takes some seconds.
    """
    from qcosd.sdk.client import BlockingClient

    try:
        with (
            translated(),
            Interrupts() as interrupts,
            some_daemon(runtime_dir, interrupts) as place,
            BlockingClient(place) as client,
        ):
            job = client.wait(client.submit({"target": TARGET}, {}))
            table = msgpack.unpackb(client.get(_artifact(job)))
    except Interrupted as interrupted:
        raise interrupted.failure from None
    if as_json:
        output.write_json(table)
    else:
        for line in described(table):
            output.write(line)
    return failure.DONE


def described(table: dict[str, Any]) -> list[str]:
    """Lines of text, one for each decoder."""
    rows = [("", "decoder", "package", "state", "us/shot", "x plain", "missing records")]
    remarks = [""]
    for entry in table["decoders"]:
        mark = "*" if entry["name"] == table["default"] else ""
        admitted = entry["state"] == "admitted"
        rows.append(
            (
                mark,
                entry["name"],
                f"{entry['package'].split()[0]} {entry['version']}".strip(),
                entry["state"],
                f"{entry['us_per_shot']:.1f}" if admitted else "-",
                f"{entry['ratio']:.1f}" if admitted else "-",
                "decoded" if entry["erasures"] else "discarded",
            )
        )
        remarks.append(entry["reason"] or entry["note"] or entry["about"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=True)), remark]).rstrip()
        for row, remark in zip(rows, remarks, strict=True)
    ]


def _artifact(job: dict[str, Any]) -> str:
    found = (job.get("artifacts") or {}).get(TARGET)
    if job["state"] != "done" or not isinstance(found, str):
        error = job.get("error") or {}
        reason = error.get("message") or job.get("cause") or "no plugin tells"
        raise Failure(failure.FAILED, f"decoders: {reason}", name=error.get("name", "failed"))
    return found
