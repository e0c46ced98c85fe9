# SPDX-License-Identifier: Apache-2.0
"""`qcosctl`: finds the command, runs it, and turns whatever happens into one line and an exit code.

Commands are imported when they are called, so that a quick one (`qcosctl status`) pays only for itself.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence

import click

from qcosd import __version__
from qcosd.ctl import failure
from qcosd.ctl.failure import Failure

COMMANDS = {
    "run": "qcosd.ctl.run:run",
    "replay": "qcosd.ctl.replay:replay",
    "job": "qcosd.ctl.job:job",
    "plugin": "qcosd.ctl.plugin:plugin",
    "status": "qcosd.ctl.status:status",
    "doctor": "qcosd.ctl.doctor:doctor",
    "events": "qcosd.ctl.events:events",
    "chaos": "qcosd.ctl.chaos:chaos",
    "config": "qcosd.ctl.config:config",
    "decoders": "qcosd.ctl.decoders:decoders",
    "version": "qcosd.ctl.version:version",
}

UNWRITABLE = frozenset({errno.EPIPE, errno.EBADF, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Why stdout may take no more, which is nobody's bug."""


class LazyGroup(click.Group):
    """A group that imports a command's module when that command is looked up."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        place = COMMANDS.get(name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="qcosctl")
@click.option("--runtime-dir", metavar="DIR", help="Which daemon: its runtime directory (else $QCOS_RUNTIME_DIR).")
@click.pass_context
def cli(ctx: click.Context, runtime_dir: str | None) -> None:
    """Run logical quantum programs on an error-corrected machine, through the qcosd daemon.

    \b
    Exit codes: 0 done; 1 the job or action failed; 2 wrong usage or bad input;
    3 no daemon; 4 timed out; 130 interrupted.
    """
    ctx.obj = {"runtime_dir": runtime_dir}


def main() -> None:
    """The console script: exits with the code of the command."""
    _open_standard_streams()
    try:
        code = call(sys.argv[1:])
        sys.stdout.flush()
    except OSError as error:
        # The reader has gone (`qcosctl job list | head`), or the disk is full. Python would flush again at exit, and complain again.
        if error.errno not in UNWRITABLE:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = failure.FAILED
        if error.errno != errno.EPIPE:
            from qcosd.ctl import output

            output.note(f"the output cannot be written: {os.strerror(error.errno)}")
    sys.exit(code)


def _open_standard_streams() -> None:
    """Take the places of streams that the caller has closed: what is opened next would get their numbers, and the words for them.

    Whatever is written on a closed stdout fails, as it would without Python in between; what is said on a closed stderr is lost.
    """
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def call(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Raises nothing but bugs."""
    as_json = "--json" in arguments
    try:
        result = cli.main(list(arguments), prog_name="qcosctl", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _report(Failure(failure.INTERRUPTED, "interrupted", name="interrupted"), as_json)
    except click.UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # since click 8.2; before, click printed the help itself
            error.show()
            return failure.USAGE
        return _report(_usage(error), as_json)
    except click.ClickException as error:
        return _report(Failure(failure.FAILED, error.format_message()), as_json)
    except Failure as error:
        return _report(error, as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failure.FAILED
    return result if isinstance(result, int) else failure.DONE


def _usage(error: click.UsageError) -> Failure:
    where = error.ctx.command_path if error.ctx else "qcosctl"
    message = " ".join(error.format_message().split())
    return Failure(failure.USAGE, f"{message} (see {where} --help)", name="usage")


def _report(error: Failure, as_json: bool) -> int:
    """Say what went wrong: one line on stderr, and under --json one document on stdout."""
    from qcosd.ctl import output

    if as_json:
        output.write_json(error.as_json())
    output.note(error.message)
    if error.hint:
        output.note(error.hint)
    return error.code


if __name__ == "__main__":
    main()
