# SPDX-License-Identifier: Apache-2.0
"""Finds and reads plugin.toml files. The meaning of the keys is in `qcosd.core.manifest`."""

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from qcosd.core.manifest import Manifest, ManifestError, Operation, ProcessLimits, Restart, StopLadder
from qcosd.shell.config import read_toml, section

FILE_NAME = "plugin.toml"
SYSTEM_DIRECTORIES = (Path("/usr/lib/qcos/plugins"), Path("/etc/qcos/plugins.d"))
_SHIPPED_PACKAGE = "qcos_plugins"


def shipped_directories() -> list[Path]:
    """Where the plugins of this installation are; empty where none are installed."""
    package = importlib.util.find_spec(_SHIPPED_PACKAGE)
    return [Path(place) for place in (package.submodule_search_locations or ())] if package is not None else []


def find_manifests(
    extra: Sequence[Path], system: Iterable[Path] = SYSTEM_DIRECTORIES, disabled: Iterable[str] = ()
) -> tuple[Manifest, ...]:
    """All components, sorted by name. Directories are read from the shipped one over `system` to `extra`; of two manifests
    with the same name the later one counts, so that a site can replace a shipped plugin.

    Raises ManifestError, naming file and key; also where a directory of `extra` or a name in `disabled` does not exist.
    """
    found: dict[str, Manifest] = {}
    for directory in [*shipped_directories(), *system]:
        if directory.is_dir():
            found.update(_in_directory(directory))
    for directory in extra:
        if not directory.is_dir():
            raise ManifestError(f"{directory}: no such plugin directory")
        found.update(_in_directory(directory))
    for name in disabled:
        if found.pop(name, None) is None:
            raise ManifestError(f"plugins.disable: there is no plugin {name!r}")
    return tuple(found[name] for name in sorted(found))


def read_manifest(path: Path) -> Manifest:
    """The component that a plugin.toml describes. Raises ManifestError, naming file and key."""
    document = read_toml(path, ManifestError)
    given: dict[str, Any] = {"folder": str(path.parent.resolve())}
    for key, kind in (("restart", Restart), ("stop", StopLadder), ("limits", ProcessLimits)):
        if key in document:
            given[key] = section(path, f"{key}.", document.pop(key), kind, ManifestError)
    operations = document.pop("operation", [])
    if not isinstance(operations, list):
        raise ManifestError(f"{path}: 'operation' is not a list of tables: write [[operation]]")
    given["operations"] = tuple(
        section(path, f"operation[{number}].", table, Operation, ManifestError)
        for number, table in enumerate(operations)
    )
    try:
        return section(path, "", document, Manifest, ManifestError, **given)
    except ManifestError as error:
        message = str(error)
        raise ManifestError(message if message.startswith(f"{path}:") else f"{path}: {message}") from None


def _in_directory(directory: Path) -> dict[str, Manifest]:
    """The manifests in DIR/NAME/plugin.toml, or in DIR/plugin.toml where the directory is a plugin itself."""
    own = directory / FILE_NAME
    paths = [own] if own.is_file() else sorted(directory.glob(f"*/{FILE_NAME}"))
    found: dict[str, Manifest] = {}
    for path in paths:
        manifest = read_manifest(path)
        if manifest.name in found:
            other = found[manifest.name].folder
            raise ManifestError(f"{path}: 'name' {manifest.name!r} is taken by {other}")
        found[manifest.name] = manifest
    return found
