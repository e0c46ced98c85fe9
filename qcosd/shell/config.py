# SPDX-License-Identifier: Apache-2.0
"""The configuration file, TOML. Unknown keys and wrong types are refused with file and key: a typing error is not a default."""

import dataclasses
import math
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from qcosd.core.events import Limits
from qcosd.schema import UINT_MAX
from qcosd.shell.priority import Preference, listed, parsed

SYSTEM_FILE = Path("/etc/qcos/qcosd.toml")
LARGEST = 1_000_000  # of a queue, a budget, or a heartbeat
_Section = TypeVar("_Section")


class ConfigError(Exception):
    """A file says something that is not understood. The message names file and key."""


@dataclass(frozen=True, slots=True)
class BusSection:
    """The two ROUTERs and the events socket. Queues are counted in messages, per peer."""

    client_send_queue: int = 640
    client_receive_queue: int = 64
    plugin_send_queue: int = 1024
    plugin_receive_queue: int = 256
    event_queue: int = 1024
    client_budget: int = 32
    plugin_budget: int = 128
    heartbeat: float = 2.0


@dataclass(frozen=True, slots=True)
class LogSection:
    """Log files of the components."""

    max_bytes: int = 8 << 20
    keep: int = 3
    poll: float = 1.0


@dataclass(frozen=True, slots=True)
class ProcessesSection:
    """The processes of the components. `look`: seconds between two looks at whether one has been stopped. `online_*`: what the
    system's scheduler gives those that take part in an execution phase (`qcosd.shell.priority`)."""

    look: float = 0.25
    online_nice: int = -5
    online_fifo: int = 0
    online_cpus: str = ""

    @property
    def preference(self) -> Preference:
        """Raises ValueError where `online_cpus` is no list of CPUs."""
        return Preference(self.online_nice, self.online_fifo, parsed(self.online_cpus))


@dataclass(frozen=True, slots=True)
class PluginsSection:
    """Which components are run."""

    dirs: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """All settings. `plugin`: component name -> a table that is passed on to it."""

    bus: BusSection = field(default_factory=BusSection)
    logs: LogSection = field(default_factory=LogSection)
    processes: ProcessesSection = field(default_factory=ProcessesSection)
    plugins: PluginsSection = field(default_factory=PluginsSection)
    limits: Limits = field(default_factory=Limits)
    plugin: dict[str, dict[str, Any]] = field(default_factory=dict)


_SECTIONS: tuple[tuple[str, type[Any]], ...] = (
    ("bus", BusSection), ("logs", LogSection), ("processes", ProcessesSection), ("plugins", PluginsSection), ("limits", Limits),
)  # fmt: skip


def find_config(explicit: Path | None, embedded: bool) -> Path | None:
    """The file to read: the one asked for, else the user's, else the system's. An embedded daemon reads only what it is told."""
    if explicit is not None or embedded:
        return explicit
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "qcos" / "qcosd.toml"
    for path in (home, SYSTEM_FILE):
        if path.is_file():
            return path
    return None


def load_config(path: Path | None) -> Config:
    """Read a file; without one, the defaults. Raises ConfigError."""
    if path is None:
        return Config()
    document = read_toml(path, ConfigError)
    sections: dict[str, Any] = {
        name: section(path, f"{name}.", document.pop(name), kind, ConfigError)
        for name, kind in _SECTIONS
        if name in document
    }
    if "plugin" in document:
        sections["plugin"] = _tables(path, "plugin", document.pop("plugin"))
    if document:
        raise ConfigError(f"{path}: unknown key {next(iter(document))!r}")
    config = Config(**sections)
    _check_ranges(path, config)
    return config


