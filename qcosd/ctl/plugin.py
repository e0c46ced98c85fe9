# SPDX-License-Identifier: Apache-2.0
"""`qcosctl plugin`: the components of the daemon."""

from __future__ import annotations

from typing import Any

import click

from qcosd.ctl import failure, output
from qcosd.ctl.connection import daemon, daemon_options
from qcosd.ctl.failure import Failure
from qcosd.ctl.options import is_name

COLUMNS = ("name", "service", "state", "pid", "incarnation", "restarts", "uptime")
ACTIONS = {
    "start": "Start a plugin that was stopped.",
    "stop": "Stop a plugin in order, and keep it stopped.",
    "restart": "Stop a plugin in order and start it again.",
    "kill": "Kill a plugin (SIGKILL); the daemon then restarts it as after any crash.",
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


def _action(action: str, help_text: str) -> click.Command:
    @click.command(action, help=help_text)
    @click.argument("name")
    @daemon_options
    def command(name: str, as_json: bool, runtime_dir: str | None) -> None:
        if not is_name(name):
            raise Failure(failure.FAILED, f"no plugin has the name {name!r}", name="no_such_plugin")
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
