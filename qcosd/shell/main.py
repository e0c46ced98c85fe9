# SPDX-License-Identifier: Apache-2.0
"""`qcosd`: the composition root. Reads the configuration, takes the directories, puts the parts together, runs the loop."""

import asyncio
import contextlib
import gc
import json
import os
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
import uvloop
import zmq

from qcosd import __version__, protocol
from qcosd.core.events import Channel, Space, Start, Stop
from qcosd.core.kernel import Kernel
from qcosd.core.manifest import Manifest, ManifestError
from qcosd.shell.artifacts import Artifacts
from qcosd.shell.bus import Bus, BusLimits
from qcosd.shell.config import Config, ConfigError, find_config, load_config
from qcosd.shell.daemon import PULSE, Daemon, Devices
from qcosd.shell.journal import Journal, MemoryJournal
from qcosd.shell.journal_file import JournalFile
from qcosd.shell.journal_upgrade import JournalError
from qcosd.shell.lock import LockHeld
from qcosd.shell.logs import Logs
from qcosd.shell.manifest import find_manifests
from qcosd.shell.notify import ServiceManager
from qcosd.shell.prctl import die_with_parent, refuse_new_privileges
from qcosd.shell.priority import Priorities
from qcosd.shell.processes import Processes
from qcosd.shell.publisher import Publisher
from qcosd.shell.report import report
from qcosd.shell.runtime import Directories, DirectoryError
from qcosd.shell.strays import Strays
from qcosd.shell.survivors import adopt_survivors
from qcosd.shell.zap import CLIENTS_DOMAIN, PLUGINS_DOMAIN, Authenticator

EXIT_FAULT = 70  # a bug in the daemon
EXIT_USAGE = 2
SPACE_EVERY = 20.0  # seconds between two looks at how much room the state directory has
LINGER = 0.2  # seconds that last messages have to leave when the daemon ends
# Seconds. A loop that is always busy gives the interpreter up for moments only, which another thread is too slow to catch, until
# that thread has waited this long. With Python's 5 ms the journal's was seen to wait for seconds.
SWITCH_INTERVAL = 1e-4

