# SPDX-License-Identifier: Apache-2.0
"""`qcosctl events`: what happens in the daemon, as it happens."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import click

from qcosd.ctl import failure, output
from qcosd.ctl.connection import daemon, daemon_options


@click.command()
@click.argument("prefixes", nargs=-1, metavar="[PREFIX]...")
@click.option("-f", "--follow", is_flag=True, help="Go on and print each event, until Ctrl-C.")
@daemon_options
def events(prefixes: tuple[str, ...], follow: bool, as_json: bool, runtime_dir: str | None) -> int:
    """Show the latest state of each topic that starts with a PREFIX (all of them without one).

    Topics are `kernel`, `plugin.NAME` and `job.ID`. With -f and --json each event is one JSON document on one line.
    """
    wanted = list(prefixes) or [""]
    with daemon(runtime_dir) as client:
        if follow:
            with suppress(KeyboardInterrupt):  # the way to end it: nothing more is to be said
                for event in client.events(wanted):
                    _write(event.topic, event.seq, event.state, as_json)
            return failure.INTERRUPTED
        topics: dict[str, Any] = {}
        for prefix in wanted:
            body, _ = client.request("SNAPSHOT", {"prefix": prefix})
            topics.update(body["topics"])
    if as_json:
        output.write_json(topics)
        return failure.DONE
    if not topics:
        output.note(f"no topic starts with {' or '.join(wanted)}")
    for topic, row in sorted(topics.items()):
        output.write(_line(topic, row["seq"], row["state"]))
    return failure.DONE


def _write(topic: str, seq: int, state: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        document = {"time": round(time.time(), 3), "topic": topic, "seq": seq, "state": dict(state)}
        output.write_json(document, lines=True)
        return
    click.echo(f"{time.strftime('%H:%M:%S')} {_line(topic, seq, state)}")  # echo flushes: a pipe sees it at once


def _line(topic: str, seq: int, state: Mapping[str, Any]) -> str:
    facts = " ".join(f"{key}={_short(value)}" for key, value in state.items() if value not in (None, "", {}, []))
    return f"{topic}#{seq} {facts}"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{key}:{inner}" for key, inner in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)
