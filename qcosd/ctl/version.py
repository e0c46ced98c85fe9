# SPDX-License-Identifier: Apache-2.0
"""`qcosctl version`: what is installed here. Asks no daemon (`qcosctl status` names the daemon's version)."""

from __future__ import annotations

import platform

import click

from qcosd import __version__
from qcosd.ctl import output
from qcosd.ctl.connection import json_option


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Show the version of this program and of the protocol it speaks."""
    from qcosd import protocol

    document = {"version": __version__, "protocol": protocol.VERSION, "python": platform.python_version()}
    if as_json:
        output.write_json(document)
    else:
        output.write("qcosctl {version}, protocol {protocol}, Python {python}".format_map(document))