_PATH = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", type=_PATH, help="Configuration file; default ~/.config/qcos/qcosd.toml, else /etc/qcos/qcosd.toml."
)
@click.option("--runtime-dir", type=_PATH, envvar="QCOS_RUNTIME_DIR", help="Sockets, lock and client token.")
@click.option("--state-dir", type=_PATH, envvar="QCOS_STATE_DIR", help="Journal, artifacts and logs.")
@click.option(
    "--plugin-dir", "plugin_dirs", type=_PATH, multiple=True, help="Further plugins; may be given more than once."
)
@click.option("--check", is_flag=True, help="Check configuration and plugins, print them as JSON, start nothing.")
@click.option("--embedded", is_flag=True, hidden=True, help="Die with the parent; private directories unless given.")
@click.option(
    "--ready-fd", type=int, hidden=True, help="Descriptor to write one line of JSON to when the daemon serves."
)
@click.version_option(__version__, prog_name="qcosd")
def main(
    config: Path | None, runtime_dir: Path | None, state_dir: Path | None, plugin_dirs: tuple[Path, ...], check: bool, embedded: bool,
    ready_fd: int | None,
) -> None:  # fmt: skip
    """Run the quantum computer operating system's daemon in the foreground. Ctrl-C stops it in order, twice at once."""
    parent = os.getppid()
    os.umask(0o077)
    refuse_new_privileges()
    sys.setswitchinterval(SWITCH_INTERVAL)
    if embedded:
        die_with_parent(signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(0)  # the parent ended before it could be watched
    try:
        settings = load_config(path := find_config(config, embedded))
        manifests = find_manifests([*map(Path, settings.plugins.dirs), *plugin_dirs], disabled=settings.plugins.disable)
        check_plugin_tables(settings, manifests)
        if check:
            click.echo(json.dumps(described(path, settings, manifests)))
            return
        directories = Directories(runtime_dir, state_dir, embedded)
    except (ConfigError, ManifestError) as error:
        report(str(error))
        sys.exit(EXIT_USAGE)
    except (DirectoryError, LockHeld) as error:
        report(str(error))
        sys.exit(1)
    try:
        code = uvloop.run(serve(settings, manifests, directories, embedded, ready_fd))
    except (JournalError, zmq.ZMQError, OSError) as error:
        report(f"cannot start: {error}")
        code = 1
    finally:
        directories.close()
    sys.exit(code)


async def serve(
    settings: Config, manifests: tuple[Manifest, ...], directories: Directories, embedded: bool, ready_fd: int | None
) -> int:
    """The daemon's life, from taking the sockets to the exit code."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()
    loop.set_exception_handler(partial(_fault, ended))
    gc.disable()  # a state of many jobs is made at once, and looking through it again and again would take longer than making it
    directories.clear_streams()
    file = None if embedded else JournalFile(directories.state)
    image = file.image() if file else {}
    boot = file.boot if file else 1
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    boot_map = {
        "protocol": protocol.VERSION,
        "boot": boot,
        "endpoint": f"ipc://{directories.plugins_socket}",
        "heartbeat": protocol.HEARTBEAT,
        "embedded": embedded,
    }
    daemon = Daemon(loop, time.monotonic, Kernel(), boot_map, partial(_finish, ended))
    look_at_space = partial(_look_at_space, daemon, directories)
    service_manager = ServiceManager()
    logs = Logs(directories.logs, settings.logs.max_bytes, settings.logs.keep)
    health = partial(_journal_health, daemon, look_at_space)
    journal = Journal(loop, file, daemon.durable, health) if file else MemoryJournal(daemon.durable)
    artifacts = Artifacts(loop, directories.artifacts, durable=not embedded)
    strays = Strays(directories.state)
    processes = Processes(loop, logs, strays, daemon.exited, Priorities(settings.processes.preference), embedded)
    authenticator = Authenticator(context, loop, time.monotonic, directories.client_token())
    survivors = adopt_survivors(image.get("incarnation", {}), processes, authenticator, strays)
    bus = settings.bus
    plugins = Bus(
        context, loop, f"ipc://{directories.plugins_socket}", PLUGINS_DOMAIN,
        BusLimits(bus.plugin_send_queue, bus.plugin_receive_queue, bus.plugin_budget, bus.heartbeat), daemon.listener(Channel.PLUGINS),
    )  # fmt: skip
    clients = Bus(
        context, loop, f"ipc://{directories.clients_socket}", CLIENTS_DOMAIN,
        BusLimits(bus.client_send_queue, bus.client_receive_queue, bus.client_budget, bus.heartbeat), daemon.listener(Channel.CLIENTS),
        ahead=plugins.drain_now,
    )  # fmt: skip
    publisher = Publisher(
        context, loop, f"ipc://{directories.events_socket}",
        BusLimits(bus.event_queue, bus.client_receive_queue, bus.client_budget, bus.heartbeat), daemon.subscription_asked,
        ahead=plugins.drain_now,
    )  # fmt: skip
    directories.open_sockets()
    daemon.attach(
        Devices(
            {Channel.PLUGINS: plugins, Channel.CLIENTS: clients},
            journal, publisher, authenticator, processes, logs, artifacts, service_manager,
        )
    )  # fmt: skip
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(signum, daemon.handle, Stop(signal.Signals(signum).name))
    _every(loop, settings.logs.poll, daemon.poll_logs)
    _every(loop, settings.processes.look, daemon.look)
    _every(loop, PULSE, daemon.pulse)
    _every(loop, SPACE_EVERY, look_at_space)
    if service_manager.watchdog_interval is not None:
        _every(loop, service_manager.watchdog_interval, service_manager.alive)
    try:
        if ready_fd is not None:
            _tell_ready(ready_fd, directories, boot)  # whoever connects now is answered when the loop turns
        daemon.handle(
            Start(
                manifests, boot, os.getpid(), __version__, secrets.token_bytes(32), time.time(),
                f"ipc://{directories.streams}/", settings.limits, settings.plugin, image=image, survivors=survivors,
                position=journal.position, artifacts=artifacts.contents(), rolled_back=file.rolled_back if file else "",
            )
        )  # fmt: skip
        look_at_space()
        gc.freeze()
        gc.enable()
        return await ended
    finally:
        processes.close()
        daemon.close()
        artifacts.close()
        journal.close()
        for server in (plugins, clients, publisher):
            server.close(LINGER)
        authenticator.close()
        context.term()
        logs.close()
        service_manager.close()


def described(path: Path | None, settings: Config, manifests: tuple[Manifest, ...]) -> dict[str, Any]:
    """What would run: {config, settings, plugins}."""
    plugins = [
        {"name": m.name, "version": m.version, "services": sorted(m.services), "folder": m.folder} for m in manifests
    ]
    return {"config": path and str(path), "settings": asdict(settings), "plugins": plugins}


def check_plugin_tables(settings: Config, manifests: tuple[Manifest, ...]) -> None:
    """A [plugin.NAME] table for a component that does not exist is a typing error. Raises ConfigError."""
    unknown = sorted(set(settings.plugin) - {manifest.name for manifest in manifests})
    if unknown:
        raise ConfigError(f"configuration: unknown key 'plugin.{unknown[0]}': there is no such plugin")


def _finish(ended: "asyncio.Future[int]", code: int) -> None:
    if not ended.done():
        ended.set_result(code)


def _fault(ended: "asyncio.Future[int]", loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    report(f"internal fault: {context.get('message')}")
    if isinstance(error, BaseException):
        sys.stderr.writelines(traceback.format_exception(error))
    _finish(ended, EXIT_FAULT)


def _look_at_space(daemon: Daemon, directories: Directories) -> None:
    with contextlib.suppress(OSError):
        daemon.handle(Space(*directories.space()))


def _journal_health(daemon: Daemon, look_at_space: Callable[[], None], fault: str) -> None:
    look_at_space()  # whoever asks what is wrong is not told how much room there was a while ago
    daemon.journal_health(fault)


def _tell_ready(descriptor: int, directories: Directories, boot: int) -> None:
    line = {
        "pid": os.getpid(),
        "boot": boot,
        "runtime_dir": str(directories.runtime),
        "state_dir": str(directories.state),
    }
    with open(descriptor, "wb") as file:
        file.write(json.dumps(line).encode() + b"\n")


def _every(loop: asyncio.AbstractEventLoop, seconds: float, action: Callable[[], None]) -> None:
    """At multiples of that time, as counted by the loop's clock: an idle daemon wakes up once for all that is due."""

    def turn() -> None:
        action()
        wait()

    def wait() -> None:
        left = seconds - loop.time() % seconds
        if left < seconds / 10:  # the clock still stands just before this turn
            left += seconds
        loop.call_later(left, turn)

    wait()


if __name__ == "__main__":
    main()