def read_toml(path: Path, refuse: Callable[[str], Exception]) -> dict[str, Any]:
    """The document in a file. Raises `refuse(message)`."""
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise refuse(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise refuse(f"{path}: {error}") from error


def section(
    path: Path, prefix: str, table: Any, kind: type[_Section], refuse: Callable[[str], Exception], **given: Any
) -> _Section:
    """A dataclass from a table whose keys are its fields. `given` are fields that the table may not set. Raises `refuse(message)`."""
    if not isinstance(table, dict):
        raise refuse(f"{path}: {prefix.rstrip('.')!r} is not a table")
    hints = get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name not in given}  # type: ignore[arg-type]
    values: dict[str, Any] = dict(given)
    for key, value in table.items():
        if key not in fields:
            raise refuse(f"{path}: unknown key {prefix + key!r}")
        values[key] = _typed(path, prefix + key, value, hints[key], refuse)
    for name, f in fields.items():
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise refuse(f"{path}: key {prefix + name!r} is missing")
    return kind(**values)


def _typed(path: Path, key: str, value: Any, hint: Any, refuse: Callable[[str], Exception]) -> Any:
    if hint is float and type(value) is int:
        return float(value)
    if hint in (int, float, str, bool) and type(value) is hint and (hint is not float or math.isfinite(value)):
        return value
    if hint == str | None and type(value) is str:
        return value
    if hint == tuple[str, ...] and type(value) is list and all(type(element) is str for element in value):
        return tuple(value)
    expected = {int: "a whole number", float: "a number", bool: "true or false", tuple[str, ...]: "a list of strings"}
    raise refuse(f"{path}: {key!r} is not {expected.get(hint, 'a string')}")


def _tables(path: Path, key: str, value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict) or not all(isinstance(table, dict) for table in value.values()):
        raise ConfigError(f"{path}: {key!r} is not a table of tables, such as [plugin.stim_adapter]")
    for name, table in value.items():
        _check_sendable(path, f"{key}.{name}", table)
    return value


def _check_sendable(path: Path, key: str, value: Any) -> None:
    """Refuse what a message cannot carry: dates, and whole numbers of more than 64 bits."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_sendable(path, f"{key}.{name}", inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _check_sendable(path, f"{key}[{number}]", inner)
    elif type(value) not in (str, float, bool, int) or (type(value) is int and abs(value) > UINT_MAX):
        raise ConfigError(f"{path}: {key!r} is no text, truth value or number of at most 64 bits: quote it")


def _check_ranges(path: Path, config: Config) -> None:
    for name in ("bus", "limits"):
        for key, value in dataclasses.asdict(getattr(config, name)).items():
            if value <= 0:
                raise ConfigError(f"{path}: '{name}.{key}' is not positive")
            if name == "bus" and value > LARGEST:
                raise ConfigError(f"{path}: 'bus.{key}' is more than {LARGEST}")
    for key in ("client_send_queue", "plugin_send_queue"):
        # Half of it counts: a peer that has all its requests answered at once must not look as if it did not read.
        if getattr(config.bus, key) < 2 * config.limits.requests + 64:
            raise ConfigError(f"{path}: 'bus.{key}' is less than twice 'limits.requests' and 64 more")
    if config.logs.max_bytes < 4096 or config.logs.keep < 0 or config.logs.poll < 0.05:
        raise ConfigError(f"{path}: 'logs' needs max_bytes >= 4096, keep >= 0, poll >= 0.05")
    if config.processes.look < 0.05:
        raise ConfigError(f"{path}: 'processes.look' is less than 0.05")
    if not (-20 <= config.processes.online_nice <= 19 and 0 <= config.processes.online_fifo <= 99):
        raise ConfigError(f"{path}: 'processes' needs online_nice from -20 to 19, online_fifo from 0 to 99")
    try:
        cpus = config.processes.preference.cpus
    except ValueError:
        raise ConfigError(f"{path}: 'processes.online_cpus' is not a list such as \"0-2,5\"") from None
    if absent := cpus - os.sched_getaffinity(0):
        raise ConfigError(f"{path}: 'processes.online_cpus' names CPUs that the daemon has not: {listed(absent)}")
