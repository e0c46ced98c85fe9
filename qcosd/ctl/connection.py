# SPDX-License-Identifier: Apache-2.0
"""From a command to the daemon: the options that every command has, the client, and what its errors mean here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from qcosd.ctl import failure
from qcosd.ctl.failure import Failure

if TYPE_CHECKING:
    from qcosd.sdk.client import BlockingClient

F = TypeVar("F", bound=Callable[..., Any])

SLOW_HINT = "`qcosctl doctor` says whether something holds it up, such as a full disk"
START_HINT = "start one with `qcosd` or `systemctl start qcosd`, or name one with QCOS_RUNTIME_DIR or --runtime-dir"

HINTS = {
    "key_conflict": "give another --key, or the very FILE and options of the first time; `qcosctl job list` shows the jobs",
    "no_process": "`qcosctl plugin list` says why; `qcosctl plugin start NAME` starts one that was stopped",
    "no_such_job": "`qcosctl job list` shows those that are remembered",
    "no_space": "`qcosctl doctor` says whether it is the journal; free space in the state directory, or make it writable",
    "no_such_plugin": "`qcosctl plugin list` shows those that there are",
}
"""What to do about a request that the daemon refused, by the name of the error."""

RESTART_GRACE = 10.0
"""Seconds for which a daemon that has answered before may be away: it is being restarted, and loses nothing meanwhile."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
_runtime_dir_option = click.option(
    "--runtime-dir", metavar="DIR", help="Which daemon: its runtime directory (else $QCOS_RUNTIME_DIR)."
)


def daemon_options(function: F) -> F:
    """`--runtime-dir` and `--json`, for a command that talks to the daemon."""
    return json_option(_runtime_dir_option(function))


def chosen_runtime_dir(given: str | None) -> Path:
    """The runtime directory: of the command, else of `qcosctl` itself, else wherever a daemon is looked for."""
    from qcosd.sdk.runtime import find_runtime_dir

    context = click.get_current_context(silent=True)
    general = (context.find_root().obj or {}).get("runtime_dir") if context else None
    return find_runtime_dir(given or general)


@contextmanager
def daemon(runtime_dir: str | None) -> Iterator[BlockingClient]:
    """A client of the running daemon. Its errors leave the block as `Failure`."""
    from qcosd.sdk.client import BlockingClient

    place = chosen_runtime_dir(runtime_dir)
    with translated(), BlockingClient(place, restart_grace=RESTART_GRACE) as client:
        yield client


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the SDK raises into the exit code and the line that a user sees."""
    from qcosd.sdk import errors

    try:
        yield
    except errors.DaemonAbsent as error:
        raise Failure(failure.NO_DAEMON, str(error), name="no_daemon", hint=START_HINT) from None
    except errors.DaemonSilent as error:
        raise Failure(
            failure.NO_DAEMON, str(error), name="daemon_silent", hint=_waking(error.pid, error.state)
        ) from None
    except errors.DeadlineExceeded as error:
        raise Failure(failure.TIMED_OUT, str(error) or "timed out", name="deadline", hint=SLOW_HINT) from None
    except errors.RequestFailed as error:
        code = failure.exit_code_of("failed", {"name": error.name})
        raise Failure(code, str(error), name=error.name, hint=HINTS.get(error.name, "")) from None
    except errors.SdkError as error:
        raise Failure(failure.FAILED, str(error)) from None


def _waking(pid: int | None, state: str) -> str:
    """What to do about a daemon that is silent, by the state of its process."""
    if state == "stopped":
        return f"`kill -CONT {pid}` lets it go on"
    if state.startswith(("not running", "dead")):
        return "start it again with `qcosd` or `systemctl start qcosd`: jobs that were accepted go on"
    if state.startswith("qcosd.service"):
        return "`systemctl status qcosd` says why; `systemctl start qcosd` starts it"
    return (
        "it is starting, busy or stuck: look at that process and at its log; if it stays so, restart it: no job is lost"
    )
