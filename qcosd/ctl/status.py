# SPDX-License-Identifier: Apache-2.0
"""`qcosctl status`: the daemon at a glance."""

from __future__ import annotations

import click

from qcosd.ctl import output
from qcosd.ctl.connection import daemon, daemon_options


@click.command()
@daemon_options
def status(as_json: bool, runtime_dir: str | None) -> None:
    """Show whether the daemon is well, its jobs and its plugins."""
    with daemon(runtime_dir) as client:
        document = client.status()
    if as_json:
        output.write_json(document)
        return
    jobs = ", ".join(f"{n} {state}" for state, n in document["jobs"].items() if n) or "none"
    plugins = ", ".join(f"{name} {state}" for name, state in document["plugins"].items()) or "none"
    output.write("qcosd {version}, pid {pid}, boot {boot}: {state}".format_map(document))
    output.write(f"jobs     {jobs}")
    output.write(f"plugins  {plugins}")
