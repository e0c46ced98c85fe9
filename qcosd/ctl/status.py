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
    journal, adopted = document.get("journal") or {}, document.get("adopted") or []
    up = f", up {output.duration(document['uptime'])}" if "uptime" in document else ""
    output.write("qcosd {version}, pid {pid}, boot {boot}".format_map(document) + f"{up}: {document['state']}")
    output.write(f"jobs     {jobs}")
    output.write(f"plugins  {plugins}")
    if adopted:
        output.write(f"adopted  {', '.join(adopted)}")
    if journal:
        trouble = journal.get("rolled_back") or journal.get("fault")
        output.write(
            f"journal  {journal['position']} records" + (f"; {trouble}: see `qcosctl doctor`" if trouble else "")
        )
