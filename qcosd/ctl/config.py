# SPDX-License-Identifier: Apache-2.0
"""`qcosctl config`: what a daemon would run with, before it does. Asks no daemon: a program of the same installation reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from qcosd.ctl import failure, output
from qcosd.ctl.connection import json_option
from qcosd.ctl.failure import Failure, bad_usage

F = TypeVar("F", bound=Callable[..., Any])


def _options(function: F) -> F:
    """The options of the daemon that say what it reads."""
    function = click.option("--plugin-dir", "plugin_dirs", multiple=True, metavar="DIR", help="Further plugins.")(
        function
    )
    where = "[default: ~/.config/qcos/qcosd.toml, else /etc/qcos/qcosd.toml]"
    return click.option("--config", "file", metavar="FILE", help=f"Configuration file. {where}")(json_option(function))


@click.group()
def config() -> None:
    """Check the configuration and the plugins' manifests without starting anything."""


@config.command()
@_options
def check(file: str | None, plugin_dirs: tuple[str, ...], as_json: bool) -> None:
    """Say whether a daemon could start with this configuration and these plugins. Exit 2 where it could not, naming file and key."""
    found = _read(file, plugin_dirs)
    if as_json:
        output.write_json({"config": found["config"], "plugins": found["plugins"]})
        return
    output.write(f"{found['config'] or 'no configuration file, defaults'}: fine")
    rows = [row | {"services": ", ".join(row["services"])} for row in found["plugins"]]
    output.write(output.table(rows, ("name", "version", "services", "folder")))


@config.command()
@_options
def show(file: str | None, plugin_dirs: tuple[str, ...], as_json: bool) -> None:
    """Show every setting with the value that a daemon would use."""
    found = _read(file, plugin_dirs)
    if as_json:
        output.write_json(found["settings"])
        return
    for section, table in found["settings"].items():
        for key, value in table.items():
            output.write(f"{section}.{key} = {json.dumps(value)}")


def _read(file: str | None, plugin_dirs: tuple[str, ...]) -> dict[str, Any]:
    """What the daemon itself makes of them. Raises `Failure` (exit 2) with its words."""
    words = [
        "--check",
        *(["--config", file] if file else []),
        *(w for place in plugin_dirs for w in ("--plugin-dir", place)),
    ]
    command = [sys.executable, "-P", "-m", "qcosd.shell.main", *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == failure.DONE:
        return dict(json.loads(done.stdout))
    reason = done.stderr.strip().partition("qcosd: ")[2] or done.stderr.strip()
    if done.returncode == failure.USAGE:
        raise bad_usage(reason)
    raise Failure(failure.FAILED, f"the daemon cannot be asked: {reason}")
