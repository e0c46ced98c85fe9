# SPDX-License-Identifier: Apache-2.0
"""`qcosctl plugin`: the components of the daemon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from qcosd.ctl import failure, output
from qcosd.ctl.connection import daemon, daemon_options
from qcosd.ctl.failure import Failure
from qcosd.ctl.options import is_name

if TYPE_CHECKING:
    from qcosd.sdk.client import BlockingClient

COLUMNS = ("name", "service", "state", "role", "pid", "incarnation", "restarts", "uptime")
DAEMONS_OWN = ("== ", "==> ")  # how lines of a log begin that the daemon has written: starts, and whose log it is
ACTIONS = {
    "start": "Start a plugin that was stopped.",
    "stop": "Stop a plugin in order, and keep it stopped.",
    "restart": "Stop a plugin in order and start it again.",
    "kill": "Kill a plugin (SIGKILL); the daemon starts it again at once, and does what it had in hand again.",
    "reset": "Forget the deaths of a plugin, and start it if it had failed.",
}


@click.group()
def plugin() -> None:
    """List the plugins and control them."""


@plugin.command("list")
@daemon_options
def list_(as_json: bool, runtime_dir: str | None) -> None:
    """List the plugins: state, process, restarts, uptime in seconds."""
    with daemon(runtime_dir) as client:
        rows = client.plugins()
    if as_json:
        output.write_json([dict.fromkeys(COLUMNS) | dict(row) for row in rows])
        return
    output.write(output.table(rows, COLUMNS))
    for row in rows:
        if row.get("cause"):
            output.write(f"{row['name']}: {row['cause']}")


@plugin.command()
@click.argument("name")
@daemon_options
def show(name: str, as_json: bool, runtime_dir: str | None) -> None:
    """Show all there is about a plugin: its processes, what they have in hand, and what its manifest says."""
    _check_name(name)
    with daemon(runtime_dir) as client:
        document = client.request("PLUGIN_SHOW", {"plugin": name})[0]["document"]
    if as_json:
        output.write_json(document)
        return
    for line in described(document):
        output.write(line)


@plugin.command()
@click.argument("name")
@click.option(
    "-n", "--lines", type=click.IntRange(0, 1000), default=50, show_default=True, help="Of each log, at most."
)
@daemon_options
def logs(name: str, lines: int, as_json: bool, runtime_dir: str | None) -> None:
    """Show the end of what a plugin has printed, in this life of the daemon or an earlier one.

    A line that begins with == is the daemon's: a process was started then. Of a plugin with several processes NAME:2 is one.
    """
    _check_name(name)
    with daemon(runtime_dir) as client:
        tail = plugin_log(client, name, lines)
    if as_json:
        output.write_json({"plugin": name, "lines": tail})
        return
    if tail:
        output.write("\n".join(tail))
    if len(tail) < lines and all(line.startswith(DAEMONS_OWN) for line in tail):
        output.note(f"{name} has printed nothing")


def plugin_log(client: BlockingClient, name: str, lines: int) -> list[str]:
    """The last lines of a component's log."""
    return list(client.request("PLUGIN_LOGS", {"plugin": name, "lines": lines})[0]["lines"])


def described(document: Mapping[str, Any]) -> list[str]:
    """Lines of text about a component."""
    replicas, restart, stop = document["replicas"], document["restart"], document["stop"]
    lines = [f"{document['name']} {document['version']}: {document['state']}"]
    if document["failed"]:
        lines.append(f"failed    {document['failed']}; `qcosctl plugin reset {document['name']}` starts it again")
    elif not document["wanted"]:
        lines.append(f"stopped   by an operator; `qcosctl plugin start {document['name']}` starts it again")
    for row in document["instances"]:
        up = f", up {output.duration(row['uptime'])}" if row["uptime"] is not None else ""
        process = f"pid {row['pid']}" if row["pid"] else "no process"
        restarts = "1 restart" if row["restarts"] == 1 else f"{row['restarts']} restarts"
        lines.append(
            f"{row['name']:<9} is {row['role']}, {row['state']}, {process}, incarnation {row['incarnation']}, {restarts}{up}"
            + (f": {row['cause']}" if row["cause"] else "")
        )
        if row.get("scheduling"):
            lines.append(f"  runs as {row['scheduling']}")
        for lease in row["leases"]:
            batch = "" if lease["batch"] is None else f" of batch {lease['batch']}"
            back = ", being taken back" if lease["revoked"] else ""
            lines.append(
                f"  has     {lease['op']}{batch} of job {lease['job']} for {lease['age']:.1f} s (lease {lease['lease']}, epoch {lease['epoch']}{back})"
            )
    limits = ", ".join(f"{key} {value}" for key, value in document["limits"].items() if value)
    lines += [
        f"services  {', '.join(document['services'])}; rank {document['rank']}",
        f"processes {replicas['least']} to {replicas['most']}, {replicas['spares']} spares",
        f"needs     {', '.join(document['needs']) or 'nothing'}",
        f"restart   {restart['policy']}; failed after {restart['max_deaths']} deaths within {restart['within']:g} s ({document['deaths']} now)",
        f"stop      asked for {stop['ask']:g} s, SIGTERM for {stop['term']:g} s, then SIGKILL",
        f"limits    {limits or 'none'}; ready within {document['readiness_timeout']:g} s",
    ]
    return lines


def _check_name(name: str) -> None:
    component, colon, number = name.partition(":")  # NAME:2 is one of its processes
    if not is_name(component) or (colon and not (number.isascii() and number.isdigit())):
        raise Failure(failure.FAILED, f"no plugin has the name {name!r}", name="no_such_plugin")


def _action(action: str, help_text: str) -> click.Command:
    @click.command(action, help=help_text)
    @click.argument("name")
    @daemon_options
    def command(name: str, as_json: bool, runtime_dir: str | None) -> None:
        _check_name(name)
        with daemon(runtime_dir) as client:
            client.plugin(action, name)
        document: dict[str, Any] = {"plugin": name, "action": action}
        if as_json:
            output.write_json(document)
        else:
            output.write(f"{name}: {action} accepted")

    return command


for _name, _help in ACTIONS.items():
    plugin.add_command(_action(_name, _help))
